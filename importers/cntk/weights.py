"""Parameters and constants as initializers: views of the mapped file."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.dnn import MappedArray
from hub.errors import InvalidModel, Refusal
from hub.tensors import ViewTensor
from importers.cntk.context import Tensor
from importers.cntk.functions import PARAMETER, Variable

__all__ = ["weight"]


def weight(builder: GraphBuilder, variable: Variable) -> Tensor:
    """A parameter or a constant, under its name and that of the layer that first uses it."""
    value = variable.value
    if value is None:
        raise InvalidModel(f"{variable.name or variable.uid!r} is no parameter, and stands for nothing")
    if value.data_type != variable.data_type:
        raise InvalidModel(f"the numbers of {variable.uid[:80]!r} are not of its type {variable.data_type}")
    role = "weight" if variable.kind == PARAMETER else "constant"
    return Tensor(builder.constant(tensor(value), variable.name or variable.uid, role))


def tensor(value: MappedArray) -> ir.TensorProtocol:
    """The numbers of an array; those of Float16 lie in the file as 32 bits."""
    if value.data_type in (1, 2):
        return ViewTensor(value.numbers, mapping=value.mapping)
    if value.data_type != 4:
        raise Refusal("a weight of whole numbers", "")
    numbers: Any = value.numbers

    def halves() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(numbers, np.float16))

    return ir.LazyTensor(halves, dtype=ir.DataType.FLOAT16, shape=ir.Shape(list(numbers.shape)))
