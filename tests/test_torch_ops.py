"""Ops of the PyTorch exporter against ONNX Runtime, in the configurations where exporters go wrong."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch_nets import check, net, node, text, weight

import hub

IMAGE = {"x": ["N", 4, 11, 8]}


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape or (2, 4, 11, 8)).astype(np.float32)


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 0], [2, 0, 2, 0]])
@pytest.mark.parametrize(("strides", "dilations"), [([1, 1], [1, 1]), ([2, 3], [1, 1]), ([1, 1], [2, 1])])
@pytest.mark.parametrize("group", [1, 2, 4])
def test_conv(tmp_path: Path, pads: list[int], strides: list[int], dilations: list[int], group: int) -> None:
    step = node("Conv", "x w b", "y", pads=pads, strides=strides, dilations=dilations, group=group)
    check(net([step], IMAGE, ["y"], {"w": weight(8, 4 // group, 3, 2), "b": weight(8)}), tmp_path, image())


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_same_of_unknown_size(tmp_path: Path, auto_pad: str, stride: int) -> None:
    step = node("Conv", "x w", "y", auto_pad=auto_pad, strides=[stride, stride])
    model = net([step], {"x": ["N", 4, "H", "W"]}, ["y"], {"w": weight(8, 4, 4, 3)})
    if auto_pad == "SAME_LOWER" and stride == 2:
        with pytest.raises(hub.UnsupportedOps, match="SAME_LOWER"):
            text(model, tmp_path)
        return
    for size in ((11, 8), (10, 9)):
        check(model, tmp_path, image(2, 4, *size))


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]])
@pytest.mark.parametrize("extra", [[0, 0], [1, 0]])
def test_conv_transpose(tmp_path: Path, pads: list[int], extra: list[int]) -> None:
    step = node("ConvTranspose", "x w b", "y", pads=pads, strides=[2, 2], output_padding=extra, group=2)
    model = net([step], IMAGE, ["y"], {"w": weight(4, 3, 3, 3), "b": weight(6)})
    try:
        check(model, tmp_path, image())
    except hub.UnsupportedOps:
        assert pads[2] < extra[0]


def _refused(model: hub.Model, folder: Path, why: str) -> bool:
    """Whether the exporter says no, for this reason."""
    try:
        text(model, folder)
    except hub.UnsupportedOps as error:
        return why in str(error)
    return False


POOL = list(itertools.product([[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1]], [0, 1], [[2, 2], [3, 2]]))


@pytest.mark.parametrize(("pads", "ceil", "strides"), POOL)
def test_max_pool(tmp_path: Path, pads: list[int], ceil: int, strides: list[int]) -> None:
    step = node("MaxPool", "x", "y", kernel_shape=[3, 3], pads=pads, ceil_mode=ceil, strides=strides)
    model = net([step], IMAGE, ["y"])
    if ceil and _refused(model, tmp_path, "ceil_mode"):
        return
    check(model, tmp_path, image())


@pytest.mark.parametrize(("pads", "ceil", "strides"), POOL)
@pytest.mark.parametrize("include", [0, 1])
def test_average_pool(tmp_path: Path, pads: list[int], ceil: int, strides: list[int], include: int) -> None:
    attributes = {"pads": pads, "ceil_mode": ceil, "strides": strides, "count_include_pad": include}
    step = node("AveragePool", "x", "y", kernel_shape=[3, 3], **attributes)
    model = net([step], IMAGE, ["y"])
    if ceil and _refused(model, tmp_path, "ceil_mode"):
        return
    check(model, tmp_path, image())


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [(5,), (1, 5), (1,), (3, 1), ()])
def test_gemm(tmp_path: Path, trans_a: int, trans_b: int, bias: tuple[int, ...]) -> None:
    step = node("Gemm", "x w b", "y", transA=trans_a, transB=trans_b, alpha=0.5 if trans_a else 1.0)
    weights = {"w": weight(*((5, 4) if trans_b else (4, 5))), "b": weight(*bias)}
    model = net([step], {"x": [4, 3] if trans_a else [3, 4]}, ["y"], weights)
    check(model, tmp_path, image(*([4, 3] if trans_a else [3, 4])))


def test_matmul_and_bias_are_one_linear_layer(tmp_path: Path) -> None:
    steps = [node("MatMul", "x w", "product"), node("Add", "b product", "y")]
    model = net(steps, {"x": ["N", 3, 4]}, ["y"], {"w": weight(4, 5), "b": weight(5)})
    assert "nn.Linear(4, 5)" in text(model, tmp_path)
    check(model, tmp_path, image(2, 3, 4))


def test_one_bias_of_two_kernels(tmp_path: Path) -> None:
    steps = [
        node("MatMul", "x w", "p"),
        node("Add", "p b", "first"),
        node("MatMul", "first v", "q"),
        node("Add", "q b", "y"),
    ]
    model = net(steps, {"x": ["N", 4]}, ["y"], {"w": weight(4, 4), "v": weight(4, 4), "b": weight(4)})
    assert len(list(check(model, tmp_path, image(2, 4)).parameters())) == 3


def test_two_biases_on_one_kernel(tmp_path: Path) -> None:
    steps = [
        node("MatMul", "x w", "p"),
        node("Add", "p b", "first"),
        node("MatMul", "first w", "q"),
        node("Add", "q c", "y"),
    ]
    model = net(steps, {"x": ["N", 4]}, ["y"], {"w": weight(4, 4), "b": weight(4), "c": weight(4)})
    assert len(list(check(model, tmp_path, image(2, 4)).parameters())) == 3


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 0.7}),
        ("Selu", {}),
        ("Selu", {"alpha": 1.1, "gamma": 2.0}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 1 / 6}),
        ("HardSwish", {}),
        ("Gelu", {}),
        ("Gelu", {"approximate": "tanh"}),
        ("Mish", {}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("ThresholdedRelu", {"alpha": 0.4}),
        ("Softmax", {"axis": 1}),
        ("LogSoftmax", {"axis": -2}),
        ("Erf", {}),
        ("Round", {}),
        ("LpNormalization", {"axis": 1, "p": 2}),
        ("LRN", {"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 2.0}),
        ("GlobalMaxPool", {}),
        ("GlobalAveragePool", {}),
        ("Flatten", {"axis": 2}),
        ("DepthToSpace", {"blocksize": 2}),
        ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}),
        ("Transpose", {"perm": [0, 2, 3, 1]}),
        ("ArgMax", {"axis": 1, "keepdims": 0}),
    ],
)
def test_one_input(tmp_path: Path, op: str, attributes: dict[str, object]) -> None:
    shape = [2, 4, 11, 8] if op == "Flatten" else IMAGE["x"]
    outputs = {"y": 7} if op == "ArgMax" else {}
    check(net([node(op, "x", "y", **attributes)], {"x": shape}, ["y"], types=outputs), tmp_path, image() * 20)


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 2.0), (0.0, None), (None, 1.0), (0.0, 8.0)])
def test_clip(tmp_path: Path, low: float | None, high: float | None) -> None:
    bounds = {"low": low, "high": high}
    weights = {name: np.float32(v) for name, v in bounds.items() if v is not None}
    step = onnx.helper.make_node("Clip", ["x", *(n if n in weights else "" for n in bounds)], ["y"], name="y")
    check(net([step], IMAGE, ["y"], weights), tmp_path, image() * 10)


@pytest.mark.parametrize(("a", "b"), [(7, 2), (-7, 2), (7, -2), (-7, -2)])
def test_division_of_integers_truncates(tmp_path: Path, a: int, b: int) -> None:
    model = net([node("Div", "x d", "y")], {"x": [2]}, ["y"], {"d": np.array([b])}, types={"x": 7, "y": 7})
    check(model, tmp_path, np.array([a, a + 1]))


def test_a_constant_of_higher_rank_keeps_the_shape(tmp_path: Path) -> None:
    model = net([node("Mul", "x c", "y")], {"x": []}, ["y"], {"c": np.full((1, 1), 2.0, np.float32)})
    check(model, tmp_path, np.array(3.0, np.float32))


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [5], [2], [1]),
        ([0, 2], [2**62, -1], [2, 3], [2, 1]),
        ([-1], [-(2**62)], [2], [-1]),
        ([8], [1], [2], [-3]),
        ([3], [3], [3], [1]),
    ],
)
def test_slice(tmp_path: Path, starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> None:
    given = {"s": starts, "e": ends, "a": axes, "t": steps}
    weights = {name: np.array(value) for name, value in given.items()}
    check(net([node("Slice", "x s e a t", "y")], IMAGE, ["y"], weights), tmp_path, image())


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("pads", [[0, 0, 1, 2, 0, 0, 2, 1], [0, 1, 0, 0, 0, 0, 0, 3]])
def test_pad(tmp_path: Path, mode: str, pads: list[int]) -> None:
    model = net([node("Pad", "x p", "y", mode=mode)], IMAGE, ["y"], {"p": np.array(pads)})
    if mode != "constant" and pads[1]:
        with pytest.raises(hub.UnsupportedOps, match="padding"):
            text(model, tmp_path)
        return
    check(model, tmp_path, image())


@pytest.mark.parametrize(
    ("mode", "coordinates", "nearest"),
    [("nearest", "asymmetric", "floor"), ("nearest", "half_pixel", "round_prefer_floor"), ("linear", "half_pixel", "")],
)
def test_resize(tmp_path: Path, mode: str, coordinates: str, nearest: str) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if nearest:
        attributes["nearest_mode"] = nearest
    step = onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], name="y", **attributes)
    model = net([step], IMAGE, ["y"], {"scales": np.array([1, 1, 2, 3], np.float32)})
    check(model, tmp_path, image(), rtol=1e-3)


def test_all_refusals_come_at_once_with_their_layers(tmp_path: Path) -> None:
    steps = [
        node("MaxPool", "x", "a b", name="pool_with_indices", kernel_shape=[2, 2]),
        node("NonZero", "a", "c", name="where_not_zero"),
        node("TopK", "x k", "d e", name="best"),
    ]
    model = net(steps, IMAGE, ["b", "c", "d"], {"k": np.array([2])}, types={"b": 7, "c": 7})
    with pytest.raises(hub.UnsupportedOps) as caught:
        text(model, tmp_path)
    assert {op.op for op in caught.value.ops} == {"MaxPool", "NonZero", "TopK"}
    assert {layer for op in caught.value.ops for layer in op.layers} == {"pool_with_indices", "where_not_zero", "best"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("include", [0, 1])
def test_average_pool_of_a_volume_thinner_than_its_kernel(tmp_path: Path, include: int) -> None:
    """PyTorch refuses a volume that is smaller than the kernel, whatever its padding."""
    step = node("AveragePool", "x", "y", kernel_shape=[3, 3, 3], pads=[1] * 6, count_include_pad=include)
    check(net([step], {"x": ["N", 2, 5, 1, 4]}, ["y"]), tmp_path, image(2, 2, 5, 1, 4))
