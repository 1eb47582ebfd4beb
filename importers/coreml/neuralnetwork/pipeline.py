"""Pipelines: models one after another, which hand features over by name, joined into one graph."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.canonical import IR_VERSION, LAYER, OPSET, SOURCE_OP
from hub.errors import InvalidModel, Refusal, UnsupportedOps
from hub.model import Model

__all__ = ["join"]

NETWORKS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
PIPELINES = {"pipeline": "", "pipelineClassifier": "pipeline", "pipelineRegressor": "pipeline"}

MOST_STAGES, MOST_DEPTH = 1000, 8


def join(
    message: Any, bundle: Any, inputs: Mapping[str, Sequence[int | str | None]], fp16: str, depth: int = 0
) -> Model:
    """The model of a pipeline.

    Raises:
        UnsupportedOps: a stage is no neural network or ML Program, or has layers that are refused.
        InvalidModel: a stage reads what nothing gives.
    """
    kind = message.WhichOneof("Type")
    found = getattr(message, kind)
    stages = list((getattr(found, PIPELINES[kind]) if PIPELINES[kind] else found).models)
    if not 0 < len(stages) <= MOST_STAGES or depth > MOST_DEPTH:
        raise InvalidModel(f"a pipeline of {len(stages)} models, {depth} pipelines deep")
    refused: list[tuple[str, str, Refusal]] = []
    for number, stage in enumerate(stages):
        held = stage.WhichOneof("Type")
        if held not in (*NETWORKS, *PIPELINES, "mlProgram"):
            refusal = Refusal("it is no neural network", "only neural networks and ML Programs are read in pipelines")
            refused.append((held or "model of an unknown type", f"stage {number}", refusal))
    if refused:
        raise UnsupportedOps.collect("The pipeline cannot be read:", refused)
    joint = _Joint()
    for number, stage in enumerate(stages):
        names = {feature.name for feature in stage.description.input}
        first = {name: shape for name, shape in inputs.items() if name in names and name not in joint.values}
        joint.add(_stage(stage, bundle, first, fp16, depth), f"stage{number}")
    return joint.model([feature.name for feature in message.description.output])


def _stage(stage: Any, bundle: Any, inputs: Mapping[str, Sequence[Any]], fp16: str, depth: int) -> Model:
    from importers.coreml.neuralnetwork.build import network, weights_of

    kind = stage.WhichOneof("Type")
    if kind in PIPELINES:
        return join(stage, bundle, inputs, fp16, depth + 1)
    if kind in NETWORKS:
        return network(stage, getattr(stage, kind), weights_of(bundle), inputs)
    from importers.coreml.program import build as build_program

    inner = copy.copy(bundle)
    inner.model = stage
    return build_program(inner, dict(inputs), (), None, fp16)


class _Joint:
    """Graphs joined so far: `values` by the names of features."""

    def __init__(self) -> None:
        self.inputs: list[ir.Value] = []
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self.values: dict[str, ir.Value] = {}
        self.given: list[ir.Value] = []
        self.warnings: list[str] = []
        self.metadata: dict[str, str] = {}
        self.taken: set[str] = set()

    def add(self, model: Model, title: str) -> None:
        """Put the graph of a stage behind the others."""
        graph = model.ir.graph
        outputs, names = list(graph.outputs), [value.name or "" for value in graph.outputs]
        nodes = list(graph)
        initializers = list(graph.initializers.values())
        graph.outputs.clear()
        for value in list(graph.inputs):
            name = value.name or ""
            if name in self.values:
                source = self._fitting(self.values[name], value, title)
                for use in list(value.uses()):
                    use.node.replace_input_with(use.idx, source)
                outputs = [source if value is output else output for output in outputs]
        fresh = [value for value in graph.inputs if value.name not in self.values]
        graph.remove(nodes)
        graph.inputs.clear()
        for value in initializers:
            graph.initializers.pop(value.name or "")
        self.inputs += fresh
        self.values.update({value.name or "": value for value in fresh})
        self.taken.update(value.name or "" for value in fresh)
        for value in [*initializers, *_defined(nodes)]:
            value.name = self._unique(value.name or "", title)
        for node in _all(nodes):
            node.name = self._unique(node.name or "", title)
        self.nodes += nodes
        self.initializers += initializers
        self.values.update(zip(names, outputs, strict=True))
        self.warnings += [text for text in model.warnings if text not in self.warnings]
        self.metadata.update(model.ir.metadata_props)

    def model(self, wanted: Sequence[str]) -> Model:
        """The whole, with the outputs that the pipeline names, as far as they are arrays."""
        results = []
        for name in wanted:
            if name in self.values:
                results.append((name, self.values[name]))
        if not results:
            raise InvalidModel(f"none of the outputs {json.dumps(list(wanted)[:5])} is an array that a stage gives")
        for name, value in results:
            holder = next((v for v in _defined(self.nodes) if v.name == name and v is not value), None)
            if holder is not None:
                holder.name = self._unique(f"{name}/inner", "stage")
            if value.producer() is not None:
                value.name = name
        graph = ir.Graph(
            self.inputs,
            [value for _, value in results],
            nodes=self.nodes,
            initializers=[value for value in self.initializers if value.uses()],
            opset_imports={"": OPSET},
            name="pipeline",
        )
        built = ir.Model(graph, ir_version=IR_VERSION, producer_name="hub")
        built.metadata_props.update(self.metadata)
        return Model(built, "coreml", self.warnings)

    def _unique(self, name: str, title: str) -> str:
        candidate, number = name, 0
        while candidate in self.taken:
            number += 1
            candidate = f"{title}/{name}" if number == 1 else f"{title}/{name}_{number}"
        self.taken.add(candidate)
        return candidate

    def _fitting(self, source: ir.Value, wanted: ir.Value, title: str) -> ir.Value:
        """What one stage gives as the next one takes it: the same numbers in the same order, of its type and shape."""
        if source.dtype != wanted.dtype and wanted.dtype is not None:
            source = self._node("Cast", [source], [ir.AttrInt64("to", int(wanted.dtype))], wanted.dtype, source.shape)
        ours, theirs = list(source.shape or []), list(wanted.shape or [])
        if len(ours) == len(theirs) and all(
            a == b or not isinstance(a, int) or not isinstance(b, int) for a, b in zip(ours, theirs, strict=True)
        ):
            return source
        front = [size for size in theirs if not isinstance(size, int)]
        if len(front) > 1 or [s for s in ours if isinstance(s, int) and s != 1] != [
            s for s in theirs if isinstance(s, int) and s != 1
        ]:
            raise InvalidModel(f"{title} takes {wanted.name!r} of the shape {theirs}, and is given {ours}")
        sizes = np.array([size if isinstance(size, int) else -1 for size in theirs], np.int64)
        shape = ir.Value(
            name=self._unique(f"{title}/{wanted.name}/shape", title),
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape([len(sizes)]),
            const_value=ir.tensor(sizes),
        )
        self.initializers.append(shape)
        return self._node("Reshape", [source, shape], [], source.dtype, wanted.shape)

    def _node(
        self, op_type: str, inputs: Sequence[ir.Value], attributes: Sequence[ir.Attr], dtype: Any, shape: Any
    ) -> ir.Value:
        label = self._unique(f"{inputs[0].name}/{op_type}", "pipeline")
        value = ir.Value(name=label, type=ir.TensorType(dtype), shape=shape)
        metadata = {LAYER: inputs[0].name or op_type, SOURCE_OP: "pipeline"}
        self.nodes.append(
            ir.Node("", op_type, inputs, attributes, outputs=[value], name=label, metadata_props=metadata)
        )
        return value


def _all(nodes: Sequence[ir.Node]) -> list[ir.Node]:
    """Nodes, and those of graphs inside of them."""
    found: list[ir.Node] = []
    for node in nodes:
        found.append(node)
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                found += _all(list(attribute.as_graph()))
    return found


def _defined(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """The values that nodes give, and the inputs of graphs inside of them."""
    found: list[ir.Value] = []
    for node in _all(nodes):
        found += node.outputs
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                found += attribute.as_graph().inputs
    return found
