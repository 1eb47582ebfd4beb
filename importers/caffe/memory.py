"""Which blobs of Caffe lie in the same memory, and who reads one after another layer has written over it.

Flatten, Reshape and Split give the memory of their bottom under another name. A layer that then works in
place writes over the bottom as well: what reads that later gets the changed numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from importers.caffe.net import Layer, Ref

__all__ = ["Overwritten", "overwritten"]

SHARING = frozenset(["Flatten", "Reshape", "Split"])
SHARING_ALONE = frozenset(["Concat", "Slice"])
"""Layers that share the memory of their bottom where they have one bottom and one top."""


@dataclass(frozen=True)
class Overwritten:
    """`reader` reads `blob` after `writer` has written over it."""

    reader: Layer
    blob: str
    writer: Layer


@dataclass
class _Memory:
    version: int = 0
    writer: Layer | None = None


def overwritten(layers: Sequence[Layer]) -> Iterator[Overwritten]:
    """Every layer, in order, that reads what is no longer there."""
    held: dict[Ref, tuple[_Memory, int]] = {}
    for layer in layers:
        found = [held.setdefault(ref, (_Memory(), 0)) for ref in layer.bottoms]
        for ref, (memory, version) in zip(layer.bottoms, found, strict=True):
            if memory.version != version and memory.writer is not None:
                yield Overwritten(layer, ref.blob, memory.writer)
        tops = list(layer.message.top)
        shares = layer.type in SHARING or (layer.type in SHARING_ALONE and len(found) == len(tops) == 1)
        for index, blob in enumerate(tops):
            ref = Ref(blob, layer, index)
            if index < len(layer.bottoms) and layer.bottoms[index].blob == blob:
                memory = found[index][0]
                memory.version += 1
                memory.writer = layer
                held[ref] = (memory, memory.version)
            elif shares and found:
                held[ref] = found[0]
            else:
                held[ref] = (_Memory(), 0)
