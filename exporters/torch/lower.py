"""The walk over the graph: every node becomes constants, sizes, or steps of a program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from exporters.codegen.program import (
    Expression,
    Op,
    Scope,
    Use,
    Variable,
)
from exporters.constants import Constant, fold_constant
from exporters.torch.emit import Emitter, is_weight, trains
from exporters.torch.fold import fold_dims
from exporters.torch.ops import OPS
from exporters.torch.values import (
    TORCH_DTYPES,
    WIDE_UNSIGNED,
    Dims,
    Known,
)
from hub.errors import Refusal, UnsupportedOps
from hub.optable import attribute_value

__all__ = ["Lowering"]

_MOVES = frozenset({"Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Shape", "Size"})


class Lowering(Emitter):
    """Makes the program of one model."""

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
        return isinstance(first, Constant) and first.root is not None and is_weight(first) and trains(first.root)

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


def _has_weights(node: ir.Node) -> int:
    """1 for a node that becomes a module with weights."""
    if node.op_type in ("Add", "Sub", "Mul", "Div", "Pow", "Pad", "Reshape", "Clip", "Slice", "Concat"):
        return 0
    return int(any(v is not None and v.const_value is not None and v.const_value.size > 1 for v in node.inputs[1:]))
