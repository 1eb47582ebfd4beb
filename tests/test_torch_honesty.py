"""Every attribute of every operator that PyTorch code can say, changed one at a time: followed, or refused."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest
from conftest import need

need("torch", "onnxruntime", "safetensors")

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnx.helper as oh  # noqa: E402
from conformance.cases import Case, cases  # noqa: E402
from conformance.targets import torch_target  # noqa: E402

import hub  # noqa: E402
from exporters.torch.ops import OPS  # noqa: E402
from hub.canonical import OPSET  # noqa: E402
from hub.optable import SWITCHES  # noqa: E402

CHOICES = {
    "mode": ["nearest", "linear", "cubic", "constant", "edge", "reflect", "wrap", "DCR", "CRD"],
    "auto_pad": ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"],
    "coordinate_transformation_mode": [
        "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric", "tf_crop_and_resize",
    ],
    "nearest_mode": ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"],
    "direction": ["LEFT", "RIGHT"],
    "approximate": ["none", "tanh"],
    "keep_aspect_ratio_policy": ["stretch", "not_larger", "not_smaller"],
}  # fmt: skip
POSITIVE = {"blocksize", "num_groups", "group", "size", "strides", "kernel_shape", "dilations", "output_shape"}
"""At other numbers ONNX Runtime divides by zero and takes the process with it."""

UNTRIED = {"to", "num_outputs", "equation", "value", "axes", "perm"}
"""What belongs to the number of inputs and outputs or to their rank: the conformance cases have it."""

PER_OPERATOR = 3


@lru_cache(maxsize=1)
def by_operator() -> dict[str, list[Case]]:
    """A few cases of each operator that is registered."""
    found: dict[str, list[Case]] = defaultdict(list)
    names = {entry.op for entry in OPS}
    for case in cases():
        if "expanded" not in case.name and len(case.model.graph.node) == 1 and case.op in names:
            found[case.op].append(case)
    return {op: some[:: max(1, len(some) // PER_OPERATOR)][:PER_OPERATOR] for op, some in found.items()}


def values(name: str, kind: Any, old: Any) -> Iterator[Any]:
    """Other values for an attribute; None for `old` where it is not set."""
    if name in SWITCHES:
        yield from (v for v in (0, 1) if v != old)
    elif kind == onnx.AttributeProto.INT:
        yield from (v for v in (1, 2, 3, *((0, -1, -2) if name not in POSITIVE else ())) if v != old)
    elif kind == onnx.AttributeProto.FLOAT:
        yield from (0.0, 0.3, 2.5, 1e-12)
    elif kind == onnx.AttributeProto.STRING:
        yield from (v for v in CHOICES.get(name, []) if v.encode() != old)
    elif kind == onnx.AttributeProto.INTS:
        if old is None:
            yield from ([1], [2], [1, 1], [2, 2], [1, 1, 1, 1], [1, 2, 2, 1])
        else:
            yield from (list(old)[::-1], [1] * len(old), [2] * len(old))
            yield from ([v + (k == position) for k, v in enumerate(old)] for position in range(len(old)))


def changed(case: Case) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The model of the case with one attribute changed."""
    schema = onnx.defs.get_schema(case.op, min(OPSET, case.model.opset_import[0].version))
    old = {a.name: oh.get_attribute_value(a) for a in case.model.graph.node[0].attribute}
    for name, attribute in schema.attributes.items():
        if name in UNTRIED:
            continue
        kind = getattr(attribute.type, "value", attribute.type)
        for value in values(name, int(kind), old.get(name)):
            model = onnx.ModelProto()
            model.CopyFrom(case.model)
            node = model.graph.node[0]
            kept = [a for a in node.attribute if a.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, oh.make_attribute(name, value)])
            for info in model.graph.output:
                if info.type.HasField("tensor_type"):
                    info.type.tensor_type.ClearField("shape")
            yield f"{case.name} with {name}={value}", model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_changed_attribute_is_followed_or_refused() -> None:
    compared = 0
    wrong = []
    for some in by_operator().values():
        for case in some:
            for what, model in changed(case):
                try:
                    loaded = hub.load(model)
                    expected = list(loaded.run(case.inputs).values())
                    run = torch_target(loaded)
                except hub.HubError:
                    continue  # not valid, or refused
                try:
                    got = run(case.inputs)
                except RuntimeError as error:
                    if all(np.asarray(e).size for e in expected):
                        wrong.append(f"{what}: {error}")
                    continue
                for e, g in zip(expected, got, strict=True):
                    compared += 1
                    if not _equal(e, g):
                        wrong.append(what)
    assert not wrong, "\n".join(wrong)
    assert compared > 500


def _equal(expected: Any, got: Any) -> bool:
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if expected.dtype.kind not in "fiub":
            expected, got = expected.astype(np.float32), got.astype(np.float32)
        return bool(np.allclose(expected, got, rtol=2e-3, atol=1e-4, equal_nan=True))


def test_a_switch_is_0_or_1() -> None:
    node = oh.make_node("ReduceSum", ["x"], ["y"], keepdims=2)
    infos = [oh.make_tensor_value_info("x", 1, [2, 3])], [oh.make_tensor_value_info("y", 1, None)]
    model = oh.make_model(oh.make_graph([node], "g", *infos), opset_imports=[oh.make_opsetid("", 25)], ir_version=10)
    with pytest.raises(hub.UnsupportedOps, match="keepdims=2"):
        torch_target(hub.load(model))
