"""The models of a check: opened in their runtimes, and their inputs matched with each other's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.errors import HubError, UsageError
from parity.compare import Row
from parity.golden import Recorded, is_golden
from parity.report import NotCompared, Report, Why, joined
from parity.runners import Array, Damaged, LoadFailed, NotInstalled, Port, Runner, Unfit, find

if TYPE_CHECKING:
    from hub.formats import Format

__all__ = [
    "Contradiction",
    "Side",
    "agree_on_form",
    "failed",
    "feeds_for",
    "format_of",
    "labels",
    "matching",
    "merged",
    "open_side",
]


class Contradiction(UsageError):
    """Two sides take different inputs."""


@dataclass
class Side:
    """One opened model: how it is called in the report, its runner, and its place in the check.

    `judged` says that a failure to run is a mismatch, and not only something left uncompared.
    `source`, of the format `known`, is what it was opened from.
    `chosen`: the layers to compare in place of the outputs, by the names they have on the other side.
    """

    label: str
    runner: Runner
    judged: bool = False
    source: Any = None
    known: Format | None = None
    chosen: dict[str, str] = field(default_factory=dict)

    @cached_property
    def recorded(self) -> Runner | None:
        """What hub reads of the source, which knows how the layers of that are laid out in ONNX; None where hub does
        not read it, or another project's converter does."""
        known = self.known
        if known is None or known.name == "onnx" or known.reader is None or known.guarded:
            return None
        import hub

        try:
            return find("onnxruntime").open(hub.load(self.source))
        except HubError:
            return None


def open_side(
    source: Any,
    label: str,
    report: Report,
    stack: ExitStack,
    known: Format | None = None,
    judged: bool = False,
    opening: Mapping[str, Any] | None = None,
) -> Side | None:
    """The opened side, or None after the reason went into the report. `opening`: options of the runtime's `open`."""
    if is_golden(source):
        recorded = Recorded(_existing(source))
        report.versions[recorded.name] = recorded.version
        return Side(label, recorded)
    known = known or format_of(source)
    if known.runner is None:
        report.skipped.append(NotCompared(label, f"nothing here runs {known.title}", "no runtime"))
        return None
    runtime = find(known.runner)
    if reason := runtime.available():
        if known.witness is None or find(known.witness).available():
            report.skipped.append(NotCompared(label, reason, "missing dependency"))
            return None
        return _witness(source, label, report, stack, known, reason, judged)
    try:
        runner = runtime.open(source, **(opening or {}))
    except Unfit as error:
        why: Why = "missing dependency" if isinstance(error, NotInstalled) else "no runtime"
        if known.witness is None or find(known.witness).available():
            report.skipped.append(NotCompared(label, str(error), why))
            return None
        return _witness(source, label, report, stack, known, str(error), judged, why)
    except LoadFailed as error:
        reason = f"{known.title} cannot load it: {error}"
        if judged:
            report.rows.append(Row("(all)", "mismatch", reason, between=label))
        else:
            report.skipped.append(NotCompared(label, reason, "not loadable"))
        return None
    stack.callback(runner.close)
    report.versions[runner.name] = runner.version
    return Side(label, runner, judged, source, known)


def _witness(
    source: Any,
    label: str,
    report: Report,
    stack: ExitStack,
    known: Format,
    reason: str,
    judged: bool,
    why: Why = "missing dependency",
) -> Side | None:
    """The side in the format's second runtime, which does not know all that the first does."""
    assert known.witness is not None
    try:
        runner = find(known.witness).open(source)
    except LoadFailed as error:
        if judged and isinstance(error, Damaged):
            report.rows.append(Row("(all)", "mismatch", str(error), between=label))
        else:
            report.skipped.append(NotCompared(label, f"{reason}; in its place: {error}", why))
        return None
    stack.callback(runner.close)
    report.versions[runner.name] = runner.version
    report.notes.append(f"{label}: run by {runner.name}. {reason}")
    report.notes += [f"{label}: {remark}" for remark in runner.remarks]
    return Side(label, runner, judged, source, known)


def failed(report: Report, side: Side, reason: str, why: Why) -> None:
    """Put into the report that a side gave no numbers: a mismatch if it is judged, else not compared."""
    if side.judged:
        report.rows.append(Row("(all)", "mismatch", reason, between=side.label))
    else:
        report.skipped.append(NotCompared(side.label, reason, why))


def format_of(source: Any) -> Format:
    """The format of a source or of what a target wrote."""
    from hub.formats import all_formats, detect
    from hub.formats import find as find_format

    if hasattr(source, "ir") and hasattr(source, "summary"):  # a hub.Model
        return find_format("onnx")
    first = source[0] if isinstance(source, (tuple, list)) and source else source
    if isinstance(first, (str, os.PathLike)):
        path = _existing(first)
        written = [known for known in all_formats() if path.suffix.lower() in known.writes]
        readable = any(path.suffix.lower() in known.reads for known in all_formats())
        if written and not readable:
            return next((known for known in written if known.sniff is not None and known.sniff(path)), written[0])
    return detect(source)


def _existing(path: str | os.PathLike[str]) -> Path:
    from hub.formats import resolve

    return resolve(Path(path))


def labels(a: Any, b: Any) -> list[str]:
    def label(source: Any) -> str:
        if isinstance(source, (tuple, list)) and source:
            return label(source[0])
        return (
            Path(source).name
            if isinstance(source, (str, os.PathLike))
            else f"{type(source).__module__.split(chr(46))[0]}.{type(source).__name__}"
        )

    labels = [label(a), label(b)]
    return labels if labels[0] != labels[1] else [f"{labels[0]} (first)", f"{labels[1]} (second)"]


def agree_on_form(first: Side, second: Side) -> None:
    """Let files that say how their source took its inputs take them as they are written where only that fits."""
    if _fit(first, second):
        return
    for side in (second, first):
        side.runner.as_written()
        if _fit(first, second):
            return


def _fit(first: Side, second: Side) -> bool:
    """Whether the inputs of two sides can be matched."""
    try:
        merged([first, second], [matching(first, side, Report(title="")) for side in (first, second)])
    except Contradiction:
        return False
    return True


def matching(first: Side, side: Side, report: Report) -> dict[str, str]:
    """From the input names of `first` to those of `side`: by name, else by position.

    Raises:
        Contradiction: the two take different numbers of inputs.
    """
    ours, theirs = [p.name for p in first.runner.inputs], [p.name for p in side.runner.inputs]
    if set(theirs) <= set(ours):
        if unused := [name for name in ours if name not in theirs]:
            report.notes.append(f"{side.label} does not take the inputs {joined(unused)}")
        return {name: name for name in ours if name in theirs}
    if len(ours) != len(theirs):
        raise Contradiction(f"{first.label} takes the inputs {joined(ours)}, {side.label} takes {joined(theirs)}")
    pairs = list(zip(ours, theirs, strict=True))
    report.notes.append(f"inputs matched by position: {joined([f'{a} = {b}' for a, b in pairs])}")
    return dict(pairs)


def merged(sides: Sequence[Side], matched: Sequence[Mapping[str, str]]) -> list[Port]:
    """The inputs of the first side, with what the others know about them.

    Raises:
        Contradiction: two sides contradict each other.
    """
    merged = []
    for first in sides[0].runner.inputs:
        result = first
        for side, names in zip(sides[1:], matched[1:], strict=True):
            if first.name in names:
                other = next(port for port in side.runner.inputs if port.name == names[first.name])
                shape = _merged_shape(result, other.shape, f"{sides[0].label} and {side.label}")
                result = replace(
                    result, dtype=result.dtype or other.dtype, shape=shape, range=result.range or other.range
                )
        merged.append(result)
    return merged


def _merged_shape(port: Port, other: tuple[int | str | None, ...] | None, who: str) -> Any:
    if port.shape is None or other is None:
        return other if port.shape is None else port.shape
    clash = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(port.shape, other, strict=False))
    if clash or len(port.shape) != len(other):
        shapes = " and ".join("x".join(map(str, shape)) for shape in (port.shape, other))
        raise Contradiction(f"the input {port.name!r} has different shapes in {who}: {shapes}")
    return tuple(
        b if a is None or (isinstance(a, str) and isinstance(b, int)) else a
        for a, b in zip(port.shape, other, strict=True)
    )


def feeds_for(side: Side, names: Mapping[str, str], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """`feeds` under the names and in the dtypes that `side` takes."""
    ports = {port.name: port for port in side.runner.inputs}
    result = {}
    for name, theirs in names.items():
        array, port = feeds[name], ports[theirs]
        if port.dtype is not None and port.dtype != array.dtype.name and array.dtype.kind in "iub":
            array = array.astype(port.dtype)
        result[theirs] = array
    return result
