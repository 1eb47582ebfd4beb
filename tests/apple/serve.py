"""What `MLModel.predict` of coremltools gives on a Mac, by hub's importer and ONNX Runtime instead.

The model is saved as a file first, and the file is read: nothing is handed over in memory.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import hub
from hub.errors import UnsupportedOps
from hub.model import session

__all__ = ["COUNT", "Count", "Refused", "make_state", "predict"]


class Refused(Exception):
    """The importer refuses the model by name, or the harness cannot serve the call: not a wrong value."""


@dataclass
class Count:
    """What happened in the case that runs now."""

    predictions: int = 0
    refusals: list[str] = field(default_factory=list)


COUNT = Count()


def refuse(reason: str) -> Refused:
    COUNT.refusals.append(reason)
    return Refused(reason)


def make_state(self: Any) -> Any:
    """`MLModel.make_state`."""
    raise refuse("state: ONNX has none")


def predict(self: Any, data: Any, state: Any = None) -> Any:
    """`MLModel.predict`."""
    if isinstance(data, list):
        return [predict(self, one) for one in data]
    if state is not None:
        raise refuse("state: ONNX has none")
    model = loaded(self)
    description = self._spec.description
    if self._is_multifunction():
        description = self._get_function_description(self.function_name)
    unknown = set(data) - {feature.name for feature in description.input}
    if unknown:
        raise RuntimeError(f"Core ML knows no input {sorted(unknown)}")
    infos = {info.name: info for info in model.inputs}
    feeds = {}
    for feature in description.input:
        if feature.name in infos:
            feeds[feature.name] = given(feature, data.get(feature.name), infos[feature.name])
    outputs = model.run(feeds)
    COUNT.predictions += 1
    result: dict[str, Any] = {}
    network = getattr(self._spec, self._spec.WhichOneof("Type"), None)
    five = any(getattr(value, "ndim", 0) == 5 for value in data.values())
    if len(outputs) == len(description.output):  # an output with the name of an input has another one here
        outputs = {f.name: v for f, v in zip(description.output, outputs.values(), strict=True)} | outputs
    for feature in description.output:
        if feature.name in outputs:
            result[feature.name] = declared(feature, unplaced(network, np.asarray(outputs[feature.name]), five))
    return result | classes(self._spec, model, outputs)


def loaded(mlmodel: Any) -> hub.Model:
    """The model as hub reads it from the file that coremltools saves; read again where the model was changed."""
    key = hashlib.sha256(mlmodel._spec.SerializeToString()).hexdigest(), mlmodel.function_name
    known = getattr(mlmodel, "_hub_model", None)
    if known is not None and known[0] == key:
        return known[1]
    with tempfile.TemporaryDirectory(prefix="hub-apple-") as folder:
        path = Path(folder) / ("model.mlpackage" if mlmodel.is_package else "model.mlmodel")
        mlmodel.save(str(path))
        options = {"function": mlmodel.function_name} if mlmodel._is_multifunction() else {}
        try:
            model = hub.load(path, **options)
        except UnsupportedOps as error:
            raise refuse("; ".join(f"{op.op}: {op.reason}" for op in error.ops)) from error
        model._session = session(model.ir)  # while the file is there
        mlmodel._hub_model = (key, model)
    return model


def zeros(info: Any) -> np.ndarray:
    shape = [size if isinstance(size, int) else 1 for size in info.shape]
    return np.zeros(shape, info.dtype)


def given(feature: Any, value: Any, info: Any) -> np.ndarray:
    """The array for one input: an image as its channels, and an optional input that is left out as its default."""
    if value is None:
        if not feature.type.isOptional:
            raise RuntimeError(f"Core ML needs the input {feature.name}")
        kind = feature.type.multiArrayType.WhichOneof("defaultOptionalValue")
        return zeros(info) + (getattr(feature.type.multiArrayType, kind) if kind else 0)
    if not hasattr(value, "getbands"):
        return placed(np.asarray(value), len(info.shape))
    array = np.asarray(value)
    if array.ndim == 3:
        array = array[:, :, :3].transpose(2, 0, 1)
        if feature.type.imageType.ColorSpace.Name(feature.type.imageType.colorSpace) == "BGR":
            array = array[::-1]
    else:
        array = array[None]
    return array.reshape((1,) * (len(info.shape) - 3) + array.shape).astype(np.float32)


def placed(array: np.ndarray, rank: int) -> np.ndarray:
    """An array for an input that has sequence and batch in front, or not height and width behind, as hub reads it."""
    if array.ndim < rank:
        return array.reshape((1,) * (rank - array.ndim) + array.shape)
    if array.ndim == 5 and rank < 5:
        keep = {4: slice(1, 5), 3: slice(0, 3), 2: slice(1, 3)}.get(rank)
        if keep is not None and np.prod(array.shape[keep]) == array.size:
            return array.reshape(array.shape[keep])
    return array


def unplaced(network: Any, array: np.ndarray, five: bool) -> np.ndarray:
    """An output as Core ML gives it, where it has sequence and batch in front that nobody gave."""
    if getattr(network, "arrayInputShapeMapping", 1) == 1 or five:
        return array
    front = {5: 2, 4: 1, 3: 2, 2: 1}.get(array.ndim, 0)
    return array.reshape(array.shape[front:]) if front and set(array.shape[:front]) == {1} else array


def declared(feature: Any, array: np.ndarray) -> Any:
    """One output as Core ML gives it: of the declared type, and of rank 1 where it has none."""
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        from PIL import Image

        pixels = np.clip(np.round(array.reshape(array.shape[-3:])), 0, 255).astype(np.uint8)
        if pixels.shape[0] == 1:
            return Image.fromarray(pixels[0], "L")
        if feature.type.imageType.ColorSpace.Name(feature.type.imageType.colorSpace) == "BGR":
            pixels = pixels[::-1]
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    names = {65568: np.float32, 65600: np.float64, 65552: np.float16, 131104: np.int32}
    array = np.asarray(array)
    if kind == "multiArrayType" and feature.type.multiArrayType.dataType in names:
        array = array.astype(names[feature.type.multiArrayType.dataType])
    return array.reshape(1) if array.shape == () else array


def classes(spec: Any, model: hub.Model, outputs: dict[str, Any]) -> dict[str, Any]:
    """The label, and the probabilities by label, of a classifier, whose network gives an array."""
    labels = json.loads(model.ir.metadata_props.get("hub.coreml.labels", "null"))
    name = spec.description.predictedFeatureName
    if not labels or not name:
        return {}
    network = getattr(spec, spec.WhichOneof("Type"), None)
    blob = getattr(network, "labelProbabilityLayerName", "")
    array = outputs[blob] if blob in outputs else list(outputs.values())[-1]
    scores = dict(zip(labels, np.asarray(array).reshape(-1).tolist(), strict=True))
    return {name: max(labels, key=scores.__getitem__), spec.description.predictedProbabilitiesName: scores}
