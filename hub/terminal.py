"""What the command line shows: plain text in a pipe, colour and fitted tables on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hub.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from hub.convert import Conversion
    from hub.doctor import Diagnosis
    from hub.formats import FormatTable
    from hub.runtimes import Status
    from parity.report import Report

__all__ = [
    "progress",
    "show_conversion",
    "show_diagnosis",
    "show_error",
    "show_formats",
    "show_json",
    "show_report",
    "show_runtimes",
    "show_text",
]

_COLOURS = {
    "ok": "green",
    "yes": "green",
    "installed": "green",
    "no": "yellow",
    "MISMATCH": "bold red",
    "NOT COMPARED": "bold yellow",
}


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A function to be called with the name of each stage: a spinner on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda stage: status.update(Text(printable(stage), style="dim"))


def show_json(data: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(data, indent=2, default=str))


def show_text(text: str) -> None:
    """Plain text, as wide as it is."""
    Output().line(printable(text, lines=True))


def show_formats(table: FormatTable) -> None:
    """The table of formats."""
    Output().table(table.HEADER, table.cells())


def show_runtimes(statuses: Sequence[Status]) -> None:
    """The runtimes, then why those that are not installed are not."""
    out = Output()
    rows = [
        (s.name, s.state, s.version or "-", f"{s.size} MB", str(s.path) if s.path else s.command or "-")
        for s in statuses
    ]
    out.table(("runtime", "state", "version", "size", "where, or how to get it"), rows)
    for status in statuses:
        if status.reason:
            out.line(printable(status.reason), "dim")


def show_diagnosis(diagnosis: Diagnosis) -> None:
    """The table, then why some things do not work here."""
    out = Output()
    out.table(diagnosis.HEADER, diagnosis.cells(), optional=("version",))
    for reason in diagnosis.reasons():
        out.line(printable(reason), "dim")


def show_conversion(conversion: Conversion) -> None:
    """What was written, what to know, and the verdict last."""
    out = Output()
    for path in conversion.paths:
        out.line(f"wrote {printable(str(path))} ({_size(path)})")
    for warning in conversion.warnings:
        out.line(f"warning: {printable(warning)}", "yellow")
    if conversion.report is None:
        out.line("NOT CHECKED: --no-check", "bold yellow")
    else:
        show_report(conversion.report)


def show_report(report: Report, *, error: bool = False) -> None:
    """The tables, then everything that was not compared, then the verdict."""
    out = Output(error)
    for between, header, rows, remarks in report.tables():
        out.line(between, "bold")
        out.table(header, rows, optional=("cosine", "max rel", "dtype", "SNR dB", "op", "allowed", "of spread"))
        for remark in remarks:
            out.line(f"  {remark}")
    for line in report.findings():
        out.line(line, "bold")
    for line in report.footer():
        out.line(line, "dim")
    for item in report.not_compared:
        out.line(f"NOT COMPARED: {printable(str(item))}", "bold yellow")
    out.line(report.verdict, "bold red" if report.mismatches else "bold green" if report.ok else "bold yellow")


def show_error(message: str) -> None:
    """`error: ...` on standard error; every line but the first is left as the message has it."""
    Output(error=True).line("error: " + printable(message, lines=True), "red")


class Output:
    """Standard output or standard error: Rich on a terminal, plain lines in a pipe or a file."""

    def __init__(self, error: bool = False) -> None:
        self.error = error
        self.console: Console | None = None
        if (sys.stderr if error else sys.stdout).isatty():
            from rich.console import Console

            self.console = Console(stderr=error, highlight=False, emoji=False)

    def line(self, text: str, style: str = "") -> None:
        """One line, or several, never wrapped and never read as markup."""
        if self.console is None:
            typer.echo(text, err=self.error)
            return
        from rich.text import Text

        self.console.print(Text(text, style=style), soft_wrap=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str] = ()) -> None:
        """Columns of numbers to the right. A terminal that is too narrow does without the `optional` ones."""
        if self.console is not None:
            header, rows = _fitted(header, rows, optional, self.console.width)
        numbers = [all(_is_number(row[i]) for row in rows) for i in range(len(header))]
        if self.console is None:
            widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
            for row in (header, *rows):
                cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numbers, strict=True)]
                self.line(("  " + "  ".join(cells)).rstrip())
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, show_edge=False, header_style="dim", padding=(0, 1), collapse_padding=True)
        for title, number in zip(header, numbers, strict=True):
            table.add_column(title, justify="right" if number else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
        self.console.print(table)


def _fitted(
    header: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str], width: int
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The table without as many of the `optional` columns as it takes to fit into `width`, first ones first."""
    for title in (*optional, ""):
        needed = sum(2 + max(len(row[i]) for row in (header, *rows)) for i in range(len(header)))
        if needed <= width or title not in header:
            continue
        drop = list(header).index(title)
        header = [*header[:drop], *header[drop + 1 :]]
        rows = [[*row[:drop], *row[drop + 1 :]] for row in rows]
    return header, rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "-"
    return True


def _size(path: Path) -> str:
    try:
        parts = path.rglob("*") if path.is_dir() else [path]
        size = float(sum(part.stat().st_size for part in parts if part.is_file()))
    except OSError:
        return "gone"
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
