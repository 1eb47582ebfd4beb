"""The program that an exporter writes: steps over variables, members, and classes of repeated blocks.

A step assigns one expression to one or more variables. An expression is a small tree: the use of a
variable, a literal, a member (`self.conv1`), or a template with arguments. Trees are compared, cut
out and rewritten before any of them becomes text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = [
    "ADD",
    "ATOM",
    "COMPARE",
    "MULTIPLY",
    "TERNARY",
    "UNARY",
    "Argument",
    "Block",
    "Expression",
    "Literal",
    "Member",
    "NameSlot",
    "Op",
    "Parameter",
    "Reference",
    "Scope",
    "Step",
    "Use",
    "Variable",
    "call",
    "expressions",
    "order",
    "references",
    "rewrite",
    "uses",
]

ATOM, UNARY, MULTIPLY, ADD, COMPARE, TERNARY = 6, 5, 4, 3, 2, 1


@dataclass(eq=False)
class Variable:
    """A value at run time. `hint` is the name of what it was in the source."""

    hint: str = ""


@dataclass(frozen=True)
class Parameter:
    """A value of a literal: the constructor parameter `name` of the class around it, times `factor`."""

    name: str
    factor: int = 1


@dataclass(frozen=True)
class NameSlot:
    """A name in the code of a block: which of the names of its instances (`Member.names`) it is."""

    index: int


@dataclass(frozen=True)
class Use:
    variable: Variable


@dataclass(frozen=True)
class Literal:
    """A plain value in an expression; `name` says what it is, should it become a parameter."""

    value: Any
    name: str = ""


@dataclass(frozen=True)
class Reference:
    """A member of the module: `self.NAME`, with `suffix` such as `.weight` behind it."""

    member: Member
    suffix: str = ""


@dataclass(frozen=True)
class Op:
    """`template` with `{}` for every argument; `precedence` tells when it needs parentheses.

    `chains` marks a call that reads well nested in another call.
    """

    template: str
    arguments: tuple[Expression, ...] = ()
    precedence: int = ATOM
    chains: bool = False
    helper: str = ""


Expression: TypeAlias = Use | Literal | Reference | Op

_REQUIRED = object()


@dataclass(frozen=True)
class Argument:
    """An argument of a constructor. One that equals its default is not written."""

    name: str
    value: Any
    default: Any = _REQUIRED
    positional: bool = False

    @property
    def required(self) -> bool:
        return self.default is _REQUIRED


@dataclass(eq=False)
class Member:
    """Something that a module owns: a submodule, a parameter, a buffer, or an instance of a block.

    `state` has the tensors of a leaf by the names that the framework gives them; `children` the
    members of an instance of a block, in the order of `Block.slots`, or of a sequence; `names` what
    the slots for names in the code of its block are, a slot again where the instance is itself in a block.
    """

    kind: str  # "module", "parameter", "buffer", "block", "sequence"
    type: str
    hint: str
    arguments: list[Argument] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    block: Block | None = None
    children: list[Member] = field(default_factory=list)
    name: str = ""
    names: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Step:
    outputs: tuple[Variable, ...]
    expression: Expression
    layer: str = ""


@dataclass(eq=False)
class Scope:
    """A body of code: the steps in order, what goes in and what comes out."""

    steps: list[Step]
    inputs: list[Variable]
    results: list[Expression]

    def order(self) -> None:
        """Put the steps in the order in which the results need them, and drop the dead ones."""
        self.steps = order(self.steps, self.results)


@dataclass(eq=False)
class Block:
    """A class for a piece of program that occurs more than once."""

    name: str
    scope: Scope
    slots: list[Member]
    parameters: list[Argument]
    instances: list[Member] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)


def call(template: str, *arguments: Expression | Any, precedence: int = ATOM, chains: bool = False) -> Op:
    """An `Op` whose plain Python arguments become literals."""
    wrapped = tuple(a if isinstance(a, (Use, Literal, Reference, Op)) else Literal(a) for a in arguments)
    return Op(template, wrapped, precedence, chains)


def expressions(expression: Expression) -> Iterator[Expression]:
    """The expression and everything in it, outermost first, left to right."""
    yield expression
    if isinstance(expression, Op):
        for argument in expression.arguments:
            yield from expressions(argument)


def uses(expression: Expression) -> list[Variable]:
    """The variables that it reads, left to right, with repetitions."""
    return [e.variable for e in expressions(expression) if isinstance(e, Use)]


def references(expression: Expression) -> list[Member]:
    """The members that it refers to, left to right, with repetitions."""
    return [e.member for e in expressions(expression) if isinstance(e, Reference)]


def rewrite(
    expression: Expression,
    variables: Mapping[Variable, Expression] | None = None,
    members: Mapping[Member, Member] | None = None,
) -> Expression:
    """The expression with variables replaced by expressions and members by other members."""
    if isinstance(expression, Use):
        return (variables or {}).get(expression.variable, expression)
    if isinstance(expression, Reference):
        return Reference((members or {}).get(expression.member, expression.member), expression.suffix)
    if isinstance(expression, Op):
        arguments = tuple(rewrite(a, variables, members) for a in expression.arguments)
        return Op(expression.template, arguments, expression.precedence, expression.chains, expression.helper)
    return expression


def order(steps: Iterable[Step], results: Sequence[Expression]) -> list[Step]:
    """The steps that `results` need, each branch in one piece, producers before consumers."""
    producer = {output: step for step in steps for output in step.outputs}
    done: set[Step] = set()
    ordered: list[Step] = []
    for result in results:
        stack = [(producer[v], False) for v in reversed(uses(result)) if v in producer]
        while stack:
            step, ready = stack.pop()
            if step in done:
                continue
            if ready:
                done.add(step)
                ordered.append(step)
                continue
            stack.append((step, True))
            needed = [producer[v] for v in reversed(uses(step.expression)) if v in producer]
            stack.extend((s, False) for s in needed if s not in done)
    return ordered
