"""Pictures of a report, as SVG: the error by depth, and what surrounds the layer that differs first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from hub.text import printable

if TYPE_CHECKING:
    from parity.compare import Row

__all__ = ["depth", "neighbourhood"]

WIDTH, HEIGHT, LEFT, BOTTOM = 860, 220, 58, 26
LOWEST, HIGHEST = -6.0, 3.0
"""Powers of ten of the allowed difference between which the error is drawn."""


def depth(rows: Sequence[Row]) -> str:
    """The error of each layer as a share of what is allowed, logarithmic, in the order of the reference."""
    layers = [row for row in rows if row.kind == "layer"]
    if len(layers) < 2:
        return ""
    step = (WIDTH - LEFT - 12) / (len(layers) - 1)
    parts = [_axis(power) for power in range(int(LOWEST), int(HIGHEST) + 1)]
    points = [(LEFT + i * step, *_height(row), row) for i, row in enumerate(layers)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, known, _ in points if known)
    parts.append(f'<polyline class="line" points="{line}"/>')
    for x, y, _, row in points:
        kind = row.verdict.replace(" ", "")
        about = escape(printable(f"{row.name} ({row.op}): {_share(row)}"))
        parts.append(f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"><title>{about}</title></circle>')
    middle = LEFT + (WIDTH - LEFT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" class="label" text-anchor="middle">layers, in order</text>')
    title = "difference of each layer, as a share of what is allowed"
    return _svg(WIDTH, HEIGHT, title, parts)


def _axis(power: int) -> str:
    y = _y(power)
    kind = "limit" if power == 0 else "grid"
    text = "allowed" if power == 0 else f"1e{power}"
    return (
        f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="label" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _y(power: float) -> float:
    inside = min(max(power, LOWEST), HIGHEST)
    return 12 + (HIGHEST - inside) / (HIGHEST - LOWEST) * (HEIGHT - BOTTOM - 12)


def _height(row: Row) -> tuple[float, bool]:
    """Where a row is drawn, and whether its error is known."""
    if row.max_abs is None or not row.tolerance:
        return _y(HIGHEST if row.verdict == "mismatch" else LOWEST), False
    return _y(math.log10(row.max_abs / row.tolerance) if row.max_abs else LOWEST), True


def _share(row: Row) -> str:
    if row.max_abs is None or not row.tolerance:
        return row.reason or row.verdict
    return f"{row.max_abs:.1e}, allowed {row.tolerance:.1e}"


BOX, GAP = (190, 40), (26, 34)
MOST = 4
"""Boxes in a row of the neighbourhood."""


def neighbourhood(layer: str, flow: Mapping[str, Sequence[str]], rows: Sequence[Row]) -> str:
    """The layer in the middle, what feeds it above, what it feeds below; the colours are the verdicts."""
    known = {row.name: row for row in rows if row.kind == "layer"}
    above = list(flow.get(layer, ()))
    below = [name for name, others in flow.items() if layer in others]
    if not above and not below:
        return ""
    levels = [level for level in (_short(above), [layer], _short(below)) if level]
    widest = max(len(level) for level in levels)
    width = widest * (BOX[0] + GAP[0])
    height = len(levels) * (BOX[1] + GAP[1]) - GAP[1] + 8
    places: dict[str, tuple[float, float]] = {}
    parts: list[str] = []
    for i, level in enumerate(levels):
        start = (width - len(level) * (BOX[0] + GAP[0]) + GAP[0]) / 2
        for j, name in enumerate(level):
            places[name] = (start + j * (BOX[0] + GAP[0]), 4 + i * (BOX[1] + GAP[1]))
    for name in _short(above):
        parts.append(_arrow(places[name], places[layer]))
    for name in _short(below):
        parts.append(_arrow(places[layer], places[name]))
    parts += [_box(name, place, known.get(name)) for name, place in places.items()]
    return _svg(int(width), int(height), f"what feeds {layer}, and what it feeds", parts)


def _short(names: Sequence[str]) -> list[str]:
    return list(names) if len(names) <= MOST else [*names[: MOST - 1], f"... {len(names) - MOST + 1} more"]


def _box(name: str, place: tuple[float, float], row: Row | None) -> str:
    x, y = place
    kind = row.verdict.replace(" ", "") if row is not None else "notcompared"
    what = row.op if row is not None else "not compared"
    return (
        f'<g><title>{escape(printable(name))}</title><rect class="box {kind}" x="{x:.1f}" y="{y:.1f}" width="{BOX[0]}" '
        f'height="{BOX[1]}" rx="6"/><text class="name" x="{x + BOX[0] / 2:.1f}" y="{y + 17:.1f}" text-anchor="middle">'
        f'{escape(_cut(printable(name), 27))}</text><text class="label" x="{x + BOX[0] / 2:.1f}" y="{y + 32:.1f}" '
        f'text-anchor="middle">{escape(_cut(printable(what), 30))}</text></g>'
    )


def _cut(text: str, most: int) -> str:
    """The end of a name says more than its beginning."""
    return text if len(text) <= most else "…" + text[-most + 1 :]


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1, x2, y2 = start[0] + BOX[0] / 2, start[1] + BOX[1], end[0] + BOX[0] / 2, end[1]
    return f'<line class="arrow" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2 - 5:.1f}" marker-end="url(#tip)"/>'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" class="tip"/></marker></defs>'
    )
    about = escape(printable(title))
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{about}">'
        f"{tip}{''.join(parts)}</svg>"
    )
