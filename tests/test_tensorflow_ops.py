"""Operators that tf2onnx writes as invalid ONNX and only logs: each is refused by its name, or right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need, written_by

import hub
from hub.errors import UnsupportedOps

pytestmark = pytest.mark.slow
need("tensorflow", "tf2onnx")

MAKER = Path(__file__).with_name("tensorflow_ops.py")
RIGHT = ("grouped", "resize", "top_k", "space_to_depth", "einsum")
REFUSED = {
    "antialias": {"ScaleAndTranslate": "resize/ScaleAndTranslate"},
    "cholesky": {"Cholesky": "Cholesky"},
    "cross": {"Cross": "Cross"},
    "digamma": {"Digamma": "Digamma"},
    "dilation2d": {"Dilation2D": "Dilation2D"},
    "erfc": {"Erfc": "Erfc"},
    "erfinv": {"Erfinv": "erfinv/Erfinv"},
    "euclidean_norm": {"EuclideanNorm": "EuclideanNorm"},
    "expm1": {"Expm1": "Expm1"},
    "fractional_max_pool": {"FractionalMaxPool": "FractionalMaxPool"},
    "gelu": {"Erfc": "Gelu/Erfc"},
    "histogram": {"HistogramFixedWidth": "histogram_fixed_width"},
    "hsv_to_rgb": {"HSVToRGB": "HSVToRGB"},
    "in_top_k": {"InTopKV2": "in_top_k/InTopKV2"},
    "irfft": {"IRFFT": "irfft", "RFFT": "rfft"},
    "l2_loss": {"L2Loss": "L2Loss"},
    "lgamma": {"Lgamma": "Lgamma"},
    "log1p": {"Log1p": "Log1p"},
    "lower_bound": {"LowerBound": "LowerBound"},
    "matrix_inverse": {"MatrixInverse": "MatrixInverse"},
    "rgb_to_hsv": {"RGBToHSV": "RGBToHSV"},
    "svd": {"Svd": "Svd"},
    "switch_case": {"_SwitchN": "switch_case/indexed_case/x/_5", "Merge": "switch_case/indexed_case/merge/_6"},
    "unravel_index": {"UnravelIndex": "UnravelIndex"},
    "volume_patches": {"ExtractVolumePatches": "ExtractVolumePatches"},
    "xlogy": {"Xlogy": "Xlogy"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_by(MAKER, tmp_path_factory.mktemp("ops"))


@pytest.fixture(scope="module")
def process() -> Iterator[Any]:
    from importers.tensorflow.read import started

    child = started()
    yield child
    child.close()


def test_every_function_is_expected(made: Path) -> None:
    assert sorted(path.stem for path in made.glob("*.pb")) == sorted([*RIGHT, *REFUSED])


@pytest.mark.parametrize("name", RIGHT)
def test_right(made: Path, process: Any, name: str) -> None:
    from importers.tensorflow.read import converted, options_of

    expected = np.load(made / f"{name}.npz")
    (found,) = converted(process, made / f"{name}.pb", options_of(None, None)).run(expected["x"]).values()
    np.testing.assert_allclose(found, expected["y"], atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(made: Path, process: Any, name: str) -> None:
    """All at once: operator, count and node, as TensorFlow calls them."""
    from importers.tensorflow.read import converted, options_of

    with pytest.raises(UnsupportedOps) as caught:
        converted(process, made / f"{name}.pb", options_of(None, None))
    assert {op.op: op.layers[0] for op in caught.value.ops} == REFUSED[name]


def test_a_live_function_of_two_inputs_and_two_outputs(tmp_path: Path) -> None:
    import tensorflow as tf

    weights = tf.Variable(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))

    @tf.function
    def net(left: Any, right: Any) -> dict[str, Any]:
        product = tf.matmul(left, weights) + right
        return {"total": tf.reduce_sum(product, 1), "squashed": tf.nn.softmax(product)}

    shapes = {"left": tf.TensorSpec([None, 4]), "right": [None, 3]}
    model = hub.load(net, inputs=shapes)
    assert model.warnings == []
    assert [str(info) for info in model.inputs] == ["left: float32[N, 4]", "right: float32[N, 3]"]
    assert [info.name for info in model.outputs] == ["squashed", "total"]
    left, right = np.ones((2, 4), np.float32), np.arange(6, dtype=np.float32).reshape(2, 3)
    found, expected = model.run({"left": left, "right": right}), net(left, right)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.numpy(), atol=1e-5)
    concrete = net.get_concrete_function(left=tf.TensorSpec([None, 4]), right=tf.TensorSpec([None, 3]))
    done = hub.convert(concrete, tmp_path / "net.mlpackage", outputs=["squashed"])
    assert done.report is not None
    assert done.report.ok
    assert [info.name for info in done.model.outputs] == ["squashed"]
    again = hub.convert(tf.function(lambda x: tf.nn.relu(x) @ weights), tmp_path / "net.py", inputs=[[None, 4]])
    assert again.report is not None
    assert again.report.ok
    with pytest.raises(hub.errors.UsageError, match="signature"):
        hub.load(tf.function(lambda x: x + 1.0))
    with pytest.raises(hub.errors.UsageError, match="no output 'mean'"):
        hub.load(concrete, outputs=["mean"])
