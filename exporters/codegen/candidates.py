"""Where repeated blocks may lie: by names, between the cut points of the dataflow, in chains, in cones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator

from exporters.codegen.groups import Group, Index, describe, signature
from exporters.codegen.names import bare, common, tokens
from exporters.codegen.program import Scope, Step, references, uses

__all__ = ["candidates"]

_CHAIN, _SEGMENTS, _CONE, _ABSORB = 10, 4, 90, 2

# Words of names that tell what a layer is and not where it stands.
_GENERIC = frozenset(
    """activation add average averagepool batch batchnorm batchnormalization bn clip concat concatenate conv
    convd convolution dense depthwise dropout elu f fc flatten gelu gemm global globalaveragepool
    identity lambda layer layernorm linear matmul max maxpool mul multiply n node normalization op
    pad padding pointwise pool pooling prelu relu reshape separable sigmoid silu softmax sub swish
    tanh transpose zero d""".split()
)

Cache = dict[frozenset[Step], Group | None]


def candidates(scopes: list[Scope], cache: Cache) -> Iterator[Group]:
    """Every piece that looks as if it occurred more than once in these scopes."""
    indexes = [Index.of(scope) for scope in scopes]
    proposals: list[tuple[Index, frozenset[Step], bool]] = []
    seen: set[frozenset[Step]] = set()
    for index in indexes:
        for steps, named in _propose(index):
            if len(steps) > 1 and len(steps) < len(index.scope.steps) and steps not in seen:
                seen.add(steps)
                proposals.append((index, steps, named))
    cheap: dict[Step, Hashable] = {s: signature(s) for i in indexes for s in i.scope.steps}
    shapes = [_shape(steps, cheap) for _, steps, _ in proposals]
    often = Counter(shapes)
    for (index, steps, named), shape in zip(proposals, shapes, strict=True):
        if often[shape] < 2:
            continue
        if steps not in cache:
            cache[steps] = describe(steps, index)
        group = cache[steps]
        if group is not None and _whole(group, index):
            group.named = named
            group.scope = index.scope
            yield group


def _whole(group: Group, index: Index) -> bool:
    """Whether the group is a whole as far as names tell.

    It is one if no layer outside has a name that begins (or ends) as the names of all members do,
    or if names tell nothing: there are none but generic ones such as `conv2d_7`.
    """
    words = [tokens(m.hint) for m in group.members]
    shared = common(words)
    inside = set(group.members)
    if shared:
        if all(w.isdigit() for name in words for w in name[len(shared) :]):
            return True
        if not any(m not in inside and tokens(m.hint)[: len(shared)] == shared for m in index.owners):
            return True
    ending = common([name[::-1] for name in words])
    if ending:
        others = any(m not in inside and tokens(m.hint)[::-1][: len(ending)] == ending for m in index.owners)
        if not others or len(ending) >= 2:
            return not others
    telling = sum(any(bare(w) and bare(w) not in _GENERIC for w in name) for name in words)
    return not shared and 2 * telling < len(words)


def _shape(steps: frozenset[Step], cheap: dict[Step, Hashable]) -> Hashable:
    return tuple(sorted(hash(cheap[s]) for s in steps))


def _propose(index: Index) -> Iterator[tuple[frozenset[Step], bool]]:
    for named in _by_name(index):
        yield named, True
        yield from ((wider, True) for wider in _absorb(named, index))
    for plain in (*_segments(index), *_chains(index), *_cones(index)):
        yield plain, False


def _by_name(index: Index) -> Iterator[frozenset[Step]]:
    """Steps whose layers' names begin (or end) with the same words."""
    prefixes: dict[tuple[str, ...], list[Step]] = defaultdict(list)
    suffixes: dict[tuple[str, ...], list[Step]] = defaultdict(list)
    for step in index.scope.steps:
        words = tokens(step.layer)
        for length in range(1, len(words) + 1):
            prefixes[words[:length]].append(step)
            if length >= 2 or words[-1].isdigit():
                suffixes[words[-length:]].append(step)
    for table in (prefixes, suffixes):
        for group in table.values():
            if len(group) > 1:
                yield frozenset(group)


def _absorb(steps: frozenset[Step], index: Index) -> Iterator[frozenset[Step]]:
    """The steps with what is done to their result alone, such as the sum that closes a residual block."""
    current = steps
    for _ in range(_ABSORB):
        outs = [
            o
            for s in current
            for o in s.outputs
            if o in index.results or any(u not in current for u in index.users.get(o, ()))
        ]
        if len(outs) != 1 or outs[0] in index.results:
            return
        following = [u for u in index.users.get(outs[0], ()) if u not in current]
        if len(following) != 1 or references(following[0].expression):
            return
        current = current | {following[0]}
        yield current


def _segments(index: Index) -> Iterator[frozenset[Step]]:
    """Runs of steps between points where a single value is alive."""
    steps = index.scope.steps
    last: dict[object, int] = {}
    for position, step in enumerate(steps):
        for variable in uses(step.expression):
            last[variable] = position
    for variable in index.results:
        last[variable] = len(steps)
    segments: list[list[Step]] = [[]]
    alive: set[object] = set(index.scope.inputs)
    for position, step in enumerate(steps):
        segments[-1].append(step)
        alive.update(step.outputs)
        alive = {v for v in alive if last.get(v, -1) > position}
        if len(alive) <= 1:
            segments.append([])
    for start in range(len(segments)):
        union: list[Step] = []
        forks = 0
        for segment in segments[start : start + _SEGMENTS + 4]:
            union.extend(segment)
            forks += len(segment) > 1
            if forks > 1:
                break
            yield frozenset(union)


def _chains(index: Index) -> Iterator[frozenset[Step]]:
    """Steps each of which is the only use of the one before."""
    follower: dict[Step, Step] = {}
    for step in index.scope.steps:
        if len(step.outputs) == 1 and step.outputs[0] not in index.results:
            users = index.users.get(step.outputs[0], [])
            if len(users) == 1 and len(set(uses(users[0].expression))) == 1:
                follower[step] = users[0]
    for step in index.scope.steps:
        chain = [step]
        while len(chain) < _CHAIN and chain[-1] in follower:
            chain.append(follower[chain[-1]])
            yield frozenset(chain)


def _cones(index: Index) -> Iterator[frozenset[Step]]:
    """A step with everything that serves it alone."""
    for step in index.scope.steps:
        if len(set(uses(step.expression))) < 2:
            continue
        cone = {step}
        waiting = [step]
        while waiting and len(cone) <= _CONE:
            for variable in uses(waiting.pop().expression):
                producer = index.producer.get(variable)
                if producer is None or producer in cone or variable in index.results:
                    continue
                outputs_inside = all(
                    o not in index.results and all(u in cone for u in index.users.get(o, ())) for o in producer.outputs
                )
                if outputs_inside:
                    cone.add(producer)
                    waiting.append(producer)
        if len(cone) <= _CONE:
            yield frozenset(cone)
