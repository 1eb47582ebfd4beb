"""What a value of the graph is while code is being made for it: constant, sizes, or computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from exporters.codegen.program import Expression, Literal
from exporters.constants import Array, Constant

__all__ = [
    "FLOATS",
    "TORCH_DTYPES",
    "WIDE_UNSIGNED",
    "Array",
    "Constant",
    "Dims",
    "Known",
    "dtype_code",
    "plain",
    "size_expression",
]

TORCH_DTYPES = {
    ir.DataType.FLOAT: "torch.float32",
    ir.DataType.DOUBLE: "torch.float64",
    ir.DataType.FLOAT16: "torch.float16",
    ir.DataType.BFLOAT16: "torch.bfloat16",
    ir.DataType.INT8: "torch.int8",
    ir.DataType.INT16: "torch.int16",
    ir.DataType.INT32: "torch.int32",
    ir.DataType.INT64: "torch.int64",
    ir.DataType.UINT8: "torch.uint8",
    ir.DataType.UINT16: "torch.uint16",
    ir.DataType.UINT32: "torch.uint32",
    ir.DataType.UINT64: "torch.uint64",
    ir.DataType.BOOL: "torch.bool",
}
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
WIDE_UNSIGNED = frozenset({ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64})


@dataclass(eq=False)
class Dims:
    """An int64 vector (or scalar) of sizes, some of them known only at run time."""

    elements: list[int | Expression]
    scalar: bool = False

    def known(self) -> Constant | None:
        if any(not isinstance(element, int) for element in self.elements):
            return None
        array = np.array(self.elements, dtype=np.int64)
        return Constant.of(array.reshape(()) if self.scalar else array)


Known: TypeAlias = "Constant | Dims | Expression"


def size_expression(element: int | Expression) -> Expression:
    return Literal(element) if isinstance(element, int) else element


def dtype_code(dtype: ir.DataType) -> str:
    return TORCH_DTYPES[dtype]


def plain(array: Array) -> Any:
    """A one-element array as the shortest Python number that is the same."""
    value = array.reshape(())[()]
    if array.dtype == np.float32 or (array.dtype.itemsize == 2 and array.dtype.kind not in "iub"):
        return float(str(np.float32(value)))
    return value.item()
