"""Neural networks of Core ML as files, written with the schema of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.schemas import messages

FLOAT32, DOUBLE, INT32 = 65568, 65600, 131104


def weights(params: Any, array: Any) -> None:
    """Fill a `WeightParams` with float32."""
    params.floatValue.extend(array.reshape(-1).tolist())


def model(
    inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]], exact: bool = True, version: int = 4
) -> Any:
    """A model of a network without layers yet."""
    result = messages("coreml").Model(specificationVersion=version)
    for features, names in ((result.description.input, inputs), (result.description.output, outputs)):
        for name, shape in names.items():
            feature = features.add(name=name)
            feature.type.multiArrayType.shape.extend(shape)
            feature.type.multiArrayType.dataType = FLOAT32
    result.neuralNetwork.arrayInputShapeMapping = int(exact)
    result.neuralNetwork.imageInputShapeMapping = int(exact)
    return result


def add(network: Any, kind: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", **fields: Any) -> Any:
    """Add a layer, and set fields of it; gives its parameters."""
    layer = network.layers.add(name=name or outputs[0], input=inputs, output=outputs)
    params = getattr(layer, kind)
    params.SetInParent()
    for key, value in fields.items():
        if isinstance(value, list | tuple):
            getattr(params, key).extend(value)
        else:
            setattr(params, key, value)
    return params


def save(message: Any, folder: Path, name: str = "net.mlmodel") -> Path:
    """The file of a model."""
    path = folder / name
    path.write_bytes(message.SerializeToString())
    return path
