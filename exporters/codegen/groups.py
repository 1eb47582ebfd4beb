"""Pieces of a program in canonical form, so that equal ones can be found.

A group is a set of steps from which exactly one value is used outside. Its key is its structure:
two groups with one key differ at most in the numbers of their columns.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from exporters.codegen.names import Code, Name
from exporters.codegen.program import (
    Argument,
    Expression,
    Literal,
    Member,
    NameSlot,
    Op,
    Parameter,
    Reference,
    Scope,
    Step,
    Use,
    Variable,
    expressions,
    order,
    references,
    uses,
)

__all__ = ["Column", "Group", "Index", "describe", "signature"]

CHANNELS = frozenset(
    {
        *("in_channels", "out_channels", "num_features", "in_features", "out_features", "num_channels"),
        *("normalized_shape", "shape", "size", "groups", "channels", "hidden_channels"),
    }
)


@dataclass(frozen=True)
class Column:
    """One number of a group: what it is called, and where it stands."""

    name: str
    value: Any
    member: int  # -1: in the code of `forward`
    argument: Argument | None = None

    @property
    def kind(self) -> str:
        """Columns of one kind may be one and the same parameter."""
        name = self.name.rstrip("0123456789")
        return "channels" if name in CHANNELS or name.endswith("channels") else name


@dataclass
class Group:
    steps: list[Step]
    inputs: list[Variable]
    output: Variable
    members: list[Member]
    columns: list[Column]
    key: Hashable
    names: list[Any] = field(default_factory=list)
    named: bool = False
    scope: Scope | None = None


@dataclass
class Index:
    """Who makes and who uses what in a scope."""

    scope: Scope
    producer: dict[Variable, Step] = field(default_factory=dict)
    users: dict[Variable, list[Step]] = field(default_factory=dict)
    owners: dict[Member, list[Step]] = field(default_factory=dict)
    results: set[Variable] = field(default_factory=set)
    position: dict[Step, int] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: Scope) -> Index:
        index = cls(scope)
        for position, step in enumerate(scope.steps):
            index.position[step] = position
            for output in step.outputs:
                index.producer[output] = step
            for variable in dict.fromkeys(uses(step.expression)):
                index.users.setdefault(variable, []).append(step)
            for member in dict.fromkeys(references(step.expression)):
                index.owners.setdefault(member, []).append(step)
        for result in scope.results:
            index.results.update(uses(result))
            for member in references(result):
                index.owners.setdefault(member, []).append(Step((), result))
        return index


def signature(step: Step) -> Hashable:
    """A cheap part of the key of one step: the same for steps that can stand for each other."""
    parts: list[Hashable] = []
    for part in expressions(step.expression):
        if isinstance(part, Op):
            parts.append(part.template)
        elif isinstance(part, Reference):
            parts.append((part.member.type, id(part.member.block), part.suffix))
    return hash(tuple(parts))


def describe(steps: Iterable[Step], index: Index) -> Group | None:
    """The steps as a group, or None if they are not one."""
    chosen = set(steps)
    out: Variable | None = None
    for step in chosen:
        for output in step.outputs:
            outside = output in index.results or any(u not in chosen for u in index.users.get(output, ()))
            if outside and out is not None:
                return None
            out = output if outside else out
    if out is None:
        return None
    ordered = order([s for s in index.scope.steps if s in chosen], [Use(out)])
    if len(ordered) != len(chosen):
        return None
    walk = _Walk()
    parts = tuple(walk.step(step) for step in ordered)
    for member in walk.members:
        if any(owner not in chosen for owner in index.owners[member]):
            return None
    key = (parts, walk.local[out])
    return Group(ordered, walk.inputs, out, list(walk.members), walk.columns, key, walk.names, scope=index.scope)


class _Walk:
    """Numbers variables and members in the order in which they are met, and collects the columns."""

    def __init__(self) -> None:
        self.local: dict[Variable, Hashable] = {}
        self.inputs: list[Variable] = []
        self.members: dict[Member, int] = {}
        self.columns: list[Column] = []
        self.names: list[Any] = []
        self.count = 0

    def step(self, step: Step) -> Hashable:
        key = self.expression(step.expression)
        for position, output in enumerate(step.outputs):
            self.local[output] = (self.count, position)
        self.count += 1
        return (key, len(step.outputs))

    def expression(self, expression: Expression) -> Hashable:
        if isinstance(expression, Use):
            if expression.variable not in self.local:
                self.local[expression.variable] = ("in", len(self.inputs))
                self.inputs.append(expression.variable)
            return self.local[expression.variable]
        if isinstance(expression, Literal):
            return self.value(expression.name or "value", expression.value, -1, None)
        if isinstance(expression, Reference):
            return (self.member(expression.member), expression.suffix)
        return (expression.template, tuple(self.expression(a) for a in expression.arguments))

    def member(self, member: Member) -> Hashable:
        if member in self.members:
            return self.members[member]
        number = len(self.members)
        self.members[member] = number
        arguments: list[Hashable] = []
        for argument in member.arguments:
            if argument.name == "shape" and isinstance(argument.value, tuple):
                sizes = [self.value("shape", size, number, argument) for size in argument.value]
                arguments.append(("shape", tuple(sizes)))
            else:
                arguments.append((argument.name, self.value(argument.name, argument.value, number, argument)))
        self.names.extend(member.names)
        return (member.kind, member.type, id(member.block), tuple(arguments), tuple(member.state))

    def value(self, name: str, value: Any, member: int, argument: Argument | None) -> Hashable:
        if isinstance(value, Name | NameSlot):
            self.names.append(value)
            return "name"
        fixed = isinstance(value, (bool, str, Code, list)) or value is None
        if fixed:
            return ("=", repr(value))
        if member == -1 and isinstance(value, tuple):
            return ("=", repr(value))
        self.columns.append(Column(name, value, member, argument))
        return "?" if member >= 0 or isinstance(value, (int, Parameter)) else "float"
