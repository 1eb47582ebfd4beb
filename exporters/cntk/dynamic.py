"""CNTK's functions about dynamic axes: the batch, and the steps of a recurrence."""

from __future__ import annotations

from exporters.cntk.emit import Emitter
from exporters.cntk.functions import reshape
from exporters.cntk.net import Variable
from hub.dnn import BATCH, Axis

__all__ = ["delayed", "step_axis", "tie", "to_batch", "to_sequence", "unpack", "unpack_batch"]


def step_axis(name: str) -> Axis:
    """The axis of the steps of a sequence, by its name."""
    return Axis(BATCH.index, name, True)


def to_batch(emit: Emitter, x: Variable) -> Variable:
    """The first axis of a tensor without a batch as the batch."""

    def body() -> Variable:
        result = emit.function("ToBatch", [x], x.shape[1:])
        result.batch = True
        return result

    return emit.call("C.to_batch", [x], body)


def unpack_batch(emit: Emitter, x: Variable, size: int) -> Variable:
    """The batch, which is of this size, as the first axis of a tensor without one. For CNTK that axis is open."""

    def body() -> Variable:
        result = emit.function("UnpackBatch", [x], ("N", *x.shape))
        result.batch = False
        return result

    return reshape(emit, emit.call("C.unpack_batch", [x], body), (size, *x.shape))


def to_sequence(emit: Emitter, x: Variable) -> Variable:
    """The first axis of a sample as the steps of a sequence; the result is one step."""
    name = f"toSequence_{len(emit.functions)}"
    result = emit.function(
        "ToSequence", [x], x.shape[1:], sequenceAxis="toSequence_", newDynamicAxes=[step_axis(name), BATCH]
    )
    result.sequence = name
    return result


def unpack(emit: Emitter, x: Variable, steps: int) -> Variable:
    """The steps of a sequence, of which there are so many in each sample, as the first axis of a sample."""
    result = emit.function(
        "UnpackSequence",
        [x],
        ("T", *x.shape),
        sequenceUnpackPaddingValue=0.0,
        sequenceUnpackSuppressMaskOutput=True,
    )
    result.sequence = ""
    return reshape(emit, result, (steps, *x.shape))


def delayed(emit: Emitter, x: Variable, initial: Variable, units: int, backwards: bool) -> Variable:
    """What some value, which `tie` says, was a step before a step of `x`; `initial` at the first one."""
    result = emit.function("FutureValue" if backwards else "PastValue", [initial], (units,), offset=1)
    result.batch, result.sequence = True, x.sequence
    return result


def tie(before: Variable, value: Variable) -> None:
    """Say what value `before` is a step later."""
    assert before.function is not None
    before.function.inputs.insert(0, value)
