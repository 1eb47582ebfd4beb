"""What the op functions of Core ML emit: operations of MIL, Core ML's Model Intermediate Language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.constants import Array, Constant
from exporters.coreml.library import Library
from exporters.lowering import Walk
from hub.errors import Refusal

__all__ = ["FLOATS", "SMALL", "Emitter", "Tensor", "Var", "plain"]

Var = Any
"""A value of MIL: `coremltools.converters.mil.Var`."""

DataType = ir.DataType
FLOATS = frozenset({DataType.FLOAT, DataType.FLOAT16})
SMALL = {DataType.INT8: (-128, 127), DataType.UINT8: (0, 255), DataType.INT16: (-(2**15), 2**15 - 1)}
SMALL[DataType.UINT16] = (0, 2**16 - 1)
"""Types whose numbers are held as int32."""

MIL = {DataType.FLOAT: "fp32", DataType.FLOAT16: "fp16", DataType.BOOL: "bool"}
MIL |= dict.fromkeys([DataType.INT64, DataType.INT32, *SMALL], "int32")
NUMPY = {"fp32": np.float32, "fp16": np.float16, "int32": np.int32, "bool": np.bool_}
LARGEST = 2**31 - 1
PROGRAM = "write an .mlpackage: an ML Program has int32"
RANK = 5
"""Of tensors in Core ML, at most."""


@dataclass(frozen=True)
class Tensor:
    """A value of MIL, with its shape as ONNX has it."""

    var: Var
    shape: tuple[int | str, ...]


def plain(name: str) -> str:
    """A name that Core ML takes."""
    made = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name) or "_"
    made = "_" + made if made[0].isdigit() else made
    return made + "_" if made.endswith(("_cast_fp16", "_to_fp16")) else made  # so coremltools calls its own


class Emitter(Walk[Tensor]):
    """Makes operations; `emit("relu", x=x)` takes values of ONNX, variables of MIL and plain numbers."""

    target = "Core ML"

    def __init__(self, model: ir.Model, library: Library, version: int, *, program: bool) -> None:
        super().__init__(model)
        self.library = library
        self.version = version
        self.program = program
        self._consts: dict[Constant, Var] = {}
        self.taken: set[str] = set()
        self.fresh_names: list[str] = []

    # -- emitting -------------------------------------------------------------------------------

    def __call__(self, op: str, **inputs: Any) -> Var:
        """Emit the operation `op`; inputs that are None are left out."""
        given = {key: self._given(value) for key, value in inputs.items() if value is not None}
        made = getattr(self.library.builder, op)(name=self.fresh(op), **given)
        if isinstance(made, tuple | list):
            self.taken.update(var.name for var in made)  # coremltools made them of the operation's name
        return made

    def _given(self, value: Any) -> Any:
        if isinstance(value, ir.Value):
            return self.var(value)
        if isinstance(value, list | tuple) and any(isinstance(item, ir.Value) for item in value):
            return [self._given(item) for item in value]
        return value

    def fresh(self, wanted: str) -> str:
        """A name that nothing has yet."""
        name, number = wanted, 0
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        self.fresh_names.append(name)
        return name

    # -- what values are ------------------------------------------------------------------------

    def var(self, value: ir.Value) -> Var:
        """The variable of a value; a constant becomes one, once for each block of the program."""
        known = self.known[value]
        return self.const(known, value.name or "const") if isinstance(known, Constant) else known.var

    def const(self, constant: Constant, name: str) -> Var:
        """A constant of the program."""
        if not self._nested and constant in self._consts:
            return self._consts[constant]
        made = self.library.builder.const(val=self.numbers(constant), name=self.fresh(plain(name)))
        if not self._nested:
            self._consts[constant] = made
        return made

    def body(self, graph: ir.Graph, given: Mapping[ir.Value, Var]) -> list[Var]:
        """The operations of a body, here and now; what it gives. `given` are its inputs."""
        outer = self.node
        for value, var in given.items():
            shape = () if value.shape is None else self.shape(value)
            self.known[value] = Tensor(var, shape or tuple(int(d) if str(d).isdigit() else str(d) for d in var.shape))
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None:
                raise Refusal("an initializer of a body has no data")
            sizes = tuple(d for d in tensor.shape if isinstance(d, int))
            self.known[value] = Constant(sizes, tensor.dtype, tensor.numpy, value, tensor=tensor)
        for node in graph:
            self.node = node
            if not self._folds(node):
                self.define(node, self.operation(node))
        self.node = outer
        return [self("identity", x=value) for value in graph.outputs]

    def nested(self, graph: ir.Graph, given: Mapping[ir.Value, Var]) -> list[Var]:
        """The same as a block of its own, whose constants nothing outside can use."""
        self._nested += 1
        try:
            return self.body(graph, given)
        finally:
            self._nested -= 1

    _nested = 0

    def numbers(self, constant: Constant) -> Array:
        """The data of a constant in a type that Core ML has.

        Raises:
            Refusal: a number does not fit, or the type has none.
        """
        array = to_mil(constant.numpy(), constant.dtype)
        if (
            not self.program
            and array.dtype == np.int32
            and array.size
            and np.abs(array.astype(np.int64)).max() > 1 << 24
        ):
            raise Refusal("whole numbers above 2 ** 24, which a neural network does not hold exactly", PROGRAM)
        return array

    def kind(self, value: ir.Value) -> DataType:
        """The ONNX type of a value."""
        known = self.known.get(value)
        if isinstance(known, Constant):
            return known.dtype
        assert value.dtype is not None
        return value.dtype

    def mil(self, value: ir.Value) -> str:
        """The MIL type of a value: "fp32", "fp16", "int32" or "bool"."""
        return MIL[self.kind(value)]

    def is_float(self, value: ir.Value) -> bool:
        """Whether a value is float32 or float16."""
        return self.kind(value) in FLOATS

    def number(self, like: ir.Value, number: float) -> Any:
        """A number in the type of a value."""
        return NUMPY[self.mil(like)](number)

    def floats(self, value: ir.Value) -> Var:
        """A value of float32 or float16, else refused."""
        if not self.is_float(value):
            raise Refusal(f"Core ML computes this in floating point, not in {self.kind(value).name.lower()}")
        return self.var(value)

    def cast(self, var: Var, to: str) -> Var:
        """A variable in another MIL type."""
        return var if self.type_of(var) == to else self("cast", x=var, dtype=to)

    def select(self, cond: Any, a: Any, b: Any) -> Var:
        """`a` where `cond` holds, else `b`. Core ML does not count `cond` among what gives the shape."""
        where, a, b = (self._given(value) for value in (cond, a, b))
        sides = [tuple(map(str, getattr(side, "shape", ()))) for side in (a, b)]
        wanted = tuple(map(str, where.shape))
        if any(
            size != "1" and all(len(side) < i or side[-i] == "1" for side in sides)
            for i, size in enumerate(wanted[::-1], 1)
        ) or len(wanted) > max(map(len, sides)):
            kind = self.type_of(a) if hasattr(a, "op") else self.type_of(b) if hasattr(b, "op") else a.dtype.name
            kind = {"float32": "fp32", "float16": "fp16"}.get(kind, kind)
            nothing = self("mul", x=self.cast(where, kind), y=NUMPY[kind](0))
            b = self("add", x=b, y=nothing)
        return self("select", cond=where, a=a, b=b)

    def type_of(self, var: Var) -> str:
        """The MIL type of a variable."""
        return str(self.library.types.builtin_to_string(var.dtype))

    def static(self, value: ir.Value, what: str = "a size") -> list[int]:
        """The shape of a value, of which nothing is open."""
        shape = self.shape(value)
        if not all(isinstance(size, int) for size in shape):
            raise Refusal(f"{what} is open", "fix the shapes of the inputs: shapes=, batch=")
        return [int(size) for size in shape]

    def rank(self, value: ir.Value) -> int:
        """The number of axes of a value."""
        return len(self.shape(value))

    def sizes(self, value: ir.Value) -> Var:
        """The shape of a value at run time, as int32."""
        return self("shape", x=value)

    def result_shape(self) -> tuple[int | str, ...] | None:
        """The shape of the first output of the current node, if it is known."""
        assert self.node is not None
        return None if self.node.outputs[0].shape is None else self.result()

    def var_of(self, array: Array) -> Var:
        """A constant of the program that is no value of the graph."""
        return self.library.builder.const(val=array, name=self.fresh("const"))

    def turned(self, matrix: ir.Value) -> Var:
        """A constant matrix with its axes exchanged."""
        constant = self.constant(matrix)
        assert constant is not None
        return self.const(constant.transposed(), f"{matrix.name}_T")

    def reshape(self, x: Any, shape: Sequence[int | str]) -> Var:
        """`x` in another shape, of which one size may be open."""
        open_sizes = [size for size in shape if not isinstance(size, int)]
        if len(open_sizes) > 1:
            raise Refusal("a reshape to several open sizes", "fix the shapes of the inputs: shapes=, batch=")
        return self("reshape", x=x, shape=np.array([s if isinstance(s, int) else -1 for s in shape], np.int32))


def to_mil(array: Array, dtype: DataType) -> Array:
    """An array in a type that Core ML has.

    Raises:
        Refusal: a number is beyond int32, or the type has no form.
    """
    array = np.asarray(array)
    if dtype not in MIL:
        raise Refusal(f"Core ML has no {dtype.name.lower()}", "convert the model to float32 first")
    if (
        dtype == DataType.INT64
        and array.size
        and not (int(array.min()) >= -LARGEST - 1 and int(array.max()) <= LARGEST)
    ):
        beyond = next(int(n) for n in array.reshape(-1) if not -LARGEST - 1 <= int(n) <= LARGEST)
        raise Refusal(f"the constant {beyond} does not fit into int32, Core ML's only integers")
    return np.ascontiguousarray(array).reshape(array.shape).astype(NUMPY[MIL[dtype]], copy=False)
