"""Functions of one TensorFlow operator each, as frozen graphs: `python tensorflow_ops.py FOLDER`.

Those that tf2onnx 1.17 writes as invalid ONNX without an error, and others that it converts. What TensorFlow itself
gives is in `<name>.npz`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

IMAGE = (2, 8, 10, 3)


def functions(tf: Any) -> dict[str, tuple[Callable[..., Any], tuple[int, ...]]]:
    """The functions of one input, and the shape of that."""
    raw = tf.raw_ops
    spd = tf.eye(4) * 4.0
    return {
        "log1p": (lambda x: tf.math.log1p(tf.abs(x)), (2, 5)),
        "expm1": (tf.math.expm1, (2, 5)),
        "erfc": (tf.math.erfc, (2, 5)),
        "l2_loss": (lambda x: tf.nn.l2_loss(x) + x, (2, 5)),
        "hsv_to_rgb": (lambda x: tf.image.hsv_to_rgb(tf.sigmoid(x)), IMAGE),
        "rgb_to_hsv": (lambda x: tf.image.rgb_to_hsv(tf.sigmoid(x)), IMAGE),
        "antialias": (lambda x: tf.image.resize(x, (5, 6), antialias=True), IMAGE),
        "dilation2d": (lambda x: raw.Dilation2D(input=x, filter=tf.ones((3, 3, 3)), strides=[1] * 4, rates=[1] * 4,
                                                padding="SAME"), IMAGE),
        "matrix_inverse": (lambda x: tf.linalg.inv(tf.matmul(x, x, transpose_b=True) + spd), (2, 4, 4)),
        "cholesky": (lambda x: tf.linalg.cholesky(tf.matmul(x, x, transpose_b=True) + spd), (2, 4, 4)),
        "irfft": (lambda x: tf.signal.irfft(tf.signal.rfft(x) * 2.0), (2, 8)),
        "in_top_k": (lambda x: tf.cast(tf.math.in_top_k([1, 2], x, 2), tf.float32), (2, 5)),
        "xlogy": (lambda x: tf.math.xlogy(tf.abs(x), tf.abs(x) + 1.0), (2, 5)),
        "lgamma": (lambda x: tf.math.lgamma(tf.abs(x) + 1.0), (2, 5)),
        "erfinv": (lambda x: tf.math.erfinv(tf.tanh(x)), (2, 5)),
        "switch_case": (lambda x: tf.switch_case(tf.cast(tf.abs(x[0, 0]), tf.int32),
                                                 [lambda: x + 1.0, lambda: x * 2.0]), (2, 5)),
        "fractional_max_pool": (lambda x: tf.nn.fractional_max_pool(x, 1.5, seed=1)[0], IMAGE),
        "volume_patches": (lambda x: tf.extract_volume_patches(x, [1, 2, 2, 2, 1], [1, 1, 1, 1, 1], "VALID"),
                           (2, 4, 4, 4, 2)),
        "cross": (lambda x: tf.linalg.cross(x, x[::-1]), (2, 3)),
        "euclidean_norm": (lambda x: tf.math.reduce_euclidean_norm(x, 1), (2, 5)),
        "histogram": (lambda x: tf.cast(tf.histogram_fixed_width(x, [-1.0, 1.0], 4), tf.float32), (2, 5)),
        "lower_bound": (lambda x: tf.cast(tf.searchsorted(tf.sort(x), x), tf.float32), (2, 5)),
        "unravel_index": (lambda x: tf.cast(tf.unravel_index(tf.argmax(x, 1, tf.int32), [2, 3]), tf.float32), (2, 5)),
        "digamma": (lambda x: tf.math.digamma(tf.abs(x) + 1.0), (2, 5)),
        "svd": (lambda x: tf.linalg.svd(x, compute_uv=False), (2, 4, 4)),
        "grouped": (lambda x: tf.nn.conv2d(x, tf.ones((3, 3, 1, 6)) * tf.range(6.0), 1, "SAME"), IMAGE),
        "gelu": (lambda x: tf.nn.gelu(x), (2, 5)),
        "resize": (lambda x: tf.image.resize(x, (16, 15)), IMAGE),
        "top_k": (lambda x: tf.math.top_k(x, 2)[0], (2, 5)),
        "space_to_depth": (lambda x: tf.nn.space_to_depth(x, 2), IMAGE),
        "einsum": (lambda x: tf.einsum("bij,bkj->bik", x, x), (2, 3, 4)),
    }  # fmt: skip


def main() -> None:
    """Write all of them into the folder that is named."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (function, shape) in functions(tf).items():
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        traced = tf.function(function).get_concrete_function(tf.TensorSpec(shape, tf.float32, name="x"))
        frozen = convert_variables_to_constants_v2(traced)
        (folder / f"{name}.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())
        np.savez(folder / f"{name}.npz", x=x, y=np.asarray(function(tf.constant(x))))


if __name__ == "__main__":
    main()
