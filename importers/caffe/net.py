"""A net as Caffe would build it at TEST: upgraded, filtered by its rules, blobs resolved to their producers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hub.errors import InvalidModel
from hub.schemas import messages

__all__ = ["DATA", "Layer", "Ref", "State", "layers_of", "resolve"]

DATA = frozenset("Data ImageData HDF5Data MemoryData WindowData AnnotatedData VideoData".split())
"""Layers that read data from somewhere; their first top is the data, the others are labels."""

LOSSES = {"SoftmaxWithLoss": "Softmax", "SigmoidCrossEntropyLoss": "Sigmoid", "InfogainLoss": "Softmax"}
"""Losses that begin with an activation, which is what inference needs of them."""

DROPPED = frozenset(
    """Accuracy ContrastiveLoss EuclideanLoss HDF5Output HingeLoss MultinomialLogisticLoss SmoothL1Loss
    MultiBoxLoss CtcLoss LabelsequenceAccuracy DetectionEvaluate CenterLoss""".split()
)
"""Layers that only training and its evaluation need."""

SINKS = DROPPED | {"Silence"}

V1_NAMES = {
    "ABSVAL": "AbsVal", "BNLL": "BNLL", "ARGMAX": "ArgMax", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN", "MVN": "MVN", "RELU": "ReLU", "SOFTMAX_LOSS": "SoftmaxWithLoss", "TANH": "TanH",
}  # fmt: skip
"""Types of V1 layers whose names are not simply `CONTRASTIVE_LOSS` for ContrastiveLoss."""

MOST_FIELDS = 100_000


@dataclass(frozen=True)
class State:
    """The state of the net by which layers include and exclude themselves; the phase is TEST."""

    level: int = 0
    stages: frozenset[str] = frozenset()


@dataclass(eq=False)
class Layer:
    """One layer: its `LayerParameter`, where it stands, and what it reads.

    Attributes:
        bottoms: for each bottom the producer, None for a blob that nothing produces.
    """

    message: Any
    index: int
    line: int | None = None
    bottoms: list[Ref] = field(default_factory=list)
    written_as_text: bool = True

    @property
    def name(self) -> str:
        return self.message.name or f"layer{self.index}"

    @property
    def type(self) -> str:
        return str(self.message.type)

    def __str__(self) -> str:
        line = f", line {self.line}" if self.line is not None else ""
        return f"layer {self.name[:100]!r} ({self.type[:60]}{line})"


@dataclass(frozen=True)
class Ref:
    """A version of a blob: the top `index` of `layer`, or, without a layer, an input called `blob`."""

    blob: str
    layer: Layer | None = None
    index: int = 0


def layers_of(net: Any, lines: dict[str, list[int]] | None = None, older: Sequence[Any] | None = None) -> list[Layer]:
    """The layers of a `NetParameter`, V1 layers and `input` fields as what they are now.

    `older`: layers of a caffemodel, which are not in `net`.

    Raises:
        InvalidModel: layers of both formats, or inputs that contradict their sizes.
    """
    schema = messages("caffe")
    given = list(older) if older is not None else [*net.layer, *net.layers]
    kinds = {message.DESCRIPTOR.name for message in given}
    if len(kinds) > 1:
        raise InvalidModel("the net has both `layer` and `layers`; Caffe refuses that: bring it to one format")
    places = (lines or {}).get("layers" if "V1LayerParameter" in kinds else "layer", [])
    if len(places) != len(given):
        places = []
    result = []
    for index, message in enumerate(given):
        if message.DESCRIPTOR.name == "V1LayerParameter":
            message = upgraded(message)
        result.append(Layer(message, index, places[index] if places else None, written_as_text=older is None))
    first = _input_layer(net, schema)
    return result if first is None else [Layer(first, -1, 1 if lines is not None else None), *result]


def upgraded(old: Any) -> Any:
    """A V1 layer as a layer of today; what only training needs (`blobs_lr`, `weight_decay`) stays behind."""
    new = messages("caffe").LayerParameter(name=old.name, bottom=old.bottom, top=old.top)
    if old.HasField("type"):
        name = old.DESCRIPTOR.enum_types_by_name["LayerType"].values_by_number[old.type].name
        new.type = V1_NAMES.get(name, "".join(part.capitalize() for part in name.split("_")))
    new.include.extend(old.include)
    new.exclude.extend(old.exclude)
    new.blobs.extend(old.blobs)
    if len(old.param) + len(old.blob_share_mode) > MOST_FIELDS:
        raise InvalidModel(f"layer {old.name[:100]!r} has {len(old.param)} params")
    for name in old.param:
        new.param.add(name=name)
    for index, mode in enumerate(old.blob_share_mode):
        while len(new.param) <= index:
            new.param.add()
        new.param[index].share_mode = mode
    for descriptor, value in old.ListFields():
        if descriptor.name.endswith("_param") and descriptor.message_type is not None:
            getattr(new, descriptor.name).CopyFrom(value)
    _move_transform(new)
    return new


def _move_transform(layer: Any) -> None:
    """Data layers of V1 had scale, mean, crop and mirror among their own parameters."""
    own = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}.get(layer.type)
    for name in ("scale", "mean_file", "crop_size", "mirror") if own else ():
        if getattr(layer, str(own)).HasField(name):
            setattr(layer.transform_param, name, getattr(getattr(layer, str(own)), name))


def _input_layer(net: Any, schema: Any) -> Any:
    """The Input layer that the fields `input` and `input_shape` or `input_dim` stand for."""
    if not net.input or not (net.input_shape or net.input_dim):
        return None
    layer = schema.LayerParameter(name="input", type="Input", top=net.input)
    if net.input_shape:
        if len(net.input_shape) != len(net.input):
            raise InvalidModel(f"the net has {len(net.input)} inputs and {len(net.input_shape)} input_shape")
        layer.input_param.shape.extend(net.input_shape)
    else:
        if len(net.input_dim) != 4 * len(net.input):
            raise InvalidModel(f"the net has {len(net.input)} inputs and {len(net.input_dim)} input_dim, not 4 each")
        for index in range(len(net.input)):
            layer.input_param.shape.add(dim=net.input_dim[4 * index : 4 * index + 4])
    return layer


def filtered(layers: Iterable[Layer], state: State) -> list[Layer]:
    """The layers that are in the net at TEST with this level and these stages."""
    return [layer for layer in layers if _included(layer, state)]


def _included(layer: Layer, state: State) -> bool:
    message = layer.message
    if message.include and message.exclude:
        raise InvalidModel(f"{layer} has both include and exclude rules; Caffe refuses that")
    if message.include:
        return any(_meets(rule, state) for rule in message.include)
    return not any(_meets(rule, state) for rule in message.exclude)


def _meets(rule: Any, state: State) -> bool:
    test = messages("caffe").NetParameter.DESCRIPTOR.file.enum_types_by_name["Phase"].values_by_name["TEST"].number
    return not (
        (rule.HasField("phase") and rule.phase != test)
        or (rule.HasField("min_level") and state.level < rule.min_level)
        or (rule.HasField("max_level") and state.level > rule.max_level)
        or any(stage not in state.stages for stage in rule.stage)
        or any(stage in state.stages for stage in rule.not_stage)
    )


@dataclass
class Resolved:
    """The layers to convert in order, and the outputs: blobs that nothing consumes, in order of production."""

    layers: list[Layer]
    outputs: list[Ref]
    warnings: list[str]


def resolve(layers: Sequence[Layer], inputs: Iterable[str], others: Sequence[Layer] = ()) -> Resolved:
    """Find the producer of every bottom, and turn a net that trains into one that infers.

    `inputs`: names of blobs that may come from outside.
    `others`: layers that are not in the net at TEST; what they read from somewhere comes from outside as well.

    Raises:
        InvalidModel: a bottom that nothing produces; a top that two layers produce.
    """
    known = set(inputs)
    warnings: list[str] = []
    producers: dict[str, Ref] = {}
    available: dict[str, Ref] = {}
    labels: set[Ref] = set()
    for layer in others:
        if layer.type in DATA:
            known.update(layer.message.top)
            labels.update(Ref(blob) for blob in layer.message.top[1:])
    kept: list[Layer] = []
    dropped: list[str] = []
    for position, layer in enumerate(layers):
        tops = list(layer.message.top)
        layer.bottoms = []
        for blob in layer.message.bottom:
            if blob not in producers:
                if blob not in known and layer.type not in SINKS:
                    raise InvalidModel(_unknown(blob, layer, layers[position:]))
                producers[blob] = Ref(blob)
            layer.bottoms.append(producers[blob])
        if layer.type == "Silence" and tops:
            raise InvalidModel(f"{layer} has {len(tops)} tops, it gives none")
        from_label = bool(layer.bottoms) and all(ref in labels for ref in layer.bottoms)
        if layer.type in LOSSES and layer.bottoms and layer.bottoms[0] not in labels:
            tops = _as_activation(layer, tops, warnings)
            for ref in layer.bottoms:
                available.pop(ref.blob, None)
            layer.bottoms = layer.bottoms[:1]
        elif layer.type in DROPPED or layer.type in LOSSES or (from_label and layer.type != "Silence"):
            if layer.type in DROPPED or layer.type in LOSSES:
                dropped.append(f"{layer.name} ({layer.type})")
            labels.update(Ref(blob, layer, i) for i, blob in enumerate(tops))
            producers.update((blob, Ref(blob, layer, i)) for i, blob in enumerate(tops))
            continue
        else:
            for ref in layer.bottoms:
                available.pop(ref.blob, None)
        for index, blob in enumerate(tops):
            in_place = index < len(layer.bottoms) and layer.bottoms[index].blob == blob
            if blob in producers and not in_place and producers[blob].layer is not None:
                raise InvalidModel(
                    f"{layer} produces the blob {blob[:100]!r}, as {producers[blob].layer} does; "
                    "Caffe refuses that unless the one works in place of the other"
                )
            ref = Ref(blob, layer, index)
            producers[blob] = ref
            if layer.type in DATA and index:
                labels.add(ref)
            elif layer.type not in DATA and layer.type != "Input":
                available.pop(blob, None)
                available[blob] = ref
        kept.append(layer)
    if dropped:
        warnings.append(f"not needed at inference, left out: {', '.join(dropped)}")
    return Resolved(kept, list(available.values()), warnings)


def _as_activation(layer: Layer, tops: list[str], warnings: list[str]) -> list[str]:
    """A loss as the activation that it begins with; returns its tops."""
    activation = LOSSES[layer.type]
    warnings.append(f"layer {layer.name!r} ({layer.type}) is the loss of training; it became {activation}")
    message = messages("caffe").LayerParameter()
    message.CopyFrom(layer.message)
    message.type = activation
    tops = tops[1:2] if len(tops) > 1 else tops[:1] or [layer.name]
    del message.top[:], message.bottom[1:]
    message.top.extend(tops)
    layer.message = message
    return tops


def _unknown(blob: str, layer: Layer, rest: Sequence[Layer]) -> str:
    later = next((other for other in rest if blob in other.message.top), None)
    text = f"{layer} reads the blob {blob[:100]!r}"
    if later is layer:
        return f"{text}, which only the layer itself produces: a cycle"
    if later is not None:
        return f"{text}, which only {later} produces, later: the layers are not in order, or form a cycle"
    return (
        f"{text}, which nothing produces; give its shape with inputs={{{blob[:100]!r}: (...)}} if it comes from outside"
    )
