"""Text that comes from a model file, made harmless for a terminal."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str, *, lines: bool = False) -> str:
    """`text` with control characters, bidirectional marks and the like escaped; with `lines`, line breaks stay."""
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
