"""Elementwise ops of two or more tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from exporters.codegen.program import (
    ADD,
    COMPARE,
    MULTIPLY,
    UNARY,
    Expression,
    Literal,
    Op,
    call,
)
from exporters.torch.ops.dense import biased_matmul
from exporters.torch.ops.table import OPS
from exporters.torch.values import FLOATS, dtype_code
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.torch.emit import Emitter


def _pair(
    emit: Emitter, a: ir.Value, b: ir.Value, train: bool = False, name: str = "value"
) -> tuple[Expression, Expression]:
    return emit.operand(a, b, train=train, name=name), emit.operand(b, a, train=train, name=name)


@OPS("Add", since=7)
def add(emit: Emitter, a: ir.Value, b: ir.Value) -> Expression:
    fused = biased_matmul(emit, a, b) or biased_matmul(emit, b, a)
    if fused is not None:
        return fused
    if emit.dtype(a) is ir.DataType.BOOL:
        raise Refusal("the sum of booleans")
    return call("{} + {}", *_pair(emit, a, b, train=True), precedence=ADD)


@OPS("Sub", since=7)
def sub(emit: Emitter, a: ir.Value, b: ir.Value) -> Expression:
    return call("{} - {}", *_pair(emit, a, b), precedence=ADD)


@OPS("Mul", since=7)
def mul(emit: Emitter, a: ir.Value, b: ir.Value) -> Expression:
    for gate, x in ((a, b), (b, a)):
        node = gate.producer()
        if node is not None and node.op_type == "Sigmoid" and node.inputs[0] is x:
            return call("F.silu({})", emit.tensor(x), chains=True)
    return call("{} * {}", *_pair(emit, a, b, train=True, name="scale"), precedence=MULTIPLY)


@OPS("Div", since=7)
def div(emit: Emitter, a: ir.Value, b: ir.Value) -> Expression:
    if emit.dtype(a) in FLOATS:
        return call("{} / {}", *_pair(emit, a, b), precedence=MULTIPLY)
    return call('torch.div({}, {}, rounding_mode="trunc")', emit.tensor(a), emit.operand(b, a))


@OPS("Pow", since=7)
def power(emit: Emitter, a: ir.Value, b: ir.Value) -> Expression:
    base, exponent = emit.dtype(a), emit.dtype(b)
    if base in FLOATS and (exponent is base or emit.constant(b) is not None):
        constant = emit.constant(b)
        if constant is not None and constant.size == 1 and exponent is not base:
            value = emit.scalar(b, "its exponent")
            shape = emit.shape(a)
            if shape is not None and len(shape) >= len(constant.shape):
                return call("{}.pow({})", emit.tensor(a), Literal(value, "exponent"))
        if exponent is base:
            return call("torch.pow({}, {})", emit.tensor(a), emit.operand(b, a))
    if base not in FLOATS and exponent not in FLOATS and base is exponent:
        return call("torch.pow({}, {})", emit.tensor(a), emit.tensor(b))
    if base in FLOATS:
        return call(f"torch.pow({{}}, {{}}.to({dtype_code(base)}))", emit.tensor(a), emit.tensor(b))
    raise Refusal("a power of an integer with an exponent of another type")


def _chain(emit: Emitter, function: str, inputs: tuple[ir.Value, ...]) -> Expression:
    result = emit.tensor(inputs[0])
    for value in inputs[1:]:
        result = call(f"{function}({{}}, {{}})", result, emit.tensor(value))
    return result


@OPS("Max", since=8)
def maximum(emit: Emitter, *inputs: ir.Value) -> Expression:
    return _chain(emit, "torch.maximum", inputs)


@OPS("Min", since=8)
def minimum(emit: Emitter, *inputs: ir.Value) -> Expression:
    return _chain(emit, "torch.minimum", inputs)


@OPS("Sum", since=8)
def total(emit: Emitter, *inputs: ir.Value) -> Expression:
    result = emit.tensor(inputs[0])
    for value in inputs[1:]:
        result = call("{} + {}", result, emit.tensor(value), precedence=ADD)
    return result


@OPS("Mean", since=8)
def mean(emit: Emitter, *inputs: ir.Value) -> Expression:
    result = total(emit, *inputs)
    return result if len(inputs) == 1 else call("{} / {}", result, len(inputs), precedence=MULTIPLY)


def _comparison(names: str, symbol: str, since: int) -> None:
    @OPS(names, since=since)
    def compare(emit: Emitter, a: ir.Value, b: ir.Value) -> Expression:
        return call(f"{{}} {symbol} {{}}", *_pair(emit, a, b), precedence=COMPARE)


_comparison("Equal", "==", 7)
_comparison("Less", "<", 7)
_comparison("Greater", ">", 7)
_comparison("LessOrEqual", "<=", 12)
_comparison("GreaterOrEqual", ">=", 12)


def _logical(name: str, function: str, since: int) -> None:
    @OPS(name, since=since)
    def logical(emit: Emitter, a: ir.Value, b: ir.Value) -> Expression:
        return call(f"torch.{function}({{}}, {{}})", emit.tensor(a), emit.tensor(b))


_logical("And", "logical_and", 7)
_logical("Or", "logical_or", 7)
_logical("Xor", "logical_xor", 7)
_logical("BitwiseAnd", "bitwise_and", 18)
_logical("BitwiseOr", "bitwise_or", 18)
_logical("BitwiseXor", "bitwise_xor", 18)


@OPS("Not", "BitwiseNot")
def negation(emit: Emitter, x: ir.Value) -> Expression:
    return call("~{}", emit.tensor(x), precedence=UNARY)


@OPS("BitShift", since=11)
def bit_shift(emit: Emitter, x: ir.Value, y: ir.Value, *, direction: str) -> Expression:
    function = "bitwise_left_shift" if direction == "LEFT" else "bitwise_right_shift"
    return call(f"torch.{function}({{}}, {{}})", emit.tensor(x), emit.tensor(y))


@OPS("Mod", since=10)
def mod(emit: Emitter, a: ir.Value, b: ir.Value, *, fmod: int) -> Expression:
    return call(f"torch.{'fmod' if fmod else 'remainder'}({{}}, {{}})", emit.tensor(a), emit.operand(b, a))


@OPS("Where")
def where(emit: Emitter, condition: ir.Value, x: ir.Value, y: ir.Value) -> Expression:
    return Op("torch.where({}, {}, {})", (emit.tensor(condition), emit.tensor(x), emit.tensor(y)))


@OPS("PRelu", since=7)
def prelu(emit: Emitter, x: ir.Value, slope: ir.Value) -> Expression:
    source, constant = emit.tensor(x), emit.constant(slope)
    factor = emit.tensor(slope) if constant is None else emit.weight(slope, constant, train=True)
    zero = Literal(0, "zero")
    condition = call("{} < {}", source, zero, precedence=COMPARE)
    return Op("torch.where({}, {}, {})", (condition, call("{} * {}", factor, source, precedence=MULTIPLY), source))
