"""What an operation of MIL is said with: the graph that is built, types, sizes known and open, refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.errors import InvalidModel, Refusal
from hub.tensors import ViewTensor, view
from importers.coreml.types import Declared, onnx_type

if TYPE_CHECKING:
    from importers.coreml.program import Walker

__all__ = ["FAR", "Mil", "Size"]

FAR = (1 << 31) - 1
"""Behind the last element of any axis: ends of slices that go on to it."""

OPEN = "give sizes of the inputs with inputs="

Size = int | ir.Value
"""A size: a number, or a value of one number."""

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


class Mil:
    """The operation `kind`, called `name`, with results of the types `types`."""

    def __init__(self, walker: Walker, message: Any, kind: str, name: str, types: Sequence[Declared | None]) -> None:
        self.walker = walker
        self.message = message
        self.kind = kind
        self.name = name
        self.types = types

    @property
    def builder(self) -> GraphBuilder:
        """Of the graph, or of the body of a loop, that is built now."""
        return self.walker.builder

    # -- emitting ------------------------------------------------------------------------------------------

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Emit a node of this operation."""
        return self.builder.op(op_type, *inputs, **attributes)

    def ops(self, op_type: str, *inputs: ir.Value | None, outputs: int, **attributes: Any) -> list[ir.Value]:
        """Emit a node with several outputs."""
        return list(self.builder.ops(op_type, *inputs, outputs=outputs, **attributes))

    def ints(self, data: Sequence[int] | int, name: str = "numbers") -> ir.Value:
        """An int64 constant."""
        return self.builder.ints(data, name)

    def scalar(self, number: float | bool, like: ir.Value, name: str = "number") -> ir.Value:
        """A constant of the type that `like` has."""
        return self.array(np.asarray(number), like, name)

    def array(self, data: npt.ArrayLike, like: ir.Value, name: str = "numbers") -> ir.Value:
        """A constant tensor of the type that `like` has."""
        return self.builder.constant(np.asarray(data).astype(self.dtype(like).numpy()), name)

    def cast(self, x: ir.Value, to: ir.DataType) -> ir.Value:
        """`x` as another type, if it is not of that type."""
        return x if x.dtype == to else self.op("Cast", x, to=int(to))

    def int64(self, x: ir.Value) -> ir.Value:
        """Indices and shapes as ONNX has them."""
        known = self.known(x)
        return self.ints(known.tolist(), f"{x.name}/int64") if known is not None else self.cast(x, ir.DataType.INT64)

    def reshape(self, x: ir.Value, shape: Sequence[Size]) -> ir.Value:
        """A Reshape to sizes known or computed; -1 as in ONNX."""
        return self.op("Reshape", x, self.shape_of(shape), allowzero=1 if 0 in [s for s in shape if s == 0] else None)

    def transpose(self, x: ir.Value, perm: Sequence[int]) -> ir.Value:
        """A Transpose, if it changes anything."""
        return x if list(perm) == list(range(len(perm))) else self.op("Transpose", x, perm=list(perm))

    def flip_last(self, x: ir.Value) -> ir.Value:
        """The last two axes the other way round."""
        rank = self.rank(x)
        return self.transpose(x, [*range(rank - 2), rank - 1, rank - 2])

    def turned(self, matrix: ir.Value) -> ir.Value:
        """The transpose of a matrix; of a weight evaluated when it is written."""
        tensor = matrix.const_value
        if tensor is None:
            return self.op("Transpose", matrix, perm=[1, 0])
        if isinstance(tensor, ViewTensor):
            return self.builder.constant(view(tensor, [1, 0]), f"{matrix.name}/transposed", "weight")
        rows, columns = tensor.shape.numpy()
        load = lambda: ir.Tensor(np.ascontiguousarray(tensor.numpy().T), dtype=tensor.dtype)  # noqa: E731
        turned = ir.LazyTensor(load, dtype=tensor.dtype, shape=ir.Shape([columns, rows]), name=None)
        return self.builder.constant(turned, f"{matrix.name}/transposed", "weight")

    def unsqueeze(self, x: ir.Value, *axes: int) -> ir.Value:
        """New axes of size 1."""
        return self.op("Unsqueeze", x, self.ints(list(axes), "axes"))

    def squeeze(self, x: ir.Value, *axes: int) -> ir.Value:
        """Without these axes of size 1."""
        return self.op("Squeeze", x, self.ints(list(axes), "axes"))

    def slice(self, x: ir.Value, axis: int, begin: Size, end: Size) -> ir.Value:
        """A range of one axis."""
        bounds = [self.ints([s], "bound") if isinstance(s, int) else s for s in (begin, end)]
        return self.op("Slice", x, *bounds, self.ints([axis], "axis"))

    # -- types and sizes -----------------------------------------------------------------------------------

    def dtype(self, x: ir.Value) -> ir.DataType:
        """The type of a value."""
        if x.dtype is None:
            raise Refusal("the type of its input is not known")
        return x.dtype

    def is_float(self, x: ir.Value) -> bool:
        """Whether a value has floating-point numbers."""
        return self.dtype(x) in _FLOATS

    def result_type(self, index: int = 0) -> ir.DataType:
        """The type of a result, as the program says."""
        found = self.types[index]
        if found is None:
            raise Refusal("its result is no tensor")
        return onnx_type(found.dtype, self.walker.upcast)

    def result_shape(self, index: int = 0) -> list[int | None]:
        """The sizes of a result, as the program says."""
        found = self.types[index]
        if found is None or found.shape is None:
            raise Refusal("the shape of its result is not known")
        return list(found.shape)

    def sizes(self, x: ir.Value) -> list[int | None]:
        """The sizes of a value; None for one that is open."""
        if x.shape is None:
            raise Refusal("the number of axes of its input is not known")
        return [size if isinstance(size, int) else None for size in x.shape]

    def fixed(self, x: ir.Value) -> list[int]:
        """The sizes of a value, which must be known."""
        found = self.sizes(x)
        if None in found:
            raise Refusal("sizes of its input are open", OPEN)
        return [int(size or 0) for size in found]

    def rank(self, x: ir.Value) -> int:
        """How many axes a value has."""
        return len(self.sizes(x))

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the first one.

        Raises:
            InvalidModel: there is no such axis.
        """
        if not -rank <= axis < rank:
            raise InvalidModel(f"there is no axis {axis} of {rank}")
        return axis % rank

    def size(self, x: ir.Value, axis: int) -> Size:
        """One size of a value: the number, or a node that finds it."""
        known = self.sizes(x)[axis]
        return known if known is not None else self.op("Shape", x, start=axis, end=axis + 1)

    def times(self, a: Size, b: Size) -> Size:
        """The product of two sizes."""
        return a * b if isinstance(a, int) and isinstance(b, int) else self.op("Mul", *self._sized(a, b))

    def over(self, a: Size, b: Size) -> Size:
        """The quotient of two sizes, rounded down."""
        return a // b if isinstance(a, int) and isinstance(b, int) else self.op("Div", *self._sized(a, b))

    def plus(self, a: Size, b: Size) -> Size:
        """The sum of two sizes."""
        return a + b if isinstance(a, int) and isinstance(b, int) else self.op("Add", *self._sized(a, b))

    def minus(self, a: Size, b: Size) -> Size:
        """The difference of two sizes."""
        return a - b if isinstance(a, int) and isinstance(b, int) else self.op("Sub", *self._sized(a, b))

    def _sized(self, *sizes: Size) -> list[ir.Value]:
        return [self.ints([size], "size") if isinstance(size, int) else size for size in sizes]

    def shape_of(self, sizes: Sequence[Size]) -> ir.Value:
        """Sizes as one tensor, a constant where all are known."""
        if all(isinstance(size, int) for size in sizes):
            return self.ints([int(size) for size in sizes if isinstance(size, int)], "shape")
        return self.op("Concat", *self._sized(*sizes), axis=0)

    def product(self, sizes: Sequence[Size]) -> Size:
        """How many elements there are in such a shape."""
        result: Size = math.prod(size for size in sizes if isinstance(size, int))
        for size in sizes:
            result = result if isinstance(size, int) else self.times(result, size)
        return result

    def alike(self, *values: ir.Value) -> list[ir.Value]:
        """Values of different types as the widest of them: a float where there is one."""
        kinds = {self.dtype(value) for value in values}
        if len(kinds) == 1:
            return list(values)
        order = [ir.DataType.DOUBLE, ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT64, ir.DataType.INT32]
        best = next((kind for kind in order if kind in kinds), ir.DataType.INT32)
        return [self.cast(value, best) for value in values]

    def known(self, x: ir.Value) -> npt.NDArray[Any] | None:
        """The numbers of a small constant; None for what is computed."""
        tensor = x.const_value
        return tensor.numpy() if tensor is not None and tensor.size <= 1 << 16 else None

    # -- refusing ------------------------------------------------------------------------------------------

    def require(self, holds: bool, what: str) -> None:
        """InvalidModel, naming the operation, unless `holds`."""
        if not holds:
            raise InvalidModel(f"{self.name!r} ({self.kind}): {what}")

    def one_of(self, found: str, *known: str) -> str:
        """`found`, which must be one of `known`."""
        if found not in known:
            raise Refusal(f"its value {found[:60]!r} is not one of {', '.join(known)}")
        return found

    def warn(self, text: str) -> None:
        """Tell the user, once."""
        if text not in self.walker.warnings:
            self.walker.warnings.append(text)
