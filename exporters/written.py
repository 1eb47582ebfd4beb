"""What a writer returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Written"]


class Written(list[Path]):
    """The paths written, what the user should know, and the names that had to be changed, by those of the source."""

    def __init__(self, paths: Sequence[Path], warnings: Sequence[str], names: Mapping[str, str] | None = None) -> None:
        super().__init__(paths)
        self.warnings = list(warnings)
        self.names = dict(names or {})
