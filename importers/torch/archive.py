"""What kind of file of PyTorch's one is, from its content alone: nothing is unpickled, and PyTorch is not imported."""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from hub.errors import InvalidModel, blaming

__all__ = ["Archive", "Kind", "opened"]

Kind = Literal["program", "script", "pickle", "safetensors"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_HARMLESS = re.compile(
    r"collections\.(OrderedDict|defaultdict|Counter)|builtins\.(set|dict|list|int|float|complex|bytearray)|"
    r"_codecs\.encode|torch\.(\w+Storage|Size|device|dtype|Tensor|Generator|"
    r"(q?u?int|float|bfloat|complex|bits)\w*|bool|half|double|long|short|strided|sparse_\w+|"
    r"per_(tensor|channel)_\w+)|torch\.storage\.\w*Storage|torch\._utils\._rebuild_\w+|"
    r"torch\._tensor\._rebuild_from_type_v2|torch\.nn\.parameter\.(Parameter|Buffer)|"
    r"torch\.serialization\._get_layout"
)
"""Classes and functions that weights are made of; `torch.load(weights_only=True)` takes no others either."""


@dataclass(frozen=True)
class Archive:
    """A file of PyTorch's: its kind, and of a pickle the classes that it wants besides those of weights."""

    path: Path
    kind: Kind
    classes: tuple[str, ...] = field(default=())


def opened(path: Path) -> Archive:
    """The kind of the file at `path`.

    Raises:
        InvalidModel: it is none of PyTorch's, or damaged.
    """
    with blaming(str(path)):
        if not path.is_file():
            raise InvalidModel(f"{path} is no file; PyTorch keeps a model in one file")
        if zipfile.is_zipfile(path):
            return _zipped(path)
        if _is_safetensors(path):
            return Archive(path, "safetensors")
        with open(path, "rb") as file:
            if file.read(1) != b"\x80":  # the opcode PROTO
                raise InvalidModel("it is no file of PyTorch's: neither a zip archive, nor pickled, nor safetensors")
            file.seek(0)
            return Archive(path, "pickle", _wanted(_legacy_globals(file)))


def _zipped(path: Path) -> Archive:
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] or name: name for name in archive.namelist()}
        names |= {name: name for name in archive.namelist()}
        if any(re.fullmatch(r"models/[^/]+\.json", name) for name in names):
            return Archive(path, "program")
        if "serialized_exported_program.json" in names:
            raise InvalidModel(
                "it is a program as PyTorch before 2.8 saved it; load and save it again with a later one"
            )
        if "data.pkl" not in names:
            if any(name.startswith("data/aotinductor/") for name in names):
                raise InvalidModel("it is compiled for one machine (AOTInductor), and has no program to read")
            raise InvalidModel("it is a zip archive, and none of PyTorch's: it has no data.pkl and no models/*.json")
        if "constants.pkl" in names or any(name.startswith("code/") for name in names):
            return Archive(path, "script")
        with archive.open(names["data.pkl"]) as file:
            return Archive(path, "pickle", _wanted(_globals(file)))


def _is_safetensors(path: Path) -> bool:
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, 100_000_000) or file.read(1) != b"{":
            return False
        try:
            return isinstance(json.loads(b"{" + file.read(length - 1)), dict)
        except ValueError:
            return False


def _legacy_globals(file: IO[bytes]) -> Iterator[str]:
    """Of a file from before PyTorch 1.6: pickles one after the other, the third of which is the object."""
    first = next(iter(pickletools.genops(file)), None)
    file.seek(0)
    yield from _globals(file)
    if first is None:
        return
    file.seek(0)
    magic = [argument for _, argument, _ in pickletools.genops(file) if isinstance(argument, int)]
    if _LEGACY_MAGIC in magic:
        for _ in range(3):  # the protocol, the system, the object
            yield from _globals(file)


def _globals(file: IO[bytes]) -> Iterator[str]:
    """The names that one pickle looks up, by its opcodes; "?" for one that it computes."""
    texts: list[str | None] = []
    memo: dict[int, str | None] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".", 1)
            texts.append(None)
        elif name == "STACK_GLOBAL":
            module, attribute = ([None, None, *texts])[-2:]
            yield f"{module}.{attribute}" if module and attribute else "?"
            texts.append(None)
        elif name.startswith("EXT"):
            yield "?"
        elif "UNICODE" in name or "STRING" in name:
            texts.append(str(argument))
        elif name == "MEMOIZE":
            memo[len(memo)] = texts[-1] if texts else None
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = texts[-1] if texts else None
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            texts.append(memo.get(int(argument or 0)))
        else:
            texts.append(None)


def _wanted(names: Iterator[str]) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(names) if not _HARMLESS.fullmatch(name))
