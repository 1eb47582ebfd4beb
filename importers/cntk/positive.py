"""What can be proved of numbers without running a model: that they are above 0, or not below it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from importers.cntk.functions import CONSTANT, PARAMETER, Function, Network, Ref

__all__ = ["nonzero"]

DEEPEST = 12
MOST_STEPS = 200
LARGEST = 1 << 20

NOT_BELOW = frozenset("Abs ReLU Exp Sqrt Sigmoid StableSigmoid".split())
KEEPS = frozenset("NoOp Pass StopGradient Reshape TransposeAxes Slice Squeeze Dropout ReconcileDynamicAxis".split())


def nonzero(network: Network, ref: Ref) -> bool:
    """Whether a value has no 0 in it: a constant without one, or the sum of what is above 0 and what is not below."""
    numbers = _numbers(network, ref)
    return bool(np.all(numbers != 0)) if numbers is not None else _Prover(network).above(ref, 0)


def _numbers(network: Network, ref: Ref) -> npt.NDArray[Any] | None:
    variable = network.variables.get(ref.uid) if ref.index < 0 else None
    if variable is None or variable.kind not in (PARAMETER, CONSTANT) or variable.value is None:
        return None
    return variable.value.numbers if variable.value.numbers.size <= LARGEST else None


class _Prover:
    """Goes from a value to what it is made of, as far as a few functions and steps of a proof lead."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.steps = 0

    def _inputs(self, ref: Ref, depth: int) -> tuple[Function | None, list[Ref]]:
        self.steps += 1
        found = self.network.functions.get(ref.uid) if ref.index >= 0 else None
        if found is None or depth > DEEPEST or self.steps > MOST_STEPS or found.uid in self.network.kept:
            return None, []
        return found, [self.network.source(value) for value in found.inputs]

    def above(self, ref: Ref, depth: int) -> bool:
        """Whether all numbers are above 0, by more than rounding takes away."""
        numbers = _numbers(self.network, ref)
        if numbers is not None:
            return bool(np.all(numbers > 1e-30))
        found, inputs = self._inputs(ref, depth)
        if found is None:
            return False
        if found.op in KEEPS or found.op == "Sqrt" or _reduction(found) in ("Max", "Min"):
            return self.above(inputs[0], depth + 1)
        if found.op != "Plus":
            return False
        return any(self.above(a, depth + 1) and self.not_below(b, depth + 1) for a, b in (inputs, inputs[::-1]))

    def not_below(self, ref: Ref, depth: int) -> bool:
        """Whether no number is below 0."""
        numbers = _numbers(self.network, ref)
        if numbers is not None:
            return bool(np.all(numbers >= 0))
        found, inputs = self._inputs(ref, depth)
        if found is None:
            return False
        if found.op in NOT_BELOW:
            return True
        if found.op == "ElementTimes" and inputs[0] == inputs[1]:
            return True
        if found.op in KEEPS or _reduction(found) in ("Sum", "Mean", "Max", "Min"):
            return self.not_below(inputs[0], depth + 1)
        return found.op in ("Plus", "ElementTimes") and all(self.not_below(one, depth + 1) for one in inputs)


def _reduction(function: Function) -> str:
    name = function.attributes.get("reductionOpName", "") if function.op == "ReduceElements" else ""
    return name if isinstance(name, str) else ""
