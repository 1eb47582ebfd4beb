"""A report as a file: HTML to look at, Markdown for a job summary, JSON for programs, JUnit for a CI system."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hub.errors import HubError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from parity.report import Report

__all__ = ["FORMS", "known", "write"]


def _html(report: Report) -> str:
    from parity.rendering.html import html

    return html(report)


def _markdown(report: Report) -> str:
    from parity.rendering.markdown import markdown

    return markdown(report)


def _json(report: Report) -> str:
    return json.dumps(report.to_dict(), indent=2, default=str) + "\n"


def _junit(report: Report) -> str:
    from parity.rendering.junit import junit

    return junit(report)


FORMS: dict[str, Callable[[Report], str]] = {
    ".html": _html,
    ".htm": _html,
    ".md": _markdown,
    ".json": _json,
    ".xml": _junit,
}
"""By suffix."""


def known(path: str | os.PathLike[str]) -> Callable[[Report], str]:
    """What renders a report for such a file.

    Raises:
        UsageError: there is no such form, or no such folder.
    """
    path = Path(path)
    form = FORMS.get(path.suffix.lower())
    if form is None:
        raise UsageError(f"{path}: a report is {', '.join(FORMS)}, not {path.suffix or 'a file without a suffix'}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    return form


def write(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write the report in the form of the path's suffix, whole or not at all."""
    path = Path(path)
    text = known(path)(report)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise HubError(f"cannot write the report {path}: {error.strerror or error}") from error
    return path
