"""A Core ML model on disk: one `.mlmodel` file, or an `.mlpackage` folder with a manifest that says where it is.

What the manifest and the model name stays inside of the folder: no absolute path, no `..`, no link out of it.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from hub.errors import InvalidModel
from hub.tensors import MappedFile
from importers.coreml.wire import skeleton

__all__ = ["Bundle"]

MANIFEST, DATA = "Manifest.json", "Data"

MODEL_PATH = "@model_path/"
"""With this the name of a weight file begins: the folder of the model's own file."""

MOST_MANIFEST, MOST_MODEL = 1 << 24, (1 << 31) - 1
"""Bytes of a manifest and of a model's file; Protocol Buffers have no larger message."""


class Bundle:
    """An opened model: `model` is its message without large weights, `skeleton` says where those are in its file,
    `weights` maps the files beside it.

    Raises:
        InvalidModel: something is missing, damaged, too large, or outside of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path if path.is_dir() else path.parent
        self.file = self._model_file() if path.is_dir() else path
        self._mapped: dict[Path, MappedFile] = {}
        self.skeleton = skeleton(_mapped(self.file))
        self.model: Any = self.skeleton.message

    @property
    def kind(self) -> str:
        """The name of the field that holds the model, such as mlProgram."""
        kind: str | None = self.model.WhichOneof("Type")
        if kind is None:
            raise InvalidModel(
                f"{self.file.name} has no model of a known type inside: it is cut off, or something else"
            )
        return kind

    def weights(self, name: str) -> MappedFile:
        """A file that the model names, such as `@model_path/weights/weight.bin`, mapped into memory.

        Raises:
            InvalidModel: it is missing, or outside of the folder.
        """
        if not name.startswith(MODEL_PATH):
            raise InvalidModel(f"a weight file is called {name[:200]!r}; it begins with {MODEL_PATH}")
        path = self._inside(self.file.parent, name[len(MODEL_PATH) :])
        if path not in self._mapped:
            if not path.is_file():
                raise InvalidModel(f"the weight file {path.name[:200]!r} is missing")
            try:
                self._mapped[path] = MappedFile(path)
            except OSError as error:
                raise InvalidModel(f"the weight file {path.name[:200]!r} cannot be read: {error.strerror}") from error
        return self._mapped[path]

    def _inside(self, folder: Path, name: str) -> Path:
        """The path of `name` in `folder`, if that is inside of the bundle, links followed."""
        relative = PurePosixPath(name)
        hostile = ".." in relative.parts or relative.is_absolute() or PureWindowsPath(name).drive or "\\" in name
        if not name or "\0" in name or hostile:
            raise InvalidModel(f"it names the file {name[:200]!r}, which is not inside of it")
        path = (folder / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise InvalidModel(f"it names the file {name[:200]!r}, which is a link out of it")
        return path

    def _model_file(self) -> Path:
        manifest = self._inside(self.path, MANIFEST)
        if not manifest.is_file():
            raise InvalidModel(f"it is a directory without {MANIFEST}; an .mlpackage has one")
        try:
            content = json.loads(_read(manifest, MOST_MANIFEST))
        except (ValueError, RecursionError) as error:
            raise InvalidModel(f"{MANIFEST} is not valid JSON: {str(error)[:200]}") from error
        entries = content.get("itemInfoEntries") if isinstance(content, dict) else None
        root = content.get("rootModelIdentifier") if isinstance(content, dict) else None
        if not isinstance(entries, dict) or not isinstance(root, str):
            raise InvalidModel(f"{MANIFEST} does not say which file the model is")
        item = entries.get(root)
        if not isinstance(item, dict) or not isinstance(item.get("path"), str):
            raise InvalidModel(f"{MANIFEST} names the root {root[:100]!r}, and has no such item")
        path = self._inside(self.path / DATA, item["path"])
        if not path.is_file():
            raise InvalidModel(f"the model's file {item['path'][:200]!r}, which {MANIFEST} names, is missing")
        return path


def _mapped(path: Path) -> MappedFile:
    try:
        size = path.stat().st_size
        if size > MOST_MODEL:
            raise InvalidModel(f"{path.name} has {size} bytes; there are at most {MOST_MODEL}")
        return MappedFile(path)
    except OSError as error:
        raise InvalidModel(f"{path.name} cannot be read: {error.strerror}") from error


def _read(path: Path, most: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > most:
            raise InvalidModel(f"{path.name} has {size} bytes; there are at most {most}")
        return path.read_bytes()
    except OSError as error:
        raise InvalidModel(f"{path.name} cannot be read: {error.strerror}") from error
