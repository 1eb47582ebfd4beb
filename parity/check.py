"""Run models in their own runtimes on the same numbers, and compare what comes out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hub.errors import UsageError
from parity.compare import COMPRESSED, Row, compare, compare_arrays, tolerance_of
from parity.golden import Recorded, save_golden
from parity.inputs import generate, given
from parity.report import NotCompared, Report, joined
from parity.runners import BEFORE, Array, LoadFailed, RunFailed
from parity.sides import (
    Contradiction,
    Side,
    agree_on_form,
    arranged,
    failed,
    feeds_for,
    labels,
    matching,
    merged,
    open_side,
)

if TYPE_CHECKING:
    from hub.formats import Format

__all__ = ["check", "check_conversion"]


def check(
    a: Any,
    b: Any,
    *,
    inputs: Any = None,
    rtol: float | None = None,
    atol: float | None = None,
    layers: bool = False,
    seed: int = 0,
    golden: str | os.PathLike[str] | None = None,
) -> Report:
    """Compare `b` with `a`, the reference, each in its own runtime.

    `a`, `b`: a `hub.Model`, a path, a pair of paths (structure, weights), a live object, or for `a`
    an `.npz` of recorded inputs and outputs. A Python file is executed.
    `inputs`: see `parity.inputs.given`; None for seeded ones. `rtol`, `atol`: see `parity.compare`.
    `layers`: compare the outputs of the layers that both sides know by name, too.
    `golden`: an `.npz` to write what `a` was given and gave: with it, `b` can be checked where only its runtime is.

    Raises:
        UsageError: a path does not exist, or `inputs` fit neither model.
        UnknownFormat: what `a` or `b` is cannot be told, or nothing here runs it.
    """
    names = labels(a, b)
    report = Report(title=f"{names[1]} against {names[0]}")
    with ExitStack() as stack:
        sides = [open_side(source, label, report, stack) for source, label in zip((a, b), names, strict=True)]
        if sides[0] is not None and sides[1] is not None:
            sides[1].judged = True
            agree_on_form(sides[0], sides[1])
            comparison = Comparison(report, inputs, rtol, atol, layers, seed)
            comparison.run([sides[0], sides[1]], [(0, 1)])
            if golden is not None:
                comparison.record(sides[0], golden)
    return report


def check_conversion(
    source: Any,
    source_format: Format,
    model: Any,
    target: Any = None,
    target_format: Format | None = None,
    *,
    inputs: Any = None,
    outputs: Sequence[str] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    layers: bool = False,
    seed: int = 0,
    batches: Sequence[int] = (2,),
) -> Report:
    """Compare a source with the `hub.Model` read from it, and that with the `target` written from it.

    Runtimes that are not installed, and sources that their own framework cannot load or run, are
    listed as not compared. A model or a target that cannot be loaded or run is a mismatch: it is
    what the conversion made. `source` and `target` may be None (there is nothing to run).

    Args:
        source: as for `check`.
        source_format: its format.
        model: a `hub.Model`; it runs in ONNX Runtime.
        target: path, paths or live object.
        target_format: its format.
        inputs, rtol, atol, layers, seed: as for `check`.
        outputs: the source layers that were chosen in place of the source's own outputs, if any.
        batches: sizes of the batch, of which each is tried.
    """
    from hub.formats import find as find_format

    target_name = target_format.title if target_format else "target"
    report = Report(title=" -> ".join([source_format.title, "ONNX", *([target_name] if target is not None else [])]))
    with ExitStack() as stack:
        ends: list[tuple[Any, str, Format | None, bool]] = [
            (source, f"{source_format.title} source", source_format, False)
        ]
        ends += [(model, "ONNX", find_format("onnx"), True)]
        ends += [(target, f"{target_name} target", target_format, True)]
        opened = [
            None
            if x is None
            else open_side(x, label, report, stack, known, judged, model.opening if x is source else {})
            for x, label, known, judged in ends
        ]
        present = [side for side in opened if side is not None]
        middle = opened[1]
        if opened[0] is not None:
            opened[0].runner.as_written()  # that is what was read
        if middle is None or len(present) == 1:
            return report
        if outputs and opened[0] is not None:
            opened[0].chosen = dict(zip((value.name for value in model.outputs), outputs, strict=True))
        index = present.index(middle)
        pairs = [(i, j) for i, j in ((index - 1, index), (index, index + 1)) if i >= 0 and j < len(present)]
        try:
            Comparison(report, inputs, rtol, atol, layers, seed, batches).run(present, pairs)
        except Contradiction as error:
            report.rows.append(Row("(inputs)", "mismatch", str(error), between=report.title))
    return report


@dataclass
class Comparison:
    """One check: what it was asked for, and the report that it fills."""

    report: Report
    inputs: Any
    rtol: float | None
    atol: float | None
    layers: bool
    seed: int
    batches: Sequence[int] = (2,)
    first: tuple[dict[str, Array], dict[str, Array]] | None = None
    again: str = ""

    def record(self, side: Side, path: str | os.PathLike[str]) -> None:
        """Write what the first side was given and gave, once it has run."""
        if self.first is None:
            raise UsageError(f"{path}: {side.label} gave nothing that could be recorded")
        saved = save_golden(path, *self.first, runtime=side.runner.name, version=side.runner.version)
        self.report.notes.append(f"{saved} holds what {side.label} was given and gave: `hub check {saved} FILE`")

    def run(self, sides: Sequence[Side], pairs: Sequence[tuple[int, int]]) -> None:
        """Run every side on the same numbers, then compare the `pairs` of sides, reference first."""
        matched = [matching(sides[0], side, self.report) for side in sides]
        common = {(a, b): _common_layers(sides[a], sides[b]) if self.layers else [] for a, b in pairs}
        tried: list[dict[str, str]] = []
        for batch in self.batches:
            feeds = self._feeds(sides, matched, batch)
            shapes = {name: "x".join(map(str, array.shape)) or "scalar" for name, array in feeds.items()}
            if shapes in tried:
                continue  # the size of the batch is fixed, or given
            tried.append(shapes)
            self.again = f", batch of {batch}" if len(tried) > 1 else ""
            self._run_on(feeds, sides, pairs, matched, common)
            for name, array in feeds.items():
                text = f", {shapes[name]}" if self.again else f"{array.dtype.name} {shapes[name]}"
                self.report.inputs[name] = self.report.inputs.get(name, "") + text

    def _run_on(
        self,
        feeds: dict[str, Array],
        sides: Sequence[Side],
        pairs: Sequence[tuple[int, int]],
        matched: Sequence[Mapping[str, str]],
        common: Mapping[tuple[int, int], Sequence[tuple[str, str]]],
    ) -> None:
        results: list[dict[str, Array] | None] = []
        for index, side in enumerate(sides):
            taps = [BEFORE, *(f"layer:{name}" for name in side.chosen.values())]
            for pair, names in common.items():
                if index in pair:
                    other = sides[pair[1 - pair.index(index)]]
                    taps += [_layer_tap(known[pair.index(index)], side, other) for known in names]
            results.append(self._run(side, feeds_for(side, matched[index], feeds), taps))
        if results[0] is not None and self.first is None:
            self.first = feeds, {k: v for k, v in results[0].items() if not k.startswith(("core:", "exit:"))}
        for a, b in pairs:
            ours, theirs = results[a], results[b]
            if ours is not None and theirs is not None:
                self._compare_outputs(sides[a], sides[b], ours, theirs)
                self._compare_layers(sides[a], sides[b], ours, theirs, common[a, b])

    def _feeds(self, sides: Sequence[Side], matched: Sequence[Mapping[str, str]], batch: int) -> dict[str, Array]:
        """The numbers to run on, by the names of the first side."""
        ports = merged(sides, matched)
        for side, names in zip(sides, matched, strict=True):
            if isinstance(side.runner, Recorded):
                if self.inputs is not None:
                    raise UsageError("a recording has inputs of its own; do not give others")
                return given({name: side.runner.feeds[theirs] for name, theirs in names.items()}, ports)
        if self.inputs is not None:
            return given(self.inputs, ports)
        self.report.seed = self.seed
        return generate(ports, seed=self.seed, batch=batch)

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
        self, reference: Side, candidate: Side, ours: Mapping[str, Array], theirs: Mapping[str, Array]
    ) -> None:
        """Rows for the outputs, and for what goes into a squashing activation that produces one."""
        between = f"{candidate.label} against {reference.label}{self.again}"
        ops = candidate.runner.ops | reference.runner.ops
        outputs, others = _outputs(ours), _outputs(theirs)
        pairs = _output_pairs(list(outputs), list(others), self.report)
        rtol = self._rtol(reference, candidate)
        quantized = any(side.runner.precision in COMPRESSED for side in (reference, candidate))
        for row in compare(outputs, others, rtol=rtol, atol=self.atol, pairs=pairs, quantized=quantized):
            row.between, row.op = between, ops.get(row.name, "")
            self.report.rows.append(row)
        for name, other in pairs:
            key, other_key = f"before:{name}", f"before:{other}"
            if key in ours and other_key in theirs:
                a, b = arranged(reference, candidate, key, ours[key], other_key, theirs[other_key])
                row = compare_arrays(name, a, b, rtol=rtol, atol=self.atol)
                row.between, row.kind, row.op = between, "before activation", ops.get(key) or ops.get(other_key, "")
                self.report.rows.append(row)
            elif key in ours or other_key in theirs:
                self.report.notes.append(f"{between}: one of them only gives {name} before its activation")

    def _rtol(self, reference: Side, candidate: Side) -> float | None:
        """The tolerance that was asked for, else that of the coarser of what the two compute in, which is said."""
        if self.rtol is not None:
            return self.rtol
        known = {side.runner.precision: tolerance_of(side.runner.precision) for side in (reference, candidate)}
        allowed = {precision: rtol for precision, rtol in known.items() if rtol is not None}
        if not allowed:
            return None
        precision, rtol = max(allowed.items(), key=lambda item: item[1])
        note = f"compared with the tolerance of {precision}, {rtol:g} of the spread"
        if note not in self.report.notes:
            self.report.notes.append(note)
        return rtol

    def _compare_layers(
        self,
        reference: Side,
        candidate: Side,
        ours: Mapping[str, Array],
        theirs: Mapping[str, Array],
        common: Sequence[tuple[str, str]],
    ) -> None:
        """Rows for the layers that both know, and an entry for those that could not be compared."""
        between = f"{candidate.label} against {reference.label}{self.again}"
        absent = []
        for name, other in common:
            key, other_key = _layer_tap(name, reference, candidate), _layer_tap(other, candidate, reference)
            if key in ours and other_key in theirs:
                a, b = arranged(reference, candidate, key, ours[key], other_key, theirs[other_key])
                if [n for n in a.shape if n != 1] == [n for n in b.shape if n != 1]:
                    b = b.reshape(a.shape)  # axes of size 1 are no difference between layers
                row = compare_arrays(name, a, b, rtol=self._rtol(reference, candidate), atol=self.atol)
                row.between, row.kind, row.op = between, "layer", reference.runner.layers.get(name, "")
                if a.shape != b.shape and sorted(a.shape) == sorted(b.shape):
                    # Its values are in another layout and nothing says which: no permutation is tried.
                    row.verdict, row.reason = "not compared", f"{row.reason}, and its layout is not recorded"
                self.report.rows.append(row)
            else:
                absent.append(name)
        if absent:
            what = f"{between}, {len(absent)} layer{'s' if len(absent) > 1 else ''}"
            self.report.skipped.append(NotCompared(what, f"no single output: {joined(absent)}", "not tapped"))
        for side, position in ((reference, 0), (candidate, 1)) if self.layers else ():
            known = {pair[position] for pair in common}
            if side.runner.grain == "parts":
                known |= {name for name in side.runner.layers if known & {*_wholes(name)}}
            if rest := [name for name in side.runner.layers if name not in known]:
                self.report.notes.append(f"{between}: only {side.label} has the layers {joined(rest)}")


def _layer_tap(name: str, side: Side, other: Side) -> str:
    """How to ask `side` for the layer `name`, so that it is the same value as what `other` calls so."""
    grain, others = side.runner.grain, other.runner.grain
    if others == "core" and grain != "core":
        return f"core:{name}"
    if grain == "parts" and others == "whole" and not any(n.startswith(f"{name}/") for n in other.runner.layers):
        return f"exit:{name}"
    return f"layer:{name}"


def _wholes(name: str) -> list[str]:
    """The layers that "a/b/c" or "a.b.c" may be a part of: "a", and "a/b" or "a.b"."""
    return [name[:i] for i, character in enumerate(name) if character in "/."]


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


def _common_layers(a: Side, b: Side) -> list[tuple[str, str]]:
    """The layers that both sides know: by name, else by the name as an identifier where it is unique."""
    ours, theirs = _identifiers(a.runner.layers), _identifiers(b.runner.layers)
    pairs = []
    for name in a.runner.layers:
        if name in b.runner.layers:
            pairs.append((name, name))
        elif ours.get(_identifier(name)) == name and (other := theirs.get(_identifier(name))) is not None:
            pairs.append((name, other))
    return pairs


def _identifiers(names: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_identifier(name), []).append(name)
    return {key: same[0] for key, same in found.items() if len(same) == 1}


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()
