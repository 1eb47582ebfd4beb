"""Repeated blocks become classes: the choice that saves the most lines, again and again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from exporters.codegen.candidates import Cache, candidates
from exporters.codegen.groups import Column, Group
from exporters.codegen.names import Name, common, tokens
from exporters.codegen.parameters import multiples, parameter_names, unified
from exporters.codegen.program import (
    Argument,
    Block,
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
    references,
)
from exporters.codegen.source_names import form, parameters_needed

__all__ = ["find_blocks", "members_of"]

_OVERHEAD, _LEAST, _MOST_PARAMETERS, _ROUNDS = 9, 4, 8, 40


def members_of(scope: Scope) -> list[Member]:
    """The members that a scope uses, in the order of their first use."""
    found: dict[Member, None] = {}
    for step in scope.steps:
        found.update(dict.fromkeys(references(step.expression)))
    for result in scope.results:
        found.update(dict.fromkeys(references(result)))
    return list(found)


def find_blocks(root: Scope) -> list[Block]:
    """Rewrite `root` to use blocks; the blocks come in the order in which they need each other."""
    blocks: list[Block] = []
    cache: Cache = {}
    for _ in range(_ROUNDS):
        scopes = [root, *(block.scope for block in blocks)]
        best = _best(scopes, cache, {id(block.scope): block.instances[0].names for block in blocks})
        if best is None:
            break
        blocks.append(_replace(best, blocks))
    return _sorted(blocks)


def _sorted(blocks: Sequence[Block]) -> list[Block]:
    done: dict[Block, None] = {}

    def visit(block: Block) -> None:
        for slot in block.slots:
            if slot.block is not None:
                visit(slot.block)
        done.setdefault(block)

    for block in blocks:
        visit(block)
    return list(done)


# --- choosing


def _best(scopes: list[Scope], cache: Cache, names: Mapping[int, list[Any]]) -> list[Group] | None:
    clusters: dict[Hashable, list[Group]] = defaultdict(list)
    for group in candidates(scopes, cache):
        clusters[group.key].append(group)
    best: tuple[float, int, list[Group]] | None = None
    for rank, groups in enumerate(part for cluster in clusters.values() for part in _parts(cluster)):
        apart = _apart(groups)
        if len(apart) < 2:
            continue
        score = _score(apart) - _naming_overhead(apart, names)
        if score >= _LEAST and (best is None or score > best[0]):
            best = (score, -rank, apart)
    return best[2] if best else None


def _naming_overhead(groups: list[Group], names: Mapping[int, list[Any]]) -> float:
    """What it costs that the code has the names of source layers in it, in lines."""
    rows = []
    for group in groups:
        concrete = names.get(id(group.scope), [])
        rows.append([str(concrete[n.index] if isinstance(n, NameSlot) else n) for n in group.names])
    needed = parameters_needed(rows)
    return needed + max(0, needed - 2) * len(groups)


def _parts(groups: list[Group]) -> list[list[Group]]:
    """The groups of one key: all of them; those that agree in all but the channels; those that are equal.

    Also those whose names look alike.
    """
    if len(groups) < 2 or not groups[0].members:
        return []
    parts = [groups]
    for everything in (False, True):
        split: dict[Hashable, list[Group]] = defaultdict(list)
        for group in groups:
            columns = [c for c in group.columns if everything or c.kind != "channels"]
            split[tuple((type(c.value).__name__, c.value) for c in columns)].append(group)
        if len(split) > 1:
            parts.extend(part for part in split.values() if len(part) > 1)
    if groups[0].names:
        for part in list(parts):
            alike: dict[Hashable, list[Group]] = defaultdict(list)
            for group in part:
                alike[tuple(form(str(name)) for name in group.names)].append(group)
            if len(alike) > 1:
                parts.extend(same for same in alike.values() if len(same) > 1)
    return parts


def _apart(groups: list[Group]) -> list[Group]:
    """Groups that share no step, the ones that names support first."""
    used: set[Step] = set()
    chosen = []
    if 2 * sum(group.named for group in groups) >= len(groups):  # then names mean something here
        groups = [group for group in groups if group.named or _common(group.members)]
    for group in sorted(groups, key=lambda g: not g.named):
        if not used.intersection(group.steps):
            used.update(group.steps)
            chosen.append(group)
    return chosen


def _score(groups: list[Group]) -> float:
    lines = _lines(groups[0])
    kinds = {id(m.block) for m in groups[0].members}
    if len(groups[0].inputs) > 3 or (len(groups[0].members) > 1 and kinds != {id(None)} and len(kinds) == 1):
        return 0  # several of one block are no block of their own
    parameters = len(unified(groups))
    if parameters > _MOST_PARAMETERS or not groups[0].members:
        return 0
    named = sum(group.named for group in groups) / len(groups)
    overhead = _OVERHEAD - 5 * named + max(0, parameters - 4) * 1.5
    instance = 2.0 if parameters <= 5 else 4.0
    saved = len(groups) * (lines - instance) - lines - overhead
    return saved * (1 + 0.3 * named)


def _lines(group: Group) -> float:
    """About how many lines the group takes where it stands."""
    total = float(len(group.members))
    for step in group.steps:
        inner = [m.type for m in references(step.expression)]
        free = isinstance(step.expression, Op) and step.expression.chains
        if not (free and (not inner or "Norm" in inner[0])):
            total += 1
    return total


# --- replacing


def _replace(groups: list[Group], blocks: list[Block]) -> Block:
    rows = unified(groups)
    times = multiples(groups, rows)
    kept = [k for k in range(len(rows)) if k not in times]
    names = dict(zip(kept, parameter_names(groups, [rows[k] for k in kept]), strict=True))
    holes: dict[int, Parameter] = {}
    for k, row in enumerate(rows):
        base, factor = times.get(k, (k, 1))
        holes.update(dict.fromkeys(row, Parameter(names[base], factor)))
    columns = groups[0].columns
    parameters = []
    for k in kept:
        column = columns[rows[k][0]]
        values = [group.columns[rows[k][0]].value for group in groups]
        parameters.append(_parameter(names[k], column, values))
    parameters.sort(key=lambda p: (not p.required, not p.positional))
    block = _template(groups[0], holes, parameters)
    number = {names[k]: rows[k][0] for k in kept}
    for group in groups:
        arguments = [Argument(p.name, group.columns[number[p.name]].value, p.default, p.positional) for p in parameters]
        _install(group, block, arguments, blocks)
    return block


def _parameter(name: str, column: Column, values: list[Any]) -> Argument:
    sizes = column.kind == "channels"
    argument = column.argument
    plain = [v for v in values if not isinstance(v, Parameter)]
    if argument is not None and not argument.required and not sizes and type(argument.default) in (int, float, tuple):
        return Argument(name, plain, argument.default)
    return Argument(name, plain, positional=sizes or name == "kernel_size")


def _template(group: Group, holes: dict[int, Parameter], parameters: list[Argument]) -> Block:
    """The body of the class, made from one of the groups."""
    counter = iter(range(len(group.columns)))
    names = iter(range(len(group.names)))
    variables: dict[Variable, Variable] = {}
    slots: dict[Member, Member] = {}

    def value(original: Any) -> Any:
        if isinstance(original, Name | NameSlot):
            return NameSlot(next(names))
        if isinstance(original, (bool, str, list)) or original is None:
            return original
        number = next(counter)
        return holes.get(number, original)

    def variable(v: Variable) -> Variable:
        return variables.setdefault(v, Variable(v.hint))

    def slot(member: Member) -> Member:
        if member not in slots:
            copy = Member(member.kind, member.type, member.hint, [], dict(member.state), member.block)
            slots[member] = copy
            for a in member.arguments:
                if a.name == "shape" and isinstance(a.value, tuple):
                    new: Any = tuple(value(size) for size in a.value)
                else:
                    new = value(a.value)
                copy.arguments.append(Argument(a.name, new, a.default, a.positional))
            copy.names = [NameSlot(next(names)) for _ in member.names]
        return slots[member]

    def expression(e: Expression) -> Expression:
        if isinstance(e, Use):
            return Use(variable(e.variable))
        if isinstance(e, Literal):
            fixed = isinstance(e.value, tuple)
            return Literal(e.value if fixed else value(e.value), e.name)
        if isinstance(e, Reference):
            return Reference(slot(e.member), e.suffix)
        return Op(e.template, tuple(expression(a) for a in e.arguments), e.precedence, e.chains, e.helper)

    steps = []
    for step in group.steps:
        right = expression(step.expression)
        steps.append(Step(tuple(variable(o) for o in step.outputs), right, step.layer))
    inputs = [variable(v) for v in group.inputs]
    scope = Scope(steps, inputs, [Use(variable(group.output))])
    return Block("", scope, [slots[m] for m in group.members], parameters)


def _install(group: Group, block: Block, arguments: list[Argument], blocks: list[Block]) -> None:
    """Put an instance of the block in the place of a group."""
    scope = group.scope
    assert scope is not None
    member = Member("block", "", _hint(group), arguments, block=block, children=list(group.members), names=group.names)
    layers = [step.layer for step in group.steps]
    call = Op(
        "{}(" + ", ".join(["{}"] * len(group.inputs)) + ")",
        (Reference(member), *(Use(v) for v in group.inputs)),
        chains=len(group.inputs) == 1,
    )
    new = Step((group.output,), call, member.hint)
    gone = set(group.steps)
    at = next(k for k, step in enumerate(scope.steps) if step in gone)
    scope.steps = [s for s in scope.steps if s not in gone]
    scope.steps.insert(at, new)
    scope.order()
    owner = next((b for b in blocks if b.scope is scope), None)
    if owner is None:
        block.instances.append(member)
        block.layers.extend(layers)
        return
    old = {slot: k for k, slot in enumerate(owner.slots)}
    owner.slots = members_of(scope)
    picked = [old[m] for m in group.members]
    for instance in owner.instances:
        children = []
        for slot in owner.slots:
            if slot is member:
                inner = [instance.children[k] for k in picked]
                child = Member("block", "", _common(inner) or inner[0].hint, arguments, block=block, children=inner)
                child.names = [instance.names[n.index] if isinstance(n, NameSlot) else n for n in group.names]
                block.instances.append(child)
                children.append(child)
            else:
                children.append(instance.children[old[slot]])
        instance.children = children


def _common(members: Sequence[Member]) -> str:
    return "_".join(common([tokens(m.hint) for m in members]))


def _hint(group: Group) -> str:
    words = [tokens(m.hint) for m in group.members]
    shared = common(words)
    ending = common([name[len(shared) :][::-1] for name in words])[::-1]
    if shared and len(group.members) > 1:
        return "_".join([*shared, *ending])
    last = group.steps[-1]
    if not references(last.expression) and len(set(group.steps)) > 4:
        return last.layer
    return group.members[0].hint
