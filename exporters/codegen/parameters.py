"""What differs between the instances of a block: the parameters of its constructor."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from exporters.codegen.groups import Group
from exporters.codegen.program import Parameter

__all__ = ["multiples", "parameter_names", "unified"]


def _varies(values: Sequence[Any]) -> bool:
    return any(isinstance(v, Parameter) for v in values) or any(
        type(v) is not type(values[0]) or v != values[0] for v in values
    )


def unified(groups: Sequence[Group]) -> list[list[int]]:
    """The columns that differ between the groups, those that are always equal together."""
    rows: dict[Hashable, list[int]] = {}
    for number, column in enumerate(groups[0].columns):
        values = tuple(group.columns[number].value for group in groups)
        if _varies(values):
            identity = tuple((type(v).__name__, v) for v in values)
            rows.setdefault((column.kind, identity), []).append(number)
    return list(rows.values())


def multiples(groups: Sequence[Group], rows: list[list[int]]) -> dict[int, tuple[int, int]]:
    """Rows that are a fixed multiple of another: row -> (other row, factor)."""
    result: dict[int, tuple[int, int]] = {}
    kinds = [groups[0].columns[row[0]].kind for row in rows]
    values = [[group.columns[row[0]].value for group in groups] for row in rows]
    sizes = [k for k, kind in enumerate(kinds) if kind == "channels"]
    for small in sizes:
        plain = [v for v in values[small] if type(v) is int]
        enough = len(set(plain)) >= 3 or len(plain) < len(values[small])
        if small in result or not enough or min(plain, default=8) < 8:
            continue
        for large in sizes:
            if large == small or large in result:
                continue
            for factor in range(2, 9):
                pairs = zip(values[small], values[large], strict=True)
                if all(_times(a, factor) == b and type(a) is type(b) for a, b in pairs):
                    result[large] = (small, factor)
    for row, (base, factor) in result.items():
        while base in result:  # a multiple of a multiple
            base, more = result[base]
            factor *= more
        result[row] = (base, factor)
    return result


def _times(value: Any, factor: int) -> Any:
    if isinstance(value, Parameter):
        return Parameter(value.name, value.factor * factor)
    return value * factor if type(value) is int else None


def parameter_names(groups: Sequence[Group], rows: list[list[int]]) -> list[str]:
    columns = groups[0].columns
    sizes = [k for k, row in enumerate(rows) if columns[row[0]].kind == "channels"]
    last = max((n for n, c in enumerate(columns) if c.name in ("out_channels", "out_features")), default=None)
    first = next((n for n, c in enumerate(columns) if c.kind == "channels"), None)
    names: list[str] = []
    taken: set[str] = set()
    for number, row in enumerate(rows):
        name = columns[row[0]].name.rstrip("0123456789")
        if number in sizes:
            if len(sizes) == 1 and not (columns[row[0]].name == "in_channels" and len(row) == 1):
                name = "channels" if len(row) > 1 else name
            elif first in row:
                name = "in_channels"
            elif last in row:
                name = "out_channels"
            else:
                name = "hidden_channels"
        candidate, k = name, 2
        while candidate in taken:
            candidate, k = f"{name}{k}", k + 1
        taken.add(candidate)
        names.append(candidate)
    return names
