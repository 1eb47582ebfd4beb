"""Blocks that one operator of ONNX says: recognised by what is inside of them, never by their name alone.

What a block computes is written as an expression over its placeholders, x, y, ..., with the numbers of its constants
and the axes of its reductions. A block is said as a whole where that expression is one that is known here; elsewhere
its inside is said function by function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hub.dnn import Axis
from importers.cntk.functions import BLOCK, CONSTANT, Function, Network, Ref

__all__ = ["FORMS", "Form", "Match", "expression", "form", "match"]

LETTERS = "xyzuvw"

LARGEST = 64
"""Functions in an expression."""


@dataclass
class Match:
    """What is inside of a block: what its letters stand for, x first; its constants, its axes, and its sizes."""

    inputs: list[Ref] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    axes: list[Axis] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Form:
    """An expression that is known, what says it, and what must hold besides."""

    pattern: re.Pattern[str]
    function: Callable[..., Any]
    when: Callable[[Network, Match], bool] | None = None


FORMS: dict[str, list[Form]] = {}
"""Block -> the forms in which it is said as a whole."""


def form(
    pattern: str, *names: str, when: Callable[[Network, Match], bool] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function for blocks of these names whose inside is `pattern`, where `when` holds.

    {n} in the pattern is any size. The function takes the context, the inputs, and the `Match`.
    """
    compiled = re.compile(re.escape(pattern).replace(re.escape("{n}"), r"(\d+)"))

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            FORMS.setdefault(name, []).append(Form(compiled, function, when))
        return function

    return register


class _Other(Exception):
    """The block has something inside that no form here has."""


@dataclass
class _Writer:
    """Writes what a value is made of, from the block's root down to its arguments."""

    network: Network
    inputs: dict[Ref, str] = field(default_factory=dict)
    numbers: list[float] = field(default_factory=list)
    axes: list[Axis] = field(default_factory=list)
    count: int = 0

    def write(self, name: str, arguments: dict[str, Ref]) -> str:
        self.count += 1
        if self.count > LARGEST:
            raise _Other
        if name in arguments:
            return self.letter(arguments[name])
        owner, index = self.network.output(name)
        if owner is None:
            return self.leaf(name, arguments)
        if owner.op == BLOCK:
            return self.write(self.network.result(owner, index), arguments)
        texts = [self.write(value, arguments) for value in owner.inputs]
        return f"{owner.op}({','.join([*texts, *self.attributes(owner)])})"

    def letter(self, ref: Ref) -> str:
        """x for the first of what it takes, y for the second, and so on."""
        if ref not in self.inputs and len(self.inputs) == len(LETTERS):
            raise _Other
        return self.inputs.setdefault(ref, LETTERS[len(self.inputs) % len(LETTERS)])

    def leaf(self, name: str, arguments: dict[str, Ref]) -> str:
        variable = self.network.variables.get(name)
        if name in self.network.bound:
            return self.write(self.network.bound[name], arguments)
        if variable is None or variable.value is None:
            raise _Other
        if variable.kind != CONSTANT or variable.value.numbers.size != 1:
            return self.letter(Ref(name))
        self.numbers.append(float(variable.value.numbers.reshape(-1)[0]))
        return "#"

    def attributes(self, function: Function) -> list[str]:
        """Axes as places, everything else as it is."""
        texts = []
        for key, value in sorted(function.attributes.items()):
            if isinstance(value, Axis):
                self.axes.append(value)
                texts.append(key)
            elif key == "axisVec":
                self.axes += [axis for axis in value if isinstance(axis, Axis)]
                texts.append(key)
            else:
                texts.append(f"{key}={value}")
        return texts


def expression(network: Network, block: Function) -> tuple[str, Match] | None:
    """What a block computes, as text; None where it holds more than placeholders and single numbers."""
    writer = _Writer(network)
    arguments = {placeholder: network.source(value) for placeholder, value in block.arguments}
    try:
        text = writer.write(network.result(block), arguments)
    except _Other:
        return None
    return text, Match(list(writer.inputs), writer.numbers, writer.axes)


def match(network: Network, block: Function) -> tuple[Form, Match] | None:
    """The form of a block, if it has one that is known."""
    known = FORMS.get(block.block, [])
    found = expression(network, block) if known else None
    if found is None:
        return None
    text, inside = found
    for candidate in known:
        groups = candidate.pattern.fullmatch(text)
        if groups is None:
            continue
        inside.sizes = [int(size) for size in groups.groups()]
        if candidate.when is None or candidate.when(network, inside):
            return candidate, inside
    return None
