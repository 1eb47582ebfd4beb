"""Where two models first differ: the layers that fail while everything that feeds them agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parity.compare import Row

__all__ = ["Divergence", "divergences", "feeding"]


@dataclass(frozen=True)
class Divergence:
    """A layer at which two models begin to differ.

    Attributes:
        layer, op: its name and operator in the reference.
        between: the two sides.
        inputs: what feeds it and was compared: all of it agrees.
        unknown: what feeds it and was not compared, looked through to what feeds that.
        in_order: nobody knows what feeds what, and the layers were taken one after the other.
    """

    layer: str
    op: str
    between: str
    inputs: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    in_order: bool = False

    def __str__(self) -> str:
        what = f"{self.layer} ({self.op})" if self.op else self.layer
        if self.in_order:
            return f"{what}; the layers before it agree"
        if self.unknown:
            unknown = ", ".join(self.unknown[:3]) + (", ..." if len(self.unknown) > 3 else "")
            return f"{what}, or {unknown}, which feeds it and was not compared; everything before agrees"
        return f"{what}; its inputs agree"


def divergences(rows: Sequence[Row], graph: Mapping[str, Sequence[str]] | None) -> list[Divergence]:
    """The layers, in the order of `rows`, that fail while everything that feeds them agrees.

    One that lies behind another one is left out: an error may be too small to be seen somewhere on its way.
    `rows` are those of one pair of sides. `graph` has for every layer of the reference those that feed it; a layer
    without a row, or that was not compared, is looked through. None: nobody knows.
    """
    layers = {row.name: row for row in rows if row.kind == "layer"}
    if graph is None:
        first = next((row for row in layers.values() if row.verdict == "mismatch"), None)
        return [] if first is None else [Divergence(first.name, first.op, first.between, in_order=True)]
    users: dict[str, list[str]] = {}
    for user, others in graph.items():
        for other in others:
            users.setdefault(other, []).append(user)
    behind: dict[str, set[str]] = {}
    found: list[Divergence] = []
    for name, row in layers.items():
        if row.verdict != "mismatch" or any(name in others for others in behind.values()):
            continue
        nearest, unknown = feeding(name, graph, layers)
        if not any(layers[other].verdict == "mismatch" for other in nearest):
            found.append(Divergence(name, row.op, row.between, tuple(nearest), tuple(unknown)))
            behind[name] = _behind(name, users)
    return [item for item in found if not any(item.layer in others for others in behind.values())]


def _behind(name: str, users: Mapping[str, Sequence[str]]) -> set[str]:
    """The layers that a layer feeds, through whatever is between."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for user in users.get(waiting.pop(), ()):
            if user not in found and user != name:
                found.add(user)
                waiting.append(user)
    return found


def feeding(name: str, graph: Mapping[str, Sequence[str]], layers: Mapping[str, Row]) -> tuple[list[str], list[str]]:
    """The nearest compared layers that feed one, and those between that were not compared (`layers` are rows)."""
    nearest: list[str] = []
    unknown: list[str] = []
    seen = {name}
    waiting = list(graph.get(name, ()))
    while waiting:
        other = waiting.pop(0)
        if other in seen:
            continue
        seen.add(other)
        row = layers.get(other)
        if row is not None and _says(row):
            nearest.append(other)
        else:
            unknown.append(other)
            waiting += graph.get(other, ())
    return nearest, unknown


def _says(row: Row) -> bool:
    """Whether a row says that two values agree or differ; one that proves nothing else may still agree."""
    if row.verdict != "not compared":
        return True
    return row.max_abs is not None and row.tolerance is not None and row.max_abs <= row.tolerance
