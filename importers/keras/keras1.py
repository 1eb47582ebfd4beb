"""Configurations of Keras 1 in the words of Keras 2, and its weights in the order of Keras 2.

What is different there:

1. a Sequential model is a bare list, a nested one is part of the list, and a leading Merge holds
   whole Sequential models: all of these become one functional model, as its flat weights say;
2. `nb_filter`, `nb_row`, `nb_col`, `subsample`, `border_mode`, `dim_ordering`, `bias`, `output_dim`, ...
   have other names today; `Merge(mode=...)` is a layer for each mode;
3. layers that pad, crop and repeat do not record `dim_ordering`: it is that of all others, or refused;
4. `running_std` holds the variance;
5. kernels of `dim_ordering="th"` are (out, in, height, width), and those written by Theano are flipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hub.errors import InvalidModel
from hub.tensors import ViewTensor

__all__ = ["kernels", "modernise"]

Config = dict[str, Any]

CHANNELS = {"th": "channels_first", "tf": "channels_last"}

MERGES = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate"}

NAMES = {
    "nb_filter": "filters",
    "border_mode": "padding",
    "subsample": "strides",
    "atrous_rate": "dilation_rate",
    "bias": "use_bias",
    "output_dim": "units",
    "pool_length": "pool_size",
    "stride": "strides",
    "filter_length": "kernel_size",
    "subsample_length": "strides",
    "sigma": "stddev",
    "length": "size",
}
"""Names that mean the same in every layer that has them."""

KERNELS = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))

SPATIAL = frozenset(
    """ZeroPadding2D ZeroPadding3D Cropping2D Cropping3D UpSampling2D UpSampling3D SpatialDropout2D
    SpatialDropout3D""".split()
)
"""Layers that work on images and do not record `dim_ordering`."""

CLASSES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "Deconvolution2D": "Conv2DTranspose",
}


def modernise(class_name: str, config: Any) -> tuple[str, Any]:
    """The class and configuration of a whole model in the form of Keras 2."""
    orders = set(_orderings(config))
    order = CHANNELS[orders.pop()] if len(orders) == 1 else None
    if class_name == "Sequential":
        return "Model", _sequential(config if isinstance(config, list) else config["layers"], order)
    if class_name == "Model":
        return class_name, {**config, "layers": [_entry(entry, order) for entry in config["layers"]]}
    if class_name == "Graph":
        raise InvalidModel(
            "the model is a Graph, a class that Keras 1.0 dropped; load and save it with Keras 1.0 first"
        )
    return class_name, config


def _orderings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("dim_ordering") in CHANNELS:
            yield value["dim_ordering"]
        for item in value.values():
            yield from _orderings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _orderings(item)


def _sequential(entries: list[Any], order: str | None) -> Config:
    layers: list[Config] = []
    inputs: list[list[Any]] = []
    last = _branch(entries, order, layers, inputs)
    return {"name": "sequential", "layers": layers, "input_layers": inputs, "output_layers": [[last, 0, 0]]}


def _branch(entries: list[Any], order: str | None, layers: list[Config], inputs: list[list[Any]]) -> str:
    """Append the layers of a Sequential model to `layers`; the name of its last one."""
    sources: list[str] = []
    for entry in _flat(entries):
        inner = entry["config"].get("layers") if entry["class_name"] == "Merge" else None
        if inner and not sources:
            for part in inner:
                if part["class_name"] != "Sequential":
                    raise InvalidModel(
                        "a Merge of models other than Sequential is not supported; save it with Keras 2 first"
                    )
                sources.append(_branch(part["config"], order, layers, inputs))
            entry = {**entry, "config": {key: value for key, value in entry["config"].items() if key != "layers"}}
        layer = _entry(entry, order)
        name = layer["name"] = layer["config"]["name"]
        if not sources and layer["class_name"] != "InputLayer":
            shape = layer["config"].get("batch_input_shape")
            config = {"name": f"{name}_input", "batch_input_shape": shape, "dtype": layer["config"].get("input_dtype")}
            layers.append({"class_name": "InputLayer", "name": config["name"], "config": config, "inbound_nodes": []})
            sources = [config["name"]]
            inputs.append([config["name"], 0, 0])
        elif layer["class_name"] == "InputLayer":
            inputs.append([name, 0, 0])
        layer["inbound_nodes"] = [[[source, 0, 0] for source in sources]] if sources else []
        layers.append(layer)
        sources = [name]
    if not sources:
        raise InvalidModel("a sequential model has no layers")
    return sources[0]


def _flat(entries: list[Any]) -> Iterator[Any]:
    for entry in entries:
        if entry["class_name"] == "Sequential" and isinstance(entry["config"], list):
            yield from _flat(entry["config"])
        else:
            yield entry


def _entry(entry: Config, order: str | None) -> Config:
    """One layer of a model."""
    class_name, config = str(entry["class_name"]), entry["config"]
    if class_name in ("Model", "Sequential"):
        name, config = modernise(class_name, config)
        return {**entry, "class_name": name, "config": {**config, "name": entry.get("name") or config["name"]}}
    config = {NAMES.get(key, key): value for key, value in config.items()}
    for parts in KERNELS:
        if parts[0] in config:
            config["kernel_size"] = [config.pop(part) for part in parts]
    if "dim_ordering" in config:
        config["data_format"] = CHANNELS.get(config.pop("dim_ordering"))
    elif class_name in SPATIAL:
        config["data_format"] = order or "that Keras 1 did not record"
    if class_name == "Merge":
        class_name, config = _merge(config)
    if class_name == "Deconvolution2D":
        config.pop("output_shape", None)  # what the padding and the strides say, checked by Keras itself
    if class_name in ("ZeroPadding2D", "ZeroPadding1D"):
        config["padding"] = _sides(config["padding"])
    return {**entry, "class_name": CLASSES.get(class_name, class_name), "config": config}


def _merge(config: Config) -> tuple[str, Config]:
    mode = config["mode"]
    if mode not in MERGES:
        return f"Merge(mode={str(mode)[:40]!r})", {"name": config["name"]}
    kept = {"name": config["name"], "axis": config["concat_axis"]} if mode == "concat" else {"name": config["name"]}
    return MERGES[mode], kept


def _sides(padding: Any) -> Any:
    """Keras 1 also writes four numbers, or a dictionary with their names."""
    if isinstance(padding, dict):
        names = (
            ("top_pad", "bottom_pad", "left_pad", "right_pad") if "top_pad" in padding else ("left_pad", "right_pad")
        )
        padding = [padding.get(name, 0) for name in names]
    if isinstance(padding, list) and len(padding) == 4:
        return [padding[:2], padding[2:]]
    return padding


def kernels(class_name: str, config: Config, tensors: list[ViewTensor], version: int, theano: bool) -> list[ViewTensor]:
    """The weights of a layer with its kernels in the order of Keras 2 and TensorFlow."""
    if class_name not in KERNEL_LAYERS or not tensors:
        return tensors
    steps: list[Callable[[Any], Any]] = []
    rank = len(tensors[0].shape)
    if version == 1 and class_name == "Conv1D" and rank == 4:
        steps.append(lambda array: array[:, 0])  # (size, 1, in, out)
    elif version == 1 and config.get("data_format") == "channels_first":
        steps.append(lambda array: array.transpose([*range(2, rank), 1, 0]))  # (out, in, sizes...)
    if theano:
        spatial = int(class_name[4])
        steps.append(lambda array: array[(slice(None, None, -1),) * spatial])
    if version == 1 and class_name == "Conv2DTranspose":
        steps.append(lambda array: array.swapaxes(-1, -2))  # (..., in, out)
    array = tensors[0].array
    for step in steps:
        array = step(array)
    return [tensors[0].transformed(array), *tensors[1:]] if steps else tensors


KERNEL_LAYERS = frozenset(["Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "Conv3DTranspose"])
"""Layers whose first weight is a kernel that Theano turns, as Keras 2 has it."""
