"""Words of the command line as arguments of Python: sources, inputs, options, tolerances, images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hub.errors import UsageError

__all__ = ["images_of", "inputs_of", "options_of", "source_of", "tolerances_of"]


def source_of(text: str) -> Any:
    """A path, or the pair of paths that `structure,weights` is, unless a file has that very name."""
    parts = text.split(",")
    if len(parts) == 2 and all(parts) and not Path(text).exists():
        return (Path(parts[0]), Path(parts[1]))
    return Path(text)


DTYPES = frozenset("float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split())


def inputs_of(texts: Sequence[str]) -> dict[str, Any] | None:
    """`name:1x?xNx3` to {name: [1, None, "N", 3]}, `name:int64:1x12` to {name: ("int64", [1, 12])}, `name=False` to
    {name: False}. The name may hold colons; `name:scalar` has no axes."""
    inputs: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        given: Any = _value(value)
        if not equals:
            name, colon, dims = text.rpartition(":")
            parts = [] if dims == "scalar" else dims.split("x")
            if not colon or not all(re.fullmatch(r"\d{1,9}|\?|[A-Za-z_]\w*", part) for part in parts):
                raise UsageError(
                    f"--input {text}: write it as NAME:1x224x224x3, with ? or a word for a free size; as "
                    f"NAME:int64:1x12 with a type; or as NAME=VALUE"
                )
            given = [int(part) if part.isdigit() else None if part == "?" else part for part in parts]
            outer, colon, dtype = name.rpartition(":")
            if colon and dtype in DTYPES:
                name, given = outer, (dtype, given)
        if not name:
            raise UsageError(f"--input {text}: write the name of the input first, as NAME:1x224x224x3")
        if name in inputs:
            raise UsageError(f"--input {name} is given twice")
        inputs[name] = given
    return inputs or None


def options_of(texts: Sequence[str]) -> dict[str, Any]:
    """`name=value` to keyword arguments: true and false, numbers, lists of them with commas, else text."""
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise UsageError(f"--option {text}: write it as NAME=VALUE")
        if name in options:
            raise UsageError(f"--option {name} is given twice")
        parts = [_value(part.strip()) for part in value.split(",")]
        options[name] = parts if len(parts) > 1 and all(isinstance(p, int | float) for p in parts) else _value(value)
    return options


def _value(text: str) -> Any:
    """A truth value, a number, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def tolerances_of(words: Sequence[str]) -> float | dict[str, float] | None:
    """One number for all outputs, or numbers by name."""
    found: dict[str, float] = {}
    for word in words:
        name, _, number = word.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise UsageError(f"--rtol {word}: a number, or OUTPUT=NUMBER") from None
        if not found[name] >= 0:
            raise UsageError(f"--rtol {word}: it is not negative")
    if "" in found and len(found) > 1:
        raise UsageError("--rtol: one number for all outputs, or one for each that is named")
    return found.get("", found or None)


def images_of(inputs: Path | None, pixels: str | None) -> Any:
    """A folder of images with what is to be done to their pixels, else the inputs as they are."""
    if pixels is None:
        return inputs
    from parity.images import Images

    if inputs is None or not inputs.is_dir():
        raise UsageError("--pixels is for --inputs FOLDER, of images")
    return Images.parsed(inputs, pixels)
