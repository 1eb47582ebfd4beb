"""Outputs appear whole or not at all: they are written to a hidden sibling folder, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from hub.errors import UsageError

__all__ = ["Staged"]


class Staged:
    """A context manager with a folder beside `dst` in which a writer works.

    `path` is where the writer writes: a file of the final name. `publish` moves everything that the
    writer left to the folder of `dst`; without it, nothing stays behind.

    Raises:
        UsageError: the destination cannot be written to, or would overwrite one of `sources`.
    """

    def __init__(self, dst: str | Path, sources: Iterable[Path] = ()) -> None:
        self.dst = Path(dst)
        if self.dst.is_dir() and not (self.dst / "Manifest.json").is_file():  # a package is a folder
            raise UsageError(f"{self.dst} is a directory and no model; give another path")
        parent = self.dst.parent
        if not parent.is_dir():
            raise UsageError(f"the folder {parent} does not exist; create it first")
        self.sources = {path.resolve() for path in sources}
        if self.dst.resolve() in self.sources:
            raise UsageError(f"{self.dst} is the source itself; give another destination")
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=".hub-", dir=parent))
        except OSError as error:
            raise UsageError(f"cannot write to {parent}: {error.strerror}") from error
        self.path = self.folder / self.dst.name

    def __enter__(self) -> Staged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self, suffix: str = "") -> list[Path]:
        """Move what was written to its place, `suffix` added to each name; the main file comes first."""
        written = sorted(self.folder.iterdir(), key=lambda path: (path.name != self.dst.name, path.name))
        targets = [self.dst.with_name(path.name + suffix) for path in written]
        for target in targets:
            if target.resolve() in self.sources:
                raise UsageError(f"{target} is part of the source; give another destination")
        # The main file comes last, so that whoever waits for it finds the others in place.
        for path, target in reversed(list(zip(written, targets, strict=True))):
            if target.is_dir() and not target.is_symlink():  # no other way to put something in its place
                before = self.folder / f".{target.name}.old"
                os.replace(target, before)
                try:
                    os.replace(path, target)
                except OSError:
                    os.replace(before, target)
                    raise
                continue
            os.replace(path, target)
        return targets
