"""Names of the source as CNTK takes them."""

from __future__ import annotations

__all__ = ["plain"]


def plain(name: str) -> str:
    """A name as one that CNTK, a zip file and a line of code take: printable ASCII without quotes."""
    return "".join(c if " " < c <= "~" and c not in "\"'\\`{}" else "_" for c in name[:200]) or "_"
