"""Lines that differ in a number that counts up become a loop."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

__all__ = ["COUNTER", "loops"]

COUNTER = "number"
_LEAST = 3
_PIECES = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.])(?<!\de[-+])\d+(?![\w.])')


def loops(lines: Sequence[str], counter: str = COUNTER) -> Iterator[tuple[int, str]]:
    """The lines with their indent; what only counts up as a loop over `counter`, which no line may use."""
    position = 0
    while position < len(lines):
        end, first, places = _run(lines, position)
        if end - position < _LEAST:
            yield 0, lines[position]
            position += 1
            continue
        yield 0, f"for {counter} in range({first}, {first + end - position}):"
        yield 4, _counting(_split(lines[position]), places, counter)
        position = end


def _split(line: str) -> list[str]:
    """Code and, at odd places, whole numbers and parts of strings between quotes, numbers apart."""
    parts, last = [], 0
    for match in _PIECES.finditer(line):
        parts += [line[last : match.start()], match.group()]
        last = match.end()
    return [*parts, line[last:]]


def _digits(part: str) -> list[str]:
    return re.split(r"((?<!\d)(?:0|[1-9]\d*)(?!\d))", part)


def _run(lines: Sequence[str], start: int) -> tuple[int, int, set[tuple[int, int]]]:
    """Where the lines that count up from `start` on end, the first number, and where in a line it stands."""
    before = [_digits(part) for part in _split(lines[start])]
    places: set[tuple[int, int]] = set()
    first, end = 0, start + 1
    for line in lines[start + 1 :]:
        after = [_digits(part) for part in _split(line)]
        found = _step(before, after)
        if found is None or (end > start + 1 and found[1] != places) or not found[1]:
            break
        first, places = (found[0] if end == start + 1 else first), found[1]
        before, end = after, end + 1
    return end, first, places


def _step(before: list[list[str]], after: list[list[str]]) -> tuple[int, set[tuple[int, int]]] | None:
    """The number that is one more in the second line, and where; None if that is not all that differs."""
    if [len(p) for p in before] != [len(p) for p in after]:
        return None
    numbers, places = set(), set()
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        for k, (a, b) in enumerate(zip(old, new, strict=True)):
            if a == b:
                continue
            if i % 2 == 0 or k % 2 == 0 or int(b) != int(a) + 1:
                return None
            numbers.add(int(a))
            places.add((i, k))
    return (numbers.pop(), places) if len(numbers) == 1 else None


def _counting(parts: list[str], places: set[tuple[int, int]], counter: str) -> str:
    """The line with the counter where it counts."""
    text = []
    for i, part in enumerate(parts):
        digits = _digits(part)
        counted = [k for p, k in places if p == i]
        if not counted:
            text.append(part)
        elif part.startswith('"'):
            text.append("f" + "".join(f"{{{counter}}}" if k in counted else d for k, d in enumerate(digits)))
        else:
            text.append(counter)
    return "".join(text)
