"""Find the layer at which two models begin to differ by bisection, a layer at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hub.errors import HubError
from parity.compare import Row
from parity.comparison import MEMORY, Comparison
from parity.divergence import Divergence, feeding
from parity.inputs import generate, several
from parity.pairs import Pair
from parity.report import Report
from parity.runners import Array
from parity.sides import Side, agree_on_form, labels, matching, merged, open_side

__all__ = ["Location", "Probe", "at_once", "locate", "opened", "search"]


JUMP = 10.0
"""How many times more of what is allowed a layer differs than what feeds it, if the error is made there."""


@dataclass
class Location:
    """What `locate` returns.

    Attributes:
        divergence: the layer at which the two begin to differ; None where they agree, or differ behind every layer
            that both know.
        report: the outputs, that layer and what feeds it.
        runs: how often the two models ran.
    """

    divergence: Divergence | None
    report: Report
    runs: int

    def __str__(self) -> str:
        found = str(self.divergence) if self.divergence is not None else self._without()
        return f"{found}\n(found in {self.runs} runs of both)\n\n{self.report}"

    def _without(self) -> str:
        if not self.report.mismatches:
            return "no difference was found" if self.report.ok else "nothing could be compared"
        if any(row.kind == "layer" and row.verdict != "not compared" for row in self.report.rows):
            return "the two differ behind the last layer that both know"
        return "the two differ; no layer could be compared"


@dataclass
class Probe:
    """Two opened models that are asked for single layers. What was found is kept."""

    sides: tuple[Side, Side]
    inputs: Any = None
    rtol: float | None = None
    atol: float | None = None
    seed: int = 0
    rows: dict[str, Row] = field(default_factory=dict)
    opening: Report = field(default_factory=Report)
    asked: set[str] = field(default_factory=set)
    outputs: Report | None = None
    runs: int = 0

    @cached_property
    def pair(self) -> Pair:
        """The two, and what hub knows between them."""
        return Pair(*self.sides)

    @cached_property
    def common(self) -> dict[str, str]:
        """The layers that both know: the names in the second by those in the first."""
        return dict(self.pair.common)

    def row(self, layer: str) -> Row | None:
        """The comparison of one layer; None if one of the two does not give it."""
        if layer not in self.asked:
            self.asked.add(layer)
            report = self.compared({layer})
            self.rows |= {row.name: row for row in report.rows if row.kind == "layer"}
        return self.rows.get(layer)

    def fails(self, layer: str) -> bool | None:
        """Whether the two differ in a layer; None if that is not known."""
        row = self.row(layer)
        if row is None or (row.verdict == "not compared" and row.max_abs is None):
            return None
        return row.verdict == "mismatch"

    def ends(self) -> Report:
        """The comparison of the outputs."""
        if self.outputs is None:
            self.outputs = self.compared(set())
        return self.outputs

    def compared(self, layers: set[str] | None) -> Report:
        """A run of both: their outputs, and these layers; None: all."""
        report = Report(title=f"{self.sides[1].label} against {self.sides[0].label}")
        Comparison(report, self.inputs, self.rtol, self.atol, True, self.seed, only=layers).run(self.sides, [(0, 1)])
        self.runs += 1
        report.versions, report.notes = self.opening.versions, self.opening.notes + report.notes
        return report

    def feeds(self) -> dict[str, Array]:
        """What the first side is given."""
        ports = merged(self.sides, [matching(self.sides[0], side, Report()) for side in self.sides])
        return several(self.inputs, ports, 1)[0] if self.inputs is not None else generate(ports, seed=self.seed)


def locate(
    a: Any, b: Any, *, inputs: Any = None, rtol: float | None = None, atol: float | None = None, seed: int = 0
) -> Location:
    """Find the first layer, by the graph, in which `b` differs from `a`; arguments are those of `check`.

    The layers that both know are bisected in the order of execution, a run of both for each. What is found is then
    confirmed: if something that feeds it differs as well, the search goes on there. Where the outputs agree, or no
    layer is found, or it is not clear that the error is made there, all layers are compared, as many at a time as fit
    into memory.

    Raises:
        HubError: one of the two cannot be opened.
    """
    with ExitStack() as stack:
        return search(opened(a, b, stack, inputs=inputs, rtol=rtol, atol=atol, seed=seed))


def opened(a: Any, b: Any, stack: ExitStack, **options: Any) -> Probe:
    """Both models in their runtimes."""
    report = Report()
    sides = [open_side(source, label, report, stack) for source, label in zip((a, b), labels(a, b), strict=True)]
    if sides[0] is None or sides[1] is None:
        reasons = [str(item) for item in report.skipped] + [row.reason for row in report.rows]
        raise HubError(f"nothing can be located: {'; '.join(reasons)}")
    agree_on_form(sides[0], sides[1])
    return Probe((sides[0], sides[1]), **options, opening=report)


def search(probe: Probe) -> Location:
    """The bisection, and what confirms it."""
    ends = probe.ends()
    if not ends.mismatches:  # an error may fade on its way: there is nothing to bisect
        return _all(probe)
    flow = probe.pair.flow
    order = in_order(list(probe.common), flow)
    found = _bisected(probe, order)
    if found is None:
        return _all(probe)
    divergence = _confirmed(probe, found, flow)
    if not _clear(probe, divergence):
        return _all(probe)
    report = ends
    kept = [divergence.layer, *divergence.inputs]
    report.rows += [probe.rows[name] for name in kept if name in probe.rows]
    report.divergences, report.flows = [divergence], {divergence.between: _plain(flow)}
    return Location(divergence, report, probe.runs)


def at_once(probe: Probe, memory: int = MEMORY) -> Location:
    """The same by one run of both with all layers, where their values are known to fit into `memory` bytes."""
    feeds = probe.feeds()
    sizes = [probe.sides[0].runner.bytes_of(name, feeds) for name in probe.common]
    known = [size for size in sizes if size is not None]
    if not known or len(known) < len(sizes) or 2 * sum(known) > memory:
        return search(probe)
    return _all(probe)


def _all(probe: Probe) -> Location:
    """By one comparison of all layers, in parts where they are many."""
    report = probe.compared(None)
    return Location(report.divergences[0] if report.divergences else None, report, probe.runs)


def _clear(probe: Probe, found: Divergence) -> bool:
    """Whether what feeds a layer differs so much less than it does that the error is made there.

    Where it does not, an error from further up may only have been too small to be seen for a while.
    """
    shares = [_share(probe.rows[name]) for name in (found.layer, *found.inputs)]
    return shares[0] >= JUMP * max(shares[1:], default=0.0)


def _share(row: Row) -> float:
    """The difference by what is allowed."""
    if row.max_abs is None or not row.tolerance:
        return math.inf if row.verdict == "mismatch" else 0.0
    return row.max_abs / row.tolerance


def in_order(names: Sequence[str], flow: Mapping[str, Sequence[str]] | None) -> list[str]:
    """Layers so that each comes behind what feeds it, and otherwise as they are."""
    if flow is None:
        return list(names)
    wanted, placed, order = set(names), set(), []
    for start in names:
        waiting = [(start, False)]
        while waiting:
            name, ready = waiting.pop()
            if ready:
                order.append(name)
            elif name not in placed:
                placed.add(name)
                waiting.append((name, True))
                waiting += [(other, False) for other in reversed(list(flow.get(name, ())))]
    return [name for name in order if name in wanted]


def _bisected(probe: Probe, order: Sequence[str]) -> str | None:
    """The layer behind which everything that was asked differs, if the outputs do; None if no layer differs, or so
    many cannot be compared that one run with all of them costs less."""
    low, high = -1, len(order)
    most = probe.runs + 4 * len(order).bit_length()
    while high - low > 1:
        middle = (low + high) // 2
        tries = sorted(range(low + 1, high), key=lambda i: abs(i - middle))
        states = ((i, probe.fails(order[i])) for i in tries if probe.runs < most)
        known = next(((i, state) for i, state in states if state is not None), None)
        if known is None and probe.runs >= most:
            return None
        if known is None:
            break
        low, high = (low, known[0]) if known[1] else (known[0], high)
    return order[high] if high < len(order) else None


def _confirmed(probe: Probe, layer: str, flow: Mapping[str, Sequence[str]] | None) -> Divergence:
    """The layer, or one that feeds it and differs as well; everything that feeds what is returned agrees."""
    while flow is not None:
        inputs, unknown = _agreeing(probe, layer, flow)
        wrong = next((name for name in inputs if probe.fails(name)), None)
        if wrong is None:
            row = probe.rows[layer]
            return Divergence(layer, row.op, row.between, tuple(inputs), tuple(unknown))
        layer = wrong
    row = probe.rows[layer]
    return Divergence(layer, row.op, row.between, in_order=True)


def _agreeing(probe: Probe, layer: str, flow: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """The nearest layers that feed one and can be compared, which are asked for; and those between."""
    while True:
        nearest, unknown = feeding(layer, flow, probe.rows)
        asked = [name for name in unknown if name not in probe.asked and name in probe.common]
        if not asked or not any(probe.row(name) is not None for name in asked):
            return nearest, unknown


def _plain(flow: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    return {layer: list(others) for layer, others in (flow or {}).items()}
