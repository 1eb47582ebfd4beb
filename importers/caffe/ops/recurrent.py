"""LSTM and RNN, unrolled over time as Caffe itself unrolls them: a mark for each step may begin a new sequence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx_ir as ir

from hub.errors import Refusal
from importers.caffe.layers import Context, layer

__all__: list[str] = []

MOST_STEPS = 512


@layer("LSTM", param="recurrent_param")
def lstm(
    caffe: Context, x: ir.Value, cont: ir.Value, *others: ir.Value, num_output: int = 0, expose_hidden: bool = False
) -> list[ir.Value]:
    """Time first; where `cont` is 0 a sequence begins. The state before the first step is 0, or a bottom."""
    states = ("c", "h") if expose_hidden else ()
    steps, static, first = _opened(caffe, x, cont, others, num_output, states)
    c, h = first if first else [_zeros(caffe, x, num_output)] * 2
    names = ("weight_x", "bias", "weight_static", "weight_h")
    shapes = _shapes(caffe, x, static, 4 * num_output, num_output, names)
    gates, project = _inputs(caffe, x, static, shapes, 4 * num_output, steps)
    results = []
    for gate, mark in zip(gates, _slices(caffe, cont, steps), strict=True):
        mark = caffe.reshape(mark, [1, -1, 1])
        sums = caffe.op("Add", project(caffe.op("Mul", h, mark)), gate)
        i, f, o, g = caffe.builder.ops("Split", sums, caffe.ints([num_output] * 4, "gates"), outputs=4, axis=2)
        kept = caffe.op("Mul", caffe.op("Mul", caffe.op("Sigmoid", f), mark), c)
        c = caffe.op("Add", kept, caffe.op("Mul", caffe.op("Sigmoid", i), caffe.op("Tanh", g)))
        h = caffe.op("Mul", caffe.op("Sigmoid", o), caffe.op("Tanh", c))
        results.append(h)
    # Caffe names the two states c and h and gives them as it takes them: bottoms c_0, h_0; tops h_T, c_T.
    y = results[0] if steps == 1 else caffe.op("Concat", *results, axis=0)
    return [y, h, c] if expose_hidden else [y]


@layer("RNN", param="recurrent_param")
def rnn(
    caffe: Context, x: ir.Value, cont: ir.Value, *others: ir.Value, num_output: int = 0, expose_hidden: bool = False
) -> list[ir.Value]:
    """Time first; where `cont` is 0 a sequence begins. What it gives is tanh of a product with the state."""
    steps, static, first = _opened(caffe, x, cont, others, num_output, ("h",) if expose_hidden else ())
    h = first[0] if first else _zeros(caffe, x, num_output)
    names = ("weight_x", "bias", "weight_static", "weight_h")
    shapes = _shapes(caffe, x, static, num_output, num_output, names)
    shapes |= {"weight_out": (num_output, num_output), "bias_out": (num_output,)}
    sums, project = _inputs(caffe, x, static, shapes, num_output, steps)
    results = []
    for entering, mark in zip(sums, _slices(caffe, cont, steps), strict=True):
        h = caffe.op("Mul", h, caffe.reshape(mark, [1, -1, 1]))
        h = caffe.op("Tanh", caffe.op("Add", project(h), entering))
        results.append(h)
    y = results[0] if steps == 1 else caffe.op("Concat", *results, axis=0)
    found = caffe.blobs(**shapes)
    number = len(found) - 2
    weight = caffe.weight("weight_out", shapes["weight_out"], found["weight_out"], number, lambda a: a.T, "T")
    y = caffe.op("MatMul", y, weight)
    bias = caffe.weight("bias_out", shapes["bias_out"], found["bias_out"], number + 1)
    y = caffe.op("Tanh", caffe.op("Add", y, bias))
    return [y, h] if expose_hidden else [y]


def _opened(
    caffe: Context, x: ir.Value, cont: ir.Value, others: Sequence[ir.Value], num_output: int, states: Sequence[str]
) -> tuple[int, ir.Value | None, list[ir.Value]]:
    """The number of steps, the static input if there is one, and the first states if they are bottoms."""
    caffe.require(num_output > 0, "num_output is 1 or more")
    caffe.require(caffe.rank(x) >= 2 and caffe.rank(cont) == 2, "its bottoms are (T, N, ...) and (T, N)")
    caffe.require(len(others) in (len(states), len(states) + 1), f"{len(others) + 2} bottoms do not fit")
    steps = caffe.size(x, 0)
    for ours, theirs in zip(caffe.shape(x)[:2], caffe.shape(cont), strict=True):
        caffe.require(ours == theirs or None in (ours, theirs), "its bottoms have other numbers of steps or items")
    if steps > MOST_STEPS:
        raise Refusal(f"{steps} steps are too many to write out (at most {MOST_STEPS})", "give a shorter input")
    caffe.warn(
        f"layer {caffe.layer.name!r} keeps its state from one run to the next in Caffe; here each run starts anew"
    )
    static = others[0] if len(others) > len(states) else None
    first = list(others[len(others) - len(states) :]) if states else []
    if static is not None:
        caffe.require(caffe.rank(static) >= 1, "its static bottom is (N, ...)")
    return steps, static, first


def _shapes(
    caffe: Context, x: ir.Value, static: ir.Value | None, gates: int, num_output: int, names: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """The shapes of the blobs, in Caffe's order."""
    weight, bias, fixed, hidden = names
    shapes: dict[str, tuple[int, ...]] = {weight: (gates, math.prod(caffe.sizes(x, 2))), bias: (gates,)}
    if static is not None:
        shapes[fixed] = (gates, math.prod(caffe.sizes(static, 1)))
    shapes[hidden] = (gates, num_output)
    return shapes


def _inputs(
    caffe: Context,
    x: ir.Value,
    static: ir.Value | None,
    shapes: dict[str, tuple[int, ...]],
    gates: int,
    steps: int,
) -> tuple[list[ir.Value], Callable[[ir.Value], ir.Value]]:
    """What the bottoms give to each step, and the product with the weights of the state."""
    found = caffe.blobs(**shapes)
    order = list(shapes)

    def right(name: str) -> ir.Value:
        return caffe.weight(name, shapes[name], found[name], order.index(name), lambda a: a.T, "T")

    if caffe.rank(x) != 3:
        x = caffe.reshape(x, [0, 0, math.prod(caffe.sizes(x, 2))])
    y = caffe.op("MatMul", x, right("weight_x"))
    y = caffe.op("Add", y, caffe.weight("bias", shapes["bias"], found["bias"], 1))
    if static is not None:
        fixed = static if caffe.rank(static) == 2 else caffe.reshape(static, [0, math.prod(caffe.sizes(static, 1))])
        y = caffe.op("Add", y, caffe.op("MatMul", fixed, right("weight_static")))
    weight = right("weight_h")
    return _slices(caffe, y, steps), lambda h: caffe.op("MatMul", h, weight)


def _slices(caffe: Context, value: ir.Value, steps: int) -> list[ir.Value]:
    """One value for each step."""
    if steps == 1:
        return [value]
    return list(caffe.builder.ops("Split", value, caffe.ints([1] * steps, "steps"), outputs=steps, axis=0))


def _zeros(caffe: Context, x: ir.Value, num_output: int) -> ir.Value:
    """A state before the first step; with a batch that is not known, one that is spread over it."""
    batch = caffe.shape(x)[1]
    return caffe.op("Expand", caffe.constant(0.0, "zero"), caffe.ints([1, batch or 1, num_output], "state"))
