"""The walk over the graph: every node becomes constants, sizes, or steps of a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
    Scope,
    Step,
    Use,
    Variable,
    call,
)
from exporters.torch.fold import fold_constant, fold_dims
from exporters.torch.ops import OPS
from exporters.torch.values import (
    FLOATS,
    TORCH_DTYPES,
    WIDE_UNSIGNED,
    Array,
    Constant,
    Dims,
    Known,
    dtype_code,
    plain,
    size_expression,
)
from hub.errors import Refusal, UnsupportedOps
from hub.optable import attribute_value

__all__ = ["Emitter", "Operand"]

# Layers of the source whose constants are data, not weights.
_NOT_TRAINED = frozenset({"Normalization", "Rescaling", "CustomScaleLayer"})
_MOVES = frozenset({"Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Shape", "Size"})

Operand = ir.Value


class Emitter:
    """Makes the program of one model; the op functions are called with it as first argument."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.opsets = dict(model.graph.opset_imports)
        self.known: dict[ir.Value, Known] = {}
        self.steps: list[Step] = []
        self.node: ir.Node | None = None
        self._members: dict[Any, Member] = {}
        self._layers: Counter[str] = Counter()
        self.inputs: list[tuple[ir.Value, Variable]] = []

    # --- the walk

    def run(self) -> Scope:
        """The whole graph as one scope.

        Raises:
            UnsupportedOps: listing everything that PyTorch code cannot say exactly.
        """
        refusals: list[tuple[str, str, Refusal]] = []
        for value in self.graph.inputs:
            if value.name in self.graph.initializers:
                continue
            if value.dtype not in TORCH_DTYPES:
                reason = f"PyTorch has no tensors of the type of the input {value.name!r}"
                refusals.append(("input", str(value.name), Refusal(reason)))
            variable = Variable(value.name or "")
            self.inputs.append((value, variable))
            self.known[value] = Use(variable)
        for name, value in self.graph.initializers.items():
            tensor = value.const_value
            if tensor is None:
                refusals.append(("initializer", name, Refusal("it has no data")))
                continue
            shape = tuple(d for d in tensor.shape if isinstance(d, int))
            self.known[value] = Constant(shape, tensor.dtype, tensor.numpy, value, tensor=tensor)
        for node in self.graph:
            self._layers[self.layer(node)] += _has_weights(node)
        for node in self.graph:
            self.node = node
            try:
                self._lower(node)
            except Refusal as refusal:
                refusals.append((node.op_type, self.layer(node), refusal))
                for output in node.outputs:
                    self.known[output] = Use(Variable())
        results: list[Expression] = []
        self.node = None
        for output in self.graph.outputs:
            try:
                results.append(self.tensor(output))
            except Refusal as refusal:
                refusals.append(("output", output.name or "", refusal))
        if refusals:
            raise UnsupportedOps.collect("PyTorch code cannot say exactly:", refusals)
        scope = Scope(self.steps, [variable for _, variable in self.inputs], results)
        scope.order()
        return scope

    def _lower(self, node: ir.Node) -> None:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            self.known[node.outputs[0]] = _constant(node)
            return
        inputs = [None if v is None else self.known[v] for v in node.inputs]
        opset = self.opsets.get("", 1)
        if node.op_type == "Shape" and inputs and self._sizes(node):
            return
        constant = bool(inputs) and all(v is None or isinstance(v, Constant) for v in inputs)
        if constant and not self._tied(node, inputs):
            folded = fold_constant(node, inputs, opset)  # type: ignore[arg-type]
            if folded is not None:
                self.known.update(zip(node.outputs, folded, strict=True))
                return
        if any(isinstance(v, Dims) for v in inputs) and not any(_is_expression(v) for v in inputs):
            dims = fold_dims(node, inputs)  # type: ignore[arg-type]
            if dims is not None:
                self.known[node.outputs[0]] = dims.known() or dims
                return
        self._check_types(node)
        result = OPS.bind(node, self.opsets.get(node.domain, 1))(self)
        self._define(node, result)

    def _tied(self, node: ir.Node, inputs: Sequence[Known | None]) -> bool:
        """Whether it is a view of a weight that other layers use as well: then the view is code."""
        first = inputs[0]
        if node.op_type not in ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            return False
        return isinstance(first, Constant) and first.root is not None and _is_weight(first) and _trains(first.root)

    def _define(self, node: ir.Node, result: Known | Sequence[Variable]) -> None:
        if isinstance(result, list):  # the op made its own step with several outputs
            self.known.update((o, Use(v)) for o, v in zip(node.outputs, result, strict=False))
        elif isinstance(result, Op):
            self.known[node.outputs[0]] = Use(self.step(result))
        else:
            self.known[node.outputs[0]] = result  # type: ignore[assignment]

    def _check_types(self, node: ir.Node) -> None:
        for value in [*node.inputs, *node.outputs]:
            if value is None or value.dtype is None:
                continue
            if value.dtype not in TORCH_DTYPES:
                raise Refusal(f"PyTorch does not compute with {value.dtype.name.lower()}")
            if value.dtype in WIDE_UNSIGNED and node.op_type not in _MOVES:
                raise Refusal(f"PyTorch has no arithmetic for {value.dtype.name.lower()}")

    def _sizes(self, node: ir.Node) -> bool:
        """Fold a Shape node."""
        value = node.inputs[0]
        shape = None if value is None else self.shape(value)
        if value is None or shape is None:
            return False
        attributes = {name: attribute_value(a) for name, a in node.attributes.items()}
        wanted = range(len(shape))[attributes.get("start", 0) : attributes.get("end")]
        dims = Dims([self.size(value, axis) for axis in wanted])
        self.known[node.outputs[0]] = dims.known() or dims
        return True

    # --- what op functions ask

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

    def constant(self, value: Operand | None) -> Constant | None:
        known = self.known.get(value) if value is not None else None
        return known if isinstance(known, Constant) else None

    def array(self, value: Operand | None) -> Array | None:
        constant = self.constant(value)
        return None if constant is None else constant.numpy()

    def ints(self, value: Operand | None, what: str) -> list[int]:
        """A constant list of ints, such as axes.

        Raises:
            Refusal: it is computed at run time.
        """
        array = self.array(value)
        if array is None:
            raise Refusal(f"{what} is computed at run time", "make it a constant of the model")
        return [int(e) for e in array.reshape(-1)]

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
            return self.weight(value, known, train=known.root is not None and _trains(known.root))
        return known

    def device(self) -> tuple[str, list[Expression]]:
        if not self.inputs:
            return "", []
        return ", device={}.device", [Use(self.inputs[0][1])]

    def operand(self, value: Operand, other: Operand, *, train: bool = False, name: str = "value") -> Expression:
        """A tensor, or a Python number where a constant scalar means the same."""
        constant = self.constant(value)
        if constant is not None and constant.size == 1:
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
        source = self.node.metadata_props.get("hub.source_op", "") if self.node else ""
        trained = train and _is_weight(constant) and source not in _NOT_TRAINED and not _is_mask(constant)
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
            tuple((name, c.root or c, c.view) for name, c in given.items()),
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


def _constant(node: ir.Node) -> Constant:
    for name, attribute in node.attributes.items():
        value = attribute_value(attribute)
        if name == "value":
            shape = tuple(int(d) for d in value.shape)
            return Constant(shape, value.dtype, value.numpy)
        if name in ("value_float", "value_floats"):
            return Constant.of(np.array(value, dtype=np.float32))
        if name in ("value_int", "value_ints"):
            return Constant.of(np.array(value, dtype=np.int64))
    raise Refusal("a constant of this kind")


def _is_expression(value: Known | None) -> bool:
    return value is not None and not isinstance(value, (Constant, Dims))


def _is_weight(constant: Constant) -> bool:
    return constant.root is not None and constant.dtype in FLOATS


def _trains(root: ir.Value) -> bool:
    """Whether something else than the current view multiplies with it or looks up rows of it."""
    users = {user for user, _ in root.uses()}
    return len(users) > 1 and any(u.op_type in ("MatMul", "Gemm", "Conv", "Gather") for u in users)


def _is_mask(constant: Constant) -> bool:
    """Whether it is a mask: a constant with minus infinity or a number that stands for it."""
    if constant.size > 1 << 20 or constant.dtype not in FLOATS or not constant.size:
        return False
    return bool(constant.numpy().astype(np.float64).min() < -1e3)


def _has_weights(node: ir.Node) -> int:
    """1 for a node that becomes a module with weights."""
    if node.op_type in ("Add", "Sub", "Mul", "Div", "Pow", "Pad", "Reshape", "Clip", "Slice", "Concat"):
        return 0
    return int(any(v is not None and v.const_value is not None and v.const_value.size > 1 for v in node.inputs[1:]))


def _signature(node: ir.Node) -> tuple[Any, ...]:
    """What two nodes have in common when they are two uses of one layer."""
    constants = tuple(
        (index, id(value))
        for index, value in enumerate(node.inputs)
        if value is not None and value.const_value is not None
    )
    attributes = tuple(sorted((name, repr(a.value)) for name, a in node.attributes.items()))
    return (node.op_type, node.domain, constants, attributes)
