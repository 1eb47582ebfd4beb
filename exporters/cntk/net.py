"""A CNTK network before it is written: primitive functions for the file, calls for the code.

Both say the same network. A call is a line of CNTK code; the functions are what CNTK makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from exporters.constants import Constant

__all__ = ["Call", "Function", "Group", "Size", "Tensor", "Variable", "number"]

Size: TypeAlias = "int | str"
"""A size, or the name of an open one."""


@dataclass(eq=False)
class Group:
    """The weights of one call: `w["conv1.W"]` and `w["conv1.b"]` are the group `conv1`."""

    layer: str
    role: str
    key: str = ""


@dataclass(eq=False)
class Variable:
    """A value of a sample: `shape` is in C order and without the batch.

    A parameter or a constant has its data, and is `suffix` of a group; one without a group is a plain number.
    `sequence` is the name of the axis of its steps, where it is the value of one step.
    """

    kind: Literal["input", "parameter", "constant", "output"]
    shape: tuple[Size, ...]
    name: str = ""
    data: Constant | None = None
    group: Group | None = None
    suffix: str = ""
    function: Function | None = None
    index: int = 0
    batch: bool = True
    sequence: str = ""

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def key(self) -> str:
        """The name of a weight."""
        return f"{self.group.key}.{self.suffix}" if self.group is not None else ""


@dataclass(eq=False)
class Function:
    """A primitive function: its name in `hub.dnn.OPERATORS`, what goes in, its attributes as in a file."""

    op: str
    inputs: list[Variable]
    attributes: Mapping[str, Any]
    outputs: list[Variable] = field(default_factory=list)
    name: str = ""


@dataclass(eq=False)
class Call:
    """A call as code: `function(*arguments, **keywords)`, or `infix` where it needs no name.

    An argument is a variable, a group (its name), or a plain value. `defaults` are the values at which a keyword
    is left out. A `helper` is a function that the file defines.
    """

    function: str
    arguments: list[Any]
    keywords: dict[str, Any]
    results: list[Variable]
    layer: str
    infix: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def helper(self) -> bool:
        return not self.function.startswith("C.")

    @property
    def group(self) -> Group | None:
        """The group of weights that the call is named after."""
        return next((a for a in self.arguments if isinstance(a, Group)), None)


@dataclass(frozen=True)
class Tensor:
    """A value of ONNX: a variable, and where among the axes of ONNX the batch is, if it has one."""

    variable: Variable
    at: int | None
    size: Size = "N"

    @property
    def shape(self) -> tuple[Size, ...]:
        """The shape as ONNX has it."""
        sizes = list(self.variable.shape)
        if self.at is not None:
            sizes.insert(self.at, self.size)
        return tuple(sizes)

    @property
    def rank(self) -> int:
        return len(self.shape)


def number(value: float) -> Variable:
    """A plain number in a formula."""
    return Variable("constant", (), data=Constant.of(np.array(value, np.float32)), batch=False)
