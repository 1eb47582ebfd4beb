"""Lines of Python laid out as the usual formatters do: at most 100 columns, split at brackets."""

from __future__ import annotations

__all__ = ["WIDTH", "fits", "lay_out", "wrap_prose"]

WIDTH = 100
_OPEN, _CLOSE = "([{", ")]}"


def fits(line: str, indent: int) -> bool:
    return indent + len(line) <= WIDTH


def lay_out(line: str, indent: int) -> list[str]:
    """One logical line of code as one or more physical lines.

    A line that is too long is opened at its last top-level bracket: first with the content on one
    line, then with one item a line and a trailing comma.
    """
    pad = " " * indent
    if fits(line, indent):
        return [pad + line]
    split = _last_bracket(line)
    if split is None:
        return [pad + line]
    start, end = split
    head, body, tail = line[: start + 1], line[start + 1 : end], line[end:]
    items = _items(body)
    if not items:
        return [pad + line]
    starred = any(item.startswith("*") for item in items)
    if fits(body, indent + 4) and not body.endswith(","):
        return [pad + head, " " * (indent + 4) + body, pad + tail]
    lines = [pad + head]
    generator = len(items) == 1 and " for " in body
    alone = generator or _is_alone(line, start, body, items)
    for item in items:
        inner = lay_out(item if alone else item + ",", indent + 4)
        lines.extend(inner)
    if starred and generator:
        lines[-1] = lines[-1].rstrip(",")
    return [*lines, pad + tail]


def _is_alone(line: str, start: int, body: str, items: list[str]) -> bool:
    """Whether the bracket holds one index, or groups: a comma behind that would make a tuple of it."""
    follows = start > 0 and (line[start - 1].isalnum() or line[start - 1] in "_)]")
    single = len(items) == 1 and not body.rstrip().endswith(",")
    return single and (follows if line[start] == "[" else line[start] == "(" and not follows)


def _last_bracket(line: str) -> tuple[int, int] | None:
    """Where the last pair of brackets that stands at depth zero opens and closes."""
    depth, start, found = 0, 0, None
    for index, character, quoted in _characters(line):
        if quoted:
            continue
        if character in _OPEN:
            if depth == 0:
                start = index
            depth += 1
        elif character in _CLOSE:
            depth -= 1
            if depth == 0 and index > start + 1:
                found = (start, index)
    return found


def _items(body: str) -> list[str]:
    items, depth, begin = [], 0, 0
    for index, character, quoted in _characters(body):
        if quoted:
            continue
        if character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
        elif character == "," and depth == 0:
            items.append(body[begin:index].strip())
            begin = index + 1
    items.append(body[begin:].strip())
    return [item for item in items if item]


def _characters(text: str) -> list[tuple[int, str, bool]]:
    """(index, character, whether it is inside a string literal)."""
    result, inside, escaped = [], False, False
    for index, character in enumerate(text):
        if inside:
            result.append((index, character, True))
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        else:
            inside = character == '"'
            result.append((index, character, inside))
    return result


def wrap_prose(text: str, indent: int, hanging: int = 0) -> list[str]:
    """Words in lines of at most 100 columns."""
    lines, current, pad = [], "", " " * indent
    for word in text.split():
        if current and len(pad) + len(current) + 1 + len(word) > WIDTH:
            lines.append(pad + current)
            current, pad = word, " " * (indent + hanging)
        else:
            current = f"{current} {word}" if current else word
    return [*lines, pad + current] if current else lines
