"""The table in which the families register."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exporters.codegen.program import Argument
from hub.optable import OpTable

__all__ = ["OPS", "arguments", "simplest"]

OPS = OpTable("PyTorch")


def arguments(required: Iterable[tuple[str, Any]], optional: Iterable[tuple[str, Any, Any]] = ()) -> list[Argument]:
    """Positional required arguments, and keyword arguments with the defaults of the framework."""
    return [
        *(Argument(name, value, positional=True) for name, value in required),
        *(Argument(name, value, default) for name, value, default in optional),
    ]


def simplest(values: Iterable[int]) -> int | tuple[int, ...]:
    """`(3, 3)` as `3`."""
    sizes = tuple(values)
    return sizes[0] if len(set(sizes)) == 1 else sizes
