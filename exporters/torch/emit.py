"""What the op functions ask and say: values, sizes, weights, modules and steps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.codegen.names import Code
from exporters.codegen.program import (
    Argument,
    Expression,
    Literal,
    Member,
    Op,
    Reference,
    Step,
    Use,
    Variable,
    call,
)
from exporters.constants import Constant
from exporters.lowering import Constants
from exporters.torch.values import (
    FLOATS,
    TORCH_DTYPES,
    Dims,
    dtype_code,
    plain,
    size_expression,
)
from hub.canonical import ROLE
from hub.errors import Refusal

__all__ = ["Emitter", "Operand", "is_weight", "trains"]

Operand = ir.Value


class Emitter(Constants["Dims | Expression"]):
    """The first argument of every op function: it knows the values made so far and collects steps."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__(model)
        self.steps: list[Step] = []
        self._members: dict[Any, Member] = {}
        self._layers: Counter[str] = Counter()
        self.inputs: list[tuple[ir.Value, Variable]] = []

    def layer(self, node: ir.Node | None = None) -> str:
        """The name of the source layer of a node."""
        node = node or self.node
        if node is None:
            return ""
        return node.metadata_props.get("hub.layer") or node.name or node.op_type

    def hint(self, role: str = "") -> str:
        """The name for a member of the current node; `role` is added where its layer has several."""
        node = self.node
        if node is None:
            return role
        layer = self.layer(node)
        name = _own_name(layer)
        if self._layers[layer] < 2:
            return name
        full = node.name or ""
        if role in ("depthwise", "pointwise"):
            return f"{name}.{role}"
        if full.startswith(layer) and full != layer:
            return f"{name}.{full[len(layer) :]}"
        return f"{name}.{role or node.op_type}"

    def shape(self, value: Operand) -> list[int | str | None] | None:
        known = self.known.get(value)
        if isinstance(known, Constant):
            return list(known.shape)
        if value.shape is None:
            return None
        return [d if isinstance(d, int) else d.value for d in value.shape]

    def rank(self, value: Operand) -> int:
        shape = self.shape(value)
        if shape is None:
            raise Refusal("the number of dimensions of its input is not known")
        return len(shape)

    def static(self, value: Operand) -> list[int] | None:
        """The shape when all of it is known."""
        shape = self.shape(value)
        if shape is None or not all(isinstance(d, int) for d in shape):
            return None
        return [d for d in shape if isinstance(d, int)]

    def dtype(self, value: Operand) -> ir.DataType:
        known = self.known.get(value)
        if isinstance(known, Constant):
            return known.dtype
        if value.dtype is None:
            raise Refusal("the type of its input is not known")
        return value.dtype

    def size(self, value: Operand, axis: int) -> int | Expression:
        """One size: a number, or `x.shape[0]`."""
        shape = self.shape(value)
        dim = shape[axis] if shape is not None else None
        if isinstance(dim, int):
            return dim
        source = self.tensor(value)
        for candidate, variable in self.inputs:  # the batch reads best from where it came in
            if source == Use(variable) and candidate is value:
                break
        return call("{}.shape[{}]", source, axis)

    def scalar(self, value: Operand | None, what: str) -> float | int | bool:
        array = self.array(value)
        if array is None or array.size != 1:
            raise Refusal(f"{what} is not a constant number")
        number: float | int | bool = plain(array)
        return number

    def dims(self, value: Operand | None, what: str) -> list[int | Expression]:
        """A list of sizes, each a number or an expression."""
        known = self.known.get(value) if value is not None else None
        if isinstance(known, Dims):
            return known.elements
        return list(self.ints(value, what))

    def tensor(self, value: Operand) -> Expression:
        """The value as a tensor at run time; constants become buffers or parameters."""
        known = self.known.get(value)
        if known is None:
            raise Refusal(f"the value {value.name!r} is not defined")
        if isinstance(known, Dims):
            template = ", ".join(["{}"] * len(known.elements))
            template = template if known.scalar else f"[{template}]"
            device = self.device()
            arguments = [size_expression(e) for e in known.elements]
            return call(f"torch.tensor({template}{device[0]})", *arguments, *device[1])
        if isinstance(known, Constant):
            return self.weight(value, known, train=known.root is not None and trains(known.root))
        return known

    def device(self) -> tuple[str, list[Expression]]:
        if not self.inputs:
            return "", []
        return ", device={}.device", [Use(self.inputs[0][1])]

    def operand(self, value: Operand, other: Operand, *, train: bool = False, name: str = "value") -> Expression:
        """A tensor, or a Python number where a constant scalar means the same."""
        constant = self.constant(value)
        if constant is not None and constant.size == 1 and _role(constant) != "weight":
            shape = self.shape(other)
            wide = shape is not None and len(shape) >= len(constant.shape)
            if wide and self.constant(other) is None and constant.dtype in TORCH_DTYPES:
                return Literal(plain(constant.numpy()), name)
        if constant is not None:
            return self.weight(value, constant, train=train)
        return self.tensor(value)

    def weight(self, value: Operand, constant: Constant, *, train: bool, role: str = "") -> Expression:
        """A parameter of the module (if it is one that trains) or a buffer."""
        if constant.dtype not in TORCH_DTYPES:
            raise Refusal(f"PyTorch does not compute with {constant.dtype.name.lower()}")
        known = _role(constant)
        trained = train and is_weight(constant) and (known == "weight" if known else not _is_mask(constant))
        key = (constant.root or constant, constant.view)
        if key not in self._members:
            arguments: list[Any] = [Argument("shape", constant.shape, positional=True)]
            if constant.dtype is not ir.DataType.FLOAT:
                arguments.append(Argument("dtype", Code(dtype_code(constant.dtype))))
            kind = "parameter" if trained else "buffer"
            hint = self._weight_hint(value, constant)
            self._members[key] = Member(kind, kind, hint, arguments, {"": constant})
        return Reference(self._members[key])

    def _weight_hint(self, value: Operand, constant: Constant) -> str:
        name = (constant.root or value).name or ""
        layer = self.layer()
        if self.node is not None and layer and name.startswith(layer):
            return f"{_own_name(layer)}.{name[len(layer) :]}"
        return name

    def module(
        self, type_: str, arguments: list[Argument], state: dict[str, Constant | None], role: str = ""
    ) -> Member:
        """A submodule such as `nn.Conv2d`; the same layer with the same weights is one module."""
        given = {name: constant for name, constant in state.items() if constant is not None}
        dtypes = {c.dtype for name, c in given.items() if name != "num_batches_tracked"}
        if len(dtypes) > 1 or not dtypes <= FLOATS:
            raise Refusal("its weights are not of one floating type")
        if dtypes - {ir.DataType.FLOAT}:
            arguments = [*arguments, Argument("dtype", Code(dtype_code(dtypes.pop())))]
        shared = any(c.root is not None and len(c.root.uses()) > 1 for c in given.values())
        key: Any = (
            type_,
            tuple((a.name, repr(a.value)) for a in arguments),
            tuple((name, c.root or c, c.view) for name, c in given.items() if name != "num_batches_tracked"),
        )
        if not shared or key not in self._members:
            member = Member("module", type_, self.hint(role), arguments, dict(given))
            if not shared:
                return member
            self._members[key] = member
        return self._members[key]

    def apply(self, member: Member, *inputs: Expression) -> Op:
        """The call of a submodule."""
        template = "{}(" + ", ".join(["{}"] * len(inputs)) + ")"
        return call(template, Reference(member), *inputs, chains=len(inputs) == 1)

    def owned(self, value: Operand | None, train: bool = True) -> Constant | None:
        """The constant behind a weight that one module can own.

        None when it is computed, or shared by nodes that are not one and the same layer.
        """
        constant = self.constant(value)
        if constant is None or constant.dtype not in FLOATS:
            return None
        if constant.root is None:
            return constant
        users = {user for user, _ in constant.root.uses()}
        return constant if len({_signature(user) for user in users}) == 1 else None

    def step(self, expression: Expression, hint: str = "") -> Variable:
        """A step of the program with one output."""
        variable = Variable(hint or self.layer())
        self.steps.append(Step((variable,), expression, self.layer()))
        return variable

    def steps_of(self, expression: Expression, count: int) -> list[Variable]:
        """A step that unpacks `count` outputs."""
        variables = [Variable(self.layer()) for _ in range(count)]
        self.steps.append(Step(tuple(variables), expression, self.layer()))
        return variables


def _own_name(layer: str) -> str:
    """A nested layer's name without its parents' where it repeats them: `stem/stem_conv` is `stem_conv`."""
    parts = [part for part in layer.split("/") if part]
    kept: list[str] = []
    for part in parts:
        while kept and part.startswith(kept[-1]):
            kept.pop()
        kept.append(part)
    return "/".join(kept) or layer


def is_weight(constant: Constant) -> bool:
    return constant.root is not None and constant.dtype in FLOATS


def trains(root: ir.Value) -> bool:
    """Whether something else than the current view multiplies with it or looks up rows of it."""
    users = {user for user, _ in root.uses()}
    return len(users) > 1 and any(u.op_type in ("MatMul", "Gemm", "Conv", "Gather") for u in users)


def _role(constant: Constant) -> str | None:
    """What the importer says that it is, "weight" or "constant", if it knows."""
    return None if constant.root is None else constant.root.metadata_props.get(ROLE)


def _is_mask(constant: Constant) -> bool:
    """Whether it is a mask: a constant with minus infinity or a number that stands for it."""
    if constant.size > 1 << 20 or constant.dtype not in FLOATS or not constant.size:
        return False
    return bool(constant.numpy().astype(np.float64).min() < -1e3)


def _signature(node: ir.Node) -> tuple[Any, ...]:
    """What two nodes have in common when they are two uses of one layer."""
    constants = tuple(
        (index, id(value))
        for index, value in enumerate(node.inputs)
        if value is not None and value.const_value is not None
    )
    attributes = tuple(sorted((name, repr(a.value)) for name, a in node.attributes.items()))
    return (node.op_type, node.domain, constants, attributes)
