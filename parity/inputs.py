"""The numbers that a model is tried on: seeded by dtype and shape, or the user's own, checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hub.errors import UsageError
from parity.runners import Array, Port

__all__ = ["described", "drawn", "generate", "given", "several"]

# Sizes for free dimensions in the order of the axes after the first. They differ, so that H and W
# cannot be swapped unseen, and are multiples of 32, which encoder-decoder networks ask for.
_SPATIAL = (96, 128, 64, 32)
_SEQUENCE = (12, 7, 5, 3)
_FURTHER = (2, 1, 3)
"""Sizes of the batch of several draws, in turn."""


def drawn(ports: Sequence[Port], seed: int, batches: Sequence[int], draws: int) -> list[dict[str, Array]]:
    """Seeded arrays: for each of the sizes of the batch; and for several draws of each their own seed and other free
    sizes. What would be the same again is left out."""
    sizes = list(batches) if draws == 1 else [_FURTHER[i % len(_FURTHER)] for i in range(draws)]
    tries: list[dict[str, Array]] = []
    shapes: list[tuple[int, dict[str, tuple[int, ...]]]] = []
    for i, batch in enumerate(sizes):
        turn = i if draws > 1 else 0
        feeds = generate(ports, seed=seed + turn, batch=batch, turn=turn)
        made = (turn, {name: array.shape for name, array in feeds.items()})
        if made not in shapes:  # the size of the batch may be fixed
            shapes.append(made)
            tries.append(feeds)
    return tries


def several(inputs: Any, ports: Sequence[Port], draws: int) -> list[dict[str, Array]]:
    """The user's own sets of inputs: one, or those that a function of 0 .. `draws` - 1 gives, or of a folder of
    images (`parity.images.Images`)."""
    from parity.images import Images

    if isinstance(inputs, (str, os.PathLike)) and Path(inputs).is_dir():
        inputs = Images(inputs)
    if isinstance(inputs, Images):
        return inputs.feeds(ports)
    if callable(inputs):
        return [given(inputs(i), ports) for i in range(max(draws, 1))]
    return [given(inputs, ports)]


def described(tries: Sequence[Mapping[str, Array]]) -> dict[str, str]:
    """By input: dtype and shapes, each once, and how many sets there are."""
    found: dict[str, str] = {}
    for name in tries[0] if tries else ():
        shapes = list(dict.fromkeys("x".join(map(str, feeds[name].shape)) or "scalar" for feeds in tries))
        shown = ", ".join(shapes[:6]) + (", ..." if len(shapes) > 6 else "")
        more = f" ({len(tries)} sets)" if len(tries) > len(shapes) else ""
        found[name] = f"{tries[0][name].dtype.name} {shown}{more}"
    return found


def generate(ports: Sequence[Port], *, seed: int = 0, batch: int = 2, turn: int = 0) -> dict[str, Array]:
    """Seeded arrays for `ports`, by name.

    A free first dimension becomes `batch`; other free dimensions get sizes that differ from each
    other; the same symbol gets the same size everywhere. Floats are standard normal, or uniform in
    the declared range; integers are uniform in the declared range, else 0..9 (8-bit: the whole
    range); booleans are fair coins. `turn` changes the free sizes.

    Raises:
        UsageError: a shape or a dtype is not known, or there is no way to make one up.
    """
    generator = np.random.default_rng(seed)
    sizes: dict[str, int] = {}
    return {port.name: _draw(port, _concrete(port, sizes, batch, turn), generator) for port in ports}


def _concrete(port: Port, sizes: dict[str, int], batch: int, turn: int) -> tuple[int, ...]:
    if port.shape is None:
        raise UsageError(f"the shape of the input {port.name!r} is not known: give inputs= (--inputs FILE.npz)")
    known = _SPATIAL if len(port.shape) >= 4 else _SEQUENCE
    candidates = iter([*known[turn % 2 :], *known[: turn % 2]])
    shape = []
    for axis, dim in enumerate(port.shape):
        if isinstance(dim, int) and dim >= 0:
            shape.append(dim)
            continue
        if isinstance(dim, str) and dim in sizes:
            shape.append(sizes[dim])
            continue
        size = batch if axis == 0 else next(candidates, 4)
        if isinstance(dim, str):
            sizes[dim] = size
        shape.append(size)
    return tuple(shape)


def _draw(port: Port, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    dtype = _dtype(port)
    kind = dtype.kind
    if kind == "b":
        return np.asarray(generator.integers(0, 2, shape)).astype(bool)
    if kind in "iu":
        info = np.iinfo(dtype)
        low, high = port.range or ((info.min, info.max) if dtype.itemsize == 1 else (0, 9))
        low, high = max(int(low), info.min), min(int(high), info.max)
        return generator.integers(low, high, shape, dtype=dtype, endpoint=True)
    if kind == "c":
        return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)).astype(dtype)
    if kind in "fV":  # V: bfloat16 and the 8-bit floats of ml_dtypes
        values = generator.uniform(*port.range, shape) if port.range else generator.standard_normal(shape)
        return np.asarray(values).astype(dtype)
    raise UsageError(f"no values can be made up for the input {port.name!r} of dtype {dtype}: give inputs=")


def _dtype(port: Port) -> np.dtype[Any]:
    if port.dtype is None:
        return np.dtype(np.float32)
    import ml_dtypes

    kind: Any = getattr(ml_dtypes, port.dtype, port.dtype)
    try:
        dtype: np.dtype[Any] = np.dtype(kind)
        return dtype
    except TypeError as error:
        raise UsageError(f"the input {port.name!r} has the dtype {port.dtype!r}, which NumPy does not know") from error


def given(inputs: Any, ports: Sequence[Port]) -> dict[str, Array]:
    """The user's inputs, by name and checked against `ports`.

    `inputs` is a mapping from names to arrays, a sequence of arrays in the order of the ports, one
    array, or the path of an `.npz` (arrays by name) or `.npy` (one array).

    Raises:
        UsageError: a name, a shape or a dtype does not fit, or the file cannot be read.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = _read(Path(inputs))
    names = [port.name for port in ports]
    if isinstance(inputs, Mapping):
        arrays = dict(inputs)
        unknown, missing = [n for n in arrays if n not in names], [n for n in names if n not in arrays]
        if unknown or missing:
            wrong = [f"no input is called {', '.join(map(repr, unknown))}"] if unknown else []
            wrong += [f"{', '.join(map(repr, missing))} is not given"] if missing else []
            raise UsageError(f"{' and '.join(wrong)}; the model takes {', '.join(map(repr, names))}")
        return {port.name: _checked(arrays[port.name], port) for port in ports}
    if not isinstance(inputs, Sequence) or (len(ports) == 1 and len(inputs) != 1):
        inputs = [inputs]
    if len(inputs) != len(ports):
        raise UsageError(f"{len(inputs)} inputs are given, the model takes {len(ports)}: {', '.join(map(repr, names))}")
    return {port.name: _checked(value, port) for value, port in zip(inputs, ports, strict=True)}


def _read(path: Path) -> Any:
    try:
        content = np.load(path, allow_pickle=False)
        return {name: content[name] for name in content.files} if isinstance(content, np.lib.npyio.NpzFile) else content
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"cannot read inputs from {path}: {error}") from error


def _checked(value: Any, port: Port) -> Array:
    """`value` as an array, if it fits; plain Python numbers take the dtype of the port."""
    plain = not hasattr(value, "dtype")
    try:
        array: Array = np.asarray(value, _dtype(port) if plain and port.dtype else None)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the input {port.name!r} is not an array: {error}") from error
    if port.dtype and array.dtype != _dtype(port):
        raise UsageError(f"the input {port.name!r} is {array.dtype.name}, the model takes {port.dtype}")
    if port.shape is None:
        return array
    fits = array.ndim == len(port.shape) and all(
        not isinstance(want, int) or want < 0 or want == have
        for want, have in zip(port.shape, array.shape, strict=True)
    )
    if not fits:
        want = "x".join("?" if dim is None else str(dim) for dim in port.shape)
        raise UsageError(f"the input {port.name!r} has shape {'x'.join(map(str, array.shape))}, the model takes {want}")
    return array
