"""The names of source layers in the code of blocks: parts of them become parameters.

Where a function stands for `conv2_block1_1_conv` and for `conv3_block2_1_conv`, its code says
`f"{name}_1_conv"` and its callers `"conv2_block1"` and `"conv3_block2"`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from exporters.codegen.names import identifier, unique
from exporters.codegen.program import Block, Literal, Member, NameSlot, Step, expressions, references

__all__ = ["Naming", "Piece", "form", "name_slots", "parameters_needed"]

_MOST = 4
Piece: TypeAlias = "str | tuple[int, int]"
"""A part of a name: a text, or a parameter by its number and what is added to it."""

Source = Callable[[Sequence[str]], str]
"""A text that an instance's names say."""


@dataclass
class Naming:
    """What the code of a block says for its slots and calls of other blocks: `parameters` by name, and pieces."""

    parameters: list[str] = field(default_factory=list)
    numbers: list[bool] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    slots: dict[int, list[Piece]] = field(default_factory=dict)
    calls: dict[Member, list[list[Piece]]] = field(default_factory=dict)

    def arguments(self, names: Sequence[str]) -> list[str | int]:
        """The values of the parameters for an instance outside of all blocks."""
        texts = [source(names) for source in self.sources]
        return [int(t) if number else t for t, number in zip(texts, self.numbers, strict=True)]


def name_slots(blocks: Sequence[Block], reserved: Iterable[str]) -> dict[Block, Naming]:
    """How the code of each block names layers. A block comes after those that it uses."""
    done: dict[Block, Naming] = {}
    for block in blocks:
        done[block] = _naming(block, done, {*reserved, *(p.name for p in block.parameters)})
    return done


def form(name: str) -> str:
    """What a name looks like apart from its numbers."""
    return re.sub(r"\d+", "0", name)


def parameters_needed(rows: Sequence[Sequence[str]]) -> int:
    """How many parameters a block has for the names of its instances."""
    return len(_factored(list(zip(*rows, strict=True))).parameters) if rows[0] else 0


def _naming(block: Block, done: dict[Block, Naming], reserved: set[str]) -> Naming:
    naming, taken = Naming(), set(reserved)
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
        naming.parameters.append(unique(identifier(word, reserved, "name"), taken))
        naming.numbers.append(all(_is_number(text) for text in vector))
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


Place: TypeAlias = "tuple[int, int, int | None]"
"""Where a parameter is read: the vector, the first word, the end."""


@dataclass
class _Parts:
    """Parameters as (a word for the name, values, place), and every vector as pieces."""

    parameters: list[tuple[str, tuple[str, ...], Place]] = field(default_factory=list)
    pieces: list[list[Piece]] = field(default_factory=list)


def _words(text: str) -> list[str]:
    """Numbers, words, and what is between them."""
    return re.findall(r"\d+|[A-Za-z]+|[^A-Za-z\d]+", text)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"0|[1-9]\d{0,8}", text) is not None


def _factored(vectors: Sequence[tuple[str, ...]]) -> _Parts:
    varying = [k for k, vector in enumerate(vectors) if len(set(vector)) > 1]
    parts = (_by_prefix(vectors, varying) if varying else _Parts()) or _by_words(vectors, varying)
    pieces = dict(zip(varying, parts.pieces, strict=True))
    return _Parts(parts.parameters, [pieces.get(k, [vector[0]]) for k, vector in enumerate(vectors)])


def _by_prefix(vectors: Sequence[tuple[str, ...]], varying: Sequence[int]) -> _Parts | None:
    """One parameter, with which all names of an instance begin."""
    words = [[_words(vectors[k][i]) for k in varying] for i in range(len(vectors[varying[0]]))]
    prefixes = [_shared(row) for row in words]
    rests = [[tuple(name[len(prefix) :]) for name in row] for row, prefix in zip(words, prefixes, strict=True)]
    if any(rest != rests[0] for rest in rests) or not all(prefixes):
        return None
    tails = rests[0]
    while all(len(p) > 1 and not p[-1][-1].isalnum() for p in prefixes) and len({p[-1] for p in prefixes}) == 1:
        tails = [(prefixes[0][-1], *tail) for tail in tails]
        prefixes = [p[:-1] for p in prefixes]
    start, end = 0, len(prefixes[0])
    place: Place = (varying[0], 0, -len(tails[0]) or None)
    if len({len(p) for p in prefixes}) == 1:
        differing = [n for n in range(end) if len({p[n] for p in prefixes}) > 1]
        if len(differing) == 1:
            start, end = differing[0], differing[0] + 1
            place = (varying[0], start, end)
        head, behind = "".join(prefixes[0][:start]), "".join(prefixes[0][end:])
        values = tuple("".join(p[start:end]) for p in prefixes)
    else:
        head = behind = ""
        values = tuple("".join(p) for p in prefixes)
    word = "number" if all(value.isdigit() for value in values) else "name"
    pieces = [_joined([head, (0, 0), behind + "".join(tail)]) for tail in tails]
    return _Parts([(word, values, place)], pieces)


def _shared(rows: Sequence[Sequence[str]]) -> list[str]:
    shared = []
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return shared


def _by_words(vectors: Sequence[tuple[str, ...]], varying: Sequence[int]) -> _Parts:
    """A parameter for each word that differs, one for all numbers that count alike.

    Names that do not agree in their form are parameters as they are.
    """
    rows = {k: [_words(text) for text in vectors[k]] for k in varying}
    columns: dict[tuple[int, int], tuple[str, ...]] = {}
    for k, names in rows.items():
        if len({len(name) for name in names}) == 1:
            columns.update(((k, n), column) for n, column in enumerate(zip(*names, strict=True)))
    found = _Found()
    for (k, n), column in sorted(columns.items(), key=lambda item: _order(item[1])):
        if len(set(column)) > 1:
            found.add(column, (k, n, n + 1))
    pieces: list[list[Piece]] = []
    for k, names in rows.items():
        if (k, 0) not in columns:
            pieces.append([found.add(vectors[k], (k, 0, None))])
            continue
        row = [columns[k, n] for n in range(len(names[0]))]
        pieces.append(_joined(c[0] if len(set(c)) == 1 else found.add(c, (k, n, n + 1)) for n, c in enumerate(row)))
    if len(found.parameters) > _MOST:
        found = _Found()
        pieces = [[found.add(vectors[k], (k, 0, None))] for k in varying]
    return _Parts(found.parameters, pieces)


def _order(column: tuple[str, ...]) -> int:
    """Small numbers first, so that others are more than they."""
    return int(column[0]) if _is_number(column[0]) else -1


@dataclass
class _Found:
    parameters: list[tuple[str, tuple[str, ...], Place]] = field(default_factory=list)
    classes: dict[Any, int] = field(default_factory=dict)

    def add(self, column: tuple[str, ...], place: Place) -> tuple[int, int]:
        """The parameter for a column, a new one if there is none."""
        numbers = all(_is_number(text) for text in column)
        key = tuple(int(text) - int(column[0]) for text in column) if numbers else column
        if key not in self.classes:
            self.classes[key] = len(self.parameters)
            word = "number" if all(text.isdigit() for text in column) else "name"
            self.parameters.append((word, column, place))
        index = self.classes[key]
        return index, int(column[0]) - int(self.parameters[index][1][0]) if numbers else 0


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    result: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and result and isinstance(result[-1], str):
            result[-1] += piece
        elif piece != "":
            result.append(piece)
    return result
