"""Half precision: what stays in float32, and what the user should know of the rest."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.constants import Array
from exporters.rules import Applied, constant
from hub.canonical import layer_of, tidy
from hub.errors import UsageError

__all__ = ["HALF_MAX", "Chosen", "clamp_masks"]

HALF_MAX, HALF_MIN = 65504.0, 2.0**-24
SENTINEL = -30000.0
"""What stands for a mask's very negative number in half precision: its exponential is 0 all the same, and scores
can be added to it without overflow."""


class Chosen:
    """Chooses, operation by operation, what computes in float16.

    `keep`: layers and ONNX operator types that stay in float32. `layers`, `types`: the layer and the operator of each
    operation by name.
    """

    def __init__(self, keep: Collection[str], layers: Mapping[str, str], types: Mapping[str, str]) -> None:
        self.keep = set(keep)
        self.layers = layers
        self.types = types
        self.kept: dict[str, dict[str, None]] = {}

    def __call__(self, op: Any) -> bool:
        """Whether an operation of MIL computes in float16."""
        names = [op.name, *(var.name for var in op.outputs)]
        layer = next((self.layers[name] for name in names if name in self.layers), op.name)
        if op.op_type == "const":
            return True
        if self.keep & {layer, *(self.types.get(name, "") for name in names)}:
            return False
        reason = _beyond(op)
        if reason:
            self.kept.setdefault(reason, {})[layer] = None
        return not reason

    def said(self) -> list[str]:
        """What stays in float32 because float16 has not its numbers."""
        counts = {
            reason: f"{len(layers)} layer{'s' if len(layers) > 1 else ''}" for reason, layers in self.kept.items()
        }
        return [
            f"{reason}: computed in float32 in {counts[reason]}, first {next(iter(layers))!r}"
            for reason, layers in self.kept.items()
        ]

    @property
    def layers_kept(self) -> set[str]:
        """The layers of which something stays in float32 so."""
        return {layer for layers in self.kept.values() for layer in layers}

    def check(self, program: Any) -> None:
        """Look at all operations of a program: coremltools does not ask about those that it leaves alone by itself.

        Raises:
            UsageError: something is to be kept that the model does not have.
        """
        for op in program.functions["main"].operations:
            self(op)
        known = {*self.layers.values(), *self.types.values()}
        if unknown := sorted(self.keep - known):
            raise UsageError(f"keep_float32: {unknown[0]!r} is neither a layer nor an operator of the model")


def _beyond(op: Any) -> str:
    """Why an operation cannot compute in float16: a constant of it is too large, or vanishes."""
    for given in op.inputs.values():
        for var in given if isinstance(given, list | tuple) else [given]:
            value = getattr(var, "val", None)
            if value is None or not isinstance(value, np.ndarray | np.generic) or value.dtype != np.float32:
                continue
            if reason := _fault(np.asarray(value)):
                return reason
    return ""


def _fault(value: Array) -> str:
    if not value.size:
        return ""
    largest = max(-float(value.min()), float(value.max()))  # of a weight, without a copy of it
    if not math.isfinite(largest):
        largest = float(np.abs(value[np.isfinite(value)]).max(initial=0.0))
    if largest > HALF_MAX:
        return f"a constant of {largest:.3g} is beyond float16"
    if 0 < largest < HALF_MIN * 4 or (value.size == 1 and 0 < largest < 2.0**-14):
        return f"a constant of {largest:.3g} vanishes or loses its digits in float16"
    return ""


MASKING = frozenset("Add Sub Mul Where Expand Unsqueeze Squeeze Reshape Transpose Identity Cast Tile Slice".split())
"""What a mask goes through on its way into a Softmax."""


def clamp_masks(model: ir.Model) -> Applied:
    """Masks of very negative numbers before a Softmax become -30000, in place.

    softmax(x + m) = softmax(x + m') where m and m' are both so far below that the exponential is 0. In half precision
    m, such as -3.4e38, would be infinite, and a row that is masked whole would be NaN.
    """
    applied = Applied()
    for value in list(model.graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size > 1 << 24 or not _only_masks(value):
            continue
        made = _clamped(tensor.numpy())
        if made is None:
            continue
        node = next(iter(value.uses()))[0]
        applied.changed.append(layer_of(node))
        value.replace_all_uses_with(constant(model.graph, made, f"{value.name}/half", value))
    if applied.changed:
        tidy(model)
    return applied


def _only_masks(value: ir.Value, depth: int = 10) -> bool:
    """Whether all that a value is used for ends in a Softmax."""
    uses = list(value.uses())
    if not uses or not depth or value.is_graph_output():
        return False
    return all(
        node.op_type == "Softmax" or (node.op_type in MASKING and _only_masks(node.outputs[0], depth - 1))
        for node, _ in uses
    )


def _clamped(array: Array) -> Array | None:
    """A mask's numbers as float16 can hold them, if that is what an array is: some far below all others."""
    far = np.isfinite(array) & (array <= -1e4)
    if not far.any() or (np.isfinite(array) & ~far & (np.abs(array) > 1e4)).any() or np.isnan(array).any():
        return None
    return np.where(far, np.float32(SENTINEL), array).astype(np.float32)
