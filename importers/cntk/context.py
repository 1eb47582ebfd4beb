"""What a function of CNTK is said with: values that know which of their axes are dynamic, and the context.

CNTK keeps dynamic axes apart from shapes. In ONNX they are the first ones: (N, ...) for a value with the batch
axis, (N, T, ...) for one with a sequence axis as well. Behind them are the static axes in the order of NumPy, the
reverse of CNTK's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.dnn import FREE, INFERRED, Axis
from hub.errors import InvalidModel, Refusal
from importers.cntk.functions import Function, Network

__all__ = ["Context", "Steps", "Tensor"]

LAST_STATIC = (1 << 31) - 3
"""Static axes have numbers from -LAST_STATIC up to it (Axis in CNTKLibrary.h); the sentinels are beyond."""

OPEN = "give sizes of the inputs with inputs="


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value: whether it has the batch axis, and the name of its sequence axis, if it has one."""

    value: ir.Value
    batch: bool = False
    sequence: str | None = None

    @property
    def dynamic(self) -> int:
        """How many of the first axes are dynamic."""
        return self.batch + (self.sequence is not None)

    def of(self, value: ir.Value) -> Tensor:
        """Another value with the same dynamic axes."""
        return replace(self, value=value)


@dataclass(frozen=True)
class Steps:
    """Which steps of a sequence axis `of` are taken: from `begin` to `end`, as Python counts.

    `sequence`: the name of the axis that they become; None where the one step becomes a value without.
    """

    of: str
    begin: int
    end: int | None
    sequence: str | None


SEQUENTIAL = frozenset("PackedIndex GatherPacked ScatterPacked Where UnpackSequence ToSequence ToSequenceLike".split())


class Context:
    """What the function `found` is said with."""

    def __init__(
        self,
        builder: GraphBuilder,
        found: Function,
        network: Network,
        warnings: list[str],
        inside: bool = False,
    ) -> None:
        self.builder = builder
        self.found = found
        self.network = network
        self.warnings = warnings
        self.inside = inside
        """Whether one step of a recurrence is said, where nothing has a sequence axis."""

    def check(self, inputs: Sequence[Any]) -> None:
        """Places of steps are no numbers; in a recurrence there is nothing but one step."""
        if any(isinstance(x, Steps) for x in inputs) and self.found.op not in ("PackedIndex", "GatherPacked"):
            raise Refusal("it uses the places of steps as numbers", "sequence.slice, first and last need none")
        if self.inside and self.found.op in SEQUENTIAL:
            raise Refusal("it needs all steps of a sequence, inside of a recurrence")

    def check_results(self, results: Sequence[Any]) -> None:
        """InvalidModel where a result has no numbers, which CNTK has no form for."""
        for x in results:
            if isinstance(x, Tensor) and x.value.shape is not None:
                self.require(0 not in self.shape(x), f"it gives the shape {self.shape(x)}, without numbers")

    # -- emitting ------------------------------------------------------------------------------------------

    def op(self, op_type: str, *inputs: ir.Value | Tensor | None, **attributes: Any) -> ir.Value:
        """Emit a node of this function."""
        values = [value.value if isinstance(value, Tensor) else value for value in inputs]
        return self.builder.op(op_type, *values, **attributes)

    def ints(self, data: Sequence[int] | int, name: str) -> ir.Value:
        """An int64 constant."""
        return self.builder.ints(data, name)

    def constant(self, data: npt.ArrayLike, name: str, like: Tensor | ir.Value) -> ir.Value:
        """A constant of the type that `like` has."""
        dtype = (like.value if isinstance(like, Tensor) else like).dtype
        assert dtype is not None
        return self.builder.constant(np.asarray(data, dtype.numpy()), name)

    def reshape(self, value: ir.Value | Tensor, shape: Sequence[int], name: str = "shape") -> ir.Value:
        """A Reshape to `shape`, with 0 and -1 as ONNX has them."""
        return self.op("Reshape", value, self.ints(list(shape), name))

    def cast(self, value: ir.Value | Tensor, like: Tensor | ir.Value) -> ir.Value:
        """A Cast to the type that `like` has."""
        dtype = (like.value if isinstance(like, Tensor) else like).dtype
        assert dtype is not None
        return self.op("Cast", value, to=int(dtype))

    # -- shapes --------------------------------------------------------------------------------------------

    def shape(self, x: Tensor) -> list[int | None]:
        """The static sizes of a value; None for one that is not known."""
        if x.value.shape is None:
            raise Refusal("the number of axes of its input is not known")
        return [size if isinstance(size, int) else None for size in x.value.shape][x.dynamic :]

    def rank(self, x: Tensor) -> int:
        """How many static axes a value has."""
        return len(self.shape(x))

    def sizes(self, x: Tensor) -> list[int]:
        """The static sizes of a value, which must be known."""
        found = self.shape(x)
        if None in found:
            raise Refusal("sizes of its input are not known", OPEN)
        return [size for size in found if size is not None]

    def static(self, x: Tensor, axis: Axis, beyond: int = 0) -> int:
        """The number, in NumPy's order, of a static axis; with `beyond`, of one that is to be made."""
        rank = self.rank(x) + beyond
        index = axis.index if axis.index >= 0 else axis.index + rank
        self.require(self.is_static(axis) and 0 <= index < rank, f"there is no static axis {axis.index} of {rank}")
        return rank - 1 - index

    def is_static(self, axis: Axis) -> bool:
        """Whether an axis is a static one; sentinels and dynamic ones are not."""
        return -LAST_STATIC <= axis.index <= LAST_STATIC - 1

    def onnx(self, x: Tensor, axis: Axis) -> int:
        """The number of a static axis among all axes in ONNX."""
        return x.dynamic + self.static(x, axis)

    def front(self, x: Tensor) -> list[int]:
        """What Reshape takes for the dynamic axes: they stay."""
        return [0] * x.dynamic

    def target(self, x: Tensor, sizes: Sequence[int | None]) -> list[int]:
        """What Reshape takes to give `x` these static sizes, of which at most one may be unknown."""
        if list(sizes).count(None) > 1:
            raise Refusal("several sizes of its input are not known", OPEN)
        return [*self.front(x), *(-1 if size is None else size for size in sizes)]

    def like(self, first: Tensor, *others: Tensor) -> Tensor:
        """The dynamic axes that a result of these inputs has: those of the one with the most."""
        most = max((first, *others), key=lambda x: x.dynamic)
        for x in (first, *others):
            if x.sequence is not None and x.sequence != most.sequence:
                raise Refusal(
                    "its inputs have different sequence axes, whose lengths may differ",
                    "reconcile_dynamic_axes or broadcast_as makes them one",
                )
        return most

    def aligned(self, *inputs: Tensor) -> tuple[Tensor, list[ir.Value]]:
        """The inputs with axes of size 1 where others have more, to be broadcast; and their common dynamic axes.

        A constant of another type is turned into that of the others, as CNTK does.
        """
        most = self.like(*inputs)
        rank = max(self.rank(x) for x in inputs)
        kinds = [x.value for x in inputs if x.value.name not in self.builder.initializers] or [inputs[0].value]
        values = []
        for x in inputs:
            value = x.value
            if value.dtype != kinds[0].dtype:
                self.require(value.name in self.builder.initializers, "its inputs are of different types")
                value = self.cast(value, kinds[0])
            values.append(self._widened(replace(x, value=value), most, rank))
        return most, values

    def spread(self, value: ir.Value, like: Tensor, sizes: Sequence[int | None]) -> ir.Value:
        """`value`, whose first axes are of size 1, over the dynamic axes of `like`; `sizes` are its static ones."""
        front = self.op("Shape", like, start=0, end=like.dynamic)
        shape = self.op("Concat", front, self.ints([1] * len(sizes), "ones"), axis=0) if sizes else front
        result = self.op("Expand", value, shape)
        assert like.value.shape is not None
        assert value.shape is not None
        own = list(value.shape)[len(value.shape) - len(sizes) :]
        result.shape = ir.Shape([*list(like.value.shape)[: like.dynamic], *own])
        return result

    def _widened(self, x: Tensor, most: Tensor, rank: int) -> ir.Value:
        """`x` with the dynamic axes of `most` and `rank` static ones."""
        own = self.rank(x)
        if x.dynamic == 0 or (x.dynamic == most.dynamic and own == rank):
            return x.value
        axes = [1] if x.dynamic < most.dynamic else []
        axes += range(most.dynamic, most.dynamic + rank - own)
        return self.op("Unsqueeze", x, self.ints(axes, "axes"))

    # -- refusing ------------------------------------------------------------------------------------------

    def require(self, holds: bool, what: str) -> None:
        """InvalidModel, naming the function, unless `holds`."""
        if not holds:
            raise InvalidModel(f"{self.found.label!r} ({self.found.kind}): {what}")

    def warn(self, text: str) -> None:
        """Tell the user, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def known(self, size: int) -> int | None:
        """A size of a shape in the file; None for one that is found at run time."""
        if size in (FREE, INFERRED):
            return None
        self.require(size < 1 << 31, f"a size of {size}")
        return size

    def numbers(self, x: Tensor) -> npt.NDArray[Any] | None:
        """The numbers of a small constant; None for what is not known at conversion, or not small."""
        tensor = x.value.const_value
        return tensor.numpy() if tensor is not None and tensor.size <= 1 << 16 else None

    def count(self, sizes: Sequence[int | None]) -> int | None:
        """How many numbers there are in such a shape."""
        return None if None in sizes else math.prod(int(size or 0) for size in sizes)

    # -- one batch axis ------------------------------------------------------------------------------------

    def merged(self, x: Tensor) -> tuple[ir.Value, Callable[[ir.Value], Tensor]]:
        """`x` with exactly one axis before the static ones, and what gives a result its own dynamic axes back."""
        if x.dynamic == 1:
            return x.value, x.of
        if x.dynamic == 0:
            axes = self.ints([0], "axes")
            return self.op("Unsqueeze", x, axes), lambda y: x.of(self.op("Squeeze", y, axes))
        front = self.op("Shape", x, start=0, end=2)

        def split(y: ir.Value) -> Tensor:
            return x.of(self.op("Reshape", y, self.op("Concat", front, self.op("Shape", y, start=1), axis=0)))

        return self.reshape(x, self.flat(self.shape(x))), split

    def flat(self, sizes: Sequence[int | None]) -> list[int]:
        """What Reshape takes to merge all dynamic axes into one."""
        if None in sizes:
            raise Refusal("sizes of its input are not known", OPEN)
        return [-1, *(int(size or 0) for size in sizes)]
