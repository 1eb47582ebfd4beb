"""Weights that are never copied before they are written: views of mapped files, written in blocks."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["MappedFile", "ViewTensor", "blocks", "release", "view", "write_tensor"]

BLOCK_BYTES = 4 << 20
"""Largest piece, in bytes, that is copied at once when the source is contiguous."""

GATHER_BYTES = 32 << 20
"""Largest piece when the source is a transposed view: fewer passes over the source's pages."""


class MappedFile:
    """A file mapped read-only; `array` makes zero-copy views of ranges of it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with open(path, "rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else None

    def array(self, offset: int, dtype: npt.DTypeLike, shape: Sequence[int]) -> npt.NDArray[Any]:
        """A view of `shape` and `dtype` of the bytes from `offset` on.

        Raises:
            ValueError: the range is not inside the file.
        """
        dtype = np.dtype(dtype)
        count = math.prod(shape)
        if count == 0:
            return np.empty(shape, dtype)
        if self._map is None or offset < 0 or offset + count * dtype.itemsize > self.size:
            raise ValueError(
                f"{count * dtype.itemsize} bytes at {offset} are not inside {self.path} ({self.size} bytes)"
            )
        return np.frombuffer(self._map, dtype, count, offset).reshape(shape)

    def release(self) -> None:
        """Let the operating system drop the pages read so far from this process's resident set."""
        if self._map is not None and hasattr(self._map, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class ViewTensor(ir.Tensor[npt.NDArray[Any]]):
    """An ONNX tensor over a NumPy view (transposed, of a mapped file, ...) that is copied only on write.

    The elements are those of `array` in C order; `shape` may differ from `array.shape`, so that a
    permutation of the rows of a matrix is a view as well: `(H*W*C, out)` as
    `array[H, W, C, out].transpose(2, 0, 1, 3)` with `shape=(C*H*W, out)`.
    """

    __slots__ = ("mapping",)

    def __init__(
        self,
        array: npt.NDArray[Any],
        shape: Sequence[int] | None = None,
        *,
        name: str | None = None,
        mapping: MappedFile | None = None,
    ) -> None:
        super().__init__(array, shape=None if shape is None else ir.Shape(list(shape)), name=name)
        self.mapping = mapping
        if math.prod(self.shape.numpy()) != array.size:
            raise ValueError(f"a view of {array.shape} cannot have the shape {shape}")

    @property
    def array(self) -> npt.NDArray[Any]:
        """The view itself."""
        return self.raw

    def numpy(self) -> npt.NDArray[Any]:
        """The tensor as an array; a copy only where the view cannot be reshaped in place."""
        return self.raw.reshape(self.shape.numpy())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def tobytes(self) -> bytes:
        """The elements in C order, little endian."""
        return self.raw.tobytes()

    def tofile(self, file: Any) -> None:
        """Write the elements block by block."""
        for block in blocks(self.array, self.mapping):
            file.write(block.reshape(-1).view(np.uint8).data)

    def transformed(self, array: npt.NDArray[Any], shape: Sequence[int] | None = None) -> ViewTensor:
        """A tensor of the same file over another view of its data."""
        return ViewTensor(array, shape, name=self.name, mapping=self.mapping)


def view(
    tensor: ir.TensorProtocol, permutation: Sequence[int], split: Sequence[int] | None = None
) -> ir.TensorProtocol:
    """The transpose of a tensor, evaluated when it is written.

    `split` first reshapes the tensor (a view, never a copy, for contiguous data); the result keeps
    the rank of the split form. String and sub-byte tensors have no such views.
    """
    if isinstance(tensor, ViewTensor):
        array = tensor.array if tensor.array.shape == tuple(tensor.shape.numpy()) else tensor.numpy()
        mapping = tensor.mapping
    else:
        array, mapping = tensor.numpy(), None
    if split is not None:
        array = array.reshape(tuple(split))
    return ViewTensor(array.transpose(permutation), name=tensor.name, mapping=mapping)


def blocks(array: npt.NDArray[Any], mapping: MappedFile | None = None) -> Iterator[npt.NDArray[Any]]:
    """Contiguous pieces of `array` in C order; pages of `mapping` are released as they pass."""
    if array.nbytes == 0:
        return
    if array.ndim == 0:
        yield np.ascontiguousarray(array)
        return
    limit = BLOCK_BYTES if array.flags.c_contiguous else GATHER_BYTES
    row = array.nbytes // array.shape[0]
    if row > limit:
        for part in array:
            yield from blocks(part, mapping)
        return
    step = max(1, limit // row)
    passed = 0
    for start in range(0, array.shape[0], step):
        yield _gather(array[start : start + step], mapping)
        passed += step * row
        if mapping is not None and passed >= GATHER_BYTES:
            mapping.release()
            passed = 0
    if mapping is not None:
        mapping.release()


def _gather(block: npt.NDArray[Any], mapping: MappedFile | None) -> npt.NDArray[Any]:
    """A contiguous copy of a strided block that keeps few pages of the mapping resident at a time."""
    if block.flags.c_contiguous:
        return block
    axis = max(range(block.ndim), key=lambda i: abs(block.strides[i]))
    span = abs(block.strides[axis]) * block.shape[axis]
    if mapping is None or span <= GATHER_BYTES:
        return np.ascontiguousarray(block)
    result = np.empty(block.shape, block.dtype)
    step = max(1, GATHER_BYTES // abs(block.strides[axis]))
    source, target = np.moveaxis(block, axis, 0), np.moveaxis(result, axis, 0)
    for start in range(0, block.shape[axis], step):
        target[start : start + step] = source[start : start + step]
        mapping.release()
    return result


def write_tensor(tensor: ir.TensorProtocol, file: IO[bytes]) -> None:
    """Write the raw little-endian data of any tensor to `file`, then let its memory go."""
    if hasattr(tensor, "tofile"):
        tensor.tofile(file)
    else:
        file.write(tensor.tobytes())
    release(tensor)


def release(tensor: ir.TensorProtocol) -> None:
    """Drop what a mapped tensor holds in memory, unless a view of it is in use; it is read again when next used."""
    if isinstance(tensor, ir.ExternalTensor):
        with suppress(BufferError):
            tensor.release()
    elif isinstance(tensor, ViewTensor) and tensor.mapping is not None:
        tensor.mapping.release()
