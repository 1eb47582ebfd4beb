"""The one place where text that comes from a model becomes part of generated code.

Model files are hostile until proven otherwise: whatever a layer, an input or the model itself is
called passes through `identifier`, `class_name`, `literal` or `prose` before it is written.
"""

from __future__ import annotations

import builtins
import keyword
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["Code", "Name", "bare", "class_name", "common", "identifier", "literal", "prose", "tokens", "unique"]

_MAX_IDENTIFIER = 60
_PYTHON = frozenset(keyword.kwlist) | frozenset(keyword.softkwlist) | frozenset(dir(builtins))


class Code(str):
    """Text that this package itself wrote, such as `torch.float32`: a literal as it stands."""

    __slots__ = ()


class Name(str):
    """The name of a layer of the source, or of its weights, where it stands in code."""

    __slots__ = ()


def tokens(name: str) -> tuple[str, ...]:
    """The words of a layer name: split where it is not alphanumeric ASCII."""
    ascii_name = unicodedata.normalize("NFKD", name[:1000]).encode("ascii", "ignore").decode()
    return tuple(re.findall(r"[A-Za-z0-9]+", ascii_name))


def bare(word: str) -> str:
    """A word without its number: `conv2d` and `conv` of `conv2d_1`, `block` of `block2a`."""
    return re.sub(r"\d+[a-z]?$", "", word).lower()


def common(words: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The words that all names begin with."""
    shared = []
    for column in zip(*words, strict=False):
        if len(set(column)) != 1:
            break
        shared.append(column[0])
    return tuple(shared)


def identifier(name: str, reserved: Iterable[str] = (), fallback: str = "layer") -> str:
    """A legal, unsurprising Python name in ASCII made of the words of `name`.

    Words that begin with a digit go to the end of what follows them (`1_conv` gives `conv1`); a
    keyword, a builtin or a reserved name gets an underscore.
    """
    words = list(tokens(name))
    lead: list[str] = []
    while words and words[0][0].isdigit():
        lead.append(words.pop(0))
    if lead and words:
        words[0:1] = [words[0] + ("_" if words[0][-1].isdigit() else "") + "_".join(lead)]
    elif lead:
        words = [fallback, *lead]
    text = "_".join(words)[:_MAX_IDENTIFIER].strip("_") or fallback
    if text in _PYTHON or text in frozenset(reserved):
        text += "_"
    return text


def class_name(name: str, fallback: str = "Network") -> str:
    """A legal class name in CamelCase."""
    words = list(tokens(name))
    while words and words[0][0].isdigit():
        words.append(words.pop(0)) if any(not w[0].isdigit() for w in words) else words.pop(0)
    if sum(word.isdigit() for word in words) > 1:
        words = [word for word in words if not word.isdigit()] or words
    text = "".join(word[0].upper() + word[1:] for word in words)[:_MAX_IDENTIFIER] or fallback
    return text + "_" if text in _PYTHON else text


def unique(name: str, taken: set[str]) -> str:
    """`name`, or `name` with the lowest number that makes it new; it is added to `taken`."""
    candidate, number = name, 2
    while candidate in taken:
        candidate = f"{name}_{number}" if name[-1:].isdigit() else f"{name}{number}"
        number += 1
    taken.add(candidate)
    return candidate


def literal(value: object) -> str:
    """The Python literal of a plain value. Strings from a model are legal here."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, float):
        if math.isfinite(value):
            return repr(float(value))
        return "math.nan" if math.isnan(value) else "math.inf" if value > 0 else "-math.inf"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (tuple, list)):
        return _sequence(value)
    raise TypeError(f"no literal for {type(value).__name__}")


def _sequence(value: Sequence[object]) -> str:
    items = ", ".join(literal(item) for item in value)
    if isinstance(value, list):
        return f"[{items}]"
    return f"({items},)" if len(value) == 1 else f"({items})"


def _string(value: str) -> str:
    """A double-quoted ASCII string literal."""
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _escaped(character: str) -> str:
    if character in '\\"':
        return "\\" + character
    if " " <= character <= "~":
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def prose(text: str, limit: int = 200) -> str:
    """Text from a model made harmless for docstrings and comments: one line, no quote, no escape."""
    words = "".join(c if c.isprintable() and c not in "\\\"'`" else " " for c in text[: 4 * limit])
    clean = " ".join(words.split()).encode("ascii", "replace").decode()
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."
