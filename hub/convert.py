"""The way of a model: load, write, check, publish. The stages are one visible list in `convert`.

This module is what `import hub` loads, so it imports nothing heavy at its top.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from html import escape
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.errors import HubError, ParityError, UnsupportedOp, UnsupportedOps, UsageError
from hub.formats import COMMON, Format, Source, detect, find, for_target
from hub.staging import Staged

if TYPE_CHECKING:
    from hub.model import Model
    from parity.locate import Location
    from parity.report import Report
    from parity.repro import Repro

BATCHES = (2, 3)
"""Sizes of the batch on which what another project's converter made is compared with its source."""

__all__ = ["Conversion", "Inspection", "check", "convert", "inspect", "load", "locate", "reduce", "save"]


@dataclass
class Conversion:
    """What `hub.convert` returns.

    Attributes:
        paths: the files written, the main one first; empty for a live object.
        model: the canonical model in the middle.
        object: the live object, where no destination was given.
        report: the proof; None with `check=False`.
        warnings: what the user should know: changed layouts, approximations, ...
        names: inputs, outputs and layers that the target calls otherwise, by their names in the source.
    """

    paths: list[Path]
    model: Model
    object: Any = None
    report: Report | None = None
    warnings: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"wrote {path}" for path in self.paths] or [f"built {type(self.object).__name__}"]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines.append(str(self.report) if self.report is not None else "NOT CHECKED: check=False")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        written = "".join(f"<li><code>{escape(str(path))}</code></li>" for path in self.paths)
        warned = "".join(f"<li>warning: {escape(warning)}</li>" for warning in self.warnings)
        report = "<p><b>NOT CHECKED</b></p>" if self.report is None else self.report._repr_html_()
        return f"<ul>{written}{warned}</ul>{report}"

    def to_dict(self) -> dict[str, Any]:
        """The conversion as JSON-ready data."""
        return {
            "paths": [str(path) for path in self.paths],
            "warnings": self.warnings,
            "names": self.names,
            "report": None if self.report is None else self.report.to_dict(),
            "model": self.model.to_dict(),
        }


@dataclass
class Inspection:
    """What `hub.inspect` returns: what is in a file, and what a target would refuse of it.

    Attributes:
        source: name of the source format.
        model: the canonical model; None if the source itself is not supported.
        target: name of the target asked about, if any.
        unsupported: what the source's reader, or the target, refuses.
    """

    source: str
    model: Model | None
    target: str | None = None
    unsupported: list[UnsupportedOp] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the source can be read and the target, if one was named, can say all of it."""
        return self.model is not None and not self.unsupported

    def __str__(self) -> str:
        lines = [self.model.summary() if self.model is not None else f"a {self.source} model that cannot be read:"]
        if self.target is not None:
            lines.append(f"to {self.target}: " + ("refused:" if self.unsupported else "every operator is supported"))
        lines += [f"  - {op}" for op in self.unsupported]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """The inspection as JSON-ready data."""
        return {
            "source": self.source,
            "target": self.target,
            "ok": self.ok,
            "model": None if self.model is None else self.model.to_dict(),
            "unsupported": [asdict(op) for op in self.unsupported],
        }


def convert(
    src: Source,
    dst: str | Path | None = None,
    *,
    to: str | None = None,
    source: str | None = None,
    inputs: Any = None,
    outputs: Sequence[str] | None = None,
    check: bool = True,
    trust: bool = False,
    keep_rejected: bool = False,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Conversion:
    """Convert a trained network to another framework and prove the result.

    Args:
        src: a path, a pair of paths (structure, weights), or a live object.
        dst: the path to write; its suffix chooses the target unless `to` names it. None gives the
            live object of the target in `Conversion.object`.
        to: target format.
        source: source format, where content and suffix do not tell.
        inputs: shapes of inputs by name, for what the source leaves open. For PyTorch also dtypes or example arrays,
            for TensorFlow also values that an input always has.
        outputs: values or layers to end at instead of the source's own outputs.
        check: compare source, ONNX and target as far as runtimes are installed.
        trust: allow what executes code of the source, such as pickles. Never needed for Keras or ONNX.
        keep_rejected: keep the files of a conversion that failed the check, as `*.rejected`.
        progress: called with the name of each stage as it begins.
        options: of the reader or the writer, such as `opset=` for ONNX.

    Raises:
        ParityError: the numbers disagree; nothing was written.
        UnsupportedOps: something in the source, or for the target, is not supported; all of it at once.
        HubError: the other errors of the family; no other exception is raised for any input file.
    """
    say = progress or (lambda stage: None)
    reading = find(source) if source else detect(src)
    writing = for_target(dst, to)
    reader = reading.load("reader")
    writer = writing.load("builder" if dst is None else "writer")
    reader_options, writer_options = _split_options(options, reader, writer, reading, writing)

    with ExitStack() as stack:
        staged = stack.enter_context(Staged(dst, _paths(src))) if dst is not None else None
        say(f"reading {reading.title}")
        model = _read(reader, src, inputs, outputs, trust, reader_options, say)
        result = Conversion([], model, warnings=list(model.warnings))
        say(f"writing {writing.title}")
        if staged is None:
            result.object = writer(model, **writer_options)
        else:
            warnings, result.names = _write(writer, model, staged.path, writer_options)
            result.warnings += warnings
        if check:
            from parity.check import check_conversion

            say("checking the numbers")
            target = result.object if staged is None else staged.path
            batches = BATCHES if reading.guarded else BATCHES[:1]
            result.report = check_conversion(src, reading, model, target, writing, outputs=outputs, batches=batches)
            if result.report.mismatches:
                kept = staged.publish(".rejected") if staged is not None and keep_rejected else []
                raise ParityError(_rejection(result.report, kept), result.report)
        elif reading.guarded:
            say("checking what was read")
            result.warnings += _believe(src, reading, model, outputs)
        if staged is not None:
            result.paths = staged.publish()
    return result


def load(
    src: Source,
    *,
    source: str | None = None,
    inputs: Any = None,
    outputs: Sequence[str] | None = None,
    trust: bool = False,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Model:
    """Read a model of any source format into the canonical representation.

    Arguments and errors are those of `convert`; `options` are those of the reader.
    """
    say = progress or (lambda stage: None)
    from hub.model import Model

    if isinstance(src, Model):
        return src
    reading = find(source) if source else detect(src)
    reader = reading.load("reader")
    _split_options(options, reader, None, reading, None)
    model = _read(reader, src, inputs, outputs, trust, options, say)
    if reading.guarded:
        say("checking what was read")
        model.warnings += _believe(src, reading, model, outputs)
    return model


def save(model: Model, dst: str | Path, *, to: str | None = None, **options: Any) -> list[Path]:
    """Write a model to `dst` in the format of its suffix or of `to`; nothing is checked.

    Returns:
        The files written, the main one first.
    """
    writing = for_target(dst, to)
    writer = writing.load("writer")
    _split_options(options, None, writer, None, writing)
    with Staged(dst) as staged:
        warnings, _ = _write(writer, model, staged.path, options)
        model.warnings += [w for w in warnings if w not in model.warnings]
        return staged.publish()


def check(
    a: Source,
    b: Source,
    *,
    inputs: Any = None,
    rtol: float | Mapping[str, float] | None = None,
    atol: float | None = None,
    layers: bool = False,
    seed: int = 0,
    golden: str | Path | None = None,
    memory: int | None = None,
    draws: int = 1,
) -> Report:
    """Compare two models, each in its own runtime, on the same inputs; see `parity.check.check`."""
    from parity.check import check as compare

    return compare(
        *(a, b),
        inputs=inputs,
        rtol=rtol,
        atol=atol,
        layers=layers,
        seed=seed,
        golden=golden,
        memory=memory,
        draws=draws,
    )


def locate(
    a: Source, b: Source, *, inputs: Any = None, rtol: float | None = None, atol: float | None = None, seed: int = 0
) -> Location:
    """Find the layer at which `b` begins to differ from `a` by bisection; see `parity.locate.locate`."""
    from parity.locate import locate as search

    return search(a, b, inputs=inputs, rtol=rtol, atol=atol, seed=seed)


def reduce(
    a: Source,
    b: Source | None,
    out: str | Path,
    *,
    command: str | Sequence[str] | None = None,
    inputs: Any = None,
    rtol: float | None = None,
    atol: float | None = None,
    seed: int = 0,
) -> Repro:
    """Write the smallest part that still shows a difference: of `a` and `b`, or of `a` by a command of yours.

    See `parity.reduce.reduce` and `parity.reduce.reduce_by`.
    """
    from parity.reduce import reduce as smallest
    from parity.reduce import reduce_by

    if (b is None) == (command is None):
        raise UsageError("give the second model, or a command that says whether a part is right")
    if command is not None:
        return reduce_by(a, command, out, inputs=inputs, seed=seed)
    return smallest(a, b, out, inputs=inputs, rtol=rtol, atol=atol, seed=seed)


def inspect(src: Source, *, to: str | None = None, source: str | None = None) -> Inspection:
    """Say what is in a model and, with `to`, what that target would refuse; nothing is written."""
    import tempfile

    reading = find(source) if source else detect(src)
    writing = find(to) if to else None
    result = Inspection(reading.name, None, writing.name if writing else None)
    try:
        result.model = load(src, source=reading.name)
        if writing is not None:
            writer = writing.load("writer")
            with tempfile.TemporaryDirectory(prefix="hub-") as folder:
                writer(result.model, Path(folder) / f"model{writing.writes[0]}")
    except UnsupportedOps as error:
        result.unsupported = error.ops
    return result


def _read(
    reader: Callable[..., Model],
    src: Source,
    inputs: Any,
    outputs: Sequence[str] | None,
    trust: bool,
    options: Mapping[str, Any],
    say: Callable[[str], None],
) -> Model:
    from hub.model import select_outputs

    cuts = bool(outputs) and "outputs" in _keywords(reader)
    chosen: dict[str, Any] = {"outputs": list(outputs or ())} if cuts else {}
    chosen |= {"progress": say} if "progress" in _keywords(reader) else {}
    given = dict(inputs) if isinstance(inputs, Mapping) else {} if inputs is None else inputs
    model = reader(src, inputs=given, trust=trust, **chosen, **options)
    if outputs and not cuts:
        select_outputs(model.ir, list(outputs))
    return model


def _believe(src: Source, reading: Format, model: Model, outputs: Sequence[str] | None) -> list[str]:
    """Compare what another project's converter made with its source; what could not be compared."""
    from parity.check import check_conversion

    report = check_conversion(src, reading, model, outputs=outputs, batches=BATCHES)
    if report.mismatches:
        raise ParityError(f"what was made of it does not agree with its source\n{report}", report)
    return [f"not proved: {item}" for item in report.not_compared]


def _write(
    writer: Callable[..., Any], model: Model, path: Path, options: Mapping[str, Any]
) -> tuple[list[str], dict[str, str]]:
    """Run a writer in its staging folder; returns its warnings, and the names that it changed."""
    try:
        written = writer(model, path, **options)
    except OSError as error:
        raise HubError(f"cannot write {path.name}: {error.strerror or error}") from error
    return list(getattr(written, "warnings", [])), dict(getattr(written, "names", {}))


def _split_options(
    options: Mapping[str, Any],
    reader: Callable[..., Any] | None,
    writer: Callable[..., Any] | None,
    reading: Format | None,
    writing: Format | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options by who takes them; one that nobody takes is an error, never ignored."""
    for_reader = _keywords(reader) - COMMON
    for_writer = _keywords(writer)
    unknown = sorted(set(options) - for_reader - for_writer)
    if unknown:
        parts = [
            f"{f.title}: {', '.join(sorted(k)) or 'none'}"
            for f, k in ((reading, for_reader), (writing, for_writer))
            if f
        ]
        raise UsageError(f"unknown option {unknown[0]!r}; options are, for {'; for '.join(parts)}")
    return (
        {key: value for key, value in options.items() if key in for_reader},
        {key: value for key, value in options.items() if key in for_writer},
    )


def _keywords(function: Callable[..., Any] | None) -> set[str]:
    if function is None:
        return set()
    return {p.name for p in signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}


def _paths(src: Source) -> list[Path]:
    parts = src if isinstance(src, tuple | list) else [src]
    return [Path(part) for part in parts if isinstance(part, str | Path)]


def _rejection(report: Report, kept: Sequence[Path]) -> str:
    where = f"the rejected files are {', '.join(map(str, kept))}" if kept else "nothing was written"
    return f"the converted model does not agree with its source; {where}\n{report}"
