"""What can be proved of numbers without running a model: that they are above 0, or not below it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from importers.cntk.functions import CONSTANT, PARAMETER, Network, Ref

__all__ = ["nonzero"]

DEEPEST = 12
LARGEST = 1 << 20

NOT_BELOW = frozenset("Abs ReLU Exp Sqrt Sigmoid StableSigmoid".split())
KEEPS = frozenset("NoOp Pass StopGradient Reshape TransposeAxes Slice Squeeze Dropout ReconcileDynamicAxis".split())


def nonzero(network: Network, ref: Ref) -> bool:
    """Whether a value has no 0 in it: a constant without one, or the sum of what is above 0 and what is not below."""
    numbers = _numbers(network, ref)
    return bool(np.all(numbers != 0)) if numbers is not None else _above(network, ref, 0)


def _numbers(network: Network, ref: Ref) -> npt.NDArray[Any] | None:
    variable = network.variables.get(ref.uid) if ref.index < 0 else None
    if variable is None or variable.kind not in (PARAMETER, CONSTANT) or variable.value is None:
        return None
    return variable.value.numbers if variable.value.numbers.size <= LARGEST else None


def _above(network: Network, ref: Ref, depth: int) -> bool:
    """Whether all numbers are above 0, by more than rounding takes away."""
    numbers = _numbers(network, ref)
    if numbers is not None:
        return bool(np.all(numbers > 1e-30))
    found = network.functions.get(ref.uid) if ref.index >= 0 else None
    if found is None or depth > DEEPEST:
        return False
    inputs = [network.source(value) for value in found.inputs]
    if found.op in KEEPS or (
        found.op == "ReduceElements" and found.attributes.get("reductionOpName") in ("Max", "Min")
    ):
        return _above(network, inputs[0], depth + 1)
    if found.op == "Sqrt":
        return _above(network, inputs[0], depth + 1)
    if found.op == "Plus":
        pairs = (inputs, inputs[::-1])
        return any(_above(network, a, depth + 1) and _not_below(network, b, depth + 1) for a, b in pairs)
    return False


def _not_below(network: Network, ref: Ref, depth: int) -> bool:
    """Whether no number is below 0."""
    numbers = _numbers(network, ref)
    if numbers is not None:
        return bool(np.all(numbers >= 0))
    found = network.functions.get(ref.uid) if ref.index >= 0 else None
    if found is None or depth > DEEPEST:
        return False
    if found.op in NOT_BELOW:
        return True
    inputs = [network.source(value) for value in found.inputs]
    if found.op == "ElementTimes":
        return inputs[0] == inputs[1] or all(_not_below(network, one, depth + 1) for one in inputs)
    sums = found.op == "ReduceElements" and found.attributes.get("reductionOpName") in ("Sum", "Mean", "Max", "Min")
    if found.op in KEEPS or sums:
        return _not_below(network, inputs[0], depth + 1)
    return found.op == "Plus" and all(_not_below(network, one, depth + 1) for one in inputs)
