"""The body of a function: steps as lines of code with readable local names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from exporters.codegen.names import literal, unique
from exporters.codegen.program import (
    ATOM,
    Expression,
    Literal,
    Op,
    Parameter,
    Reference,
    Scope,
    Step,
    Use,
    Variable,
    expressions,
    rewrite,
    uses,
)

__all__ = ["Text", "function_body"]

_NESTING, _INLINE_WIDTH = 3, 84


@dataclass
class Text:
    """How expressions are written: what stands before the name of a member, and the local names."""

    self_name: str
    locals: dict[Variable, str]

    def of(self, expression: Expression, floor: int = 0) -> str:
        """The text; in parentheses if it binds less tightly than `floor`."""
        if isinstance(expression, Use):
            return self.locals[expression.variable]
        if isinstance(expression, Reference):
            return self.reference(expression)
        if isinstance(expression, Literal):
            return self.value(expression.value)
        text = self.fill(expression)
        return f"({text})" if expression.precedence < floor else text

    def reference(self, reference: Reference) -> str:
        """A member where it stands in an expression."""
        return f"{self.self_name}{reference.member.name}{reference.suffix}"

    def value(self, value: object) -> str:
        """A literal, or the parameter that it is."""
        if isinstance(value, Parameter):
            name = f"{self.self_name}{value.name}"
            return name if value.factor == 1 else f"({value.factor} * {name})"
        return literal(value)

    def fill(self, op: Op) -> str:
        """The template with its arguments; a gap outside of brackets needs parentheses at times."""
        pieces = op.template.split("{}")
        if len(pieces) != len(op.arguments) + 1:
            raise ValueError(f"{op.template!r} takes {len(pieces) - 1} arguments")
        result, depth = pieces[0], _depth(pieces[0])
        for index, (argument, piece) in enumerate(zip(op.arguments, pieces[1:], strict=True)):
            floor = 0
            if depth == 0:
                floor = op.precedence + (index > 0 and op.precedence < ATOM)
                if piece.startswith((".", "[", "(")):
                    floor = ATOM
            result += self._number(argument, floor, piece)
            result += piece
            depth += _depth(piece)
        return result

    def _number(self, argument: Expression, floor: int, following: str) -> str:
        text = self.of(argument, floor)
        if floor == ATOM and isinstance(argument, Literal) and not text.startswith("self."):
            return f"({text})"
        return text


def _depth(text: str) -> int:
    return sum(text.count(c) for c in "([") - sum(text.count(c) for c in ")]")


def function_body(scope: Scope, text: Text, taken: set[str]) -> list[str]:
    """The statements of a scope, the last of them its return.

    `text.locals` has the names of the scope's inputs; `taken` the names that must not be used.
    """
    steps, results = _nested(scope, text)
    _name_locals(steps, results, scope.inputs, text, taken)
    lines: list[str] = []
    last = len(steps) - 1
    for index, step in enumerate(steps):
        right = text.of(step.expression)
        whole = len(step.outputs) == 1 and results == [Use(step.outputs[0])]
        if index == last and whole:
            return [*lines, f"return {right}"]
        left = ", ".join(text.locals[v] for v in step.outputs)
        lines.append(f"{left} = {right}")
    return [*lines, "return " + ", ".join(text.of(r) for r in results)]


# --- calls in calls


def _nested(scope: Scope, text: Text) -> tuple[list[Step], list[Expression]]:
    """Steps with short chains of calls written as one: `F.relu(self.bn1(self.conv1(x)))`."""
    count = Counter(v for s in scope.steps for v in uses(s.expression))
    count.update(v for r in scope.results for v in uses(r))
    steps: list[Step] = []
    for step in scope.steps:
        expression = step.expression
        previous = steps[-1] if steps else None
        if (
            previous is not None
            and isinstance(expression, Op)
            and isinstance(previous.expression, Op)
            and len(previous.outputs) == 1
            and count[previous.outputs[0]] == 1
            and _outer(expression) == previous.outputs[0]
            and (previous.expression.chains or previous.expression.template == "{} + {}")
            and _levels(previous.expression) + 1 <= _NESTING
            and _starts_new_line(expression, previous.expression)
            and _length(expression, text) + _length(previous.expression, text) <= _INLINE_WIDTH
        ):
            steps.pop()
            expression = rewrite(expression, {previous.outputs[0]: previous.expression})
        steps.append(Step(step.outputs, expression, step.layer))
    return steps, scope.results


def _outer(expression: Op) -> Variable | None:
    """The variable that a call of one tensor is applied to."""
    if not expression.chains:
        return None
    tensors = [a for a in expression.arguments if not isinstance(a, (Literal, Reference))]
    return tensors[0].variable if len(tensors) == 1 and isinstance(tensors[0], Use) else None


def _starts_new_line(outer: Op, inner: Op) -> bool:
    """Activations go around what they follow, normalizations around a convolution; no more."""
    if _member_type(outer) is None:
        return _member_type(inner) is not None or inner.template == "{} + {}"
    kind = _member_type(outer) or ""
    return "Norm" in kind and any(word in (_member_type(inner) or "") for word in ("Conv", "Linear"))


def _member_type(op: Op) -> str | None:
    return next((a.member.type for a in op.arguments if isinstance(a, Reference)), None)


def _levels(expression: Expression) -> int:
    return sum(isinstance(e, Op) for e in expressions(expression))


def _length(expression: Expression, text: Text) -> int:
    length = 0
    for part in expressions(expression):
        if isinstance(part, Op):
            length += len(part.template)
        elif isinstance(part, Reference):
            length += len(part.member.name) + len(text.self_name)
    return length


# --- names of local variables


def _name_locals(
    steps: Sequence[Step],
    results: Sequence[Expression],
    inputs: Sequence[Variable],
    text: Text,
    taken: set[str],
) -> None:
    """A result takes over the name of what it was made of and is not needed any more.

    Where a second line of values begins, its name says how it will end: as a branch of a
    concatenation, a shortcut of a sum, the scale of a product.
    """
    last_use = {v: len(steps) for r in results for v in uses(r)}
    for index in reversed(range(len(steps))):
        for v in uses(steps[index].expression):
            last_use.setdefault(v, index)
    lineage: dict[Variable, int] = {v: k for k, v in enumerate(inputs)}
    generic = {k for k, v in enumerate(inputs) if text.locals[v] == "x"}
    heir: list[int | None] = []
    size: Counter[int] = Counter()
    fresh = len(inputs)
    for index, step in enumerate(steps):
        found: int | None = None
        if len(step.outputs) == 1:
            dying = [v for v in uses(step.expression) if last_use[v] == index]
            ids = sorted({lineage[v] for v in dying})
            ids = [i for i in ids if i >= len(inputs) or i in generic]
            found = ids[0] if ids else None
        heir.append(found)
        for output in step.outputs:
            if found is None:
                lineage[output] = fresh
                fresh += 1
            else:
                lineage[output] = found
            size[lineage[output]] += 1
    ends: dict[int, Step | None] = {}
    for variable, where in last_use.items():
        if where == len(steps):
            ends.setdefault(lineage[variable], None)
        elif heir[where] != lineage[variable]:
            ends[lineage[variable]] = steps[where]
    names: dict[int, str] = {lineage[v]: text.locals[v] for v in inputs}
    live: dict[Variable, int] = {v: last_use.get(v, -1) for v in inputs}
    held = {text.locals[v] for v in inputs if v in last_use and text.locals[v] != "x"}
    for index, step in enumerate(steps):
        for output in step.outputs:
            key = lineage[output]
            if output not in last_use and len(step.outputs) > 1:
                text.locals[output] = "_"
                continue
            if key not in names:
                busy = {names[lineage[v]] for v, until in live.items() if until > index}
                busy |= {names[lineage[v]] for v in step.outputs if lineage[v] in names}
                family = {v for v, k in lineage.items() if k == key}
                base = _base(ends.get(key), family, size[key], "x" not in busy)
                names[key] = unique(base, busy | taken | held)
            live[output] = last_use.get(output, index)
            text.locals[output] = names[key]


def _base(end: Step | None, lineage: set[Variable], size: int, free: bool) -> str:
    template = ""
    for part in expressions(end.expression) if end is not None else ():
        if isinstance(part, Op) and any(isinstance(a, Use) and a.variable in lineage for a in part.arguments):
            template = part.template
    if "torch.cat" in template or "C.splice" in template:
        return "branch"
    if free:
        return "x"
    if template == "{} + {}":
        return "shortcut" if size == 1 else "residual"
    if template == "{} * {}":
        return "scale"
    return "y"
