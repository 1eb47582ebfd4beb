"""The names of source layers in the code of blocks: parts of them become parameters.

Where a function stands for `conv2_block1_1_conv` and for `conv3_block2_1_conv`, its code says
`f"{name}_1_conv"` and its callers `"conv2_block1"` and `"conv3_block2"`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporters.codegen.names import identifier, unique
from exporters.codegen.program import Block, Literal, Member, NameSlot, Step, expressions, references

__all__ = ["Naming", "name_slots"]

_MOST = 3
Source = Callable[[Sequence[str]], str]
"""A text that an instance's names say."""


@dataclass
class Naming:
    """What a block says for its slots: `parameters` by name, and each slot as pieces, texts and parameters."""

    parameters: list[str] = field(default_factory=list)
    numbers: list[bool] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    slots: dict[int, list[str | int]] = field(default_factory=dict)
    calls: dict[Member, list[list[str | int]]] = field(default_factory=dict)

    def arguments(self, names: Sequence[str]) -> list[str | int]:
        """The values of the parameters for an instance outside of all blocks."""
        texts = [source(names) for source in self.sources]
        return [int(t) if number else t for t, number in zip(texts, self.numbers, strict=True)]


def name_slots(blocks: Sequence[Block], reserved: Iterable[str]) -> dict[Block, Naming]:
    """How the code of each block names layers. A block comes after those that it uses."""
    done: dict[Block, Naming] = {}
    for block in blocks:
        taken = {*reserved, *(p.name for p in block.parameters)}
        done[block] = _naming(block, done, taken)
    return done


def _naming(block: Block, done: dict[Block, Naming], taken: set[str]) -> Naming:
    naming = Naming()
    places: list[tuple[Source, Any]] = []
    for slot in _direct(block.scope.steps):
        places.append((_at(slot), slot))
    for member in _calls(block.scope.steps):
        inner = done[member.block]  # type: ignore[index]
        naming.calls[member] = [[] for _ in inner.sources]
        for number, source in enumerate(inner.sources):
            places.append((_through(source, member.names), (member, number)))
    rows = [instance.names for instance in block.instances]
    vectors = [tuple(source(row) for row in rows) for source, _ in places]
    parts = _factored(vectors)
    for (_, place), pieces in zip(places, parts.pieces, strict=True):
        if isinstance(place, int):
            naming.slots[place] = pieces
        else:
            naming.calls[place[0]][place[1]] = pieces
    for word, vector, (index, start, end) in parts.parameters:
        naming.parameters.append(unique(identifier(word, taken, "name"), taken))
        naming.numbers.append(all(re.fullmatch(r"0|[1-9]\d*", text) for text in vector))
        naming.sources.append(_part(places[index][0], start, end))
    return naming


def _direct(steps: Sequence[Step]) -> list[int]:
    """The slots that the code itself names."""
    found: dict[int, None] = {}
    for step in steps:
        for part in expressions(step.expression):
            if isinstance(part, Literal) and isinstance(part.value, NameSlot):
                found.setdefault(part.value.index)
        for member in references(step.expression):
            found.update((a.value.index, None) for a in member.arguments if isinstance(a.value, NameSlot))
    return list(found)


def _calls(steps: Sequence[Step]) -> Iterator[Member]:
    seen = set()
    for step in steps:
        for member in references(step.expression):
            if member.block is not None and member not in seen:
                seen.add(member)
                yield member


def _at(slot: int) -> Source:
    return lambda names: str(names[slot])


def _through(source: Source, slots: Sequence[Any]) -> Source:
    return lambda names: source([names[s.index] if isinstance(s, NameSlot) else s for s in slots])


def _part(source: Source, start: int, end: int | None) -> Source:
    return lambda names: "".join(_words(source(names))[start:end])


# -- factoring ----------------------------------------------------------------------------------------------


@dataclass
class _Parts:
    """Parameters as (a word for the name, values, (vector, first word, end)); every vector as pieces."""

    parameters: list[tuple[str, tuple[str, ...], tuple[int, int, int | None]]]
    pieces: list[list[str | int]]


def _words(text: str) -> list[str]:
    """Numbers, words, and what is between them."""
    return re.findall(r"\d+|[A-Za-z]+|[^A-Za-z\d]+", text)


def _factored(vectors: Sequence[tuple[str, ...]]) -> _Parts:
    varying = [k for k, vector in enumerate(vectors) if len(set(vector)) > 1]
    parts = (_by_prefix(vectors, varying) if varying else _Parts([], [])) or _by_words(vectors, varying)
    pieces = dict(zip(varying, parts.pieces, strict=True))
    return _Parts(parts.parameters, [pieces.get(k, [vector[0]]) for k, vector in enumerate(vectors)])


def _by_prefix(vectors: Sequence[tuple[str, ...]], varying: Sequence[int]) -> _Parts | None:
    """One parameter, with which all names of an instance begin."""
    count = len(vectors[varying[0]])
    words = [[_words(vectors[k][i]) for k in varying] for i in range(count)]
    length = [_shared(row) for row in words]
    rests = [[tuple(row[length[i] :]) for row in words[i]] for i in range(count)]
    if any(rest != rests[0] for rest in rests) or 0 in length:
        return None
    prefixes = [words[i][0][: length[i]] for i in range(count)]
    while all(len(p) > 1 and not p[-1][-1].isalnum() for p in prefixes) and len({p[-1] for p in prefixes}) == 1:
        last = prefixes[0][-1]
        prefixes = [p[:-1] for p in prefixes]
        rests[0] = [(last, *rest) for rest in rests[0]]
    start, end = 0, len(prefixes[0])
    if len({len(p) for p in prefixes}) == 1:
        differing = [n for n in range(end) if len({p[n] for p in prefixes}) > 1]
        if len(differing) == 1:
            start, end = differing[0], differing[0] + 1
    else:
        return _Parts(
            [("name", tuple("".join(p) for p in prefixes), (varying[0], 0, -len(rests[0][0]) or None))],
            [[0, "".join(rest)] if rest else [0] for rest in rests[0]],
        )
    whole = (start, end) == (0, len(prefixes[0]))
    head, tail = "".join(prefixes[0][:start]), "".join(prefixes[0][end:])
    values = tuple("".join(p[start:end]) for p in prefixes)
    word = "name" if whole or not values[0].isdigit() else "number"
    pieces = [[p for p in (head, 0, tail + "".join(rest)) if p != ""] for rest in rests[0]]
    return _Parts([(word, values, (varying[0], start, end))], pieces)


def _shared(rows: Sequence[Sequence[str]]) -> int:
    length = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return length


def _by_words(vectors: Sequence[tuple[str, ...]], varying: Sequence[int]) -> _Parts:
    """A parameter for each word that differs; names that do not agree in their form are parameters as they are."""
    parameters: dict[tuple[str, ...], tuple[str, tuple[int, int, int | None]]] = {}
    pieces: list[list[str | int]] = []

    def parameter(values: tuple[str, ...], word: str, place: tuple[int, int, int | None]) -> int:
        parameters.setdefault(values, (word, place))
        return list(parameters).index(values)

    for k in varying:
        rows = [_words(text) for text in vectors[k]]
        if len({len(row) for row in rows}) > 1:
            pieces.append([parameter(vectors[k], "name", (k, 0, None))])
            continue
        columns = list(zip(*rows, strict=True))
        row: list[str | int] = []
        for position, column in enumerate(columns):
            if len(set(column)) == 1:
                row.append(column[0])
                continue
            word = "number" if all(text.isdigit() for text in column) else "name"
            row.append(parameter(column, word, (k, position, position + 1)))
        pieces.append(_joined(row))
    if len(parameters) > _MOST:
        found = {vectors[k]: (k, 0, None) for k in varying}
        order = list(found)
        whole = [("name", values, place) for values, place in found.items()]
        return _Parts(whole, [[order.index(vectors[k])] for k in varying])  # type: ignore[arg-type]
    return _Parts([(word, values, place) for values, (word, place) in parameters.items()], pieces)


def _joined(pieces: Iterable[str | int]) -> list[str | int]:
    result: list[str | int] = []
    for piece in pieces:
        if isinstance(piece, str) and result and isinstance(result[-1], str):
            result[-1] += piece
        else:
            result.append(piece)
    return result
