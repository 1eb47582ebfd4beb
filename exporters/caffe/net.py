"""A Caffe net before it is written: layers and the blobs between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from exporters.constants import Constant

__all__ = ["Blob", "Layer", "Size"]

Size: TypeAlias = "int | str"
"""A size, or the name of the one that is open: the batch."""


@dataclass(eq=False)
class Blob:
    """A value between layers: float32, whatever it counts or says. `layer` makes it; None for an input."""

    shape: tuple[Size, ...]
    layer: Layer | None = None
    name: str = ""

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(eq=False)
class Layer:
    """One layer. `source` is the source layer that it comes from, `role` what it does for it.

    An empty `role` says that it is the layer that bears the source layer's name.
    """

    type: str
    bottoms: list[Blob]
    tops: list[Blob]
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    blobs: Sequence[Constant] = ()
    source: str = ""
    role: str = ""
    name: str = ""
