"""The registry of formats: what can be read, what can be written, and what each needs.

A format is data. Other distributions add theirs through the entry point group `hub.formats`, each
entry point naming a `Format`. This module imports nothing heavy: `hub formats` and detection work
without any framework.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from hub.errors import MissingDependency, UnknownFormat, UsageError

__all__ = [
    "COMMON",
    "Format",
    "FormatRow",
    "FormatTable",
    "Source",
    "all_formats",
    "detect",
    "find",
    "for_target",
    "formats",
    "resolve",
]

ENTRY_POINTS = "hub.formats"
DISTRIBUTION = "onnx-hub"

COMMON = frozenset({"inputs", "outputs", "trust", "progress"})
"""Keywords of readers that are no options of a format."""

Source = Any
"""A path, a pair of paths (structure, weights), or a live object."""


@dataclass(frozen=True)
class Format:
    """One format: names, suffixes, and where its reader, writer and runner are.

    `reader`, `writer`, `builder` are "module:function", imported when first used; `runner` is a module
    of `parity.runners`, `witness` another one that runs such files where the first is not installed.
    `needs_*` are the modules each of them imports, besides the base install; `extra` is the extra that
    installs them. `holds` are patterns of files that make a folder a model of this format, `stems` the suffixes of
    files that a path without them stands for. What is `guarded` is read by another project's converter, and is
    believed only after its numbers were compared with the source's own.
    """

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    reader: str | None = None
    writer: str | None = None
    builder: str | None = None
    runner: str | None = None
    witness: str | None = None
    extra: str | None = None
    needs_read: tuple[str, ...] = ()
    needs_write: tuple[str, ...] = ()
    needs_build: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()
    guarded: bool = False
    sniff: Callable[[Path], bool] | None = field(default=None, compare=False)

    def load(self, kind: str) -> Callable[..., Any]:
        """Import and return the function `kind` ("reader", "writer" or "builder").

        Raises:
            UnknownFormat: there is none yet.
            MissingDependency: it needs a package that is not installed.
        """
        reference = getattr(self, kind)
        if reference is None:
            verb = {"reader": "read", "writer": "written", "builder": "built as a live object"}[kind]
            raise UnknownFormat(f"{self.title} cannot be {verb} by this version; `hub formats` lists what can")
        require(self.needs(kind), self.extra, self.title)
        module, _, function = reference.partition(":")
        loaded: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return loaded

    def needs(self, kind: str) -> tuple[str, ...]:
        """The modules that `kind` imports besides the base install."""
        return {"reader": self.needs_read, "writer": self.needs_write, "builder": self.needs_build}[kind]


def require(modules: Sequence[str], extra: str | None, what: str) -> None:
    """Raise MissingDependency, with the command that installs it, unless all `modules` can be imported."""
    missing = _missing(modules)
    if missing:
        how = f'pip install "{DISTRIBUTION}[{extra}]"' if extra else f"pip install {' '.join(missing)}"
        raise MissingDependency(f"{what} needs {', '.join(missing)}, which is not installed: {how}")


def _missing(modules: Sequence[str]) -> list[str]:
    return [module for module in modules if importlib.util.find_spec(module) is None]


# -- the built-in formats --------------------------------------------------------------------------

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def _is_keras(path: Path) -> bool:
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = set(archive.namelist())
        except (zipfile.BadZipFile, OSError, ValueError):
            return False
        return {"config.json", "metadata.json"} <= names
    return _is_hdf5(path)


def _is_hdf5(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


CNTK_KEYS = frozenset(b"version type uid root name inputs primitive_functions state hub".split())


def _is_cntk(path: Path) -> bool:
    """A dictionary whose first key is one of a model's, or one of the marks of large files and of CNTK 1's; or code."""
    with open(path, "rb") as file:
        if path.suffix.lower() == ".py":
            return b"\nimport cntk" in file.read(1 << 16)
        start = file.read(64)
    if start[:4] == b"ktnc" or start[:8] == b"B\0C\0N\0\0\0":
        return True
    entry = start[3:].lstrip(bytes(range(128, 256)))[1:]  # behind its length
    known = len(entry) > 1 and entry[0] == 10 and entry[2 : 2 + entry[1]] in CNTK_KEYS
    return known and start[:1] + start[2:3] == b"\x08\x12"


def _is_tflite(path: Path) -> bool:
    """A flat buffer whose file identifier is that of TFLite."""
    with open(path, "rb") as file:
        return file.read(8)[4:] == b"TFL3"


def _is_torch(path: Path) -> bool:
    """An archive as PyTorch writes it: of a program, of TorchScript, or of pickled objects."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False
    return any(name.split("/", 1)[-1] in ("data.pkl", "models/model.json", "serialized_exported_program.json")
               for name in names)  # fmt: skip


BUILT_IN = (
    Format(
        "keras",
        "Keras",
        reads=(".keras", ".h5", ".hdf5", ".json"),
        reader="importers.keras:read",
        runner="parity.runners.keras",
        extra="tensorflow",
        live=("keras", "tf_keras", "keras.src", "tensorflow.keras"),
        sniff=_is_keras,
    ),
    Format(
        "tensorflow",
        "TensorFlow",
        aliases=("tf", "tflite"),
        reads=(".pb", ".pbtxt", ".ckpt", ".meta", ".index", ".tflite"),
        reader="importers.tensorflow:read",
        runner="parity.runners.tensorflow",
        extra="tensorflow",
        needs_read=("tensorflow", "tf2onnx"),
        live=("tensorflow",),
        holds=("saved_model.pb", "saved_model.pbtxt", "checkpoint", "*.meta"),
        stems=(".index", ".meta"),
        guarded=True,
        sniff=_is_tflite,
    ),
    Format(
        "torch",
        "PyTorch",
        aliases=("pytorch",),
        reads=(".pt", ".pth", ".pt2", ".safetensors", ".jit", ".bin"),
        writes=(".py",),
        reader="importers.torch:read",
        writer="exporters.torch:write",
        builder="exporters.torch:build",
        runner="parity.runners.torch",
        extra="torch",
        needs_read=("torch",),
        needs_build=("torch", "safetensors"),
        live=("torch",),
        guarded=True,
        sniff=_is_torch,
    ),
    Format(
        "onnx",
        "ONNX",
        reads=(".onnx",),
        writes=(".onnx",),
        reader="importers.onnx:read",
        writer="exporters.onnx:write",
        builder="exporters.onnx:build",
        runner="parity.runners.onnxruntime",
        live=("onnx", "onnx_ir"),
    ),
    Format(
        "caffe",
        "Caffe",
        reads=(".prototxt", ".caffemodel"),
        writes=(".prototxt", ".caffemodel"),
        writer="exporters.caffe:write",
        reader="importers.caffe:read",
        runner="parity.runners.caffe",
        witness="parity.runners.opencv",
    ),
    Format(
        "cntk",
        "CNTK",
        reads=(".dnn", ".model"),
        writes=(".dnn", ".model", ".py"),
        reader="importers.cntk:read",
        writer="exporters.cntk:write",
        runner="parity.runners.cntk",
        sniff=_is_cntk,
    ),
    Format("mxnet", "MXNet"),
    Format(
        "coreml",
        "Core ML",
        reads=(".mlpackage", ".mlmodel"),
        writes=(".mlpackage", ".mlmodel"),
        reader="importers.coreml:read",
        writer="exporters.coreml:write",
        runner="parity.runners.coreml",
        witness="parity.runners.coremlread",
        extra="coreml",
        needs_write=("coremltools",),
    ),
    Format("darknet", "Darknet"),
)


@cache
def all_formats() -> tuple[Format, ...]:
    """The built-in formats, then those of installed distributions."""
    from importlib.metadata import entry_points

    names = {name for known in BUILT_IN for name in (known.name, *known.aliases)}
    found = list(BUILT_IN)
    for entry in entry_points(group=ENTRY_POINTS):
        extra = entry.load()
        if not isinstance(extra, Format):
            raise UsageError(f"entry point {entry.name!r} of {ENTRY_POINTS} ({entry.value}) is not a hub Format")
        clash = names & {extra.name, *extra.aliases}
        if clash:
            raise UsageError(f"entry point {entry.name!r} of {ENTRY_POINTS} takes the name {sorted(clash)[0]!r} again")
        names |= {extra.name, *extra.aliases}
        found.append(extra)
    return tuple(found)


def _in_order() -> Iterator[Format]:
    """The built-in formats first: looking for entry points takes longer than reading a small model."""
    yield from BUILT_IN
    yield from all_formats()[len(BUILT_IN) :]


def find(name: str) -> Format:
    """The format called `name` (or by an alias).

    Raises:
        UnknownFormat: there is none; the message suggests the nearest.
    """
    wanted = name.lower()
    for known in _in_order():
        if wanted == known.name or wanted in known.aliases:
            return known
    names = [known.name for known in all_formats()]
    raise UnknownFormat(f"there is no format {name!r}{_suggest(wanted, names)}; formats are {', '.join(names)}")


def resolve(path: str | Path) -> Path:
    """The path of a model that is there.

    Raises:
        UsageError: it is not; the message names the nearest file of that folder.
    """
    path = Path(path)
    try:
        if path.exists():
            return path
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(path)[:200]!r} cannot be read: {error}") from error
    where = "" if path.parent.is_dir() else f" (the folder {path.parent} does not exist)"
    raise UsageError(f"{path} does not exist{where}{_suggest(path.name, siblings)}")


def detect(src: Source) -> Format:
    """The format of a source: by content where it says so, otherwise by suffix; by type for a live object.

    Raises:
        UsageError: the path does not exist.
        UnknownFormat: neither content nor suffix is known.
    """
    if isinstance(src, tuple | list):
        return detect(src[0])
    if not isinstance(src, str | Path):
        return _of_object(src)
    for known in _in_order():
        if any(os.path.isfile(f"{src}{suffix}") for suffix in known.stems) and not os.path.exists(src):
            return known
    path = resolve(src)
    suffix = path.suffix.lower() or (path.name.lower() if path.name.startswith(".") else "")
    for known in _in_order():
        if path.is_file() and known.sniff is not None and known.sniff(path):
            return known
        if path.is_dir() and any(next(path.glob(pattern), None) is not None for pattern in known.holds):
            return known
    for known in _in_order():
        if suffix in known.reads:
            return known
    kind = "a directory" if path.is_dir() else f"the suffix {suffix!r}" if suffix else "no suffix"
    suffixes = sorted({s for known in all_formats() for s in known.reads})
    raise UnknownFormat(
        f"{path}: the format cannot be told from {kind}; known are {', '.join(suffixes)}, or name it with source="
    )


def _of_object(src: object) -> Format:
    modules = [cls.__module__ for cls in type(src).__mro__]
    for known in all_formats():
        if any(module == root or module.startswith(root + ".") for module in modules for root in known.live):
            return known
    raise UnknownFormat(f"an object of type {modules[0]}.{type(src).__qualname__} is not a model of a known framework")


def for_target(dst: str | Path | None, to: str | None) -> Format:
    """The format to write: `to` if given, otherwise by the suffix of `dst`."""
    if to is not None:
        return find(to)
    if dst is None:
        raise UsageError("give a destination path, or the target format with to=")
    suffix = Path(dst).suffix.lower()
    for known in _in_order():
        if suffix and suffix in known.writes:
            return known
    suffixes = sorted({s for known in all_formats() for s in known.writes})
    raise UnknownFormat(
        f"{dst}: no target is written to {f'files of suffix {suffix!r}' if suffix else 'a path without a suffix'}; "
        f"known are {', '.join(suffixes)}, or name the target with to="
    )


def _suggest(wanted: str, names: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(wanted, names, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


# -- the table ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FormatRow:
    """One format as `hub formats` shows it; `read` and `write` are "yes" or the reason why not."""

    name: str
    title: str
    read_suffixes: tuple[str, ...]
    write_suffixes: tuple[str, ...]
    extra: str | None
    read: str
    write: str


@dataclass(frozen=True)
class FormatTable:
    """What `hub.formats()` returns: `rows`, a plain text form, and `_repr_html_`."""

    rows: tuple[FormatRow, ...]

    HEADER = ("format", "read from", "can be read", "written to", "can be written", "extra")

    def cells(self) -> list[tuple[str, ...]]:
        """The rows as text."""
        return [
            (
                r.name,
                " ".join(r.read_suffixes) or "-",
                r.read,
                " ".join(r.write_suffixes) or "-",
                r.write,
                r.extra or "-",
            )
            for r in self.rows
        ]

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON-ready data."""
        from dataclasses import asdict

        return {"formats": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        table = [self.HEADER, *self.cells()]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.HEADER))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self.cells())
        return f"<table><thead>{row(self.HEADER, 'th')}</thead><tbody>{body}</tbody></table>"


def formats() -> FormatTable:
    """All sources and targets: suffixes, the extra each needs, whether it works here or why not."""
    rows = []
    for known in all_formats():
        rows.append(
            FormatRow(
                known.name,
                known.title,
                known.reads,
                known.writes,
                known.extra if any(known.needs(kind) for kind in ("reader", "writer", "builder")) else None,
                _state(known, "reader"),
                _state(known, "writer"),
            )
        )
    return FormatTable(tuple(rows))


def _state(known: Format, kind: str) -> str:
    if getattr(known, kind) is None:
        return "not yet"
    missing = _missing(known.needs(kind))
    return f"needs {', '.join(missing)}" if missing else "yes"
