"""The same value of two sides with its axes in the same order: the source's, or that of ONNX."""

from __future__ import annotations

import numpy as np

from parity.runners import Array
from parity.sides import Side

__all__ = ["arranged", "as_computed"]


def arranged(
    reference: Side, candidate: Side, key: str, ours: Array, other_key: str, theirs: Array
) -> tuple[Array, Array] | None:
    """Two tapped values in one layout: the source's, or ONNX's if one of the runtimes only has that.

    None if it is known that there is no such value in ONNX: its elements are in another order, as behind a Flatten.
    """
    pair = ((reference, key, ours), (candidate, other_key, theirs))
    if all(side.runner.layout == "source" or tap in side.runner.perms for side, tap, _ in pair):
        first, second = (_transposed(array, side.runner.perms.get(tap)) for side, tap, array in pair)
        return first, second
    one, other = (_canonical(side, tap, array) for side, tap, array in pair)
    return None if one is None or other is None else (one, other)


def as_computed(reference: Side, tap: str, other: Side, other_tap: str, theirs: Array) -> Array:
    """A value of `other` with its axes as `reference`, which is ONNX, computes its own."""
    if other.runner.layout == "source" or other_tap in other.runner.perms:
        theirs = _transposed(theirs, other.runner.perms.get(other_tap))
        perm = reference.runner.perms.get(tap)
        return theirs if perm is None else theirs.transpose(np.argsort(perm))
    return theirs


def _canonical(side: Side, tap: str, array: Array) -> Array | None:
    """A value in the layout of ONNX, where it is not and that is known; else as it is."""
    if side.runner.layout == "canonical" or side.runner.perms or (recorded := side.recorded) is None:
        return array
    kind, _, name = tap.partition(":")
    if kind != "before" and name not in recorded.layers:
        return None
    perm = recorded.perms.get(f"before:{name}" if kind == "before" else f"layer:{name}")
    return array if perm is None else array.transpose(np.argsort(perm))


def _transposed(array: Array, perm: tuple[int, ...] | None) -> Array:
    return array.transpose(perm) if perm is not None else array
