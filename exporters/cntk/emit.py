"""What the op functions ask and say: tensors, axes, weights, functions and calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from exporters.cntk.net import Call, Function, Group, Size, Tensor, Variable, number
from exporters.constants import Constant, floats
from exporters.lowering import Walk
from hub.canonical import ROLE, layer_of
from hub.errors import Refusal

__all__ = ["SIZES_HINT", "Emitter"]

SIZES_HINT = "give the sizes of the inputs: inputs=, --input"
_ORDINALS = ("first", "second", "third")


class Emitter(Walk[Tensor]):
    """The first argument of every op function: it knows the values made so far and collects functions and calls."""

    target = "CNTK"

    def __init__(self, model: ir.Model, batch: bool) -> None:
        super().__init__(model)
        self.batch = batch
        self.functions: list[Function] = []
        self.calls: list[Call] = []
        self.exits: dict[str, Variable] = {}
        self._weights: dict[Any, Variable] = {}
        self._groups: dict[Any, Group] = {}
        self._tensors: dict[ir.Value, Tensor] = {}
        self._apart: dict[tuple[Variable, int], Variable] = {}
        self._depth = 0

    @property
    def layer(self) -> str:
        """The source layer of the current node."""
        return layer_of(self.node) if self.node is not None else ""

    # -- values ---------------------------------------------------------------------------------

    def tensor(self, value: ir.Value) -> Tensor:
        """What holds `value`; a constant becomes a weight without a batch."""
        known = self.known[value]
        if isinstance(known, Tensor):
            return known
        if value not in self._tensors:
            self._tensors[value] = Tensor(self.operand(value), None)
        return self._tensors[value]

    def operand(self, value: ir.Value) -> Variable:
        """A constant as an operand: a plain number where it is one and does not train, else a weight."""
        constant = self.constant(value)
        assert constant is not None
        if constant.size == 1 and _role(constant) != "weight":
            plain = number(float(constant.numpy().reshape(-1)[0]))
            if not constant.shape:
                return plain
        suffix = "weight" if _trains(constant) else "constant"
        return self.weight(constant, Group(self.layer, suffix), suffix)

    def given(self, value: ir.Value | None, what: str) -> Constant:
        """A constant of float32 that the operator has as a weight.

        Raises:
            Refusal: it is computed at run time.
        """
        constant = self.constant(value)
        if constant is None:
            raise Refusal(f"{what} is computed at run time; in CNTK it is a parameter")
        return floats(constant)

    def group(self, role: str, **weights: Constant | None) -> Group:
        """The weights of a call: those of an earlier one where all of them are the same."""
        given = tuple((suffix, _identity(c)) for suffix, c in weights.items() if c is not None)
        return self._groups.setdefault(given, Group(self.layer, role))

    def weight(self, constant: Constant, group: Group, suffix: str, *, trains: bool | None = None) -> Variable:
        """A weight of a group."""
        if not constant.size:
            raise Refusal("a constant without elements")
        constant = floats(constant)
        key = (_identity(constant), group, suffix)
        if key not in self._weights:
            if trains is None:
                trains = _trains(constant)
            kind: Any = "parameter" if trains else "constant"
            made = Variable(kind, constant.shape, data=constant, group=group, suffix=suffix, batch=False)
            self._weights[key] = made
        return self._weights[key]

    # -- axes -----------------------------------------------------------------------------------

    def axis(self, x: Tensor, axis: int, rank: int | None = None) -> int:
        """An axis of ONNX as an axis of a sample.

        Raises:
            Refusal: it is the batch.
        """
        axis = axis + (x.rank if rank is None else rank) if axis < 0 else axis
        if x.at is None:
            return axis
        if axis == x.at:
            raise Refusal("it works along the batch", "CNTK computes sample by sample")
        return axis - (axis > x.at)

    def like(self, x: Tensor, variable: Variable) -> Tensor:
        """A result whose axes are those of `x`."""
        return Tensor(variable, x.at, x.size)

    def fixed(self, shape: Sequence[Size]) -> list[int]:
        """Sizes that must be known.

        Raises:
            Refusal: one of them is open; in CNTK only the batch can be, here.
        """
        if not all(isinstance(size, int) for size in shape):
            raise Refusal("a size other than the batch is open", SIZES_HINT)
        return [size for size in shape if isinstance(size, int)]

    def images(self, x: ir.Value, spatial: int | None = None) -> Tensor:
        """A tensor (batch, channels, ...).

        Raises:
            Refusal: it is another.
        """
        tensor = self.apart(self.tensor(x), 0)
        if tensor.rank < 3 or (spatial is not None and tensor.rank != spatial + 2):
            raise Refusal(f"it works on {spatial} axes and its input has {tensor.rank}")
        return tensor

    def apart(self, tensor: Tensor, axis: int) -> Tensor:
        """A tensor whose batch is `axis`: of a whole tensor, C.to_batch.

        Raises:
            Refusal: its batch is another axis, or it has none.
        """
        if tensor.at == axis:
            return tensor
        if self.batch or tensor.at is not None or not 0 <= axis < tensor.rank:
            raise Refusal(f"its {_ORDINALS[axis]} axis is not the batch")
        from exporters.cntk.dynamic import to_batch
        from exporters.cntk.functions import transpose

        whole = tensor.variable
        if (whole, axis) not in self._apart:
            front = [axis, *(i for i in range(whole.rank) if i != axis)]
            self._apart[whole, axis] = to_batch(self, transpose(self, whole, front))
        return Tensor(self._apart[whole, axis], axis, whole.shape[axis])

    def together(self, tensor: Tensor) -> Tensor:
        """A tensor without a batch apart, which is what `apart` makes the same tensor of again."""
        if tensor.at is None:
            return tensor
        from exporters.cntk.dynamic import unpack_batch
        from exporters.cntk.functions import transpose

        (size,) = self.fixed([tensor.size])
        order = [*range(1, tensor.at + 1), 0, *range(tensor.at + 1, tensor.rank)]
        whole = transpose(self, unpack_batch(self, tensor.variable, size), order)
        self._apart[whole, tensor.at] = tensor.variable
        return Tensor(whole, None)

    def aligned(self, *values: ir.Value) -> tuple[list[Variable], Callable[[Variable], Tensor]]:
        """Operands that are broadcast against each other, and how their result is a tensor again.

        Axes meet from the last one on, as in ONNX; so the batch of one may only meet the batch of another,
        or nothing (an axis of size 1).
        """
        return self.matched([self.tensor(value) for value in values])

    def matched(self, tensors: Sequence[Tensor]) -> tuple[list[Variable], Callable[[Variable], Tensor]]:
        """The same for tensors."""
        rank = max(tensor.rank for tensor in tensors)
        places = {rank - t.rank + t.at for t in tensors if t.at is not None}
        if len(places) > 1:
            raise Refusal("the batch of one operand meets another axis of the other")
        at = places.pop() if places else None
        sizes = [t.size for t in tensors if t.at is not None]
        variables = [self._without(t, None if at is None else at - rank + t.rank) for t in tensors]
        size = next((s for s in sizes if s != 1), 1) if sizes else "N"
        return variables, lambda result: Tensor(result, at, size)

    def _without(self, tensor: Tensor, axis: int | None) -> Variable:
        """A tensor without the axis of size 1 that meets the batch."""
        if tensor.at is not None or axis is None or axis < 0:
            return tensor.variable
        if tensor.shape[axis] != 1:
            raise Refusal(f"an operand without a batch has the size {tensor.shape[axis]} where others have the batch")
        shape = tuple(size for i, size in enumerate(tensor.shape) if i != axis)
        variable = tensor.variable
        if variable.data is not None and variable.group is not None:
            fixed = self.fixed(shape)
            view = variable.data.viewed(lambda array: array.reshape(fixed), tuple(fixed), f"reshape{tuple(fixed)}")
            return self.weight(view, variable.group, variable.suffix, trains=variable.kind == "parameter")
        from exporters.cntk.functions import reshape

        return reshape(self, variable, shape)

    # -- functions and calls ------------------------------------------------------------------------

    def function(self, op: str, inputs: Sequence[Variable], shape: Sequence[Size], /, **attributes: Any) -> Variable:
        """Add a primitive function with one output of `shape`."""
        return self.outputs(op, inputs, [shape], **attributes)[0]

    def outputs(
        self, op: str, inputs: Sequence[Variable], shapes: Sequence[Sequence[Size]], /, **attributes: Any
    ) -> list[Variable]:
        """Add a primitive function with several outputs."""
        if any(0 in shape for shape in shapes):
            raise Refusal("a tensor without elements")
        function = Function(op, list(inputs), attributes)
        batch = any(v.batch for v in inputs)
        sequence = next((v.sequence for v in inputs if v.sequence), "")
        function.outputs = [
            Variable("output", tuple(shape), function=function, index=i, batch=batch, sequence=sequence)
            for i, shape in enumerate(shapes)
        ]
        self.functions.append(function)
        return function.outputs

    def call(
        self,
        function: str,
        arguments: Sequence[Any],
        body: Callable[[], Variable],
        keywords: Mapping[str, Any] | None = None,
        infix: str = "",
        defaults: Mapping[str, Any] | None = None,
    ) -> Variable:
        """A line of code. `body` adds the functions that CNTK makes of it; calls in it are no lines."""
        return self.several(function, arguments, lambda: [body()], keywords, infix, defaults)[0]

    def several(
        self,
        function: str,
        arguments: Sequence[Any],
        body: Callable[[], list[Variable]],
        keywords: Mapping[str, Any] | None = None,
        infix: str = "",
        defaults: Mapping[str, Any] | None = None,
    ) -> list[Variable]:
        """A line of code with several results, of which the first has the name of the call."""
        self._depth += 1
        try:
            results = body()
        finally:
            self._depth -= 1
        if not self._depth:
            said = {name: value for name, value in (keywords or {}).items() if value is not None}
            made = list(results)
            self.calls.append(Call(function, list(arguments), said, made, self.layer, infix, dict(defaults or {})))
        return results


def _identity(constant: Constant) -> Any:
    """What two constants have in common that are one weight of the source."""
    return (constant.root, constant.view) if constant.root is not None else constant


def _trains(constant: Constant) -> bool:
    """Whether training changes it: it is a weight of the source."""
    return constant.root is not None and _role(constant) != "constant"


def _role(constant: Constant) -> str | None:
    """What the importer says that it is, "weight" or "constant", if it knows."""
    return None if constant.root is None else constant.root.metadata_props.get(ROLE)
