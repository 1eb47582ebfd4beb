"""Small TensorFlow files of every kind, good and bad: `python tensorflow_files.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def saved_models(tf: Any, folder: Path, random: np.random.Generator) -> None:
    """Two SavedModels of TensorFlow 2: two inputs and outputs, several signatures; and one that calls Python."""

    class Net(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.kernel = tf.Variable(random.normal(size=(3, 3, 3, 8)).astype(np.float32), name="conv/kernel")
            self.dense = tf.Variable(random.normal(size=(8, 4)).astype(np.float32), name="dense/kernel")

        @tf.function(
            input_signature=[tf.TensorSpec([None, 12, 10, 3], name="image"), tf.TensorSpec([None, 4], name="bias")]
        )
        def serve(self, image: Any, bias: Any) -> dict[str, Any]:
            x = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 2, "SAME", name="conv"))
            x = tf.reduce_mean(x, [1, 2]) @ self.dense + bias
            return {"scores": tf.nn.softmax(x), "logits": x}

        @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
        def double(self, x: Any) -> dict[str, Any]:
            return {"y": x * 2.0 + tf.reduce_sum(self.dense)}

    net = Net()
    image, bias = random.normal(size=(3, 12, 10, 3)).astype(np.float32), random.normal(size=(3, 4)).astype(np.float32)
    found = {name: value.numpy() for name, value in net.serve(image, bias).items()}
    np.savez(folder / "saved.npz", image=image, bias=bias, **found)
    tf.saved_model.save(net, str(folder / "saved"), signatures={"serving_default": net.serve, "double": net.double})
    tf.saved_model.save(net, str(folder / "unnamed"), signatures={"first": net.serve, "second": net.double})

    class Shouts(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
        def serve(self, x: Any) -> Any:
            return tf.numpy_function(lambda a: a * 2, [x], tf.float32) + 1.0

        @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
        def write(self, x: Any) -> Any:
            tf.io.write_file(str(folder / "written"), "by a model")
            with tf.control_dependencies([tf.io.write_file(str(folder / "written"), "by a model")]):
                return x + tf.strings.to_number(tf.io.read_file(str(folder / "number")), tf.float32)

    shouts = Shouts()
    tf.saved_model.save(shouts, str(folder / "python"), signatures={"serving_default": shouts.serve})
    tf.saved_model.save(shouts, str(folder / "writes"), signatures={"serving_default": shouts.write})


def sequences(tf: Any, folder: Path, random: np.random.Generator) -> None:
    """An LSTM by hand in a while loop, as a SavedModel."""

    class Steps(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.weights = tf.Variable(random.normal(size=(9, 20)).astype(np.float32) * 0.3)

        @tf.function(input_signature=[tf.TensorSpec([None, 6, 4], name="x")])
        def serve(self, x: Any) -> Any:
            state = tf.zeros([tf.shape(x)[0], 5])
            cell = tf.zeros([tf.shape(x)[0], 5])
            for step in tf.range(6):
                i, j, f, o = tf.split(tf.concat([x[:, step], state], 1) @ self.weights, 4, 1)
                cell = tf.sigmoid(f + 1.0) * cell + tf.sigmoid(i) * tf.tanh(j)
                state = tf.sigmoid(o) * tf.tanh(cell)
            return {"state": state}

    steps = Steps()
    x = random.normal(size=(3, 6, 4)).astype(np.float32)
    np.savez(folder / "steps.npz", x=x, state=steps.serve(tf.constant(x))["state"].numpy())
    tf.saved_model.save(steps, str(folder / "steps"), signatures={"serving_default": steps.serve})


def old(tf: Any, folder: Path, random: np.random.Generator) -> None:
    """In TensorFlow 1's ways: a SavedModel with two sets of tags, a checkpoint of no name, dropout by `keep_prob`."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 8], name="x")
        keep = v1.placeholder(tf.float32, [], name="keep_prob")
        weights = v1.get_variable("w", initializer=random.normal(size=(8, 5)).astype(np.float32), use_resource=False)
        hidden = tf.nn.relu(x @ weights, name="hidden")
        # dropout as TensorFlow before 1.13 wrote it
        random_tensor = keep + tf.random.uniform(tf.shape(hidden))
        kept = tf.divide(hidden, keep) * tf.floor(random_tensor)
        slope = v1.get_variable("slope", initializer=np.float32(0.5), use_resource=True)
        y = tf.identity(kept * slope, name="y")
        z = tf.add(tf.reduce_sum(kept, 1), 1.0, name="z")
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver()
        saver.save(session, str(folder / "two" / "model.ckpt"), write_meta_graph=True)
        for suffix in (".meta", ".index", ".data-00000-of-00001"):
            (folder / "nameless").mkdir(exist_ok=True)
            content = (folder / "two" / f"model.ckpt{suffix}").read_bytes()
            (folder / "nameless" / suffix).write_bytes(content)
        (folder / "nameless" / "checkpoint").write_text('model_checkpoint_path: "/somewhere/else/"\n')
        (folder / "two" / "checkpoint").write_text('model_checkpoint_path: "/somewhere/else/model.ckpt"\n')
        builder = v1.saved_model.Builder(str(folder / "tags"))
        signature = v1.saved_model.predict_signature_def({"in": x, "keep": keep}, {"out": y})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.add_meta_graph(["serve", "other"], {"predict": signature})
        builder.save()
        given = random.normal(size=(3, 8)).astype(np.float32)
        np.savez(
            folder / "old.npz", x=given, y=session.run(y, {x: given, keep: 1.0}), z=session.run(z, {x: given, keep: 1})
        )


def lite(tf: Any, folder: Path, random: np.random.Generator) -> None:
    """TFLite models: in float32, in integers throughout, and with a custom operator."""
    kernel = random.normal(size=(3, 3, 3, 8)).astype(np.float32) * 0.3
    dense = random.normal(size=(8, 4)).astype(np.float32) * 0.3

    @tf.function(input_signature=[tf.TensorSpec([None, 12, 10, 3], name="image")])
    def net(image: Any) -> dict[str, Any]:
        x = tf.nn.relu6(tf.nn.conv2d(image, kernel, 2, "SAME"))
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        return {"scores": tf.reduce_mean(x, [1, 2]) @ dense}

    def converter(function: Any) -> Any:
        return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])

    (folder / "float.tflite").write_bytes(converter(net).convert())
    integers = converter(net)
    integers.optimizations = [tf.lite.Optimize.DEFAULT]
    integers.representative_dataset = lambda: (
        [random.normal(size=(1, 12, 10, 3)).astype(np.float32)] for _ in range(16)
    )
    integers.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    (folder / "mixed.tflite").write_bytes(integers.convert())
    integers.inference_input_type = integers.inference_output_type = tf.int8
    (folder / "int8.tflite").write_bytes(integers.convert())

    @tf.function(input_signature=[tf.TensorSpec([2, 4], name="x")])
    def odd(x: Any) -> Any:
        return tf.math.digamma(x) + tf.math.digamma(x * 2.0)

    x = random.normal(size=(3, 12, 10, 3)).astype(np.float32)
    given = {}
    for name in ("float", "mixed", "int8"):
        interpreter = tf.lite.Interpreter(str(folder / f"{name}.tflite"))
        (start,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.resize_tensor_input(start["index"], x.shape)
        interpreter.allocate_tensors()
        scale, zero = start["quantization"]
        fed = np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8) if scale else x
        interpreter.set_tensor(start["index"], fed)
        interpreter.invoke()
        given |= {f"{name}/x": fed, f"{name}/y": interpreter.get_tensor(end["index"])}
    np.savez(folder / "lite.npz", **given)
    custom = converter(odd)
    custom.allow_custom_ops = True
    (folder / "custom.tflite").write_bytes(custom.convert())


def main() -> None:
    """Write all of them into the folder that is named."""
    import tensorflow as tf

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for make in (saved_models, sequences, old, lite):
        make(tf, folder, random)


if __name__ == "__main__":
    main()
