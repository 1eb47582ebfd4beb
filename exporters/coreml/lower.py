"""The walk over the graph: every node becomes operations of MIL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from exporters.coreml.emit import MIL, RANK, SMALL, Emitter, Tensor, Var, plain
from exporters.coreml.library import Library
from exporters.coreml.ops import OPS
from hub.canonical import layer_of
from hub.errors import Refusal

__all__ = ["BUILDER_ERRORS", "Lowering"]

MOVES = frozenset(
    """Identity Reshape Flatten Squeeze Unsqueeze Expand Tile Transpose Concat Split Slice Gather GatherElements
    GatherND ScatterElements ScatterND Where Cast Max Min Equal Greater GreaterOrEqual Less LessOrEqual Pad Shape Size
    DepthToSpace SpaceToDepth ReduceMax ReduceMin ArgMax ArgMin TopK NonZero Compress ReverseSequence MaxPool Clip
    DequantizeLinear QuantizeLinear DynamicQuantizeLinear ConvInteger MatMulInteger Trilu Relu Abs Sign IsNaN
    ScatterElements OneHot CenterCropPad Range Mod QLinearConv QLinearMatMul TensorScatter If Loop""".split()
)
"""What is the same for small integers when they are held as int32: nothing here gives numbers beyond their type."""

NUMBERS = frozenset(
    """Add Sub Mul Div Pow Max Min Mean Sum Mod And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual Where Not Neg
    Abs Exp Log Sqrt Sigmoid Tanh Relu Sign Floor Ceil Round Reciprocal Identity Cast Reshape Unsqueeze Gather
    Clip Dropout Erf Sin Cos""".split()
)
"""What a neural network, whose tensors have one axis at least, computes alike of numbers without axes."""

BUILDER_ERRORS = (
    *(ValueError, TypeError, KeyError, AssertionError, IndexError, AttributeError, NotImplementedError),
    *(RuntimeError, ZeroDivisionError, OverflowError),
)
"""What coremltools raises where an operation cannot take its inputs."""


class Lowering(Emitter):
    """Makes the operations of one model inside of a function of MIL."""

    table = OPS

    def __init__(
        self, model: ir.Model, library: Library, version: int, inputs: Mapping[str, Var], *, program: bool
    ) -> None:
        super().__init__(model, library, version, program=program)
        self.inputs = inputs
        self.taken.update(plain(name) for name in inputs)
        self.taken.update(plain(value.name or "") for value in model.graph.outputs)  # nothing else is called so
        self.layers: dict[str, str] = {}
        self.types: dict[str, str] = {}
        self._exits: dict[str, Var] = {}
        self._named: set[int] = set()
        self._given_out: dict[int, Tensor] = {}

    def enter(self, value: ir.Value) -> Tensor:
        """The variable of an input."""
        name = value.name or ""
        if name not in self.inputs:  # what could not be declared: the walk goes on
            raise Refusal(self._undeclared(value))
        shape = self.shape(value)
        var = self.inputs[name]
        return Tensor(var if shape else self("squeeze", x=var), shape)

    def _undeclared(self, value: ir.Value) -> str:
        kind = value.dtype.name.lower() if value.dtype is not None else "no type"
        return f"Core ML takes tensors of up to {RANK} axes of float32, float16, int32 or bool, not {kind}"

    def lost(self, value: ir.Value) -> Tensor:
        """A variable of the right shape and type that stands for something refused."""
        shape = self.shape(value)
        sizes = [size if isinstance(size, int) else 1 for size in shape]
        kind = MIL.get(value.dtype or ir.DataType.FLOAT, "fp32")
        var = self("fill", shape=sizes or [1], value=0.0)
        return Tensor(self.cast(var if shape else self("squeeze", x=var), kind), shape)

    def stands(self, value: ir.Value) -> bool:
        """Whether there is a variable of the shape of a refused node's result."""
        return value.shape is not None and len(value.shape) <= RANK and 0 not in value.shape

    def operation(self, node: ir.Node) -> Sequence[Tensor]:
        """What a node makes that is not constant."""
        self.fresh_names.clear()
        try:
            made = super().operation(node)
        except BUILDER_ERRORS as error:
            text = " ".join(str(error).split())[:300]
            raise Refusal(f"coremltools refuses it: {type(error).__name__}: {text}") from error
        for name in self.fresh_names:
            self.layers[name], self.types[name] = layer_of(node), node.op_type
        return [self._tensor(var, value) for var, value in zip(made, node.outputs, strict=False)]

    def _tensor(self, var: Any, value: ir.Value) -> Tensor:
        """A variable with the shape that ONNX gives it, of which no known size is another one."""
        sizes = [int(d) if str(d).isdigit() else str(d) for d in var.shape]
        if value.shape is not None and len(value.shape) == len(sizes):
            known = self.shape(value)
            sizes = [s if isinstance(s, int) else k for s, k in zip(sizes, known, strict=True)]
        wanted = value.dtype
        if wanted is not None and wanted in MIL and self.type_of(var) != MIL[wanted]:
            raise Refusal(f"its result is {self.type_of(var)} here and {wanted.name.lower()} in ONNX")
        node = value.producer()
        if len(sizes) > RANK and (node is None or node.op_type not in HIGH):
            raise Refusal(f"it has {len(sizes)} axes, Core ML at most {RANK}")
        return Tensor(var, tuple(sizes))

    def _check_types(self, node: ir.Node) -> None:
        for value in [*node.inputs, *node.outputs]:
            if value is None or value.dtype is None or not (value.uses() or value.is_graph_output()):
                continue
            if isinstance(value.type, ir.SequenceType | ir.OptionalType):
                raise Refusal("Core ML has tensors only")
            if self.constant(value) is not None:
                continue
            if value.dtype not in MIL:
                raise Refusal(
                    f"Core ML does not compute in {value.dtype.name.lower()}", "convert the model to float32 first"
                )
            if value.dtype in SMALL and node.op_type not in MOVES:
                raise Refusal(f"Core ML does not compute in {value.dtype.name.lower()}")

        if not self.program and node.op_type not in NUMBERS:
            if any(v is not None and self.constant(v) is None and not self.shape(v) for v in node.inputs):
                raise Refusal("a number without axes, of which neural networks have none", "write an .mlpackage")

    def define(self, node: ir.Node, results: Sequence[Tensor]) -> None:
        """Keep what a node made, under its name."""
        super().define(node, results)
        for value, tensor in zip(node.outputs, results, strict=False):
            if id(tensor.var) in self._named or tensor.var.op is None:  # an input, or what has its name
                continue
            self._named.add(id(tensor.var))
            self._rename(tensor.var, plain(value.name or node.op_type))
        if results and results[0].var.op is not None:
            self._exits[layer_of(node)] = results[0].var

    def _rename(self, var: Var, name: str) -> None:
        self.taken.discard(var.name)
        old = var.name
        var.name = self.fresh(name)
        for known in (self.layers, self.types):
            if old in known:
                known[var.name] = known.pop(old)
        if len(var.op.outputs) == 1:
            var.op.name = var.name

    def leave(self, value: ir.Value) -> Tensor:
        """The variable of an output; each output has one of its own, that is no input."""
        constant = self.constant(value)
        if value.dtype not in MIL or len(self.shape(value)) > RANK:
            raise Refusal(self._undeclared(value))
        var = self.var(value)
        if constant is not None or var.op is None or id(var) in self._given_out:
            var = self("identity", x=var)
        tensor = Tensor(var, self.shape(value))
        self._given_out[id(var)] = tensor
        return tensor

    def finish(self, outputs: Mapping[str, Var]) -> dict[str, str]:
        """Name outputs and, after them, what leaves each layer.

        Returns:
            By name, which layer's value something is that is not called as the layer is.
        """
        fixed = {id(var) for var in outputs.values()}
        for name, var in outputs.items():
            if var.name != name:
                self.taken.discard(name)
                self._rename(var, name)
        for layer, var in self._exits.items():
            if id(var) not in fixed and plain(layer) not in self.taken:
                fixed.add(id(var))
                self._rename(var, plain(layer))
        held = {var.name: layer for layer, var in self._exits.items() if var.name != layer}
        within = [name for name in self.taken if name in self._exits and self._exits[name].name != name]
        return {name: f"{self.layers.get(name, name)}/{name}" for name in sorted(within)} | held


HIGH = frozenset({"Reshape", "Transpose", "DepthToSpace", "SpaceToDepth"})
"""What may have more axes on its way: coremltools splits it."""
