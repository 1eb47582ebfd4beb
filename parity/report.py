"""What a check found: one object, as text, as HTML and as plain data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hub.text import printable
from parity.compare import Row
from parity.divergence import Divergence

__all__ = ["NotCompared", "Report", "combined", "joined", "title_of"]

Why = Literal["missing dependency", "not loadable", "not runnable", "no runtime", "no information", "not tapped"]


@dataclass(frozen=True)
class NotCompared:
    """Something that should have been compared and was not: what, why, and the kind of reason."""

    what: str
    reason: str
    why: Why

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


@dataclass
class Report:
    """The result of a comparison.

    Attributes:
        title: what was compared with what.
        rows: one a pair of arrays, see `parity.compare.Row`.
        skipped: whole models or layers that were not compared; see `not_compared` for everything.
        versions: runtime -> version.
        inputs: name -> dtype and shape of what the models were run on.
        seed: of the generated inputs, None if they were given.
        notes: what the reader should know and need not act on.
        divergences: the layers that fail while everything that feeds them agrees, where layers were compared.
        flows: by two sides, for each layer those that feed it, as far as the runtimes say it.
    """

    title: str = ""
    rows: list[Row] = field(default_factory=list)
    skipped: list[NotCompared] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    notes: list[str] = field(default_factory=list)
    divergences: list[Divergence] = field(default_factory=list)
    flows: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """An output was compared, and nothing differs. What was not compared is in `not_compared`."""
        return not self.mismatches and any(row.verdict == "ok" and row.kind != "layer" for row in self.rows)

    @property
    def mismatches(self) -> list[Row]:
        """The rows that differ. A conversion with one is wrong; one without may still be unproved."""
        return [row for row in self.rows if row.verdict == "mismatch"]

    @property
    def not_compared(self) -> list[NotCompared]:
        """Everything that was not compared, with the reason: models, layers, and single outputs."""
        rows = [row for row in self.rows if row.verdict == "not compared"]
        return self.skipped + [
            NotCompared(f"{row.between}, {title_of(row)}", row.reason, "no information") for row in rows
        ]

    @property
    def worst(self) -> Row | None:
        """The compared row with the largest share of its tolerance used up."""
        rows = [row for row in self.rows if row.max_abs is not None and row.tolerance]
        return max(rows, key=lambda row: (row.max_abs or 0.0) / (row.tolerance or 1.0), default=None)

    @property
    def needed(self) -> float | None:
        """The `rtol` with which everything would agree that differs; None if nothing differs, or none would do."""
        shares = [row.of_spread if row.tolerance else None for row in self.mismatches]
        known = [share for share in shares if share is not None]
        if not shares or len(known) < len(shares):
            return None
        return float(f"{max(known) * 1.01:.1e}")

    @property
    def verdict(self) -> str:
        """One line: PASSED, MISMATCH or NOT COMPARED, and the counts."""
        compared = [row for row in self.rows if row.verdict != "not compared"]
        if self.mismatches:
            text = f"MISMATCH: {len(self.mismatches)} of {len(compared)} compared values differ"
        elif not self.ok:
            text = "NOT COMPARED: nothing was proved"
        else:
            text = f"PASSED: {len(compared)} of {len(compared)} compared values agree"
        if self.worst is not None and self.worst.of_spread is not None:
            text += f", at most {self.worst.of_spread:.1e} of the spread apart" if self.ok else ""
        if self.not_compared and (self.ok or self.mismatches):
            text += f"; {len(self.not_compared)} NOT COMPARED"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "ok": self.ok,
            "verdict": self.verdict,
            "title": self.title,
            "rows": [row.to_dict() for row in self.rows],
            "not_compared": [asdict(item) for item in self.not_compared],
            "versions": dict(self.versions),
            "inputs": dict(self.inputs),
            "seed": self.seed,
            "notes": list(self.notes),
            "divergences": [asdict(divergence) for divergence in self.divergences],
            "needed_rtol": self.needed,
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report: `.html`, `.md` (Markdown), `.json`, or `.xml` (JUnit).

        Raises:
            UsageError: the suffix is none of these.
            HubError: it cannot be written.
        """
        from parity.rendering import write

        return write(self, path)

    def __str__(self) -> str:
        lines = [self.verdict]
        lines += [f"  not compared: {printable(str(item))}" for item in self.not_compared]
        for between, header, rows, remarks in self.tables():
            widths = [max(len(cells[i]) for cells in (header, *rows)) for i in range(len(header))]
            table = ["  ".join(map(_justify, cells, widths, range(len(cells)))) for cells in (header, *rows)]
            lines += ["", between, *(f"  {line}".rstrip() for line in (*table, *remarks))]
        lines += ["", *self.findings(), *self.footer()]
        return "\n".join(lines).rstrip()

    def __repr__(self) -> str:
        return f"<hub.Report {self.title}: {self.verdict}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the page that `save` writes, without its scripts."""
        from parity.rendering.html import fragment

        return fragment(self)

    def tables(self) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]], list[str]]]:
        """For each two sides: who they are, a header, rows of text, and remarks on rows; all of it printable."""
        for between in dict.fromkeys(row.between for row in self.rows):
            rows = sorted((row for row in self.rows if row.between == between), key=_badness)
            remarks = [f"{title_of(row)}: {row.reason}" for row in rows if row.reason and not _shown(row)]
            yield printable(between), _HEADER, [_cells(row) for row in rows], [printable(remark) for remark in remarks]

    def findings(self) -> list[str]:
        """Where the two first differ, and which tolerance would have passed; printable."""
        lines = []
        for between in dict.fromkeys(item.between for item in self.divergences):
            first, *others = [item for item in self.divergences if item.between == between]
            more = f" ({len(others)} more like it: {joined([item.layer for item in others])})" if others else ""
            lines.append(printable(f"first divergence, {between}: {first}{more}"))
        if self.needed is not None:
            lines.append(f"everything would agree with rtol={self.needed:.1e}")
        return lines

    def footer(self) -> list[str]:
        """Notes, inputs and versions, printable."""
        lines = [printable(note) for note in self.notes]
        if self.inputs:
            made = "given" if self.seed is None else f"seed {self.seed}"
            lines.append(
                f"inputs ({made}): " + ", ".join(printable(f"{name} {kind}") for name, kind in self.inputs.items())
            )
        if self.versions:
            text = ", ".join(f"{name} {version}".strip() for name, version in self.versions.items())
            lines.append(f"versions: {printable(text)}")
        return lines


_HEADER = ("value", "op", "dtype", "shape", "max abs", "allowed", "max rel", "of spread", "cosine", "SNR dB", "verdict")
_NUMBERS = range(4, 10)


def title_of(row: Row) -> str:
    """What a row is about, in words."""
    return f"{row.kind} {row.name}" if row.kind != "before activation" else f"{row.name} before its activation"


def _badness(row: Row) -> tuple[int, float]:
    """The order of rows: what differs first, then what was not compared, then the rest; the worst first."""
    share = (row.max_abs or 0.0) / row.tolerance if row.tolerance else 0.0
    return ("mismatch", "not compared", "ok").index(row.verdict), -share


def _shown(row: Row) -> bool:
    """Whether the reason is said elsewhere: by the numbers of the table, or under "not compared"."""
    return row.verdict == "not compared" or (row.verdict == "mismatch" and bool(row.tolerance))


def _cells(row: Row) -> tuple[str, ...]:
    name = {
        "before activation": f"{row.name} before {row.op or 'its activation'}",
        "layer": f"layer {row.name}",
    }.get(row.kind, row.name)
    cosine = "-" if row.cosine is None else f"{row.cosine:.6f}"
    snr = "-" if row.snr is None else f"{row.snr:.0f}"
    shape = "x".join(map(str, row.shape)) or "scalar"
    numbers = tuple(
        "-" if value is None else f"{value:.1e}" for value in (row.max_abs, row.tolerance, row.max_rel, row.of_spread)
    )
    op = "" if row.kind == "before activation" else row.op
    verdict = row.verdict if row.verdict == "ok" else row.verdict.upper()
    return (printable(name), printable(op) or "-", row.dtype, shape, *numbers, cosine, snr, verdict)


def _justify(text: str, width: int, column: int) -> str:
    return text.rjust(width) if column in _NUMBERS else text.ljust(width)


def joined(names: Sequence[str], limit: int = 6) -> str:
    """A list of names for a sentence, cut after `limit`."""
    return ", ".join(names[:limit]) + (f", ... ({len(names)} in all)" if len(names) > limit else "")


def combined(reports: Mapping[str, Report], title: str) -> Report:
    """Several reports as one, each under its name."""
    whole = Report(title)
    for name, report in reports.items():
        between = {row.between: f"{name}: {row.between}" for row in report.rows}
        whole.rows += [replace(row, between=between[row.between]) for row in report.rows]
        whole.skipped += [replace(item, what=f"{name}: {item.what}") for item in report.skipped]
        whole.notes += [f"{name}: {note}" for note in report.notes]
        whole.inputs |= {f"{name}: {key}": text for key, text in report.inputs.items()}
        whole.versions |= report.versions
        whole.divergences += [
            replace(item, between=between.get(item.between, item.between)) for item in report.divergences
        ]
        whole.flows |= {between.get(key, key): flow for key, flow in report.flows.items()}
        whole.seed = report.seed if whole.seed is None else whole.seed
    return whole
