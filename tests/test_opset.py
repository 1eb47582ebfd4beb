"""Earlier opsets: what is written there means the same, judged by ONNX's own cases in ONNX Runtime."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import hub
from hub import onnxfile
from hub.canonical import OPSET
from hub.demo import SAMPLES
from hub.opset import COMPATIBLE, EARLIEST, compatible, lower
from tests.conformance.cases import Case, cases

OPSETS = (11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)


def _model(op_type: str, inputs: dict[str, list[int]], **attributes: object) -> hub.Model:
    node = onnx.helper.make_node(op_type, [*inputs], ["y"], name="the_node", **attributes)
    infos = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in inputs.items()]
    graph = onnx.helper.make_graph([node], "g", infos, [onnx.helper.make_tensor_value_info("y", 1, None)])
    return hub.load(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 24)]))


def test_the_sample_is_written_for_most_runtimes_and_on_request_for_others(tmp_path: Path) -> None:
    model = hub.load(SAMPLES / "digits.keras")
    x = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    expected = model.run(x)["digit"]
    for opset in (None, 13, 17, OPSET):
        (path,) = hub.save(model, tmp_path / "net.onnx", opset=opset)
        onnx.checker.check_model(path, full_check=True)
        assert onnx.load(path).opset_import[0].version == (opset or COMPATIBLE)
        np.testing.assert_allclose(hub.load(path).run(x)["digit"], expected, rtol=1e-5, atol=1e-7)
    assert model.ir.opset_imports[""] == OPSET, "writing has changed the model"


def test_what_an_opset_cannot_say_is_refused_by_name() -> None:
    with pytest.raises(hub.UnsupportedOps, match=r"Gelu x1.*exists since opset 20.*the_node"):
        lower(_model("Gelu", {"x": [2, 3]}).ir, 19)
    with pytest.raises(hub.UnsupportedOps, match="flattened to two dimensions"):
        lower(_model("Softmax", {"x": [2, 3, 4]}, axis=1).ir, 12)
    with pytest.raises(hub.UnsupportedOps, match="round_mode"):
        lower(_model("Cast", {"x": [2]}, to=18, round_mode="down").ir, 21)


@pytest.mark.parametrize("opset", [EARLIEST - 1, OPSET + 1, 0, -1])
def test_opsets_that_cannot_be_written_are_a_usage_error(opset: int) -> None:
    with pytest.raises(hub.UsageError, match=f"from {EARLIEST} to {OPSET}"):
        lower(_model("Relu", {"x": [2]}).ir, opset)


def test_an_operator_of_a_later_opset_raises_the_one_that_is_written() -> None:
    assert compatible(_model("Relu", {"x": [2]}).ir) == COMPATIBLE
    assert compatible(_model("Swish", {"x": [2]}).ir) == 24


def _run(model: onnx.ModelProto | bytes, case: Case) -> list[np.ndarray] | None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        return session.run(None, dict(zip(names, case.inputs, strict=True)))
    except Exception:  # noqa: BLE001 (ONNX Runtime's exceptions have no base class; what it cannot run proves nothing)
        return None


def _flat(values: list[Any]) -> list[np.ndarray]:
    """Tensors, those in sequences included."""
    return [array for v in values for array in (_flat(v) if isinstance(v, list) else [np.asarray(v)])]


def _same(a: list[Any], b: list[Any]) -> bool:
    """Equal, up to the last bits: ONNX Runtime has other kernels for other revisions of an operator."""
    pairs = list(zip(_flat(a), _flat(b), strict=True))
    return all(
        x.shape == y.shape
        and x.dtype == y.dtype
        and (np.allclose(x, y, 1e-5, 1e-7, equal_nan=True) if x.dtype.kind == "f" else np.array_equal(x, y))
        for x, y in pairs
    )


def _revisions(model: Any, opset: int) -> list[Any]:
    """The nodes of a model, each with the opset at which its operator was last changed."""
    return [
        (node.domain, node.op_type, str(node.attributes), [v and v.name for v in node.inputs],
         onnx.defs.get_schema(node.op_type, opset).since_version if not node.domain else 0)
        for node in model.graph.all_nodes()
    ]  # fmt: skip


@pytest.mark.slow
def test_the_standards_own_cases_are_the_same_at_every_opset_that_is_not_refused(tmp_path: Path) -> None:
    """Each case at the canonical opset and at each earlier one that `lower` grants, in ONNX Runtime; once for
    opsets between which no operator of it has changed."""
    seen: Counter[str] = Counter()
    wrong = []
    for case in cases():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = hub.load(case.model).ir
        except hub.HubError:
            seen["not loaded"] += 1
            continue
        onnxfile.save(model, tmp_path / "model.onnx")
        expected = _run((tmp_path / "model.onnx").read_bytes(), case)
        if expected is None:
            seen["not run"] += 1
            continue
        before: list[Any] = []
        for opset in OPSETS:
            try:
                lowered = lower(model, opset)
            except hub.UnsupportedOps:
                seen["refused"] += 1
                continue
            revisions = _revisions(lowered, opset)
            if revisions == before:
                seen["same"] += 1
                continue
            before = revisions
            onnxfile.save(lowered, tmp_path / "model.onnx")
            got = _run((tmp_path / "model.onnx").read_bytes(), case)
            if got is None:
                seen["not run at the earlier opset"] += 1
            elif _same(expected, got):
                seen["same"] += 1
            else:
                wrong.append(f"{case.name} at {opset}")
    assert not wrong, "\n".join(wrong)
    assert seen["same"] > 5000, seen
    assert seen["not run at the earlier opset"] < seen["same"] / 20, seen
