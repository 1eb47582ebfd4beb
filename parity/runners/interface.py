"""What a converted model says of its source's inputs and outputs, so that the two can be compared.

A writer puts it into the file as JSON: into a comment of a text (`# hub: {...}`), or where a format has room.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.runners import Array, LoadFailed, Port, RunFailed, single_line

__all__ = ["LINE", "Interface", "Shape"]

Shape = Sequence[int | str | None]

LINE = "its line '# hub: ...'"
_HEADER = re.compile(r"#\s*hub:\s*(.*)")
_KINDS = ("inputs", "outputs", "layers")


@dataclass(frozen=True)
class _Tensor:
    """What is known of one input or output. All of it is optional."""

    shape: tuple[int | str | None, ...] | None = None
    dtype: str | None = None
    perm: tuple[int, ...] | None = None
    reverse_channels: bool = False
    scale: Array | None = None
    mean: Array | None = None
    holds: str | None = None


@dataclass(frozen=True)
class Interface:
    """What a model file says of its source's inputs and outputs, in JSON, in the place `where`.

    A net takes and gives float32 in its own layout. The source's input becomes the net's by
    `transpose(perm)`, then the reversal of axis 1 with `reverse_channels`, then `/ scale + mean`
    (numbers, or one per entry of axis 1); the net's output becomes the source's by `transpose(perm)`
    and a cast to `dtype`. `shape` and `dtype` are the source's. What leaves one of the `layers` becomes
    the source's in the same way; it may hold what leaves another layer, which was folded into it. `precision` is
    what the net computes in, or keeps its weights in; with `before` false, what goes into the activation of an output
    is other than the source's where that does not matter, such as masks.
    """

    inputs: Mapping[str, _Tensor] = field(default_factory=dict)
    outputs: Mapping[str, _Tensor] = field(default_factory=dict)
    layers: Mapping[str, _Tensor] = field(default_factory=dict)
    where: str = LINE
    precision: str = "float32"
    before: bool = True

    @classmethod
    def read(cls, text: str) -> Interface:
        """From the comments with which a text begins.

        Raises:
            LoadFailed: the line is malformed.
        """
        for line in text.split("\n"):
            if line.strip() and not line.lstrip().startswith("#"):
                break
            if match := _HEADER.match(line.strip()):
                return cls.parse(match[1])
        return cls()

    @classmethod
    def parse(cls, text: str, where: str = LINE) -> Interface:
        """From its JSON.

        Raises:
            LoadFailed: it is malformed.
        """
        try:
            data = json.loads(text)
            inputs, outputs, layers = ({n: _tensor(v) for n, v in data.get(k, {}).items()} for k in _KINDS)
            precision = str(data.get("precision", "float32"))
            return cls(inputs, outputs, layers, where, precision, bool(data.get("before", True)))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise LoadFailed(f"{where} is malformed: {single_line(error)}") from error

    def check(self, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape | None]) -> None:
        """Compare it with the shapes of the net's blobs, where they are known.

        Raises:
            LoadFailed: it speaks of an input or output that the net has not, or does not fit its shape.
        """
        both: tuple[tuple[str, Mapping[str, _Tensor], Mapping[str, Shape | None]], ...] = (
            ("input", self.inputs, {**inputs}),
            ("output", self.outputs, outputs),
        )
        for what, said, shapes in both:
            for name, tensor in said.items():
                if name not in shapes:
                    raise LoadFailed(f"{self.where} names the {what} {name!r}, which the net does not have")
                if (shape := shapes[name]) is None:
                    continue
                rank = len(shape)
                fits = all(x is None or len(x) == rank for x in (tensor.shape, tensor.perm))
                channels = [x.size for x in (tensor.scale, tensor.mean) if x is not None and x.ndim]
                if not fits or (channels and (rank < 2 or {*channels} != {shape[1]})):
                    raise LoadFailed(f"{self.where} does not fit the {what} {name!r} of shape {[*shape]}")

    def port(self, name: str, shape: Shape) -> Port:
        """The source's input that is the net's input `name` of `shape`."""
        known = self.inputs.get(name, _Tensor())
        return Port(name, known.dtype or "float32", known.shape or tuple(shape))

    def to_net(self, names: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The net's inputs `names`, float32, from the source's.

        Raises:
            RunFailed: one is not given, or has another number of axes.
        """
        if missing := [name for name in names if name not in feeds]:
            raise RunFailed(f"the input {missing[0]!r} is not given")
        return {name: np.asarray(self.arranged_input(name, feeds[name]), np.float32, order="C") for name in names}

    def arranged_input(self, name: str, array: Array) -> Array:
        """The net's input `name` from the source's, before it is brought to the net's type.

        Raises:
            RunFailed: it has another number of axes.
        """
        known = self.inputs.get(name, _Tensor())
        if known.perm is not None:
            if array.ndim != len(known.perm):
                raise RunFailed(f"the input {name!r} has {array.ndim} axes in place of {len(known.perm)}")
            array = array.transpose(known.perm)
        if known.reverse_channels:
            array = array[:, ::-1]
        if known.scale is not None:
            array = array / _per_channel(known.scale, array.ndim)
        if known.mean is not None:
            array = array + _per_channel(known.mean, array.ndim)
        return array

    def from_net(self, name: str, array: Array) -> Array:
        """The source's output from the net's."""
        known = self.outputs.get(name, _Tensor())
        array = self.arranged(name, array)
        return array.astype(known.dtype) if known.dtype else array

    def arranged(self, name: str, array: Array) -> Array:
        """A value of the shape of the output `name` in the source's layout."""
        return _transposed(array, self.outputs.get(name))

    def named(self, types: Mapping[str, str]) -> dict[str, str]:
        """The layers of the net, and their types, under the names of the source's layers whose values they hold."""
        return {self.layers.get(name, _Tensor()).holds or name: kind for name, kind in types.items()}

    def flowing(self, flow: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """What feeds which layer, under the same names."""
        held = {name: layer.holds or name for name, layer in self.layers.items()}
        return {held.get(name, name): [held.get(other, other) for other in others] for name, others in flow.items()}

    def asked(self, tap: str) -> str:
        """The tap of the net that gives what is asked for by the source's name of a layer."""
        kind, _, name = tap.partition(":")
        holders = [holder for holder, known in self.layers.items() if known.holds == name]
        return f"{kind}:{holders[0]}" if holders else tap

    def tapped(self, tap: str, array: Array) -> Array:
        """What leaves the layer of the tap "exit:NAME", in the source's layout."""
        return _transposed(array, self.layers.get(tap.partition(":")[2]))


def _transposed(array: Array, known: _Tensor | None) -> Array:
    perm = None if known is None else known.perm
    return array.transpose(perm) if perm is not None and len(perm) == array.ndim else array


def _per_channel(numbers: Array, rank: int) -> Array:
    return numbers.reshape(-1, *[1] * (rank - 2)) if numbers.ndim else numbers


def _tensor(values: Any) -> _Tensor:
    """One entry of the header; ValueError or TypeError if it is not as it has to be."""
    if unknown := set(values) - set(_Tensor.__dataclass_fields__):
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
    shape, dtype, perm = values.get("shape"), values.get("dtype"), values.get("perm")
    if shape is not None and not all(isinstance(dim, (int, str, type(None))) for dim in shape):
        raise ValueError(f"shape {shape}")
    if dtype is not None and np.dtype(dtype).kind not in "biuf":
        raise ValueError(f"dtype {dtype}")
    if perm is not None and sorted(perm) != [*range(len(perm))]:
        raise ValueError(f"perm {perm}")
    holds = values.get("holds")
    if not isinstance(holds, str | None):
        raise ValueError(f"holds {holds!r}")
    scale, mean = (None if values.get(k) is None else np.asarray(values[k], np.float64) for k in ("scale", "mean"))
    if any(x is not None and (x.ndim > 1 or not np.isfinite(x).all()) for x in (scale, mean)):
        raise ValueError("scale and mean are numbers, or lists of numbers")
    return _Tensor(
        None if shape is None else tuple(shape),
        None if dtype is None else np.dtype(dtype).name,
        None if perm is None else tuple(perm),
        bool(values.get("reverse_channels", False)),
        scale,
        mean,
        holds,
    )
