"""What the user says of a network's inputs: shapes, types, examples, values that an input always has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hub.errors import UsageError

__all__ = ["HOW", "Given", "given", "normal", "sizes"]

HOW = (
    'inputs={{"{name}": ("N", 3, 224, 224)}}: sizes, with a name for each that is free; a pair of a type and sizes '
    '("int64", ("N", 12)); or an example array'
)

_TYPES = frozenset(
    """float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool
    complex64 complex128""".split()
)

_IMAGE = (64, 96, 128, 160, 192, 224)
_OTHER = (6, 10, 14, 9, 13, 17)
_BATCH = (3, 5, 7)


@dataclass
class Given:
    """One input: its type (NumPy's name) and its shape, in which a text is the name of a free size; or its value."""

    name: str
    dtype: str = "float32"
    shape: tuple[int | str, ...] = ()
    value: Any = None
    fixed: bool = False
    example: Any = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """What another process needs of it."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), "value": self.value,
                "fixed": self.fixed}  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Given:
        """The other way."""
        return cls(**{**values, "shape": tuple(values["shape"])})


def given(inputs: Any, names: Sequence[str], required: Sequence[str]) -> list[Given]:
    """The inputs of a network whose `forward` has the parameters `names`, in their order.

    Args:
        inputs: a mapping by name, or a sequence in order.
        required: the parameters without a default.

    Raises:
        UsageError: a name is unknown, one is missing, or what is said of it cannot be understood.
    """
    if isinstance(inputs, Mapping):
        chosen = dict(inputs)
    elif hasattr(inputs, "shape") or not isinstance(inputs, (list, tuple)):
        chosen = {names[0]: inputs} if names else {}
    elif len(names) == 1 and inputs and _is_shape(inputs):
        chosen = {names[0]: inputs}
    else:
        if len(inputs) > len(names):
            raise UsageError(f"{len(inputs)} inputs are given; forward() takes {_listed(names)}")
        chosen = dict(zip(names, inputs, strict=False))
    unknown = [name for name in chosen if name not in names]
    missing = [name for name in required if name not in chosen]
    if unknown or missing:
        wrong = [f"forward() has no parameter {', '.join(map(repr, unknown))}"] if unknown else []
        wrong += (
            [f"PyTorch does not say which shape {_listed(missing)} {'have' if missing[1:] else 'has'}"]
            if missing
            else []
        )
        example = HOW.format(name=(missing or list(names) or ["x"])[0])
        raise UsageError(f"{'; '.join(wrong)}; forward() takes {_listed(names)}. Say it with {example}")
    return [_one(name, chosen[name]) for name in names if name in chosen]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"


def _one(name: str, said: Any) -> Given:
    if hasattr(said, "shape") and hasattr(said, "dtype") and not isinstance(said, np.generic):
        dtype = str(said.dtype).removeprefix("torch.")
        return Given(name, dtype, tuple(int(n) for n in said.shape), example=said)
    if said is None or isinstance(said, (bool, int, float, str)):
        return Given(name, value=said, fixed=True)
    if isinstance(said, (list, tuple)):
        if len(said) == 2 and isinstance(said[1], (list, tuple)) and (kind := _type(said[0])) is not None:
            return Given(name, kind, _shape(name, said[1]))
        if _is_shape(said):
            return Given(name, shape=_shape(name, said))
    raise UsageError(f"inputs: {said!r} for {name!r} cannot be understood; say it with {HOW.format(name=name)}")


def _type(said: Any) -> str | None:
    if isinstance(said, type) and said in (bool, int, float):
        return {bool: "bool", int: "int64", float: "float32"}[said]
    called: Any = getattr(said, "name", None) or getattr(said, "__name__", None) or said
    text = str(called).removeprefix("torch.")
    return text if text in _TYPES else None


def _is_shape(said: Sequence[Any]) -> bool:
    return all(
        part is None or (isinstance(part, str) and part not in _TYPES) or
        (isinstance(part, (int, np.integer)) and not isinstance(part, bool)) for part in said
    )  # fmt: skip


def _shape(name: str, said: Sequence[Any]) -> tuple[int | str, ...]:
    """Free sizes without a name get one: the first axis is the batch."""
    shape: list[int | str] = []
    for axis, size in enumerate(said):
        if size is None or size == -1:
            shape.append("N" if axis == 0 else f"{re.sub(r'[^0-9a-zA-Z_]', '_', name)}_{axis}")
        elif isinstance(size, str):
            if not size.isidentifier():
                raise UsageError(f"inputs: {size!r} is no name for a size of {name!r}; take a word such as N")
            shape.append(size)
        elif isinstance(size, (int, np.integer)) and size >= 0:
            shape.append(int(size))
        else:
            raise UsageError(f"inputs: {size!r} is no size of {name!r}")
    return tuple(shape)


def sizes(inputs: Sequence[Given]) -> dict[str, int]:
    """A size for every free one, to try the network with: no two are the same, and none is 0 or 1."""
    chosen: dict[str, int] = {}
    taken = {size for one in inputs for size in one.shape if isinstance(size, int)}
    for one in inputs:
        for axis, size in enumerate(one.shape):
            if isinstance(size, str) and size not in chosen:
                pool = _IMAGE if len(one.shape) >= 4 and axis >= 2 else _BATCH if axis == 0 else _OTHER
                free = [n for n in pool if n not in chosen.values() and n not in taken]
                chosen[size] = free[0] if free else 2 * max([*chosen.values(), *pool]) + 1
    return chosen


def normal(inputs: Any) -> Any:
    """What the user says of the inputs as JSON, for another process: by name or in order."""
    if inputs is None or (isinstance(inputs, Mapping) and not inputs):
        return None

    def one(name: str, said: Any) -> dict[str, Any]:
        found = _one(name, said)
        return {"value": found.value} if found.fixed else {"dtype": found.dtype, "shape": list(found.shape)}

    if isinstance(inputs, Mapping):
        return {str(name): one(str(name), said) for name, said in inputs.items()}
    if hasattr(inputs, "shape") or not isinstance(inputs, (list, tuple)) or _is_shape(inputs):
        return [one("input", inputs)]
    return [one(f"input {i}", said) for i, said in enumerate(inputs)]
