"""One check at work: every side run on the same numbers, outputs and layers compared."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.errors import HubError, UsageError
from parity.compare import COMPRESSED, Row, compare, compare_arrays, tolerance_of, worst
from parity.divergence import divergences
from parity.golden import Recorded, layout_of, save_golden
from parity.inputs import described, drawn, given, several
from parity.layers import wholes
from parity.pairs import UNRECORDED, Pair, arranged
from parity.ranks import Ranks
from parity.report import NotCompared, Report, joined
from parity.runners import BEFORE, Array, LoadFailed, RunFailed
from parity.sides import Side, failed, feeds_for, matching, merged

__all__ = ["MEMORY", "Comparison"]

MEMORY = 1 << 30
"""Bytes of layer values that are held at a time."""

Common = Mapping[tuple[int, int], Sequence[tuple[str, str]]]
"""By pair of sides: the layers that both know, by their names on either."""


@dataclass
class Comparison:
    """One check: what it was asked for, and the report that it fills. `only`: the first side's layers to compare."""

    report: Report
    inputs: Any
    rtol: float | Mapping[str, float] | None
    atol: float | None
    layers: bool
    seed: int
    batches: Sequence[int] = (2,)
    draws: int = 1
    memory: int = MEMORY
    only: Collection[str] | None = None
    first: tuple[dict[str, Array], dict[str, Array]] | None = None

    def record(self, side: Side, path: str | os.PathLike[str]) -> None:
        """Write what the first side was given and gave, once it has run."""
        if self.first is None:
            raise UsageError(f"{path}: {side.label} gave nothing that could be recorded")
        runner = side.runner
        saved = save_golden(path, *self.first, runtime=runner.name, version=runner.version, layout=layout_of(runner))
        self.report.notes.append(f"{saved} holds what {side.label} was given and gave: `hub check {saved} FILE`")

    def run(self, sides: Sequence[Side], pairs: Sequence[tuple[int, int]]) -> None:
        """Run every side on the same numbers, then compare the `pairs` of sides, reference first.

        With several sets of numbers every value has one row, its worst.
        """
        matched = [matching(sides[0], side, self.report) for side in sides]
        joined = {(a, b): Pair(sides[a], sides[b]) for a, b in pairs}
        common = {pair: self._chosen(joined[pair]) for pair in joined}
        tries = self._tries(sides, matched)
        ranks: dict[tuple[int, int], Ranks] = {pair: Ranks() for pair in pairs}
        rows: list[Row] = []
        for feeds in tries:
            before, self.report.rows = self.report.rows, []
            self._run_on(feeds, sides, joined, matched, common, ranks)
            rows, self.report.rows = [*rows, *self.report.rows], before
        self.report.rows += worst(rows)
        self.report.inputs = described(tries)
        self.report.skipped = list(dict.fromkeys(self.report.skipped))
        for pair in joined if self.layers and self.only is None else ():
            self._conclude(joined[pair], common[pair])
        for (a, b), rank in ranks.items():
            self.report.notes += rank.said(f"{sides[b].label} against {sides[a].label}")

    def _tries(self, sides: Sequence[Side], matched: Sequence[Mapping[str, str]]) -> list[dict[str, Array]]:
        """The sets of numbers to run on, by the names of the first side."""
        ports = merged(sides, matched)
        for side, names in zip(sides, matched, strict=True):
            if isinstance(side.runner, Recorded):
                if self.inputs is not None:
                    raise UsageError("a recording has inputs of its own; do not give others")
                return [given({name: side.runner.feeds[theirs] for name, theirs in names.items()}, ports)]
        if self.inputs is not None:
            return several(self.inputs, ports, self.draws)
        self.report.seed = self.seed
        return drawn(ports, self.seed, self.batches, self.draws)

    def _chosen(self, pair: Pair) -> list[tuple[str, str]]:
        """The layers to compare."""
        known = pair.common if self.layers else []
        return known if self.only is None else [names for names in known if names[0] in self.only]

    def _run_on(
        self,
        feeds: dict[str, Array],
        sides: Sequence[Side],
        pairs: Mapping[tuple[int, int], Pair],
        matched: Sequence[Mapping[str, str]],
        common: Common,
        ranks: Mapping[tuple[int, int], Ranks],
    ) -> None:
        """One set of numbers: the outputs and some layers first, then further layers, as many at a time as `memory`
        holds."""
        given = [feeds_for(side, names, feeds) for side, names in zip(sides, matched, strict=True)]
        runs, sizes = 0, Sizes(self.memory)
        for part in sizes.parts(sides, given, common):
            results = [self._run(side, given[i], self._taps(side, pairs, part, runs)) for i, side in enumerate(sides)]
            if not runs and results[0] is not None and self.first is None:
                self.first = feeds, {k: v for k, v in results[0].items() if not k.startswith(("core:", "exit:"))}
            for (a, b), pair in pairs.items():
                ours, theirs = results[a], results[b]
                if ours is None or theirs is None:
                    continue
                if not runs:
                    self._compare_outputs(sides[a], sides[b], ours, theirs, ranks[a, b])
                between = self._between(pair, sides[0], feeds, part[a, b])
                if between is not None:
                    self._compare_layers(pair, part[a, b], ours, theirs, between)
                sizes.saw(part[a, b], ours, theirs)
            runs += 1
        if runs > 1:
            self._note(f"layers compared in {runs} runs, to hold about {self.memory / 1e6:.0f} MB of them at a time")

    @staticmethod
    def _taps(side: Side, pairs: Mapping[tuple[int, int], Pair], part: Common, runs: int) -> list[str]:
        """What one side is asked for beside its outputs."""
        taps = [] if runs else [BEFORE]
        taps += [f"layer:{name}" for name in side.chosen.values()]
        for key, pair in pairs.items():
            if side is pair.reference or side is pair.candidate:
                taps += pair.taps(side, part[key])
        return taps

    def _between(
        self, pair: Pair, first: Side, feeds: Mapping[str, Array], names: Sequence[tuple[str, str]]
    ) -> Mapping[str, Array] | None:
        """What the middle of a pair gives, nothing where there is none; None if it failed, which is said."""
        if not names or pair.middle is None:
            return {}
        try:
            return pair.run_middle(first, feeds, names)
        except (HubError, LoadFailed, RunFailed) as error:
            self._left_out(pair, [name for name, _ in names], f"{pair.middle.label} cannot be run ({error})")
            return None

    def _left_out(self, pair: Pair, layers: Sequence[str], why: str) -> None:
        """Say that layers were not compared."""
        if layers:
            what = f"{pair.between}, {len(layers)} layer{'s' if len(layers) > 1 else ''}"
            self.report.skipped.append(NotCompared(what, f"{why}: {joined(layers)}", "not tapped"))

    def _run(self, side: Side, feeds: dict[str, Array], taps: Sequence[str]) -> dict[str, Array] | None:
        try:
            values = side.runner.run(feeds, taps)
        except LoadFailed as error:
            failed(self.report, side, f"{side.runner.name} cannot load it: {error}", "not loadable")
            return None
        except RunFailed as error:
            failed(self.report, side, f"{side.runner.name} cannot run it: {error}", "not runnable")
            return None
        if not side.chosen:
            return values
        chosen = {name: values.get(f"layer:{layer}", values.get(layer)) for name, layer in side.chosen.items()}
        found = {name: array for name, array in chosen.items() if array is not None}
        if len(found) < len(chosen):
            missing = joined([side.chosen[name] for name in chosen if name not in found])
            failed(self.report, side, f"{side.runner.name} does not give {missing}", "not tapped")
            return None
        return found

    def _compare_outputs(
        self, reference: Side, candidate: Side, ours: Mapping[str, Array], theirs: Mapping[str, Array], rank: Ranks
    ) -> None:
        """Rows for the outputs, and for what goes into a squashing activation that produces one."""
        between = f"{candidate.label} against {reference.label}"
        ops = candidate.runner.ops | reference.runner.ops
        outputs, others = _outputs(ours), _outputs(theirs)
        pairs = _output_pairs(list(outputs), list(others), self.report)
        self._known(list(outputs))
        allowed = {name: self._rtol(reference, candidate, name) for name in outputs}
        quantized = any(side.runner.precision in COMPRESSED for side in (reference, candidate))
        for row in compare(outputs, others, rtol=allowed, atol=self.atol, pairs=pairs, quantized=quantized):
            row.between, row.op = between, ops.get(row.name, "")
            self.report.rows.append(row)
        for name, other in pairs:
            rank.saw(name, outputs[name], others[other])
        for name, other in pairs:
            key, other_key = f"before:{name}", f"before:{other}"
            if key in ours and other_key in theirs:
                pair = arranged(reference, candidate, key, ours[key], other_key, theirs[other_key])
                if pair is None:
                    row = Row(name, "not compared", UNRECORDED)
                else:
                    row = compare_arrays(name, *pair, rtol=allowed[name], atol=self.atol)
                row.between, row.kind, row.op = between, "before activation", ops.get(key) or ops.get(other_key, "")
                self.report.rows.append(row)
            elif key in ours or other_key in theirs:
                self._note(f"{between}: one of them only gives {name} before its activation")

    def _known(self, outputs: Sequence[str]) -> None:
        """Refuse a tolerance of an output that is not there."""
        for name in self.rtol if isinstance(self.rtol, Mapping) else ():
            if name not in outputs:
                raise UsageError(f"rtol: there is no output {name!r}; outputs are {joined(outputs)}")

    def _rtol(self, reference: Side, candidate: Side, name: str = "") -> float | None:
        """The tolerance that was asked for, else that of the coarser of what the two compute in, which is said."""
        if isinstance(self.rtol, Mapping):
            if name in self.rtol:
                return self.rtol[name]
        elif self.rtol is not None:
            return self.rtol
        known = {side.runner.precision: tolerance_of(side.runner.precision) for side in (reference, candidate)}
        allowed = {precision: rtol for precision, rtol in known.items() if rtol is not None}
        if not allowed:
            return None
        precision, rtol = max(allowed.items(), key=lambda item: item[1])
        self._note(f"compared with the tolerance of {precision}, {rtol:g} of the spread")
        return rtol

    def _note(self, note: str) -> None:
        if note not in self.report.notes:
            self.report.notes.append(note)

    def _compare_layers(
        self,
        pair: Pair,
        common: Sequence[tuple[str, str]],
        ours: Mapping[str, Array],
        theirs: Mapping[str, Array],
        between: Mapping[str, Array],
    ) -> None:
        """Rows for the layers that both know, and an entry for those that could not be compared."""
        absent = []
        rtol = self._rtol(pair.reference, pair.candidate) if common else None
        for names in common:
            row = pair.row(names, ours, theirs, between, rtol, self.atol)
            if row is None:
                absent.append(names[0])
                continue
            row.between, row.kind, row.op = pair.between, "layer", pair.reference.runner.layers.get(names[0], "")
            self.report.rows.append(row)
        self._left_out(pair, absent, "no single output")

    def _conclude(self, pair: Pair, common: Sequence[tuple[str, str]]) -> None:
        """Where the two first differ, and the layers that only one of them has, or that ONNX does not have so."""
        reference, candidate, between, flow = pair.reference, pair.candidate, pair.between, pair.flow
        rows = [row for row in self.report.rows if row.between == between]
        self.report.divergences += divergences(rows, flow)
        self.report.flows[between] = {layer: list(others) for layer, others in (flow or {}).items()}
        self._left_out(pair, [name for name, _ in pair.reordered], "not one value in ONNX, or in another order")
        for side, position in ((reference, 0), (candidate, 1)):
            known = {names[position] for names in [*common, *pair.reordered]}
            if side.runner.grain == "parts":
                known |= {name for name in side.runner.layers if known & {*wholes(name)}}
            if rest := [name for name in side.runner.layers if name not in known]:
                self.report.notes.append(f"{between}: only {side.label} has the layers {joined(rest)}")


class Sizes:
    """How many layers are asked for at a time, so that their values stay below a number of bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._bytes = self._count = 0

    def parts(self, sides: Sequence[Side], feeds: Sequence[Mapping[str, Array]], common: Common) -> Iterator[Common]:
        """The layers of each pair of sides, part by part; one part at least."""
        rest = {pair: list(names) for pair, names in common.items()}
        while True:
            part: dict[tuple[int, int], list[tuple[str, str]]] = {pair: [] for pair in rest}
            room = self.most
            for pair, names in rest.items():
                while names and room > 0:
                    part[pair].append(names.pop(0))
                    room -= 2 * self._expected(sides, feeds, pair, part[pair][-1])
            yield part
            if not any(rest.values()):
                return

    def _expected(
        self, sides: Sequence[Side], feeds: Sequence[Mapping[str, Array]], pair: tuple[int, int], names: tuple[str, str]
    ) -> int:
        """The bytes of a layer: as a side knows them, else the mean of those seen, else a part of what may be held."""
        for index, name in zip(pair, names, strict=True):
            known = sides[index].runner.bytes_of(name, feeds[index])
            if known is not None:
                return known
        return self._bytes // self._count if self._count else self.most // 64

    def saw(self, names: Sequence[tuple[str, str]], *values: Mapping[str, Array]) -> None:
        """What a part really took."""
        taken = sum(a.nbytes for v in values for k, a in v.items() if k.startswith(("layer:", "core:", "exit:")))
        self._bytes, self._count = self._bytes + taken // 2, self._count + len(names)


def _outputs(values: Mapping[str, Array]) -> dict[str, Array]:
    return {
        name: array for name, array in values.items() if not name.startswith(("before:", "layer:", "core:", "exit:"))
    }


def _output_pairs(ours: list[str], theirs: list[str], report: Report) -> list[tuple[str, str]]:
    """Outputs by name where the names are the same, by position where the numbers are."""
    if len(ours) == len(theirs) and set(ours) != set(theirs):
        pairs = list(zip(ours, theirs, strict=True))
        if len(pairs) > 1:
            report.notes.append(f"outputs matched by position: {joined([f'{a} = {b}' for a, b in pairs])}")
        return pairs
    return [(name, name) for name in ours if name in theirs]
