"""Two sides of a check: the layers that both have, how each is asked for them, and in which order of axes they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from parity.compare import Row, compare_arrays
from parity.layers import common_layers, flow_of, layer_tap
from parity.report import Report
from parity.runners import Array
from parity.sides import Side, feeds_for, matching

__all__ = ["UNRECORDED", "Pair", "arranged", "as_computed"]

Values = Mapping[str, Array]

UNRECORDED = "its layout is not recorded"


@dataclass
class Pair:
    """A reference and a candidate.

    Where one has its layers as its framework does (Keras: channels last), and the other as ONNX does, nothing says how
    the axes of the two go together. hub knows, once it has read the first: `middle` is that reading. A layer then is
    compared in two steps: with the middle, as its source has it, and from there, as ONNX has it.
    """

    reference: Side
    candidate: Side

    @cached_property
    def source(self) -> Side | None:
        """The side that the middle stands for."""
        for side, other in ((self.reference, self.candidate), (self.candidate, self.reference)):
            if not _canonical(side) and other.runner.layout == "canonical" and side.recorded is not None:
                return side
        return None

    @cached_property
    def middle(self) -> Side | None:
        """What hub reads of one of the two; None if that is not needed, or not known."""
        if self.source is None or self.source.recorded is None:
            return None
        return Side(f"hub's reading of {self.source.label}", self.source.recorded)

    @property
    def between(self) -> str:
        """What reports call it."""
        return f"{self.candidate.label} against {self.reference.label}"

    @cached_property
    def common(self) -> list[tuple[str, str]]:
        """The layers that both know, by their names on either side."""
        left_out = {*self.reordered}
        return [names for names in self._shared if names not in left_out]

    @cached_property
    def _shared(self) -> list[tuple[str, str]]:
        return common_layers(self.reference, self.candidate)

    @cached_property
    def reordered(self) -> list[tuple[str, str]]:
        """Layers of both that are no single value in ONNX, or one whose elements come in another order."""
        if self.middle is None:
            return []
        position = 0 if self.source is self.reference else 1
        return [names for names in self._shared if names[position] not in self.middle.runner.layers]

    @cached_property
    def flow(self) -> Mapping[str, Sequence[str]] | None:
        """By layer of the reference, those that feed it; None if nobody knows."""
        return flow_of(self.reference, self.candidate, self.common)

    def taps(self, side: Side, names: Sequence[tuple[str, str]]) -> list[str]:
        """What one of the two, or the middle, is asked for so that these layers can be compared."""
        middle = self.middle
        taps = []
        for ours, theirs in names:
            name = ours if side is self.reference else theirs
            if middle is None:
                taps.append(layer_tap(name, side, self.candidate if side is self.reference else self.reference))
            elif side is self.source:
                taps.append(f"layer:{name}")
            elif side is not middle:
                taps.append(layer_tap(name, side, middle))
            else:
                name, other = (ours, self.candidate) if self.source is self.reference else (theirs, self.reference)
                taps += [f"layer:{name}", layer_tap(name, middle, other)]
        return list(dict.fromkeys(taps))

    def run_middle(self, first: Side, feeds: Mapping[str, Array], names: Sequence[tuple[str, str]]) -> Values:
        """What the middle gives for `feeds`, which are by the names of `first`."""
        assert self.middle is not None
        given = feeds_for(self.middle, matching(first, self.middle, Report()), feeds)
        return self.middle.runner.run(given, self.taps(self.middle, names))

    def row(
        self,
        names: tuple[str, str],
        ours: Values,
        theirs: Values,
        between: Values,
        rtol: float | None,
        atol: float | None,
    ) -> Row | None:
        """The comparison of a layer; None if it was not given. `between` is what the middle gave."""
        (key,), (other,) = self.taps(self.reference, [names]), self.taps(self.candidate, [names])
        if key not in ours or other not in theirs:
            return None
        if self.middle is None:
            pair = arranged(self.reference, self.candidate, key, ours[key], other, theirs[other])
            return _row(names[0], ours[key], theirs[other], pair, rtol, atol)
        taps = self.taps(self.middle, [names])
        whole, tap = taps[0], taps[-1]
        if whole not in between or tap not in between:
            return None
        forwards = self.source is self.reference
        native = ours[key] if forwards else theirs[other]
        pair = arranged(self.source or self.reference, self.middle, whole, native, whole, between[whole])
        first = _row(names[0], native, between[whole], pair, rtol, atol)
        if forwards:
            pair = arranged(self.middle, self.candidate, tap, between[tap], other, theirs[other])
            second = _row(names[0], between[tap], theirs[other], pair, rtol, atol)
        else:
            pair = arranged(self.reference, self.middle, key, ours[key], tap, between[tap])
            second = _row(names[0], ours[key], between[tap], pair, rtol, atol)
        return self._together(first, second)

    def _together(self, first: Row, second: Row) -> Row:
        """What two steps say: the source against what hub reads of it, and that against the other side."""
        assert self.source is not None
        reading = f"hub's reading of {self.source.label}"
        if first.verdict == "mismatch" and second.verdict == "ok":
            first.reason += f"; {reading} differs alike"
            return first
        if first.verdict == "mismatch":
            second.verdict, second.reason = "not compared", f"{reading} differs from it there: {first.reason}"
        elif first.verdict == "not compared" and first.max_abs is None:
            second.verdict, second.reason = "not compared", f"{first.reason}, in {reading}"
        elif second.verdict == "ok" and (first.max_abs or 0.0) + (second.max_abs or 0.0) > (second.tolerance or 0.0):
            second.verdict = "mismatch"
            second.reason = f"differs by {second.max_abs:.2e} from {reading}, and that from it by {first.max_abs:.2e}"
        return second


def _row(
    name: str, ours: Array, theirs: Array, pair: tuple[Array, Array] | None, rtol: float | None, atol: float | None
) -> Row:
    if pair is None:
        return Row(name, "not compared", UNRECORDED, dtype=ours.dtype.name, shape=ours.shape)
    a, b = pair
    if [n for n in a.shape if n != 1] == [n for n in b.shape if n != 1]:
        b = b.reshape(a.shape)  # axes of size 1 are no difference between layers
    row = compare_arrays(name, a, b, rtol=rtol, atol=atol)
    if a.shape != b.shape and sorted(a.shape) == sorted(b.shape):
        # Its values are in another layout and nothing says which: no permutation is tried.
        row.verdict, row.reason = "not compared", f"{row.reason}, and {UNRECORDED}"
    return row


def arranged(
    reference: Side, candidate: Side, key: str, ours: Array, other_key: str, theirs: Array
) -> tuple[Array, Array] | None:
    """Two tapped values in one layout: the source's, or ONNX's if one of the runtimes only has that; None where they
    have three axes or more, and nobody knows."""
    pair = ((reference, key, ours), (candidate, other_key, theirs))
    if all(side.runner.layout == "source" or tap in side.runner.perms for side, tap, _ in pair):
        first, second = (_transposed(array, side.runner.perms.get(tap)) for side, tap, array in pair)
        return first, second
    one, other = (_in_onnx(side, tap, array) for side, tap, array in pair)
    if one is None or other is None:
        return None
    if candidate.runner.batch_first:
        one = _batch_first(reference, key, one)
    if reference.runner.batch_first:
        other = _batch_first(candidate, other_key, other)
    return one, other


def as_computed(reference: Side, tap: str, other: Side, other_tap: str, theirs: Array) -> Array:
    """A value of `other` with its axes as `reference`, which is ONNX, computes its own."""
    if other.runner.layout == "source" or other_tap in other.runner.perms:
        theirs = _transposed(theirs, other.runner.perms.get(other_tap))
        perm = reference.runner.perms.get(tap)
        return theirs if perm is None else theirs.transpose(np.argsort(perm))
    return theirs


def _canonical(side: Side) -> bool:
    return side.runner.layout == "canonical" or side.runner.onnx


def _in_onnx(side: Side, tap: str, array: Array) -> Array | None:
    """A value in the layout of ONNX; None if that is not known."""
    if _canonical(side) or array.ndim < 3:
        return array
    if not tap.startswith("before:") or side.recorded is None:
        return None
    perm = side.recorded.perms.get(tap)
    return array if perm is None else array.transpose(np.argsort(perm))


def _batch_first(side: Side, tap: str, array: Array) -> Array:
    """A value of ONNX with its batch first, which is where the source has it: sequences may have their steps first."""
    perm = side.runner.perms.get(tap)
    return array if perm is None else np.moveaxis(array, perm[0], 0)


def _transposed(array: Array, perm: tuple[int, ...] | None) -> Array:
    return array.transpose(perm) if perm is not None else array
