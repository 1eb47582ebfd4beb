"""What a writer returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["Written"]


class Written(list[Path]):
    """The paths written, and what the user should know."""

    def __init__(self, paths: Sequence[Path], warnings: Sequence[str]) -> None:
        super().__init__(paths)
        self.warnings = list(warnings)
