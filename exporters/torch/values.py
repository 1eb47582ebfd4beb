"""What a value of the graph is while code is being made for it: constant, sizes, or computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from exporters.codegen.program import Expression, Literal
from hub.tensors import ViewTensor, view

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

Array: TypeAlias = "np.ndarray[Any, Any]"

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
class Constant:
    """A tensor known at conversion. `load` gives its data, as a view where that is possible.

    `root` is the initializer behind it, if it is one (or a view of one): such a tensor is a weight.
    `view` tells apart the different views of one root.
    """

    shape: tuple[int, ...]
    dtype: ir.DataType
    load: Callable[[], Array]
    root: ir.Value | None = None
    view: str = ""
    tensor: ir.TensorProtocol | None = None

    @property
    def size(self) -> int:
        result = 1
        for dim in self.shape:
            result *= dim
        return result

    def numpy(self) -> Array:
        return self.load()

    def viewed(self, function: Callable[[Array], Array], shape: tuple[int, ...], name: str) -> Constant:
        """A view that is evaluated when the weights are written."""
        load = self.load
        return Constant(shape, self.dtype, lambda: function(load()), self.root, f"{self.view}.{name}")

    def transposed(self) -> Constant:
        """A matrix turned round, without a copy of it."""
        rows, columns = self.shape
        tensor = None if self.tensor is None else _turned(self.tensor, rows, columns)
        load = self.load
        return Constant((columns, rows), self.dtype, lambda: load().T, self.root, f"{self.view}.T", tensor)

    @classmethod
    def of(cls, array: Array, dtype: ir.DataType | None = None) -> Constant:
        array = np.asarray(array)
        return cls(tuple(array.shape), dtype or ir.DataType.from_numpy(array.dtype), lambda: array)


def _turned(tensor: ir.TensorProtocol, rows: int, columns: int) -> ir.TensorProtocol | None:
    """The transpose of a matrix as a view, also where the matrix is itself a view of more axes."""
    if not isinstance(tensor, ViewTensor):
        return view(tensor, (1, 0))
    array = tensor.array
    for split in range(array.ndim + 1):
        if math.prod(array.shape[:split]) == rows and math.prod(array.shape[split:]) == columns:
            order = (*range(split, array.ndim), *range(split))
            return tensor.transformed(array.transpose(order), (columns, rows))
    return None


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
