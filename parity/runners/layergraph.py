"""A Caffe net as its layers, which read and write blobs, also in place: where a value that is asked for is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from parity.runners import SQUASHING

__all__ = ["Capture", "Layer", "LayerGraph"]

_COMPUTING = frozenset({"Convolution", "Deconvolution", "InnerProduct", "BatchNorm", "Scale", "Bias", "LRN", "MVN"})
"""Layers of which one layer of the source may be made, its activation not counted."""

_PASSING = frozenset({"Reshape", "Flatten", "Split", "Dropout"})
"""Layers that change no number."""


@dataclass(frozen=True)
class Layer:
    """A layer and its blobs, which are names or numbers."""

    name: str
    type: str
    bottoms: list[Any]
    tops: list[Any]


@dataclass(frozen=True)
class Capture:
    """A blob, as it is after the `layers[layer]` has run."""

    layer: int
    blob: Any


class LayerGraph:
    """Layers in the order in which they run. `index` has those that can be asked for, without inputs and without
    the Split layers that Caffe inserts."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = list(layers)
        self.index = {
            layer.name: i
            for i, layer in enumerate(self.layers)
            if layer.type != "Input" and not (layer.type == "Split" and layer.name.endswith("_split"))
        }

    @property
    def types(self) -> dict[str, str]:
        """The layers that can be asked for, and their types."""
        return {name: self.layers[i].type for name, i in self.index.items()}

    @property
    def flow(self) -> dict[str, list[str]]:
        """By layer that can be asked for, those that feed it, through those that cannot."""
        reached: dict[int, list[str]] = {}
        flow: dict[str, list[str]] = {}
        for i, layer in enumerate(self.layers):
            makers = [self.producer(blob, i) for blob in layer.bottoms]
            feeding = list(dict.fromkeys(name for maker in makers if maker is not None for name in reached[maker]))
            if self.index.get(layer.name) == i:
                flow[layer.name] = [name for name in feeding if name != layer.name]
                feeding = [layer.name]
            reached[i] = feeding
        return flow

    def producer(self, blob: Any, before: int | None = None) -> int | None:
        """The last layer that writes `blob`, of those `before` a layer."""
        return next((i for i in reversed(range(len(self.layers))[:before]) if blob in self.layers[i].tops), None)

    def order(self, blob: Any) -> tuple[int, int]:
        """Where `blob` comes when blobs are put into the order in which they are finished."""
        position = self.producer(blob)
        return (-1, 0) if position is None else (position, self.layers[position].tops.index(blob))

    def capture(self, tap: str) -> Capture | None:
        """Where "layer:NAME", "exit:NAME" or "core:NAME" is; None if there is no such single value.

        "exit:NAME" is what leaves NAME and all layers NAME/..., of which a converter makes one layer of the
        source; "core:NAME" the same without the activation.
        """
        kind, _, name = tap.partition(":")
        if name not in self.index or kind not in ("layer", "exit", "core"):
            return None
        group = [self.index[name]]
        if kind != "layer":
            group = sorted([*group, *(i for other, i in self.index.items() if other.startswith(f"{name}/"))])
        if kind == "core" and self.layers[group[0]].type in _COMPUTING:
            group = [*takewhile(lambda i: self.layers[i].type in _COMPUTING, group)]
        tops = self._unsilenced(group[-1])
        return Capture(group[-1], tops[0]) if len(tops) == 1 else None

    def _unsilenced(self, position: int) -> list[Any]:
        """The tops of a layer that are not only there to be silenced, as what a Slice cuts off is."""
        following = self.layers[position + 1 :]
        users = [{layer.type for layer in following if top in layer.bottoms} for top in self.layers[position].tops]
        return [top for top, used in zip(self.layers[position].tops, users, strict=True) if used != {"Silence"}]

    def before_squashing(self, blob: Any) -> tuple[Capture, str] | None:
        """What goes into the squashing layer that an output comes from, if a layer computes it, and the
        type of that layer. Between it and the output there may be layers that change no number."""
        position = self.producer(blob)
        while position is not None and self.layers[position].bottoms:
            layer = self.layers[position]
            source = layer.bottoms[0]
            previous = self.producer(source, position)
            if layer.type.lower() in SQUASHING:
                if previous is None or not self._computed(previous):
                    return None
                return Capture(previous, source), layer.type
            if layer.type not in _PASSING:
                return None
            position = previous
        return None

    def _computed(self, position: int | None) -> bool:
        """Whether a layer computes something, and does not only hand on an input of the net."""
        while position is not None and (layer := self.layers[position]).type == "Split":
            position = self.producer(layer.bottoms[0], position)
        return position is not None and layer.type != "Input"
