"""Parts of an ONNX model, with the numbers that enter and leave them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from hub import onnxfile
from hub.errors import DAMAGE, HubError
from hub.model import session
from parity.runners import Array, single_line

__all__ = ["Part", "computed", "cut", "entering", "run", "standard"]


FAILURES: tuple[type[Exception], ...] = (HubError, *DAMAGE)


@dataclass
class Part:
    """A part of a model: a model of its own, what enters it, and what should leave it; and what left it elsewhere,
    if the part can be run nowhere else."""

    model: ir.Model
    feeds: dict[str, Array]
    expected: dict[str, Array]
    second: dict[str, Array] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """How many nodes it has."""
        return int(self.model.graph.num_nodes())

    def save(self, folder: Path) -> Path:
        """Write it as an ONNX test case: `model.onnx` and `test_data_set_0`, with `second_0.pb` where there is that;
        gives the path of the model."""
        data = folder / "test_data_set_0"
        data.mkdir(parents=True, exist_ok=True)
        for kind, arrays in (("input", self.feeds), ("output", self.expected), ("second", self.second)):
            for i, (name, array) in enumerate(arrays.items()):
                tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
                (data / f"{kind}_{i}.pb").write_bytes(tensor.SerializeToString())
        return onnxfile.save(self.model, folder / "model.onnx")[0]


def entering(outputs: Sequence[ir.Value], stops: Collection[ir.Value]) -> list[ir.Value]:
    """What has to be given to compute `outputs`, when the values `stops` are given: those, and inputs of the graph."""
    found: dict[ir.Value, None] = {}
    seen: set[ir.Value] = set()
    waiting = list(outputs)
    while waiting:
        value = waiting.pop()
        if value in seen or value.is_initializer():
            continue
        seen.add(value)
        node = value.producer()
        if node is None or (value in stops and value not in outputs):
            found[value] = None
            continue
        waiting += [given for given in node.inputs if given is not None]
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                waiting += [v for inner in attribute.as_graph().all_nodes() for v in inner.inputs
                            if v is not None and v.graph is not inner.graph and not v.is_initializer()]  # fmt: skip
    return list(found)


def cut(model: ir.Model, outputs: Sequence[ir.Value], stops: Collection[ir.Value]) -> ir.Model:
    """The part of a model between the values `stops` and `outputs`, as a model."""
    inputs = entering(outputs, stops)
    graph = ir.convenience.extract(model.graph, inputs=inputs, outputs=list(outputs))
    graph.name = f"part of {model.graph.name or 'a model'}"
    return ir.Model(graph, ir_version=model.ir_version, producer_name="hub")


def computed(model: ir.Model, feeds: Mapping[str, Array], values: Sequence[ir.Value]) -> dict[str, Array]:
    """What the model computes for these values, by their names; inputs are what is fed."""
    asked = [value.name or "" for value in values if value.name not in feeds]
    if not asked:
        return {value.name or "": feeds[value.name or ""] for value in values}
    names = [value.name for value in model.graph.inputs]
    opened = session(model, taps=asked)
    arrays = _ran(opened, asked, {name: array for name, array in feeds.items() if name in names})
    found = dict(zip(asked, arrays, strict=True))
    return {value.name or "": feeds[value.name or ""] if value.name in feeds else found[value.name or ""]
            for value in values}  # fmt: skip


def standard(part: Part) -> str:
    """Whether ONNX Runtime computes a part as the reference implementation of ONNX does, in a sentence."""
    from onnx.reference import ReferenceEvaluator

    from parity.compare import compare

    try:
        runtime = run(part.model, part.feeds)
        evaluator = ReferenceEvaluator(ir.serde.serialize_model(part.model))
        outputs = [np.asarray(array) for array in evaluator.run(list(runtime), dict(part.feeds))]
    except FAILURES as error:  # it has no form of every operator
        return f"ONNX's reference implementation cannot run it: {single_line(error)}"
    rows = compare(dict(zip(runtime, outputs, strict=True)), runtime)
    wrong = [row for row in rows if row.verdict == "mismatch"]
    if wrong:
        return f"ONNX Runtime departs from ONNX's reference implementation: {wrong[0].reason}"
    return "ONNX Runtime computes it as ONNX's reference implementation does"


def run(model: ir.Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a part, by name."""
    names = [value.name or "" for value in model.graph.outputs]
    return dict(zip(names, _ran(session(model), names, feeds), strict=True))


def _ran(opened: Any, names: Sequence[str], feeds: Mapping[str, Array]) -> list[Any]:
    try:
        arrays: list[Any] = opened.run(list(names), dict(feeds))
    except Exception as error:  # those of ONNX Runtime have no class of their own
        raise HubError(f"ONNX Runtime cannot run a part: {single_line(error)}") from error
    return arrays
