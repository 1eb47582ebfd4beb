"""Blocks of one class in a row, each applied to the result of the one before."""

from __future__ import annotations

import re
from collections import Counter

from exporters.codegen.names import common, tokens
from exporters.codegen.program import Member, Op, Reference, Scope, Step, Use, references, uses

__all__ = ["join_sequences"]

_LEAST = 3


def join_sequences(scope: Scope) -> None:
    """Make one member of kind `sequence` of every such row."""
    count = Counter(v for step in scope.steps for v in uses(step.expression))
    count.update(v for result in scope.results for v in uses(result))
    owners = Counter(m for step in scope.steps for m in references(step.expression))
    steps: list[Step] = []
    row: list[tuple[Step, Member]] = []

    def close() -> None:
        if len(row) >= _LEAST:
            members = [member for _, member in row]
            for number, member in enumerate(members):
                member.name = str(number)
            joined = Member("sequence", "nn.Sequential", _hint(members), children=members)
            source = uses(row[0][0].expression)[0]
            call = Op("{}({})", (Reference(joined), Use(source)), chains=True)
            steps.append(Step(row[-1][0].outputs, call, joined.hint))
        else:
            steps.extend(step for step, _ in row)
        row.clear()

    for step in scope.steps:
        member = _single(step)
        if member is None or owners[member] != 1:
            close()
            steps.append(step)
            continue
        if row:
            previous, other = row[-1]
            linked = uses(step.expression) == [previous.outputs[0]] and count[previous.outputs[0]] == 1
            if not linked or other.block is not member.block or not _alike(other, member):
                close()
        row.append((step, member))
    close()
    scope.steps = steps


def _single(step: Step) -> Member | None:
    """The block that the step calls with one tensor, if that is all that it does."""
    expression = step.expression
    if not isinstance(expression, Op) or expression.template != "{}({})" or len(step.outputs) != 1:
        return None
    target, source = expression.arguments
    if not isinstance(target, Reference) or not isinstance(source, Use) or target.member.block is None:
        return None
    return target.member


def _alike(a: Member, b: Member) -> bool:
    """Whether their names differ in one word, by its number or its last letter."""
    first, second = tokens(a.hint), tokens(b.hint)
    if len(first) != len(second):
        return False
    differing = [(x, y) for x, y in zip(first, second, strict=True) if x != y]
    return len(differing) == 1 and _stem(differing[0][0]) == _stem(differing[0][1])


def _stem(word: str) -> str:
    """`block1` -> `block`, `block6b` -> `block6`."""
    if re.fullmatch(r".*\d[a-z]", word):
        return word[:-1]
    return word.rstrip("0123456789")


def _hint(members: list[Member]) -> str:
    words = [tokens(m.hint) for m in members]
    shared = common(words)
    if len(shared) == len(words[0]):
        return "_".join(shared)
    rest = _stem(words[0][len(shared)])
    base = "_".join([*shared, *([rest] if rest and not rest.isdigit() else [])])
    return base if base[-1:].isdigit() or not base else f"{base}s"
