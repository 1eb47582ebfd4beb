"""OpenCV 4's reader of Caffe files, in this process: a second witness of what a net computes.

It is asked only where it is known to be right: among what it reads without complaint are layers
that it computes wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from parity.runners import BEFORE, Array, Description, LoadFailed, RunFailed, need, single_line
from parity.runners.interface import Interface
from parity.runners.layergraph import Capture, Layer, LayerGraph
from parity.runners.prototxt import Prototxt, open_prototxt

__all__ = ["OpenCVRunner", "available", "open"]

_RIGHT = frozenset(
    """AbsVal BNLL BatchNorm Concat Convolution Crop Deconvolution DetectionOutput Dropout ELU Eltwise Exp Flatten
    InnerProduct Input LRN Log Normalize PReLU Permute Pooling Power PriorBox ReLU Reshape Scale Sigmoid Silence Slice
    Softmax Split Swish TanH""".split()
)
"""Layer types for which it agrees with Caffe, but for the settings that `_wrong` names, and that of detections it gives
other rows (`_as_in_ssd`). Of the others it has no layer
(Threshold, Bias, Reduction, Im2col, DummyData, Embed, ArgMax, RNN), fails (Tile, LSTM) or is wrong (MVN)."""

_SETTINGS = "share_location background_label_id code_type keep_top_k confidence_threshold nms_param".split()
"""What DetectionOutput must say: of some OpenCV knows no default, of others another."""


def available() -> str | None:
    """None if OpenCV can be used here, else why not. OpenCV 5 has no reader of Caffe files."""
    return need(["cv2"], "OpenCV", "pip install 'opencv-python-headless<5'")


def open(source: Any) -> OpenCVRunner:
    """The same sources as those of `parity.runners.caffe`.

    Raises:
        LoadFailed: OpenCV cannot load the net, or it is known to be wrong or unable for something in it.
    """
    return OpenCVRunner(open_prototxt(source))


class OpenCVRunner(Description):
    """Runs a net, each layer for itself. Inputs, outputs and what goes into the activation of an output come as
    the source has them (`parity.runners.prototxt.Interface`), other values in Caffe's layout."""

    def __init__(self, model: Prototxt) -> None:
        import cv2

        super().__init__("opencv", cv2.__version__, layout="canonical", grain="parts")
        if not hasattr(cv2.dnn, "readNetFromCaffe"):
            raise LoadFailed(f"OpenCV {cv2.__version__} has no reader of Caffe files; 4 has")
        if wrong := _wrong(model.net):
            raise LoadFailed(f"OpenCV is known to be wrong or unable here: {wrong}")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it writes what it also raises
        files = [np.frombuffer(model.text.encode(errors="surrogateescape"), np.uint8)]
        if model.weights is not None:
            files.append(np.fromfile(model.weights, np.uint8))
        try:
            self._net: Any = cv2.dnn.readNetFromCaffe(*files)
        except cv2.error as error:
            raise LoadFailed(single_line(error)) from error
        self._net.enableFusion(False)  # it would lose values, and fails on Deconvolution and Scale
        self._interface = model.interface
        layers = [Layer(x.name, x.type, list(x.bottom), list(x.top)) for x in model.net.layer if x.type != "Input"]
        self._graph = LayerGraph(layers)
        # OpenCV makes one layer of each and may give it another name.
        self._names = [str(self._net.getLayer(i + 1).name) for i in range(len(layers))]
        if len(set(self._names)) < len(layers):
            raise LoadFailed("OpenCV gives two of its layers the same name")
        shapes = _inputs(model.net)
        self._shapes = shapes
        self.inputs = [model.interface.port(name, shape) for name, shape in shapes.items()]
        self.layers = model.interface.named(self._graph.types)
        self.flow = model.interface.flowing(self._graph.flow)
        self._kept = {x.name: x.detection_output_param.keep_top_k for x in model.net.layer}
        self._outputs = _outputs(layers)
        model.interface.check(shapes, dict.fromkeys(self._outputs))
        self._before: dict[str, Capture] = {}
        for blob, at in self._outputs.items():
            self.ops[blob] = layers[at.layer].type
            if (before := self._graph.before_squashing(blob)) is not None:
                self._before[f"before:{blob}"], self.ops[f"before:{blob}"] = before

    def as_written(self) -> None:
        """Take and give what the net does, whatever its text says of its source."""
        self._interface = Interface()
        self.inputs = [Interface().port(name, shape) for name, shape in self._shapes.items()]
        self.layers, self.flow = self._graph.types, self._graph.flow
        self.perms.clear()

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        import cv2

        wanted = {tap: at for tap in taps if (at := self._graph.capture(self._interface.asked(tap))) is not None}
        if BEFORE in taps:
            wanted |= self._before
        places = [self._place(at) for at in (*self._outputs.values(), *wanted.values())]
        names = sorted({name for name, _ in places})
        arrays = self._interface.to_net([port.name for port in self.inputs], feeds)
        try:
            for name, array in arrays.items():
                self._net.setInput(array, name)
            found = dict(zip(names, self._net.forwardAndRetrieve(names), strict=True))
        except cv2.error as error:
            raise RunFailed(single_line(error)) from error
        values = dict(zip((*self._outputs, *wanted), (found[name][i].copy() for name, i in places), strict=True))
        for name, at in (self._outputs | wanted).items():
            layer = self._graph.layers[at.layer]
            if layer.type == "DetectionOutput":
                values[name] = _as_in_ssd(values[name], self._kept[layer.name])
        result = {name: self._interface.from_net(name, values[name]) for name in self._outputs}
        for tap in wanted:
            name, value = tap.partition(":")[2], values[tap]
            moved = tap in self._before and value.shape == values[name].shape
            result[tap] = self._interface.arranged(name, value) if moved else value
        return result

    def close(self) -> None:
        """Free the net."""
        self._net = None

    def _place(self, at: Capture) -> tuple[str, int]:
        """OpenCV's name for a layer, and which of its outputs the blob is."""
        return self._names[at.layer], self._graph.layers[at.layer].tops.index(at.blob)


def _inputs(net: Any) -> dict[str, list[int]]:
    """The input blobs and their shapes, in the older forms of writing them, too."""
    shapes = [[*shape.dim] for shape in net.input_shape]
    shapes += [[*net.input_dim[i : i + 4]] for i in range(0, len(net.input_dim), 4)]
    found = dict(zip(net.input, shapes, strict=False))
    for layer in net.layer:
        if layer.type == "Input":
            declared = [[*shape.dim] for shape in layer.input_param.shape]
            found |= dict(zip(layer.top, declared if len(declared) != 1 else declared * len(layer.top), strict=False))
    return found


def _outputs(layers: Sequence[Layer]) -> dict[str, Capture]:
    """The blobs that no layer reads, in the order of the layers that write them last."""
    ends: dict[str, Capture] = {}
    for i, layer in enumerate(layers):
        for blob in layer.bottoms:
            ends.pop(str(blob), None)
        for blob in layer.tops:
            ends[str(blob)] = Capture(i, blob)
    return ends


def _as_in_ssd(value: Array, kept: int) -> Array:
    """What DetectionOutput gives, of which OpenCV orders the rows of an image by score alone, and adds zeros until
    there are `kept` for each image."""
    images = value.shape[2] // kept
    rows = value[0, 0]
    rows = rows[rows[:, 2] > 0]  # the threshold is not below 0, see `_wrong`
    if not len(rows):
        rows = np.full((images, 7), -1, np.float32)
        rows[:, 0] = np.arange(images)
    ordered: Array = rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))]
    return ordered[None, None]


def _wrong(net: Any) -> str:
    """What in a net OpenCV is wrong or unable at, or nothing."""
    if net.layers:
        return "it is written in an older format"
    read = {blob for layer in net.layer for blob in layer.bottom}
    for layer in net.layer:
        where = f"{layer.type} {layer.name!r}"
        spatial = max(len(layer.convolution_param.kernel_size), len(layer.convolution_param.pad))
        checks = {
            "this type of layer": layer.type not in _RIGHT,
            "rules of phases": bool(layer.include or layer.exclude),
            "k other than 1 is ignored": layer.type == "LRN" and layer.lrn_param.k != 1,
            "transpose is ignored": layer.type == "InnerProduct" and layer.inner_product_param.transpose,
            "base, scale and shift": layer.type == "Log" and bool(layer.log_param.ListFields()),
            "statistics of the batch": layer.batch_norm_param.HasField("use_global_stats")
            and not layer.batch_norm_param.use_global_stats,
            "round_mode": layer.pooling_param.HasField("round_mode"),
            "three spatial axes": spatial > 2,
            **_wrong_of_ssd(layer, read),
        }
        for what, wrong in checks.items():
            if wrong:
                return f"{where}: {what}"
    return ""


def _wrong_of_ssd(layer: Any, read: Set[str]) -> dict[str, bool]:
    """The same for SSD's layers; `read` are the blobs that layers read."""
    if layer.type == "Normalize":
        norm = layer.norm_param
        return {"one scale, or the length over all places": norm.across_spatial or norm.channel_shared}
    if layer.type == "PriorBox":
        prior = layer.prior_box_param
        return {
            "variance or clip is not given": not (prior.variance and prior.HasField("clip")),
            "sizes are not cut off": not all(size.is_integer() for size in (*prior.min_size, *prior.max_size)),
            "the size of the image": any(prior.HasField(name) for name in ("img_size", "img_h", "img_w")),
        }
    if layer.type == "DetectionOutput":
        found = layer.detection_output_param
        corner_size = found.DESCRIPTOR.fields_by_name["code_type"].enum_type.values_by_name["CORNER_SIZE"].number
        given = [found.HasField(name) for name in _SETTINGS]
        return {
            "a setting is not given": not (all(given) and found.nms_param.HasField("nms_threshold")),
            "code_type CORNER_SIZE": found.code_type == corner_size,
            "eta": found.nms_param.eta != 1,
            "variance_encoded_in_target": found.variance_encoded_in_target,
            "all are kept": found.keep_top_k <= 0 or found.confidence_threshold < 0,
            "its rows are read, which zeros follow": not read.isdisjoint(layer.top),
        }
    return {}
