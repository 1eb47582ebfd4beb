"""Which layer of one side is which of the other, and how each is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from parity.sides import Side

__all__ = ["common_layers", "flow_of", "layer_tap", "named_alike", "wholes"]


def layer_tap(name: str, side: Side, other: Side) -> str:
    """How to ask `side` for the layer `name`, so that it is the same value as what `other` calls so."""
    grain, others = side.runner.grain, other.runner.grain
    if others == "core" and grain != "core":
        return f"core:{name}"
    if grain == "parts" and others == "whole" and not any(n.startswith(f"{name}/") for n in other.runner.layers):
        return f"exit:{name}"
    return f"layer:{name}"


def wholes(name: str) -> list[str]:
    """The layers that "a/b/c" or "a.b.c" may be a part of: "a", and "a/b" or "a.b"."""
    return [name[:i] for i, character in enumerate(name) if character in "/."]


def common_layers(a: Side, b: Side) -> list[tuple[str, str]]:
    """The layers that both sides know: by name, else by the name as an identifier where it is unique."""
    ours, theirs = _identifiers(a.runner.layers), _identifiers(b.runner.layers)
    pairs = []
    for name in a.runner.layers:
        if name in b.runner.layers:
            pairs.append((name, name))
        elif ours.get(_identifier(name)) == name and (other := theirs.get(_identifier(name))) is not None:
            pairs.append((name, other))
    return pairs


def flow_of(a: Side, b: Side, common: Sequence[tuple[str, str]]) -> Mapping[str, Sequence[str]] | None:
    """For each layer of `a` those that feed it, as `a` says it, else as `b` does; None if neither knows."""
    if ours := _flow(a):
        return ours
    names = {theirs: ours for ours, theirs in common}
    theirs = _flow(b)
    return {names.get(name, name): [names.get(other, other) for other in others]
            for name, others in theirs.items()} or None  # fmt: skip


def _flow(side: Side) -> Mapping[str, Sequence[str]]:
    """As the runtime says it, else as hub reads the source."""
    return side.runner.flow or (side.recorded.flow if side.recorded is not None else {})


def named_alike(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is the same, else the only one that is the same as an identifier."""
    known = list(names)
    return name if name in known else _identifiers(known).get(_identifier(name))


def _identifiers(names: Iterable[str]) -> dict[str, str]:
    """Names by what they are as identifiers, where that is one of them only."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_identifier(name), []).append(name)
    return {key: same[0] for key, same in found.items() if len(same) == 1}


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()
