"""The operator cases of the installed `onnx`, as they are and with their weights baked in."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["Case", "cases"]


@dataclass
class Case:
    """One model with its inputs and what must come out."""

    name: str
    op: str
    model: onnx.ModelProto
    inputs: list[Any]
    outputs: list[Any]
    rtol: float
    atol: float


def cases() -> Iterator[Case]:
    """Every case once as it is, and once with all inputs but the first as initializers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        tests = load_model_tests(kind="node")
    operators = {t.name: t.model.graph.node[0].op_type for t in tests if t.model is not None}
    for test in tests:
        if test.model is None or not test.data_sets:
            continue
        op = operators.get(test.name.split("_expanded")[0], test.model.graph.node[0].op_type)
        inputs, outputs = (_values(part) for part in test.data_sets[0])
        yield Case(test.name, op, test.model, inputs, outputs, test.rtol, test.atol)
        baked = _bake(test.model, inputs)
        if baked is not None:
            yield Case(f"{test.name} (baked)", op, baked, inputs[:1], outputs, test.rtol, test.atol)


def _values(values: Any) -> list[Any]:
    return [numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in values]


def _bake(model: onnx.ModelProto, inputs: list[Any]) -> onnx.ModelProto | None:
    """The model with every input but the first as an initializer: how weights and axes come in practice."""
    if len(inputs) < 2 or len(inputs) != len(model.graph.input) or model.graph.initializer:
        return None
    if not all(isinstance(value, np.ndarray) for value in inputs[1:]):
        return None
    baked = onnx.ModelProto()
    baked.CopyFrom(model)
    for info, value in zip(model.graph.input[1:], inputs[1:], strict=True):
        baked.graph.initializer.append(numpy_helper.from_array(value, info.name))
    del baked.graph.input[1:]
    return baked
