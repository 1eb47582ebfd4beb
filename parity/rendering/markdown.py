"""A report as Markdown that fits a job summary: the verdict, what to know, and the worst rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hub.text import printable

if TYPE_CHECKING:
    from parity.report import Report

__all__ = ["markdown", "plain"]

MOST = 25
"""Rows of a table that are shown; the others are counted."""

COLUMNS = ("value", "op", "shape", "max abs", "allowed", "of spread", "SNR dB", "verdict")


def markdown(report: Report) -> str:
    """GitHub's Markdown, and everybody's."""
    mark = "❌" if report.mismatches else "✅" if report.ok else "⚠️"
    lines = [f"### {mark} {plain(report.title)}", "", f"**{plain(report.verdict)}**", ""]
    lines += [f"- **{plain(finding)}**" for finding in report.findings()]
    lines += [f"- not compared: {plain(str(item))}" for item in report.not_compared]
    for between, header, rows, _ in report.tables():
        picked = [header.index(column) for column in COLUMNS]
        lines += ["", f"<details{' open' if report.mismatches else ''}><summary>{plain(between)}</summary>", ""]
        lines += [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
        lines += [f"| {' | '.join(plain(cells[i]) for i in picked)} |" for cells in rows[:MOST]]
        if len(rows) > MOST:
            lines += ["", f"and {len(rows) - MOST} more, less far apart"]
        lines += ["", "</details>"]
    lines += ["", *(f"<sub>{plain(line)}</sub>  " for line in report.footer())]
    return "\n".join(lines).rstrip() + "\n"


def plain(text: str) -> str:
    """Text that is nothing but text in Markdown, and in a table of it."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|~#]|(?<!\w)_|_(?!\w))", r"\\\1", text)
