"""Sequences: in ONNX they are dense, all of a batch of one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hub.dnn import Axis
from hub.errors import Refusal
from importers.cntk.context import Context, Steps, Tensor
from importers.cntk.functions import CONSTANT, Network, Ref
from importers.cntk.table import function

__all__: list[str] = []


@function("ReconcileDynamicAxis")
def reconcile(cntk: Context, x: Tensor, like: Tensor) -> Tensor:
    """Spread over the dynamic axes of the second input, or said to have the same."""
    if x.dynamic == like.dynamic:
        return replace(like, value=cntk.op("Identity", x))
    cntk.require(x.dynamic < like.dynamic, "it has more dynamic axes than what it is to be like")
    value = x.value
    axes = [1] if x.dynamic else list(range(like.dynamic))
    value = cntk.op("Unsqueeze", value, cntk.ints(axes, "axes"))
    return like.of(cntk.spread(value, like, cntk.shape(x)))


@function("UnpackSequence")
def unpack(
    cntk: Context,
    x: Tensor,
    *,
    sequenceUnpackPaddingValue: float = 0.0,
    sequenceUnpackSuppressMaskOutput: bool = False,
) -> list[Tensor]:
    """The steps as a static axis, the slowest one; and a mask, which is 1 everywhere."""
    cntk.require(x.sequence is not None, "its input is no sequence")
    y = Tensor(cntk.op("Identity", x), x.batch)
    if sequenceUnpackSuppressMaskOutput:
        return [y]
    return [y, Tensor(cntk.spread(cntk.constant(1, "one", x), x, []), x.batch)]


@function("ToSequence")
def to_sequence(
    cntk: Context,
    x: Tensor,
    lengths: Tensor | None = None,
    *,
    newDynamicAxes: Sequence[Axis] = (),
    sequenceAxis: str = "",
) -> Tensor:
    """The slowest static axis as the steps."""
    if lengths is not None:
        raise Refusal("its sequences have lengths of their own; in ONNX all of a batch have one")
    cntk.require(x.batch and x.sequence is None and cntk.rank(x) > 0, "its input has no axis for the steps")
    names = [axis.name for axis in newDynamicAxes if axis.ordered]
    return Tensor(cntk.op("Identity", x), True, names[0] if names else sequenceAxis or cntk.found.uid)


@function("ToSequenceLike")
def to_sequence_like(cntk: Context, x: Tensor, like: Tensor) -> Tensor:
    """The slowest static axis as the steps of the second input."""
    cntk.require(x.batch and x.sequence is None and cntk.rank(x) > 0, "its input has no axis for the steps")
    cntk.require(like.sequence is not None, "what it is to be like is no sequence")
    return Tensor(cntk.op("Identity", x), True, like.sequence)


@function("PastValue", "FutureValue")
def delay(cntk: Context, x: Tensor, first: Tensor, *, offset: int = 1) -> Tensor:
    """Each step is that of `offset` steps before, or behind; at the beginning there is the second input."""
    cntk.require(0 < offset < 1 << 31, f"an offset of {offset}")
    if x.sequence is None:
        raise Refusal("its input is no sequence")
    if first.sequence is not None:
        raise Refusal("what it begins with is a sequence itself")
    rank = cntk.rank(x)
    _, (_, value) = cntk.aligned(x, first)
    if first.dynamic == 0:
        axes = cntk.ints(list(range(rank - cntk.rank(first) + x.dynamic)), "axes")
        value = cntk.op("Unsqueeze", value, axes)
    # As many steps of it as the offset says, in the shape of one step of the input.
    batch, inner = cntk.op("Shape", x, start=0, end=1), cntk.op("Shape", x, start=2)
    parts = [batch, cntk.ints([offset], "offset")] + ([inner] if rank else [])
    begin = cntk.op("Expand", value, cntk.op("Concat", *parts, axis=0))
    axes, far = cntk.ints([1], "axis"), (1 << 63) - 1
    if cntk.found.op == "PastValue":
        whole = cntk.op("Concat", begin, x, axis=1)
        return x.of(cntk.op("Slice", whole, cntk.ints([0], "start"), cntk.ints([-offset], "end"), axes))
    whole = cntk.op("Concat", x, begin, axis=1)
    return x.of(cntk.op("Slice", whole, cntk.ints([offset], "start"), cntk.ints([far], "end"), axes))


# -- parts of sequences --------------------------------------------------------------------------------


@function("Where")
def where(
    cntk: Context,
    condition: Tensor,
    *,
    newDynamicAxes: Sequence[Axis] = (),
    newSequenceAxisLengthScalingFactor: int = 1,
    newSequenceAxisLengthAdditiveFactor: int = 0,
) -> Steps:
    """The steps where a condition holds, if that depends on nothing but their place, as sequence.slice says it."""
    cntk.require(condition.sequence is not None, "its input is no sequence")
    found = selected(cntk.network, cntk.network.source(cntk.found.inputs[0]))
    if found is None:
        raise Refusal(
            "which steps it selects depends on the data: sequences would differ in length",
            "sequence.first, last and slice select by place",
        )
    begin, end = found
    names = [axis.name for axis in newDynamicAxes if axis.ordered]
    if not names:
        one = (begin, end) == (-1, None) or (begin >= 0 and end == begin + 1)
        cntk.require(one, f"steps from {begin} to {end} are not one")
    return Steps(condition.sequence or "", begin, end, names[0] if names else None)


@function("PackedIndex")
def packed_index(cntk: Context, x: Tensor, steps: Steps) -> Steps:
    """Where the steps lie in memory, which is CNTK's own affair."""
    _check_steps(cntk, x, steps)
    return steps


@function("GatherPacked")
def gather_packed(cntk: Context, x: Tensor, steps: Steps) -> Tensor:
    """A part of a sequence: from one step to another, or one step alone."""
    _check_steps(cntk, x, steps)
    if steps.sequence is None:
        return Tensor(cntk.op("Gather", x, cntk.ints(steps.begin, "step"), axis=1), x.batch)
    end = (1 << 63) - 1 if steps.end is None else steps.end
    part = cntk.op("Slice", x, cntk.ints([steps.begin], "start"), cntk.ints([end], "end"), cntk.ints([1], "axis"))
    return Tensor(part, x.batch, steps.sequence)


def _check_steps(cntk: Context, x: Tensor, steps: Steps) -> None:
    if not isinstance(steps, Steps) or not isinstance(x, Tensor):
        raise Refusal("the places that it takes are computed")
    if x.sequence != steps.of:
        raise Refusal("the places that it takes are of another sequence axis")


Part = tuple[int, int | None]


def selected(network: Network, ref: Ref, depth: int = 0) -> Part | None:
    """The steps where a mask is 1, from one to another; None for a mask that is not made as sequence.slice does.

    A constant 0 that is delayed by n steps and begins with 1 is 1 in the first n steps (or the last ones); 1 minus
    a mask is the rest, and a product of two masks is what both have.
    """
    found = network.functions.get(ref.uid) if ref.index >= 0 else None
    if found is None or depth > 8:
        return None
    inputs = [network.source(value) for value in found.inputs]
    if found.op in ("PastValue", "FutureValue") and len(inputs) == 2:
        offset = found.attributes.get("offset", 1)
        if _number(network, inputs[1]) != 1 or not _is_zero(network, inputs[0]) or not 0 < offset < 1 << 31:
            return None
        return (0, int(offset)) if found.op == "PastValue" else (-int(offset), None)
    if found.op == "Minus" and len(inputs) == 2 and _number(network, inputs[0]) == 1:
        part = selected(network, inputs[1], depth + 1)
        if part is None or (part[0] != 0 and part[1] is not None) or part == (0, None):
            return None
        return (part[1] or 0, None) if part[0] == 0 else (0, part[0])
    if found.op == "ElementTimes" and len(inputs) == 2:
        one, other = (selected(network, inner, depth + 1) for inner in inputs)
        return None if one is None or other is None else _both(one, other)
    return None


def _both(one: Part, other: Part) -> Part | None:
    """What two parts have in common, where that can be told without the length of the sequence."""
    if one[0] < 0 or other[0] < 0:
        return None
    ends = [end for end in (one[1], other[1]) if end is not None]
    if len(ends) == 2 and (ends[0] < 0) != (ends[1] < 0):
        return None
    return max(one[0], other[0]), min(ends) if ends else None


def _number(network: Network, ref: Ref) -> float | None:
    """A constant of one number."""
    variable = network.variables.get(ref.uid) if ref.index < 0 else None
    if variable is None or variable.kind != CONSTANT or variable.value is None or variable.value.numbers.size != 1:
        return None
    return float(variable.value.numbers.reshape(-1)[0])


def _is_zero(network: Network, ref: Ref) -> bool:
    """A constant 0 that is spread over the steps."""
    found = network.functions.get(ref.uid) if ref.index >= 0 else None
    if found is None or found.op != "ReconcileDynamicAxis" or not found.inputs:
        return False
    return _number(network, network.source(found.inputs[0])) == 0
