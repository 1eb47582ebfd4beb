"""What a path is: a SavedModel, a GraphDef, a checkpoint, or a TFLite model; and its messages, parsed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.errors import InvalidModel, UsageError

__all__ = ["Source", "graph_def", "locate", "message", "meta_graph", "signature_of"]

SAVED = ("saved_model.pb", "saved_model.pbtxt")
PRIVATE = ("__saved_model_init_op", "__saved_model_train_op")
"""Signatures that TensorFlow adds for itself."""


@dataclass(frozen=True)
class Source:
    """`kind` is "saved", "checkpoint", "graph" or "lite"; `path` a file, or the folder of the first two; `name` what
    the files of a checkpoint begin with, which may be nothing: ".meta", ".index"."""

    kind: str
    path: Path
    name: str = ""

    @property
    def title(self) -> str:
        """What it is, for a summary."""
        names = {"saved": "SavedModel", "checkpoint": "checkpoint", "graph": "GraphDef", "lite": "TFLite"}
        return names[self.kind]

    @property
    def prefix(self) -> str:
        """A checkpoint as TensorFlow names it."""
        return f"{self.path}/{self.name}"


def locate(path: Path) -> Source:
    """The model that a path stands for.

    Raises:
        UsageError: there is none.
        InvalidModel: a part of it is missing.
    """
    if path.is_dir():
        return _folder(path)
    if path.name in SAVED:
        return Source("saved", path.parent)
    if path.name == "checkpoint" and path.is_file():
        return _folder(path.parent)
    for name in (path.name, re.sub(r"(\.meta|\.index|\.data-\d{5}-of-\d{5})$", "", path.name)):
        if any((path.parent / f"{name}{suffix}").is_file() for suffix in (".meta", ".index")):
            return _checkpoint(path.parent, name)
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    with open(path, "rb") as file:
        start = file.read(8)
    return Source("lite" if start[4:] == b"TFL3" or path.suffix == ".tflite" else "graph", path)


def _folder(path: Path) -> Source:
    if any((path / name).is_file() for name in SAVED):
        return Source("saved", path)
    here = sorted({re.sub(r"(\.meta|\.index)$", "", p.name) for p in path.iterdir() if p.suffix in (".meta", ".index")
                   or p.name in (".meta", ".index")})  # fmt: skip
    name = _latest(path)
    if name in here:
        return _checkpoint(path, name)
    if not here:
        raise UsageError(f"{path}: there is neither a saved_model.pb nor a checkpoint (*.meta, *.index) in it")
    if len(here) > 1:
        listed = ", ".join(str(path / f"{name}.meta") for name in here)
        raise UsageError(f"{path} has several checkpoints, and none is named as the latest; give one of {listed}")
    return _checkpoint(path, here[0])


def _latest(folder: Path) -> str:
    """What the file `checkpoint` names, without the place where it was written, which may be of another machine."""
    state = folder / "checkpoint"
    text = state.read_text("utf-8", "replace") if state.is_file() else ""
    named = re.search(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', text, re.M)
    return re.split(r"[/\\]+", named.group(1))[-1] if named else ""


def _checkpoint(folder: Path, name: str) -> Source:
    meta, index = folder / f"{name}.meta", folder / f"{name}.index"
    if not meta.is_file():
        raise UsageError(
            f"{meta} does not exist: a checkpoint without it has weights and no graph; export a SavedModel, or a "
            "frozen graph, from the code that builds it"
        )
    if not index.is_file() and not (folder / name).is_file():
        raise InvalidModel(f"{index} does not exist: the graph is there, and its weights are not")
    return Source("checkpoint", folder, name)


def message(path: Path, kind: str) -> Any:
    """The message in a file, binary or (`.pbtxt`) text: a GraphDef, MetaGraphDef or SavedModel.

    Raises:
        InvalidModel: it is damaged, or of another kind.
    """
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    found: Any = {"GraphDef": GraphDef, "MetaGraphDef": MetaGraphDef, "SavedModel": SavedModel}[kind]()
    try:
        if path.suffix == ".pbtxt":
            text_format.Parse(path.read_text("utf-8"), found)
        else:
            found.ParseFromString(path.read_bytes())
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidModel(f"{path} is damaged, or no {kind} of TensorFlow: {str(error)[:200]}") from error
    except OSError as error:
        raise InvalidModel(f"{path} cannot be read: {error.strerror or error}") from error
    return found


def graph_def(path: Path) -> Any:
    """The GraphDef of a frozen graph, also where a MetaGraphDef or a SavedModel is in a file of another name."""
    try:
        graph = message(path, "GraphDef")
        if graph.node:
            return graph
    except InvalidModel:
        if path.suffix == ".pbtxt":
            raise
        graph = None
    for kind in ("SavedModel", "MetaGraphDef"):
        try:
            other = message(path, kind)
        except InvalidModel:
            continue
        metas = list(other.meta_graphs) if kind == "SavedModel" else [other]
        if metas and metas[0].graph_def.node:
            raise UsageError(
                f"{path} is a {kind}, not a frozen graph: "
                + ("call it saved_model.pb, beside its variables" if kind == "SavedModel" else "call it NAME.meta")
            )
    if graph is None:
        message(path, "GraphDef")
    raise InvalidModel(f"{path} is damaged, or no GraphDef of TensorFlow: it has no nodes")


def meta_graph(folder: Path, tag: str | None) -> Any:
    """The graph of a SavedModel with the tags `tag` ("serve", or "serve,gpu").

    Raises:
        UsageError: there is none, or several and no tag is given.
    """
    path = next(folder / name for name in SAVED if (folder / name).is_file())
    saved = message(path, "SavedModel")
    sets = {",".join(sorted(meta.meta_info_def.tags)): meta for meta in saved.meta_graphs}
    if not sets:
        raise InvalidModel(f"{path} is damaged: it has no graph")
    chosen = ",".join(sorted(tag.split(","))) if tag is not None else "serve"
    if tag is None and len(sets) == 1:
        return next(iter(sets.values()))
    if chosen not in sets:
        known = ", ".join(map(repr, sets))
        asked = (
            f"there are no graphs with the tag {tag!r}" if tag is not None else "there are several graphs; give tag="
        )
        raise UsageError(f"{folder}: {asked}{_near(chosen, sets)}; tags are {known}")
    return sets[chosen]


def signature_of(meta: Any, name: str | None, folder: Path) -> tuple[str, Any] | None:
    """The signature of a SavedModel that is called so, or the one that it has; None if it has none.

    Raises:
        UsageError: there is none of that name, or several and none is the default.
    """
    known = {k: v for k, v in meta.signature_def.items() if k not in PRIVATE and v.outputs}
    if name is None and not known:
        return None
    chosen = name if name is not None else next(iter(known)) if len(known) == 1 else "serving_default"
    if chosen not in known:
        listed = ", ".join(map(repr, sorted(known))) or "none"
        asked = (
            f"there is no signature {name!r}" if name is not None else "there are several signatures; give signature="
        )
        raise UsageError(f"{folder}: {asked}{_near(chosen, known)}; signatures are {listed}")
    return chosen, known[chosen]


def _near(wanted: str, names: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(wanted, names, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
