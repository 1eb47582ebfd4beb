"""A neural network, a classifier or a regressor, as a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.canonical import canonicalize
from hub.errors import InvalidModel, Refusal, UnsupportedOps, UsageError
from hub.model import Model, select_outputs
from importers.coreml.interface import LABELS, describe
from importers.coreml.neuralnetwork import features
from importers.coreml.neuralnetwork.network import Scope, rank_of
from importers.coreml.neuralnetwork.weights import Weights

__all__ = ["build"]

TITLES = {
    "neuralNetwork": "NeuralNetwork",
    "neuralNetworkClassifier": "NeuralNetworkClassifier",
    "neuralNetworkRegressor": "NeuralNetworkRegressor",
    "pipeline": "Pipeline",
    "pipelineClassifier": "PipelineClassifier",
    "pipelineRegressor": "PipelineRegressor",
}

ARRAYS = ("multiArrayType", "imageType", "doubleType")
"""Types of outputs that a network itself gives."""


def build(
    message: Any,
    bundle: Any,
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    fp16: str = "keep",
) -> Model:
    """The model of a message that is a neural network, or a pipeline.

    `bundle` is where it lies: weights that were left out of the message, and files of ML Programs in a pipeline.

    Raises:
        UnsupportedOps: naming every layer that has no form.
        InvalidModel: it contradicts itself.
    """
    kind = message.WhichOneof("Type")
    if kind not in TITLES:
        raise InvalidModel(f"a model of the type {kind} is no neural network")
    title = f"{TITLES[kind]}, specification {message.specificationVersion}"
    if kind.startswith("pipeline"):
        from importers.coreml.neuralnetwork.pipeline import join

        model = join(message, bundle, inputs, fp16)
    else:
        model = network(message, getattr(message, kind), weights_of(bundle), inputs)
    model.variant = title
    canonicalize(model.ir)
    if outputs:
        select_outputs(model.ir, outputs)
    return model


def weights_of(bundle: Any) -> Weights:
    """Where the weights of a bundle are."""
    found = getattr(bundle, "skeleton", None)
    return Weights() if found is None else Weights(found.mapping, found.ranges)


def network(message: Any, network: Any, weights: Weights, inputs: Mapping[str, Sequence[int | str | None]]) -> Model:
    """One neural network."""
    description = message.description
    builder = GraphBuilder("network")
    warnings: list[str] = []
    refused: list[tuple[str, str, Refusal]] = []
    rank, free = rank_of(network.layers)
    mapped = features.Mapped(network, rank, free)
    images = [f for f in description.input if f.type.WhichOneof("Type") == "imageType"]
    exact = mapped.exact_images if len(images) == len(description.input) else mapped.exact_arrays
    scope = Scope(builder, weights, None if exact else rank, warnings, refused)
    if not description.input and not network.layers:
        raise InvalidModel("the network has neither inputs nor layers")
    names = {feature.name for feature in description.input}
    unknown = sorted(set(inputs) - names)
    if unknown:
        raise UsageError(f"there is no input {unknown[0]!r}; inputs are {', '.join(sorted(names))}")
    for feature in description.input:
        try:
            with builder.layer(feature.name, "input"):
                value = features.declare(builder, feature, mapped, inputs, warnings)
                steps = [s for s in network.preprocessing if s.featureName in ("", feature.name)]
                if steps and any(s.featureName == "" for s in steps) and len(description.input) > 1:
                    steps = [s for s in steps if s.featureName or feature is description.input[0]]
                scope.values[feature.name] = features.preprocess(builder, value, feature, steps)
        except Refusal as refusal:
            refused.append(("input", feature.name, refusal))
            scope.lost.add(feature.name)
    scope.run(network.layers)
    _outputs(message, network, scope, mapped, exact)
    if refused:
        raise UnsupportedOps.collect("The network cannot be read:", refused)
    if network.HasField("updateParams"):
        warnings.append("the model can be trained on the device; that is left out")
    model = Model(builder.model(), "coreml", warnings)
    describe(model.ir, description, description)
    _labels(message, network, model)
    return model


def _outputs(message: Any, network: Any, scope: Scope, mapped: features.Mapped, exact: bool) -> None:
    """Make blobs the outputs of the graph: those that the description names, and a classifier's probabilities."""
    given = 0
    for feature in message.description.output:
        if feature.type.WhichOneof("Type") not in ARRAYS:
            continue
        given += 1
        if feature.name in scope.lost or scope.refused:
            continue
        if feature.name not in scope.values:
            raise InvalidModel(f"the output {feature.name[:100]!r} is written by no layer")
        value = scope.values[feature.name]
        features.give(scope.builder, value, feature, mapped, exact, scope.narrow.get(id(value)))
    if message.WhichOneof("Type") == "neuralNetworkClassifier":
        blob = network.labelProbabilityLayerName or (network.layers[-1].output[0] if network.layers else "")
        named = next((layer.output[0] for layer in network.layers if layer.name == blob and layer.output), blob)
        blob = blob if blob in scope.values or blob in scope.lost else named
        if blob in scope.lost or scope.refused:
            return
        if blob not in scope.values:
            raise InvalidModel(f"the probabilities {blob[:100]!r} are written by no layer")
        if all(value is not scope.values[blob] for value in scope.builder.outputs):
            scope.builder.output(_flat(scope, scope.values[blob]), blob)
        given += 1
    if not given:
        raise InvalidModel("the network has no output that is an array")


def _flat(scope: Scope, value: ir.Value) -> ir.Value:
    """Probabilities without the height and width of 1 that they have behind them."""
    if id(value) in scope.narrow:
        return scope.narrow[id(value)]
    if scope.rank and value.shape is not None and list(value.shape)[-2:] == [1, 1]:
        rank = len(value.shape)
        return scope.builder.op("Squeeze", value, scope.builder.ints([rank - 2, rank - 1], "axes"))
    return value


def _labels(message: Any, network: Any, model: Model) -> None:
    if message.WhichOneof("Type") != "neuralNetworkClassifier":
        return
    kind = network.WhichOneof("ClassLabels")
    labels = list(getattr(network, kind).vector) if kind else []
    model.ir.metadata_props[LABELS] = json.dumps(labels, ensure_ascii=False)
    name = message.description.predictedFeatureName
    model.warnings.append(
        f"it is a classifier: the label {name!r} is not in the graph, whose outputs are probabilities; the labels are "
        f"in the metadata {LABELS}, in that order"
    )
