"""HDF5 weights as views of the mapped file, also inside a stored zip member; hostile files are refused."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hub.errors import InvalidModel
from hub.tensors import MappedFile, ViewTensor

__all__ = ["WeightFile", "open_hdf5", "open_member", "text"]

MAX_DEFLATED = 4 << 30
"""Bytes to which a compressed weights member may expand."""

MAX_RATIO = 1200
"""Deflate cannot do better than 1032:1; whatever claims more lies about its size."""


class _Window(io.RawIOBase):
    """A stored zip member as a seekable file.

    `ZipExtFile` reads a member again from its beginning at every backward seek.
    """

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed with the window)
        self._start, self._size, self._position = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer)[: max(0, min(len(buffer), self._size - self._position))]
        self._file.seek(self._start + self._position)
        count = self._file.readinto(target) or 0
        self._position += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class WeightFile:
    """An open HDF5 file whose datasets become `ViewTensor`s without being read.

    Raises (every method):
        InvalidModel: naming the file and the object in it.
    """

    def __init__(self, where: str, root: h5py.File, mapping: MappedFile | None, base: int) -> None:
        self.where = where
        self.root = root
        self._mapping = mapping
        self._base = base
        self._groups: dict[str, h5py.Group] = {}

    def group(self, path: str) -> h5py.Group | None:
        """The group at `path`, or None; links are followed only inside the file."""
        found = self._walk(path)
        if found is not None and not isinstance(found, h5py.Group):
            raise InvalidModel(f"{self.where}: {path!r} is not a group")
        return found

    def attribute(self, group: h5py.Group, name: str) -> Any:
        """An attribute, put together again if Keras has split it into `name0`, `name1`, ...; None if absent."""
        try:
            if name in group.attrs:
                return group.attrs[name]
            parts: list[Any] = []
            while f"{name}{len(parts)}" in group.attrs:
                parts.append(group.attrs[f"{name}{len(parts)}"])
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise InvalidModel(f"{self.where}: attribute {name!r} of {group.name!r} cannot be read: {error}") from error
        return np.concatenate(parts) if parts else None

    def strings(self, group: h5py.Group, name: str) -> list[str] | None:
        """An attribute that is a list of names."""
        value = self.attribute(group, name)
        return None if value is None else [text(item) for item in np.asarray(value).reshape(-1).tolist()]

    def variables(self, path: str) -> list[ViewTensor]:
        """The datasets `0`, `1`, ... of the group at `path`, in order; empty if there is no such group."""
        group = self.group(path)
        if group is None:
            return []
        keys = list(group.keys())
        if sorted(keys) != sorted(str(i) for i in range(len(keys))):
            raise InvalidModel(f"{self.where}: {path!r} has the variables {keys[:8]}, not 0 to {len(keys) - 1}")
        return [self.tensor(f"{path}/{i}") for i in range(len(keys))]

    def tensor(self, path: str) -> ViewTensor:
        """The dataset at `path`."""
        data = self._walk(path)
        if not isinstance(data, h5py.Dataset):
            raise InvalidModel(f"{self.where}: there is no weight {path!r}")
        try:
            return self._read(path, data)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise InvalidModel(
                f"{self.where}: weight {path!r} cannot be read, the file may be truncated: {error}"
            ) from error

    def _walk(self, path: str) -> Any:
        """Follow hard links only: an external or soft link can name another file, or loop."""
        parent, _, last = path.strip("/").rpartition("/")
        if not last:
            return self.root
        if path in self._groups:
            return self._groups[path]
        group = self._walk(parent)
        if not isinstance(group, h5py.Group):
            return None
        name = last.encode("utf-8", "surrogateescape")
        try:
            if not last or name not in group.id:
                return None
            kind = group.id.links.get_info(name).type
            if kind != h5py.h5l.TYPE_HARD:
                what = {h5py.h5l.TYPE_SOFT: "a soft", h5py.h5l.TYPE_EXTERNAL: "an external"}.get(kind, "a user-defined")
                raise InvalidModel(f"{self.where}: {path!r} is {what} link of HDF5, which is not followed")
            found = group[last]
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise InvalidModel(f"{self.where}: {path!r} cannot be read, the file may be truncated: {error}") from error
        if isinstance(found, h5py.Group):
            self._groups[path] = found
        return found

    def _read(self, path: str, data: h5py.Dataset) -> ViewTensor:
        if data.external or data.is_virtual:
            raise InvalidModel(f"{self.where}: weight {path!r} keeps its data in another file, which is not followed")
        if data.shape is None:
            raise InvalidModel(f"{self.where}: weight {path!r} is empty")
        dtype = data.dtype
        if dtype.kind not in "fiub":
            raise InvalidModel(f"{self.where}: weight {path!r} has the type {dtype}, which is not numeric")
        size = math.prod(data.shape) * dtype.itemsize
        stored = data.id.get_storage_size()
        if stored == 0 and size > 0:
            raise InvalidModel(f"{self.where}: weight {path!r} claims the shape {data.shape} and holds no data")
        offset = data.id.get_offset()
        if self._mapping is not None and offset is not None and data.chunks is None:
            if stored != size:
                raise InvalidModel(
                    f"{self.where}: weight {path!r} of shape {data.shape} holds {stored} bytes, not {size}"
                )
            array = self._mapping.array(
                self._base + offset, dtype.newbyteorder("<") if dtype.itemsize > 1 else dtype, data.shape
            )
            if dtype.byteorder == ">":
                array = array.view(dtype).astype(dtype.newbyteorder("<"))
            tensor = ViewTensor(array, mapping=self._mapping)
        else:
            if size > stored * MAX_RATIO + (1 << 20):
                raise InvalidModel(f"{self.where}: weight {path!r} claims {size} bytes and holds {stored}")
            tensor = ViewTensor(np.ascontiguousarray(data[()]))
        if text(data.attrs.get("dtype", "")) == "bfloat16":
            raise InvalidModel(f"{self.where}: weight {path!r} is bfloat16, which is not supported yet")
        return tensor

    def close(self) -> None:
        """Close the HDF5 handle; tensors stay valid, they are views of the mapping."""
        self._groups.clear()
        self.root.close()


def open_hdf5(path: Path) -> WeightFile:
    """Open an `.h5` file.

    Raises:
        InvalidModel: it is not HDF5, or truncated.
    """
    try:
        root = h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidModel(f"{path} is not a valid HDF5 file, or is truncated: {error}") from error
    return WeightFile(str(path), root, MappedFile(path), 0)


def open_member(path: Path, archive: zipfile.ZipFile, name: str) -> WeightFile:
    """Open an HDF5 member of a zip archive: mapped where it is stored, unpacked in memory where it is deflated."""
    where = f"{path}:{name}"
    info = archive.getinfo(name)
    try:
        if info.compress_type == zipfile.ZIP_STORED:
            with open(path, "rb") as file:
                file.seek(info.header_offset)
                header = file.read(30)
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                raise InvalidModel(f"{where}: the archive is damaged")
            start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
            if start + info.file_size > path.stat().st_size:
                raise InvalidModel(f"{where}: the archive is truncated")
            root = h5py.File(io.BufferedReader(_Window(path, start, info.file_size), 1 << 16), "r")
            return WeightFile(where, root, MappedFile(path), start)
        if info.file_size > min(MAX_DEFLATED, info.compress_size * MAX_RATIO + (1 << 20)):
            raise InvalidModel(f"{where}: {info.compress_size} compressed bytes claim to be {info.file_size}")
        with archive.open(info) as member:
            content = member.read(info.file_size + 1)
        return WeightFile(where, h5py.File(io.BytesIO(content), "r"), None, 0)
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile, struct.error, NotImplementedError) as error:
        raise InvalidModel(f"{where} is not a valid HDF5 file, or is truncated: {error}") from error


def text(value: Any) -> str:
    """HDF5 attributes are str, bytes or NumPy scalars of either; what is not UTF-8 in them cannot be a name."""
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    return data.decode("utf-8", "replace")
