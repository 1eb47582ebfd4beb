"""The smallest part of a model that still shows a difference, as an ONNX test case that anybody can run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

import hub
from hub.canonical import layer_of
from hub.errors import HubError, UsageError
from parity.command import Command
from parity.compare import Row, compare_arrays, tolerance_of
from parity.cut import Part, computed, cut, entering, run
from parity.divergence import Divergence
from parity.inputs import generate, given
from parity.layers import layer_tap, named_alike
from parity.locate import Location, Probe, at_once, opened
from parity.pairs import as_computed
from parity.report import Report
from parity.repro import Repro, written
from parity.runners import Array, LoadFailed, RunFailed, find
from parity.runners import onnxruntime as reference
from parity.sides import Side, feeds_for, format_of, matching

__all__ = ["Repro", "reduce", "reduce_by"]


@dataclass
class Judged:
    """A part, and the row that says how it differs."""

    part: Part
    row: Row
    how: str


def reduce(
    a: Any,
    b: Any,
    out: str | Path,
    *,
    inputs: Any = None,
    rtol: float | None = None,
    atol: float | None = None,
    seed: int = 0,
) -> Repro:
    """Write the smallest model in which `b` still differs from `a` to the folder `out`; arguments as of `check`.

    `model.onnx` is that part of `b`, as hub reads it, with what enters it in `a` and what leaves it there as
    `test_data_set_0`: a test case of ONNX. Where what hub reads of `b` agrees, and only `b` in its own runtime
    differs, `model.onnx` is the part of `a`, which shows the difference when it is converted to `b`'s format again;
    and where it does not, what `b` gives for that layer is in `test_data_set_0` too, as `second_0.pb`.

    Raises:
        UsageError: the two agree, or `out` is there already.
        HubError: the difference does not show in a part.
    """
    folder = _fresh(out)
    with ExitStack() as stack:
        probe = opened(a, b, stack, inputs=inputs, rtol=rtol, atol=atol, seed=seed)
        location = at_once(probe)
        if not location.report.mismatches:
            raise UsageError(f"there is nothing to reduce: {location.report.verdict}")
        found = _reduced(probe, location, _model(a), _model(b), b)
    return written(folder, found.part, location, found.row, found.how, (a, b))


def _fresh(out: str | Path) -> Path:
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already, and is not empty")
    return folder


def _model(source: Any) -> hub.Model | None:
    """What hub reads of a source; None if it cannot."""
    try:
        return hub.load(source)
    except HubError:
        return None


def _reduced(probe: Probe, location: Location, a: hub.Model | None, b: hub.Model | None, source: Any) -> Judged:
    if a is None:
        raise HubError("the reference cannot be read as ONNX, of which a part could be cut out")
    found = location.divergence
    if found is not None and found.layer not in reference.exits(a.ir.graph):
        found = None  # nothing smaller than the whole can be cut out
    ours = _ends(a, found, {}) or Ends(list(a.ir.graph.outputs), {})
    part = Part(cut(a.ir, ours.outputs, ours.stops), *_values(a, probe.feeds(), ours))
    judge = _judge(probe)
    theirs = _ends(b, found, probe.common) if b is not None else None
    if b is not None and theirs is not None:
        judged = _in_second(b, theirs, ours, part, judge, location)
        if judged is not None:
            return judged
    row = _again(part, source, judge)
    if row is not None:
        return Judged(part, row, "convert")
    if found is not None and (recorded := _recorded(probe, a, found, judge)) is not None:
        return recorded
    where = found.layer if found is not None else "the outputs"
    raise HubError(
        f"the difference at {where} does not show in a part: what hub reads of the second model agrees there, "
        f"converted again it agrees as well, and its own runtime does not give what leaves it alone"
    )


@dataclass
class Ends:
    """What leaves a part, and, by layer of the first model, what leaves the layers that feed it."""

    outputs: list[ir.Value]
    feeding: dict[str, ir.Value]

    @property
    def stops(self) -> set[ir.Value]:
        """Where the part begins, but for inputs of the model."""
        return {*self.feeding.values()}


def _ends(model: hub.Model, found: Divergence | None, names: Mapping[str, str]) -> Ends | None:
    """The ends of the layer that differs, None if it is not there; of the whole, if none is said to differ. `names`:
    what layers of the first are called here."""
    if found is None:
        return Ends(list(model.ir.graph.outputs), {})
    known = reference.exits(model.ir.graph)

    def leaving(layer: str) -> ir.Value | None:
        """What leaves a layer and those that are called as parts of it."""
        name = named_alike(names.get(layer, layer), known)
        parts = [value for other, value in known.items() if other == name or other.startswith(f"{name}/")]
        return parts[-1] if parts else None

    last = leaving(found.layer)
    if last is None:
        return None
    feeding = {name: leaving(name) for name in found.inputs}
    return Ends([last], {name: value for name, value in feeding.items() if value is not None})


def _values(model: hub.Model, feeds: Mapping[str, Array], ends: Ends) -> tuple[dict[str, Array], dict[str, Array]]:
    """The numbers that enter and leave a part."""
    begins = entering(ends.outputs, ends.stops)
    names = {value.name or "" for value in model.ir.graph.inputs}
    renamed = (
        dict(feeds) if names >= set(feeds) else dict(zip((i.name for i in model.inputs), feeds.values(), strict=False))
    )
    values = computed(model.ir, renamed, [*begins, *ends.outputs])
    return (
        {v.name or "": values[v.name or ""] for v in begins},
        {v.name or "": values[v.name or ""] for v in ends.outputs},
    )


def _in_second(b: hub.Model, theirs: Ends, ours: Ends, part: Part, judge: Judge, location: Location) -> Judged | None:
    """The same part of what hub reads of the second model, if that shows the difference that was located."""
    if len(theirs.outputs) != len(ours.outputs) or set(theirs.feeding) != set(ours.feeding):
        return None
    try:
        if any(_is_one(value) for value in entering(theirs.outputs, theirs.stops)):
            part = _of_one(part)
        same = _as_part(b, theirs, ours, part)
        row = judge(same, run(same.model, same.feeds)) if same is not None else None
        if same is None or row is None or not _plausible(row, location):
            return None
    except HubError:  # it cannot be run with these numbers
        return None
    return _single(part, same, judge) or Judged(same, row, "run")


def _plausible(row: Row, location: Location) -> bool:
    """Whether a part differs by no more than the layer did in the whole: else it is something else that differs."""
    found = location.divergence
    seen = [r for r in location.report.rows if found is not None and r.kind == "layer" and r.name == found.layer]
    if not seen or seen[0].max_abs is None or row.max_abs is None:
        return True
    return row.max_abs <= 2 * seen[0].max_abs


def _as_part(b: hub.Model, theirs: Ends, ours: Ends, part: Part) -> Part | None:
    """The same part of the other model, with the same numbers; None if they do not fit it."""
    model = cut(b.ir, theirs.outputs, theirs.stops)
    values = list(model.graph.inputs)
    if len(values) != len(part.feeds):
        return None
    partner = {theirs.feeding[name].name: value.name for name, value in ours.feeding.items()}
    rest = [name for name in part.feeds if name not in partner.values()]
    others = [value.name for value in values if value.name not in partner]
    partner |= dict(zip(others, others if set(others) == set(rest) else rest, strict=False))
    own = {}
    for value in values:
        array = part.feeds.get(partner.get(value.name) or "")
        if array is None:
            return None
        sizes = list(value.shape) if value.shape is not None else list(array.shape)
        fits = len(sizes) == array.ndim and all(
            not isinstance(s, int) or s == n for s, n in zip(sizes, array.shape, strict=True)
        )
        if not fits:
            return None
        own[value.name or ""] = array.astype(value.dtype.numpy()) if value.dtype is not None else array
    left = [value.name or "" for value in model.graph.outputs]
    return Part(model, own, dict(zip(left, part.expected.values(), strict=True)))


def _is_one(value: ir.Value) -> bool:
    """Whether the batch of an input is one, as files of frameworks have it that change it when they run."""
    return value.shape is not None and len(value.shape) > 0 and value.shape[0] == 1


def _of_one(part: Part) -> Part:
    """The same for the first sample; as it is where what enters it has no common first size."""
    if len({array.shape[:1] for array in part.feeds.values()}) != 1:
        return part
    feeds = {name: array[:1] for name, array in part.feeds.items()}
    return Part(part.model, feeds, run(part.model, feeds))


Judge = Callable[[Part, Mapping[str, Array]], "Row | None"]


def _judge(probe: Probe) -> Judge:
    """The row in which outputs of a part differ from what is expected; None if they agree."""
    known = [tolerance_of(side.runner.precision) for side in probe.sides]
    rtol = probe.rtol if probe.rtol is not None else max((t for t in known if t is not None), default=None)

    def judge(part: Part, outputs: Mapping[str, Array]) -> Row | None:
        if len(outputs) != len(part.expected):
            return None
        by_name = set(outputs) == set(part.expected)
        for (name, array), other in zip(part.expected.items(), outputs.values(), strict=True):
            theirs = outputs[name] if by_name else other
            row = compare_arrays(name, array, theirs.astype(array.dtype), rtol=rtol, atol=probe.atol)
            if row.verdict == "mismatch":
                return row
        return None

    return judge


def _single(ours: Part, theirs: Part, judge: Judge) -> Judged | None:
    """The first node that differs though what enters it agrees, if the two parts are made of the same nodes."""
    first, second = list(ours.model.graph), list(theirs.model.graph)
    if [node.op_type for node in first] != [node.op_type for node in second]:
        return None
    values = [node.outputs[0] for node in first]
    found = computed(ours.model, ours.feeds, [*values, *ours.model.graph.inputs])
    for mine, other in zip(first, second, strict=True):
        model = cut(theirs.model, [other.outputs[0]], {v for v in other.inputs if v is not None})
        names = [v.name or "" for v in entering([other.outputs[0]], {v for v in other.inputs if v is not None})]
        partner = {
            b.name: a.name for a, b in zip(mine.inputs, other.inputs, strict=False) if a is not None and b is not None
        }
        if any(partner.get(name) not in found for name in names) or mine.outputs[0].name not in found:
            continue
        part = Part(
            model,
            {name: found[partner[name] or ""] for name in names},
            {other.outputs[0].name or "": found[mine.outputs[0].name or ""]},
        )
        try:
            row = judge(part, run(part.model, part.feeds))
        except HubError:  # it cannot be run with these numbers
            continue
        if row is not None:
            return Judged(part, row, "run")
    return None


def _again(part: Part, source: Any, judge: Judge) -> Row | None:
    """The part converted to the format of the second model and run there."""
    known = format_of(source)
    if known.writer is None or known.runner is None or not known.writes:
        return None
    with tempfile.TemporaryDirectory(prefix="hub-") as folder:
        try:
            path = hub.save(hub.Model(part.model), Path(folder) / f"part{known.writes[0]}", to=known.name)[0]
            runner = find(known.runner).open(path)
            try:
                names = [port.name for port in runner.inputs]
                given = (
                    part.feeds if set(names) == set(part.feeds) else dict(zip(names, part.feeds.values(), strict=False))
                )
                outputs = runner.run(given, [])
            finally:
                runner.close()
        except (HubError, LoadFailed, RunFailed):
            return None
    return judge(part, outputs)


def _recorded(probe: Probe, a: hub.Model, found: Divergence, judge: Judge) -> Judged | None:
    """The part of the first model, and what the second one, as a whole and in its own runtime, gives there."""
    runner, second = reference.open(a), probe.sides[1]
    first = Side("", runner)
    feeds = feeds_for(first, matching(probe.sides[0], first, Report()), probe.feeds())
    tap, other = layer_tap(found.layer, first, second), layer_tap(probe.common[found.layer], second, first)
    value = runner.value(tap)
    given = feeds_for(second, matching(probe.sides[0], second, Report()), probe.feeds())
    try:
        array = second.runner.run(given, [other]).get(other)
    except (LoadFailed, RunFailed):
        return None
    if value is None or array is None:
        return None
    feeding = {name: runner.value(layer_tap(name, first, second)) for name in found.inputs}
    ends = Ends([value], {name: begin for name, begin in feeding.items() if begin is not None})
    part = Part(cut(a.ir, ends.outputs, ends.stops), *_values(a, feeds, ends))
    ((name, expected),) = part.expected.items()
    theirs = as_computed(first, tap, second, other, array)
    if [n for n in theirs.shape if n != 1] == [n for n in expected.shape if n != 1]:
        theirs = theirs.reshape(expected.shape)  # axes of size 1 are no difference between layers
    part.second = {name: theirs}
    row = judge(part, part.second)
    return None if row is None else Judged(part, row, "recorded")


def reduce_by(
    source: Any,
    command: str | Sequence[str],
    out: str | Path,
    *,
    inputs: Any = None,
    seed: int = 0,
    timeout: float = 600,
) -> Repro:
    """Write the smallest part of a model on which a command of the user's fails to the folder `out`.

    Args:
        source: anything that `hub.load` reads.
        command: as in a shell, or its words; `{model}` becomes the path of a part, `{folder}` that of its test case
            (`model.onnx`, `test_data_set_0`), which is added where neither is there. It ends with 0 where the part is
            right.
        inputs, seed: of the model, as for `check`; parts get what these make.
        timeout: seconds after which a command counts as failed.

    Raises:
        UsageError: the command succeeds on the whole model, or `out` is there already.
    """
    folder = _fresh(out)
    model = hub.load(source)
    ports = reference.open(model).inputs
    feeds = given(inputs, ports) if inputs is not None else generate(ports, seed=seed)
    runs = Command(command, timeout)
    whole = Part(model.ir, dict(feeds), run(model.ir, feeds))
    if not runs.fails(whole):
        raise UsageError(f"there is nothing to reduce: {runs.text} succeeds on the whole model")
    nodes = list(model.ir.graph)
    values = computed(model.ir, feeds, [node.outputs[0] for node in nodes] + list(model.ir.graph.inputs))

    def part(start: int, end: int) -> Part:
        """The nodes `start` to `end`, as far as the last one needs them."""
        stops = {value for node in nodes[:start] for value in node.outputs}
        outputs = [nodes[end].outputs[0]]
        begins = entering(outputs, stops)
        return Part(
            cut(model.ir, outputs, stops),
            {v.name or "": values[v.name or ""] for v in begins},
            {v.name or "": values[v.name or ""] for v in outputs},
        )

    end = _first(len(nodes) - 1, lambda i: runs.fails(part(0, i)))
    start = end - _first(end, lambda back: runs.fails(part(end - back, end)))
    smallest = part(start, end)
    row = Row(layer_of(nodes[end]), "mismatch", runs.said, op=nodes[end].op_type)
    return written(folder, smallest, None, row, runs.text, (source,))


def _first(last: int, fails: Callable[[int], bool]) -> int:
    """The smallest number up to `last`, which fails, that does so as well, by bisection."""
    low, high = -1, last
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle, high)
    return high
