"""Networks as the TensorFlow 1 of the years of slim wrote them: `python tensorflow_slim.py FOLDER`.

Each is a training graph with a loss, an optimizer, moving averages, summaries and a saver, trained for two steps and
saved as a checkpoint with its `.meta`; then frozen for inference; then run. The topologies are those of Inception v1,
ResNet v2 and MobileNet v1, the widths small. What the networks themselves gave is in `expected.npz`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (64, 80)
CLASSES = 10


def conv(
    tf: Any, x: Any, depth: int, kernel: int, stride: int = 1, *, scope: str, training: Any, act: bool = True
) -> Any:
    """slim.conv2d with slim.batch_norm: a convolution without a bias."""
    with tf.variable_scope(scope):
        weights = tf.get_variable(
            "weights",
            [kernel, kernel, x.shape[3], depth],
            initializer=tf.initializers.variance_scaling(2.0),
            regularizer=lambda w: 4e-5 * tf.nn.l2_loss(w),
        )
        x = tf.nn.conv2d(x, weights, [1, stride, stride, 1], "SAME", name="Conv2D")
        return batch_norm(tf, x, training=training, act=act)


def batch_norm(tf: Any, x: Any, *, training: Any, act: bool = True, scope: str = "BatchNorm") -> Any:
    """slim.batch_norm, fused: with a condition on whether it is training, and moving averages of their own."""
    depth = int(x.shape[-1])
    with tf.variable_scope(scope):
        gamma = tf.get_variable("gamma", [depth], initializer=tf.initializers.random_uniform(0.5, 1.5))
        beta = tf.get_variable("beta", [depth], initializer=tf.initializers.random_normal(stddev=0.2))
        mean = tf.get_variable("moving_mean", [depth], initializer=tf.initializers.zeros(), trainable=False)
        variance = tf.get_variable("moving_variance", [depth], initializer=tf.initializers.ones(), trainable=False)

        def train() -> Any:
            return tf.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-3, is_training=True)

        def infer() -> Any:
            return tf.nn.fused_batch_norm(x, gamma, beta, mean, variance, epsilon=1e-3, is_training=False)

        if isinstance(training, bool):
            y, new_mean, new_variance = train() if training else infer()
        else:
            y, new_mean, new_variance = tf.cond(training, train, infer)
        if training is not False:
            decay = tf.where(training, 0.3, 0.0) if not isinstance(training, bool) else 0.3
            for moving, new in ((mean, new_mean), (variance, new_variance)):
                update = tf.assign_sub(moving, (moving - new) * decay, name="AssignMovingAvg")
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
        return tf.nn.relu(y, name="Relu") if act else y


def dropout(tf: Any, x: Any, *, training: Any, keep: float) -> Any:
    """slim.dropout."""
    if isinstance(training, bool):
        return tf.nn.dropout(x, rate=1 - keep) if training else x
    return tf.cond(training, lambda: tf.nn.dropout(x, rate=1 - keep), lambda: tf.identity(x))


def logits(tf: Any, x: Any, *, training: Any, scope: str = "Logits") -> Any:
    """A global average, dropout, a 1x1 convolution with a bias, a squeeze."""
    with tf.variable_scope(scope):
        x = tf.reduce_mean(x, [1, 2], keepdims=True, name="AvgPool")
        x = dropout(tf, x, training=training, keep=0.8)
        weights = tf.get_variable(
            "weights", [1, 1, x.shape[3], CLASSES], initializer=tf.initializers.random_normal(stddev=0.3)
        )
        biases = tf.get_variable("biases", [CLASSES], initializer=tf.initializers.random_normal(stddev=0.3))
        x = tf.nn.bias_add(tf.nn.conv2d(x, weights, [1, 1, 1, 1], "SAME"), biases)
        return tf.squeeze(x, [1, 2], name="SpatialSqueeze")


def inception_v1(tf: Any, x: Any, training: Any) -> Any:
    """GoogLeNet: stem, nine Inception blocks."""
    blocks: list[Any] = [
        (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), "pool", (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128), "pool2", (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
    ]  # fmt: skip
    with tf.variable_scope("InceptionV1"):
        x = conv(tf, x, 8, 7, 2, scope="Conv2d_1a_7x7", training=training)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME", name="MaxPool_2a_3x3")
        x = conv(tf, x, 8, 1, scope="Conv2d_2b_1x1", training=training)
        x = conv(tf, x, 24, 3, scope="Conv2d_2c_3x3", training=training)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME", name="MaxPool_3a_3x3")
        for number, block in enumerate(blocks):
            if isinstance(block, str):
                x = tf.nn.max_pool2d(x, 3 if block == "pool" else 2, 2, "SAME")
                continue
            a, b0, b1, c0, c1, d = (width // 8 for width in block)
            with tf.variable_scope(f"Mixed_{number}"):
                parts = [
                    conv(tf, x, a, 1, scope="Branch_0/Conv2d_0a_1x1", training=training),
                    conv(tf, conv(tf, x, b0, 1, scope="Branch_1/Conv2d_0a_1x1", training=training), b1, 3,
                         scope="Branch_1/Conv2d_0b_3x3", training=training),
                    conv(tf, conv(tf, x, c0, 1, scope="Branch_2/Conv2d_0a_1x1", training=training), c1, 3,
                         scope="Branch_2/Conv2d_0b_3x3", training=training),
                    conv(tf, tf.nn.max_pool2d(x, 3, 1, "SAME"), d, 1, scope="Branch_3/Conv2d_0b_1x1",
                         training=training),
                ]  # fmt: skip
                x = tf.concat(parts, 3, name="concat")
        return logits(tf, x, training=training)


def resnet_v2(tf: Any, x: Any, training: Any) -> Any:
    """ResNet v2 50: bottlenecks whose activations come first, strides in the last unit, padding by hand."""
    with tf.variable_scope("resnet_v2_50"):
        x = tf.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]])
        with tf.variable_scope("conv1"):
            weights = tf.get_variable("weights", [7, 7, 3, 8], initializer=tf.initializers.variance_scaling(2.0))
            biases = tf.get_variable("biases", [8], initializer=tf.initializers.zeros())
            x = tf.nn.bias_add(tf.nn.conv2d(x, weights, [1, 2, 2, 1], "VALID"), biases)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME", name="pool1")
        for block, (units, depth) in enumerate([(3, 8), (4, 16), (6, 24), (3, 32)], 1):
            for unit in range(1, units + 1):
                stride = 2 if unit == units and block < 4 else 1
                with tf.variable_scope(f"block{block}/unit_{unit}/bottleneck_v2"):
                    before = batch_norm(tf, x, training=training, scope="preact")
                    if int(x.shape[3]) == 4 * depth:
                        short = x if stride == 1 else tf.nn.max_pool2d(x, 1, stride, "SAME")
                    else:
                        with tf.variable_scope("shortcut"):
                            weights = tf.get_variable("weights", [1, 1, x.shape[3], 4 * depth],
                                                      initializer=tf.initializers.variance_scaling(1.0))  # fmt: skip
                            short = tf.nn.conv2d(before, weights, [1, stride, stride, 1], "SAME")
                    y = conv(tf, before, depth, 1, scope="conv1", training=training)
                    y = conv(tf, y, depth, 3, stride, scope="conv2", training=training)
                    with tf.variable_scope("conv3"):
                        weights = tf.get_variable("weights", [1, 1, depth, 4 * depth],
                                                  initializer=tf.initializers.variance_scaling(1.0))  # fmt: skip
                        x = short + tf.nn.conv2d(y, weights, [1, 1, 1, 1], "SAME")
        x = batch_norm(tf, x, training=training, scope="postnorm")
        return logits(tf, x, training=training, scope="logits")


def mobilenet_v1(tf: Any, x: Any, training: Any) -> Any:
    """MobileNet v1: depthwise separable convolutions, limited at 6."""
    layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    with tf.variable_scope("MobilenetV1"):
        x = tf.nn.relu6(conv(tf, x, 8, 3, 2, scope="Conv2d_0", training=training, act=False))
        for number, (depth, stride) in enumerate(layers, 1):
            with tf.variable_scope(f"Conv2d_{number}_depthwise"):
                weights = tf.get_variable("depthwise_weights", [3, 3, x.shape[3], 1],
                                          initializer=tf.initializers.random_normal(stddev=0.4))  # fmt: skip
                x = tf.nn.depthwise_conv2d(x, weights, [1, stride, stride, 1], "SAME", name="depthwise")
                x = tf.nn.relu6(batch_norm(tf, x, training=training, act=False))
            x = conv(tf, x, depth // 8, 1, scope=f"Conv2d_{number}_pointwise", training=training, act=False)
            x = tf.nn.relu6(x)
        return logits(tf, x, training=training)


NETWORKS = {"inception_v1": inception_v1, "resnet_v2_50": resnet_v2, "mobilenet_v1": mobilenet_v1}
KINDS = {"inception_v1": "placeholder", "resnet_v2_50": "default", "mobilenet_v1": "dataset"}
"""How each takes what it needs: is_training as a placeholder; as one with a default; and images from a dataset."""


def make(tf: Any, name: str, folder: Path, expected: dict[str, Any]) -> None:
    """Train, save, freeze and run one network."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    images = random.normal(size=(8, *SIZE, 3)).astype(np.float32)
    answers = random.integers(0, CLASSES, 8)
    kind = KINDS[name]
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(3)
        feeds: dict[Any, Any] = {}
        if kind == "dataset":
            data = tf.data.Dataset.from_tensor_slices((images, answers)).repeat().batch(4)
            x, labels = tf.data.make_one_shot_iterator(data).get_next()
            training: Any = tf.placeholder(tf.bool, [], name="is_training")
        else:
            x = tf.placeholder(tf.float32, [None, *SIZE, 3], name="input")
            labels = tf.placeholder(tf.int64, [None], name="labels")
            training = tf.placeholder(tf.bool, [], name="is_training") if kind == "placeholder" else (
                tf.placeholder_with_default(False, [], name="is_training"))  # fmt: skip
            feeds = {x: images, labels: answers}
        found = NETWORKS[name](tf, x, training)
        probabilities = tf.nn.softmax(found, name="Predictions/Softmax")
        tf.summary.histogram("predictions", probabilities)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=found))
        total = loss + sum(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES), tf.constant(0.0))
        tf.summary.scalar("loss", total)
        correct = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(found, 1), labels), tf.float32), name="accuracy")
        step = tf.train.get_or_create_global_step()
        rate = tf.train.exponential_decay(1e-3, step, 100, 0.94)
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train = tf.train.MomentumOptimizer(rate, 0.9).minimize(total, global_step=step)
        averages = tf.train.ExponentialMovingAverage(0.9)
        with tf.control_dependencies([train]):
            train = averages.apply(tf.trainable_variables())
        merged = tf.summary.merge_all()
        saver = tf.train.Saver()
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            session.run([train, merged, correct], {**feeds, training: True})
        saver.save(session, str(folder / "model.ckpt"), global_step=100)
        given = random.normal(size=(3, *SIZE, 3)).astype(np.float32)
        values = session.run({"prob": probabilities, "logits": found}, {x: given, training: False})
        expected |= {f"{name}/input": given, f"{name}/prob": values["prob"], f"{name}/logits": values["logits"]}
        with tf.Graph().as_default(), tf.Session() as inference:
            x = tf.placeholder(tf.float32, [None, *SIZE, 3], name="input")
            output = tf.nn.softmax(NETWORKS[name](tf, x, False), name="Predictions/Softmax")
            tf.train.Saver().restore(inference, str(folder / "model.ckpt-100"))
            frozen = tf.graph_util.convert_variables_to_constants(
                inference, inference.graph.as_graph_def(), [output.op.name]
            )
        (folder / "frozen.pb").write_bytes(frozen.SerializeToString())


def main() -> None:
    """Write all of them into the folder that is named."""
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_v2_behavior()
    folder, expected = Path(sys.argv[1]), dict[str, Any]()
    for name in sys.argv[2:] or NETWORKS:
        make(tf, name, folder / name, expected)
    np.savez(folder / "expected.npz", **expected)
    (folder / "made.json").write_text(json.dumps(sorted(expected)))


if __name__ == "__main__":
    main()
