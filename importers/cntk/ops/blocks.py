"""Blocks that one operator of ONNX says. The patterns are what CNTK 2.7 puts inside of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from importers.cntk.blocks import Match, form
from importers.cntk.context import Context, Tensor
from importers.cntk.functions import Network
from importers.cntk.ops.reduce import ALL_STATIC
from importers.cntk.positive import nonzero

__all__: list[str] = []


def _zero_first(network: Network, found: Match) -> bool:
    return found.numbers[0] == 0


@form("Select(Less(x,#),ElementTimes(#,x),x)", "LeakyReLU", when=_zero_first)
def leaky_relu(cntk: Context, x: Tensor, *, inside: Match) -> Tensor:
    """LeakyRelu."""
    return x.of(cntk.op("LeakyRelu", x, alpha=inside.numbers[1]))


@form("Select(Less(x,#),ElementTimes(#,ELU(x)),x)", "ELU", when=_zero_first)
def elu(cntk: Context, x: Tensor, *, inside: Match) -> Tensor:
    """Elu."""
    return x.of(cntk.op("Elu", x, alpha=inside.numbers[1]))


@form(
    "ElementTimes(#,Select(Less(x,#),ElementTimes(#,ELU(x)),x))",
    "SELU",
    when=lambda network, found: found.numbers[1] == 0,
)
def selu(cntk: Context, x: Tensor, *, inside: Match) -> Tensor:
    """Selu."""
    return x.of(cntk.op("Selu", x, gamma=inside.numbers[0], alpha=inside.numbers[2]))


@form("Select(Less(x,#),ElementTimes(y,x),x)", "PReLU", when=_zero_first)
def prelu(cntk: Context, x: Tensor, slope: Tensor, *, inside: Match) -> Tensor:
    """PRelu, where the slopes are weights."""
    like, values = cntk.aligned(x, slope)
    if slope.dynamic or cntk.rank(slope) > cntk.rank(x):
        zero = cntk.op("Less", values[0], cntk.constant(0, "zero", x))
        return like.of(cntk.op("Where", zero, cntk.op("Mul", values[1], values[0]), values[0]))
    return x.of(cntk.op("PRelu", *values))


def _sigmoid_numbers(network: Network, found: Match) -> bool:
    (a, b), n = found.numbers[:2], found.numbers
    return n == [a, b, 1, a, b, 1, 0, a, b, 1, a, b, 1, 0]


LINE = "Plus(ElementTimes(x,#),#)"
UPPER = f"Select(Less({LINE},#),{LINE},#)"


@form(f"Select(Greater({UPPER},#),{UPPER},#)", "HardSigmoid", when=_sigmoid_numbers)
def hard_sigmoid(cntk: Context, x: Tensor, *, inside: Match) -> Tensor:
    """HardSigmoid."""
    return x.of(cntk.op("HardSigmoid", x, alpha=inside.numbers[0], beta=inside.numbers[1]))


@form("Select(Greater(x,y),x,y)", "ElementMax")
def element_max(cntk: Context, x: Tensor, y: Tensor, *, inside: Match) -> Tensor:
    """Max."""
    like, values = cntk.aligned(x, y)
    return like.of(cntk.op("Max", *values))


@form("Select(Less(x,y),x,y)", "ElementMin")
def element_min(cntk: Context, x: Tensor, y: Tensor, *, inside: Match) -> Tensor:
    """Min."""
    like, values = cntk.aligned(x, y)
    return like.of(cntk.op("Min", *values))


@form("ElementTimes(x,Reciprocal(y))", "ElementDivide", when=lambda network, found: nonzero(network, found.inputs[1]))
def element_divide(cntk: Context, x: Tensor, y: Tensor, *, inside: Match) -> Tensor:
    """Div, where the second input is never 0: CNTK's own quotient is 0 there."""
    like, values = cntk.aligned(x, y)
    return like.of(cntk.op("Div", *values))


HIGHEST = "ReduceElements(x,axis,reductionKeepDimensions=True,reductionOpName=Max)"
EXP = f"Exp(Minus(x,{HIGHEST}))"
TOTAL = f"ReduceElements({EXP},axis,reductionKeepDimensions=True,reductionOpName=Sum)"


def _one_static_axis(network: Network, found: Match) -> bool:
    return len(set(found.axes)) == 1 and abs(found.axes[0].index) < 64


@form(f"ElementTimes({EXP},Reciprocal({TOTAL}))", "Softmax", when=_one_static_axis)
def softmax(cntk: Context, x: Tensor, *, inside: Match) -> Tensor:
    """Softmax over one axis."""
    return x.of(cntk.op("Softmax", x, axis=cntk.onnx(x, inside.axes[0])))


@form(f"Minus(Minus(x,{HIGHEST}),Log({TOTAL}))", "LogSoftmax", when=_one_static_axis)
def log_softmax(cntk: Context, x: Tensor, *, inside: Match) -> Tensor:
    """LogSoftmax over one axis."""
    return x.of(cntk.op("LogSoftmax", x, axis=cntk.onnx(x, inside.axes[0])))


SUM = "ReduceElements({},axisVec,reductionKeepDimensions={},reductionOpName=Sum)"


def _reduced(cntk: Context, x: Tensor, inside: Match, op: str, keep: bool) -> Tensor:
    if any(axis.index == ALL_STATIC for axis in inside.axes):
        axes = list(range(x.dynamic, x.dynamic + cntk.rank(x)))
    else:
        axes = sorted({cntk.onnx(x, axis) for axis in inside.axes})
    return x.of(cntk.op(op, x, cntk.ints(axes, "axes"), keepdims=int(keep)))


def _static_axes(network: Network, found: Match) -> bool:
    return all(abs(axis.index) < 64 or axis.index == ALL_STATIC for axis in found.axes)


def _norm(block: str, inside: str, op: str) -> None:
    """Register one norm, with and without its axes kept."""
    for keep in (True, False):

        def said(cntk: Context, x: Tensor, *, inside: Match, keep: bool = keep) -> Tensor:
            return _reduced(cntk, x, inside, op, keep)

        said.__doc__ = f"{op}."
        form(inside.replace("{}", str(keep)), block, when=_static_axes)(said)


_norm("ReduceL1", SUM.replace("{}", "Abs(x)", 1), "ReduceL1")
_norm("ReduceL2", f"Sqrt({SUM.replace('{}', 'ElementTimes(x,x)', 1)})", "ReduceL2")
_norm("ReduceSumSquare", SUM.replace("{}", "ElementTimes(x,x)", 1), "ReduceSumSquare")

SPLIT = "Reshape({},beginAxis,endAxis,newShape={})"
ANY = (1 << 64) - 1


def _axes(*indices: int) -> Callable[[Network, Match], bool]:
    def same(network: Network, found: Match) -> bool:
        return [axis.index for axis in found.axes] == list(indices) and len(set(found.sizes)) == 1

    return same


def _shaped(inner: str, shape: str) -> str:
    return SPLIT.replace("{}", inner, 1).replace("{}", shape)


TURNED = f"TransposeAxes({_shaped('x', f'({ANY}, {{n}}, {{n}})')},axisVec)"


@form(
    _shaped(_shaped(TURNED, f"({ANY},)"), f"({ANY},)"),
    "DepthToSpace",
    when=_axes(2, 3, 3, 0, 4, 1, 2, 2, 4, 0, 2),
)
def depth_to_space(cntk: Context, x: Tensor, *, inside: Match) -> Tensor:
    """DepthToSpace, the blocks before the channels (DCR)."""
    value, back = cntk.merged(x)
    return back(cntk.op("DepthToSpace", value, blocksize=inside.sizes[0], mode="DCR"))


PARTS = _shaped(_shaped("x", f"({{n}}, {ANY})"), f"({{n}}, {ANY})")


@form(
    _shaped(f"TransposeAxes({PARTS},axisVec)", f"({ANY},)"),
    "SpaceToDepth",
    when=_axes(0, 1, 2, 3, 1, 3, 4, 0, 2, 2, 5),
)
def space_to_depth(cntk: Context, x: Tensor, *, inside: Match) -> Tensor:
    """SpaceToDepth."""
    value, back = cntk.merged(x)
    return back(cntk.op("SpaceToDepth", value, blocksize=inside.sizes[0]))


FLAGS = ", ".join(["True"] * 4)
WINDOW = (
    f"autoPadding=[{FLAGS}],dilation=(1, 1, 1, 1),groups=1,kernelShape=(1, 1, {{n}}, 1),lowerPad=(0, 0, 0, 0),"
    f"maxTempMemSizeInSamples=0,outputShape=(0,),sequential=False,sharing=[{FLAGS}],strides=(1, 1, 1, 1),"
    "transpose=False,upperPad=(0, 0, 0, 0)"
)
SQUARES = f"Convolution(y,{_shaped('ElementTimes(x,x)', f'({ANY}, 1)')},{WINDOW})"


def _even_window(network: Network, found: Match) -> bool:
    weight = network.variables[found.inputs[1].uid].value if found.inputs[1].uid in network.variables else None
    size = found.sizes[0]
    same = weight is not None and weight.numbers.size == size and bool(np.all(weight.numbers == weight.numbers.flat[0]))
    return same and size % 2 == 1 and [axis.index for axis in found.axes] == [2, 3, 2, 4] and found.numbers[1] > 0


@form(
    f"ElementTimes(x,Reciprocal(Exp(ElementTimes(#,Log(Plus(#,{_shaped(SQUARES, f'({ANY},)')}))))))",
    "LocalResponseNormalization",
    when=_even_window,
)
def local_response_normalization(cntk: Context, x: Tensor, window: Tensor, *, inside: Match) -> Tensor:
    """LRN."""
    beta, bias = inside.numbers
    size = inside.sizes[0]
    numbers = cntk.numbers(window)
    assert numbers is not None
    value, back = cntk.merged(x)
    alpha = float(numbers.reshape(-1)[0]) * size
    return back(cntk.op("LRN", value, size=size, alpha=alpha, beta=beta, bias=bias))
