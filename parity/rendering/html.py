"""A report as HTML that needs nothing else: verdict first, pictures, tables that sort in a page of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.text import printable
from parity.rendering.picture import depth, neighbourhood

if TYPE_CHECKING:
    from parity.report import Report

__all__ = ["fragment", "html"]


def html(report: Report) -> str:
    """A whole page. Every text of a model is escaped; nothing is loaded from elsewhere."""
    return _rendered(report, "report.html.j2")


def fragment(report: Report) -> str:
    """The same for a notebook: what is in the page, without scripts."""
    return _rendered(report, "fragment.html.j2")


def _rendered(report: Report, template: str) -> str:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    state = "mismatch" if report.mismatches else "ok" if report.ok else "notcompared"
    tables: list[dict[str, Any]] = []
    for between, header, rows, remarks in report.tables():
        own = [row for row in report.rows if row.between == between]
        first = next((item for item in report.divergences if item.between == between), None)
        flow = report.flows.get(between, {})
        tables.append(
            {
                "between": between,
                "header": header,
                "rows": [(cells, cells[-1].lower().replace(" ", "")) for cells in rows],
                "remarks": remarks,
                "depth": Markup(depth(own)),
                "around": Markup(neighbourhood(first.layer, flow, own)) if first is not None else "",
                "first": first,
            }
        )
    text: str = environment.get_template(template).render(report=report, state=state, tables=tables)
    return text
