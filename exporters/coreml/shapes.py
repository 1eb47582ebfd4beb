"""The shapes that a Core ML model takes: fixed, in ranges, or some of a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from hub.canonical import infer_shapes
from hub.errors import UsageError

__all__ = ["BATCHES", "Sizes", "decide"]

BATCHES = 64
"""The largest batch where the model leaves it open and nobody says."""

Range = tuple[int, int]


class Sizes:
    """What is decided of the inputs.

    Attributes:
        ranges: (smallest, largest) by the name of each size that stays open.
        choices: the shapes that each input may have, where they are enumerated; the first is the usual one.
        notes: what was decided in the user's place.
    """

    def __init__(self) -> None:
        self.ranges: dict[str, Range] = {}
        self.choices: dict[str, list[list[int]]] = {}
        self.notes: list[str] = []


def decide(model: ir.Model, shapes: Mapping[str, Any] | None, batch: Any) -> Sizes:
    """Fix or bound every open size of the inputs, in place.

    Args:
        model: a copy of the canonical model.
        shapes: by input: a list of sizes, each a number or a pair (smallest, largest); or a list of such lists of
            numbers, of which the first is the usual one.
        batch: the first size of every input that leaves it open: a number, a pair (smallest, largest), or a list.

    Raises:
        UsageError: a size stays open, or what is given contradicts the model.
    """
    sizes = Sizes()
    if shapes is not None and not (
        isinstance(shapes, Mapping) and all(isinstance(shape, list | tuple) for shape in shapes.values())
    ):
        raise UsageError(f'shapes={shapes!r}: by input, a list of sizes: {{"x": [1, 3, 224, 224]}}')
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    given = dict(shapes or {})
    if unknown := [name for name in given if name not in {value.name for value in inputs}]:
        names = ", ".join(str(value.name) for value in inputs)
        raise UsageError(f"shapes: there is no input {unknown[0]!r}; inputs are {names}")
    firsts = [value.shape[0] for value in inputs if value.shape]
    if batch is not None and firsts and all(isinstance(size, int) for size in firsts) and batch not in firsts:
        raise UsageError(f"batch={batch}: the model itself says {firsts[0]}")
    known: dict[str, int] = {}
    for value in inputs:
        if value.shape is None:
            continue
        own = list(value.shape)
        wanted = given.get(value.name or "")
        if wanted is None:
            wanted = _of_batch(value, own, batch, sizes)
        _settle(value, own, wanted, sizes, known)
    _rename(inputs, known)
    if known:
        for node in model.graph:
            for output in node.outputs:
                output.shape = None
        infer_shapes(model)
    left = [
        f"{size.value} of {value.name}"
        for value in inputs
        for size in value.shape or ()
        if isinstance(size, ir.SymbolicDim) and size.value not in sizes.ranges
    ]
    if left:
        raise UsageError(
            f"the sizes {', '.join(left)} are open, and Core ML has no model without bounds: "
            f'shapes={{"{inputs[0].name}": [(1, 8), ...]}} gives a range, a number fixes a size'
        )
    return sizes


def _of_batch(value: ir.Value, own: list[Any], batch: Any, sizes: Sizes) -> list[Any]:
    """What is wanted of an input that nobody named: its first size, if it is open, is the batch."""
    if not own or isinstance(own[0], int):
        return own
    if batch is None:
        sizes.notes.append(
            f"the batch may be 1 to {BATCHES}, usually 1: batch=N fixes it, which the Neural Engine prefers, "
            "batch=(smallest, largest) bounds it"
        )
        batch = (1, BATCHES)
    if isinstance(batch, list):
        return [[n, *own[1:]] for n in batch]
    return [batch, *own[1:]]


def _settle(value: ir.Value, own: list[Any], wanted: Sequence[Any], sizes: Sizes, known: dict[str, int]) -> None:
    """Take what is wanted of one input."""
    name = value.name or ""
    if wanted and isinstance(wanted[0], list):
        choices = [_fixed(name, own, choice) for choice in wanted]
        if len(choices) == 1:
            wanted = choices[0]
        else:
            _choose(value, own, choices, sizes)
            return
    if len(wanted) != len(own):
        raise UsageError(f"shapes: {name!r} has {len(own)} axes, {list(wanted)} has {len(wanted)}")
    for size, new in zip(own, wanted, strict=True):
        if isinstance(size, int):
            if new != size:
                raise UsageError(f"shapes: the size {size} of {name!r} is fixed in the model, it cannot be {new}")
        elif isinstance(new, int) and not isinstance(new, bool) and new > 0:
            if known.setdefault(str(size.value), new) != new:
                raise UsageError(f"shapes: the size {size.value!r} is {known[str(size.value)]} and {new}")
        elif isinstance(new, tuple | list) and len(new) == 2 and all(isinstance(n, int) for n in new):
            low, high = new
            if not 1 <= low <= high:
                raise UsageError(f"shapes: {low} to {high} is no range of sizes of {name!r}")
            if sizes.ranges.setdefault(str(size.value), (low, high)) != (low, high):
                raise UsageError(f"shapes: the size {size.value!r} has two ranges")
        elif new is not size:
            raise UsageError(f"shapes: {new!r} is no size of {name!r}: a number, or a pair (smallest, largest)")


def _fixed(name: str, own: list[Any], choice: Sequence[Any]) -> list[int]:
    if len(choice) != len(own):
        raise UsageError(f"shapes: {name!r} has {len(own)} axes, {list(choice)} has {len(choice)}")
    for size, new in zip(own, choice, strict=True):
        if not isinstance(new, int) or isinstance(new, bool) or new < 1 or (isinstance(size, int) and size != new):
            raise UsageError(f"shapes: {new!r} is no size of {name!r}, {list(own)} in the model")
    return [int(size) for size in choice]


def _choose(value: ir.Value, own: list[Any], choices: list[list[int]], sizes: Sizes) -> None:
    """Enumerated shapes: what differs among them stays open."""
    sizes.choices[value.name or ""] = choices
    for i, size in enumerate(own):
        if not isinstance(size, int):
            column = [choice[i] for choice in choices]
            sizes.ranges[str(size.value)] = (min(column), max(column))


def _rename(inputs: Sequence[ir.Value], known: Mapping[str, int]) -> None:
    for value in inputs:
        if value.shape is not None:
            value.shape = ir.Shape([d if isinstance(d, int) else known.get(str(d.value), d) for d in value.shape])
