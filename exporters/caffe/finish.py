"""From layers to a net: what is used, in place where that is safe, named as a Caffe user would."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from exporters.caffe.net import Blob, Layer

__all__ = ["finish"]

IN_PLACE = frozenset({"ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "BatchNorm", "Scale", "Bias", "Power", "Dropout"})
"""Layers whose result may overwrite their first bottom, as people write them."""

_SHARING = frozenset({"Reshape", "Flatten", "Split", "Input", "Parameter", "DummyData", "Slice", "Concat"})
"""Layers whose top may be the memory of their bottom, or must stay what it is."""


def finish(
    layers: Sequence[Layer], inputs: Sequence[Blob], outputs: Mapping[str, Blob], exits: Mapping[str, Blob]
) -> list[Layer]:
    """The layers of the finished net, all named; the blobs of `outputs` bear their names.

    A blob that something else uses too, that is an input or is given out twice is given out through Splits: in
    Caffe only what no layer uses is an output. What nothing uses is silenced, for the same reason.
    """
    result = _used(layers, outputs.values())
    names: dict[Blob, str] = {}
    consumed = {bottom for layer in result for bottom in layer.bottoms}
    given = Counter(outputs.values())
    for name, blob in outputs.items():
        if blob in consumed or blob in inputs or given[blob] > 1:
            split = Layer("Split", [blob], [], source=blob.layer.source if blob.layer else "", role="output")
            split.tops = [Blob(blob.shape, split)]
            result.append(split)
            blob = split.tops[0]
        names[blob] = name
    merged = _in_place(result, set(inputs), names)
    _silence(result, inputs, set(names))
    _name(result, inputs, names, {source: merged.get(blob, blob) for source, blob in exits.items()})
    return result


def _used(layers: Sequence[Layer], outputs: Iterable[Blob]) -> list[Layer]:
    """The layers that the outputs need, in order."""
    wanted = set(outputs)
    kept = []
    for layer in reversed(layers):
        if any(top in wanted for top in layer.tops):
            kept.append(layer)
            wanted.update(layer.bottoms)
    return list(reversed(kept))


def _in_place(layers: Sequence[Layer], inputs: set[Blob], names: dict[Blob, str]) -> dict[Blob, Blob]:
    """Let layers overwrite a bottom that nothing else uses; returns which blob became which."""
    users: dict[Blob, int] = defaultdict(int)
    for layer in layers:
        for bottom in layer.bottoms:
            users[bottom] += 1
    merged: dict[Blob, Blob] = {}
    for layer in layers:
        layer.bottoms = [merged.get(bottom, bottom) for bottom in layer.bottoms]
        if layer.type not in IN_PLACE or not layer.bottoms:
            continue
        bottom, top = layer.bottoms[0], layer.tops[0]
        safe = bottom.layer is not None and bottom.layer.type not in _SHARING and bottom not in inputs
        if not safe or users[bottom] != 1 or bottom in names or bottom.shape != top.shape:
            continue
        merged[top] = bottom
        users[bottom] = users[top]
        if top in names:
            names[bottom] = names.pop(top)
        layer.tops = [bottom]
    for old in list(merged):
        while merged[old] in merged:
            merged[old] = merged[merged[old]]
    return merged


def _silence(layers: list[Layer], inputs: Sequence[Blob], outputs: set[Blob]) -> None:
    consumed = {bottom for layer in layers for bottom in layer.bottoms}
    tops = dict.fromkeys([*inputs, *(top for layer in layers for top in layer.tops)])
    if unused := [top for top in tops if top not in consumed and top not in outputs]:
        layers.append(Layer("Silence", unused, [], source="silence"))


def _name(
    layers: Sequence[Layer], inputs: Sequence[Blob], names: Mapping[Blob, str], exits: Mapping[str, Blob]
) -> None:
    taken = {blob.name for blob in inputs}
    groups: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        groups[layer.source].append(layer)
    main = {}
    for source, group in groups.items():
        main[source] = next((layer for layer in group if not layer.role), group[-1])
    sources = set(groups)
    for source, group in groups.items():
        for layer in group:
            if layer is main[source] and source:
                layer.name = _unique(source, taken)
    for source, group in groups.items():
        for layer in group:
            if not layer.name:
                role = layer.role or layer.type.lower()
                layer.name = _unique(f"{source}/{role}" if source else role, taken | sources)
                taken.add(layer.name)

    blobs = {blob.name for blob in inputs}
    for blob, name in names.items():
        blob.name = _unique(name, blobs)
    made = {top for layer in layers for top in layer.tops}
    for source, blob in exits.items():
        if blob in made and not blob.name and source not in blobs:
            blob.name = _unique(source, blobs)
    for layer in layers:
        for number, top in enumerate(layer.tops):
            if not top.name:
                name = f"{layer.name}/{layer.type.lower()}" if layer.name in blobs else layer.name
                top.name = _unique(name if number == 0 else f"{layer.name}_{number}", blobs)


def _unique(name: str, taken: set[str]) -> str:
    """`name`, or with the first number that makes it new; taken from then on."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate
