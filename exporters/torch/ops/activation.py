"""Elementwise ops of one tensor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from exporters.codegen.program import ADD, COMPARE, MULTIPLY, UNARY, Expression, Literal, Member, Op, Use, call
from exporters.torch.ops.table import OPS, arguments
from exporters.torch.values import FLOATS, TORCH_DTYPES, dtype_code
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.torch.emit import Emitter


def _number(value: float) -> float:
    return float(str(np.float32(value)))


def _function(name: str, text: str, since: int = 1) -> None:
    @OPS(name, since=since)
    def apply(emit: Emitter, x: ir.Value) -> Expression:
        return call(text, emit.tensor(x), chains=text.startswith("F."))


for _name, _text in {
    "Relu": "F.relu({})",
    "Softplus": "F.softplus({})",
    "Softsign": "F.softsign({})",
    "HardSwish": "F.hardswish({})",
    "Mish": "F.mish({})",
    "Sigmoid": "torch.sigmoid({})",
    "Tanh": "torch.tanh({})",
    "Exp": "torch.exp({})",
    "Log": "torch.log({})",
    "Sqrt": "torch.sqrt({})",
    "Reciprocal": "torch.reciprocal({})",
    "Erf": "torch.erf({})",
    "Abs": "torch.abs({})",
    "Floor": "torch.floor({})",
    "Ceil": "torch.ceil({})",
    "Round": "torch.round({})",
    "Sign": "torch.sign({})",
    "Sin": "torch.sin({})",
    "Cos": "torch.cos({})",
    "Tan": "torch.tan({})",
    "Asin": "torch.asin({})",
    "Acos": "torch.acos({})",
    "Atan": "torch.atan({})",
    "Sinh": "torch.sinh({})",
    "Cosh": "torch.cosh({})",
    "Asinh": "torch.asinh({})",
    "Acosh": "torch.acosh({})",
    "Atanh": "torch.atanh({})",
    "IsNaN": "torch.isnan({})",
    "Det": "torch.linalg.det({})",
}.items():
    _function(_name, _text)


@OPS("Neg")
def neg(emit: Emitter, x: ir.Value) -> Expression:
    return call("-{}", emit.tensor(x), precedence=UNARY)


@OPS("Identity")
def identity(emit: Emitter, x: ir.Value) -> Expression:
    return emit.tensor(x)


@OPS("LeakyRelu")
def leaky_relu(emit: Emitter, x: ir.Value, *, alpha: float) -> Expression:
    return call("F.leaky_relu({}, {})", emit.tensor(x), Literal(_number(alpha), "negative_slope"), chains=True)


@OPS("Elu")
def elu(emit: Emitter, x: ir.Value, *, alpha: float) -> Expression:
    if alpha == 1.0:
        return call("F.elu({})", emit.tensor(x), chains=True)
    return call("F.elu({}, {})", emit.tensor(x), Literal(_number(alpha), "alpha"), chains=True)


@OPS("Celu")
def celu(emit: Emitter, x: ir.Value, *, alpha: float) -> Expression:
    return call("F.celu({}, {})", emit.tensor(x), Literal(_number(alpha), "alpha"), chains=True)


@OPS("Selu")
def selu(emit: Emitter, x: ir.Value, *, alpha: float, gamma: float) -> Expression:
    if abs(alpha - 1.6732632) < 1e-6 and abs(gamma - 1.0507010) < 1e-6:
        return call("F.selu({})", emit.tensor(x), chains=True)
    return call(
        "{} * F.elu({}, {})",
        Literal(_number(gamma), "gamma"),
        emit.tensor(x),
        Literal(_number(alpha), "alpha"),
        precedence=MULTIPLY,
    )


@OPS("ThresholdedRelu")
def thresholded_relu(emit: Emitter, x: ir.Value, *, alpha: float) -> Expression:
    return call("F.threshold({}, {}, 0.0)", emit.tensor(x), Literal(_number(alpha), "threshold"), chains=True)


@OPS("HardSigmoid")
def hard_sigmoid(emit: Emitter, x: ir.Value, *, alpha: float, beta: float) -> Expression:
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return call("F.hardsigmoid({})", emit.tensor(x), chains=True)
    line = call("{} * {}", Literal(_number(alpha), "slope"), emit.tensor(x), precedence=MULTIPLY)
    return call("torch.clamp({}, 0.0, 1.0)", call("{} + {}", line, Literal(_number(beta), "offset"), precedence=ADD))


@OPS("Shrink")
def shrink(emit: Emitter, x: ir.Value, *, bias: float, lambd: float) -> Expression:
    if emit.dtype(x) not in FLOATS:
        raise Refusal("a shrink of integers")
    source, limit, offset = emit.tensor(x), Literal(_number(lambd), "limit"), Literal(_number(bias), "bias")
    high = call("{} > {}", source, limit, precedence=COMPARE)
    low = call("{} < {}", source, Literal(-_number(lambd), "limit"), precedence=COMPARE)
    down = call("{} - {}", source, offset, precedence=ADD)
    up = call("{} + {}", source, offset, precedence=ADD)
    above = Use(emit.step(call("torch.where({}, {}, 0.0)", high, down)))
    return Op("torch.where({}, {}, {})", (low, up, above))


@OPS("Gelu", since=20)
def gelu(emit: Emitter, x: ir.Value, *, approximate: str) -> Expression:
    text = 'F.gelu({}, approximate="tanh")' if approximate == "tanh" else "F.gelu({})"
    return call(text, emit.tensor(x), chains=True)


@OPS("Swish", since=24)
def swish(emit: Emitter, x: ir.Value, *, alpha: float) -> Expression:
    source = emit.tensor(x)
    if alpha == 1.0:
        return call("F.silu({})", source, chains=True)
    gate = call("{} * {}", Literal(_number(alpha), "alpha"), source, precedence=MULTIPLY)
    return call("{} * torch.sigmoid({})", source, gate, precedence=MULTIPLY)


@OPS("Clip", since=11)
def clip(emit: Emitter, x: ir.Value, low: ir.Value | None, high: ir.Value | None) -> Expression:
    source = emit.tensor(x)
    bounds = [None if v is None else emit.array(v) for v in (low, high)]
    if any(v is not None and a is None for v, a in zip((low, high), bounds, strict=True)):
        for value, function in ((low, "maximum"), (high, "minimum")):
            if value is not None:
                source = call(f"torch.{function}({{}}, {{}})", source, emit.tensor(value))
        return source
    first, second = (None if v is None else emit.scalar(v, "its bound") for v in (low, high))
    if first is None and second is None:
        return source
    if emit.dtype(x) in FLOATS and first is not None:
        if (first, second) == (0.0, 6.0):
            return call("F.relu6({})", source, chains=True)
        if first == 0.0 and second is None:
            return call("F.relu({})", source, chains=True)
    named = [(name, bound) for name, bound in (("min", first), ("max", second)) if bound is not None]
    if any(isinstance(bound, float) and math.isnan(bound) for _, bound in named):
        raise Refusal("a bound that is not a number")
    text = ", ".join(f"{name}={{}}" for name, _ in named)
    return call(f"torch.clamp({{}}, {text})", source, *(Literal(bound, name) for name, bound in named))


@OPS("Softmax", since=13)
def softmax(emit: Emitter, x: ir.Value, *, axis: int) -> Expression:
    return call("F.softmax({}, dim={})", emit.tensor(x), Literal(axis, "dim"))


@OPS("LogSoftmax", since=13)
def log_softmax(emit: Emitter, x: ir.Value, *, axis: int) -> Expression:
    return call("F.log_softmax({}, dim={})", emit.tensor(x), Literal(axis, "dim"))


@OPS("Hardmax", since=13)
def hardmax(emit: Emitter, x: ir.Value, *, axis: int) -> Expression:
    source = emit.tensor(x)
    index = call("{}.argmax({}, keepdim=True)", source, Literal(axis, "dim"))
    return call("torch.zeros_like({}).scatter({}, {}, 1)", source, Literal(axis, "dim"), index)


@OPS("IsInf", since=10)
def is_inf(emit: Emitter, x: ir.Value, *, detect_negative: int, detect_positive: int) -> Expression:
    if detect_negative and detect_positive:
        return call("torch.isinf({})", emit.tensor(x))
    if not detect_negative and not detect_positive:
        return call("torch.zeros_like({}, dtype=torch.bool)", emit.tensor(x))
    return call("torch.isposinf({})" if detect_positive else "torch.isneginf({})", emit.tensor(x))


@OPS("Cast", since=6)
def cast(emit: Emitter, x: ir.Value, *, to: int, saturate: int, round_mode: str = "up") -> Expression:
    return _cast(emit, x, ir.DataType(to))


def _cast(emit: Emitter, x: ir.Value, target: ir.DataType) -> Expression:
    source = emit.dtype(x)
    if target not in TORCH_DTYPES:
        raise Refusal(f"PyTorch does not compute with {target.name.lower()}")
    if source in FLOATS and target not in FLOATS and target is not ir.DataType.BOOL and target.itemsize < 4:
        raise Refusal("a cast of a float to a small integer, where overflow is not defined")
    return call(f"{{}}.to({dtype_code(target)})", emit.tensor(x))


@OPS("CastLike", since=15)
def cast_like(emit: Emitter, x: ir.Value, target: ir.Value, *, saturate: int, round_mode: str = "up") -> Expression:
    return _cast(emit, x, emit.dtype(target))


@OPS("Dropout", since=12)
def dropout(
    emit: Emitter, x: ir.Value, ratio: ir.Value | None, training_mode: ir.Value | None, *, seed: int | None
) -> Expression:
    if training_mode is not None and emit.scalar(training_mode, "its training mode"):
        raise Refusal("a dropout that is frozen in training mode")
    rate = 0.5 if ratio is None else float(emit.scalar(ratio, "its ratio"))
    member = Member("module", "nn.Dropout", emit.hint("dropout"), arguments([("p", rate)]))
    return emit.apply(member, emit.tensor(x))
