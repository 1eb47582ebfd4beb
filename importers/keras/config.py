"""Keras configurations of every version as one structure: layers, their calls, references between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hub.errors import InvalidModel
from importers.keras.keras1 import modernise

__all__ = ["Call", "Layer", "Network", "Origin", "Ref", "class_name_of", "parse", "references", "snake_case"]

MODEL_CLASSES = frozenset({"Functional", "Model", "Sequential"})

CLASSES = {"GroupQueryAttention": "GroupedQueryAttention"}
"""Layers that Keras exports under another name than their classes have, after which weights are filed."""

OPERATION_MODULES = ("keras.src.ops.", "keras.ops", "keras.src.activations.", "keras.activations")


@dataclass(frozen=True)
class Origin:
    """The Keras that wrote a file: what some layers mean depends on it."""

    version: int = 3
    release: str = ""
    backend: str = "tensorflow"


@dataclass(frozen=True)
class Ref:
    """Output `tensor` of the call number `call` of the layer `layer`."""

    layer: str
    call: int
    tensor: int


@dataclass
class Call:
    """One application of a layer; `args` and `kwargs` are nested structures with `Ref`s in them."""

    args: list[Any]
    kwargs: dict[str, Any]


@dataclass
class Layer:
    """One layer of a network.

    `path` is where Keras 3 keeps its weights; `network` the content of a nested model; `is_op` says
    that it is an operation on tensors (`x + 3.0`), not a layer; `modern` that Keras 3 wrote its calls.
    """

    name: str
    class_name: str
    config: dict[str, Any]
    calls: list[Call]
    path: str = ""
    is_op: bool = False
    modern: bool = False
    network: Network | None = None


@dataclass
class Network:
    """A functional or sequential model: its layers by name, in the order of the file.

    Inputs and outputs are in the order in which Keras numbers them; `keys` are those of inputs that
    are a dictionary.
    """

    name: str
    layers: dict[str, Layer] = field(default_factory=dict)
    inputs: list[Ref] = field(default_factory=list)
    outputs: list[Ref] = field(default_factory=list)
    keys: list[str] | None = None


def parse(class_name: str, config: Any, path: str = "", *, version: int = 3) -> Network:
    """The network that a model configuration of a major version of Keras describes.

    Raises:
        InvalidModel: something that every such configuration has is missing.
    """
    try:
        if version == 1:
            class_name, config = modernise(class_name, config)
        if class_name == "Sequential":
            return _sequential(config, path)
        if class_name in MODEL_CLASSES:
            return _functional(config, path)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise InvalidModel(f"the Keras configuration of {path or 'the model'} is damaged: {error!r}") from error
    raise InvalidModel(
        f"the model is of the class {class_name!r}, a subclass whose graph is not in the file; "
        "rebuild it as a functional model, or save it as SavedModel or ONNX from Keras"
    )


def _sequential(config: Any, path: str) -> Network:
    entries = config if isinstance(config, list) else config["layers"]  # Keras 1: a bare list
    name = "sequential" if isinstance(config, list) else str(config.get("name", "sequential"))
    network = Network(name)
    previous: Ref | None = None
    counts: dict[str, int] = {}
    if entries and entries[0]["class_name"] != "InputLayer":
        shape = _input_shape(entries[0]["config"])
        if shape is None and isinstance(config, dict):
            shape = config.get("build_input_shape") or (config.get("build_config") or {}).get("input_shape")
            # The batch of the first call is nobody's intention.
            shape = [None, *shape[1:]] if shape else None
        first = f"{_name(entries[0])}_input"  # as Keras calls it
        dtype = entries[0]["config"].get("dtype") if isinstance(entries[0]["config"], dict) else None
        network.layers[first] = Layer(first, "InputLayer", {"batch_shape": shape, "dtype": dtype}, [Call([], {})])
        previous = Ref(first, 0, 0)
        network.inputs.append(previous)
    for entry in entries:
        layer = _layer(entry, path, counts)
        if layer.name in network.layers:
            raise InvalidModel(f"two layers of {name!r} are called {layer.name!r}")
        layer.calls = [Call([previous] if previous is not None else [], {})]
        network.layers[layer.name] = layer
        previous = Ref(layer.name, 0, 0)
        if layer.class_name == "InputLayer":
            network.inputs.append(previous)
    if previous is None:
        raise InvalidModel(f"the sequential model {name!r} has no layers")
    network.outputs.append(previous)
    return network


def _functional(config: dict[str, Any], path: str) -> Network:
    network = Network(str(config.get("name", "model")))
    counts: dict[str, int] = {}
    for entry in config["layers"]:
        layer = _layer(entry, path, counts)
        if layer.name in network.layers:
            raise InvalidModel(f"two layers of {network.name!r} are called {layer.name!r}")
        layer.calls = [_call(node) for node in entry["inbound_nodes"]] or [Call([], {})]
        layer.modern = any(isinstance(node, dict) for node in entry["inbound_nodes"])
        network.layers[layer.name] = layer
    network.inputs = list(_refs_of(config["input_layers"]))
    if isinstance(config["input_layers"], dict):
        network.keys = sorted(config["input_layers"])
    network.outputs = list(_refs_of(config["output_layers"]))
    _renumber(network)
    return network


def _layer(entry: dict[str, Any], path: str, counts: dict[str, int]) -> Layer:
    class_name, config = class_name_of(entry), entry["config"]
    name = entry.get("name") or _name(entry)
    is_op = str(entry.get("module")).startswith(OPERATION_MODULES) or _looks_like_op(entry)
    layer = Layer(
        str(name), str(class_name), config if isinstance(config, dict) else {"layers": config}, [], is_op=is_op
    )
    if not is_op:
        key = snake_case(CLASSES.get(entry["class_name"], entry["class_name"]))
        number = counts[key] = counts.get(key, -1) + 1
        layer.path = f"{path}layers/{key}" + (f"_{number}" if number else "")
    if class_name in MODEL_CLASSES:
        layer.network = parse(class_name, config, layer.path + "/")
    return layer


def class_name_of(entry: dict[str, Any]) -> str:
    """The class, with its package in front if it is not one of Keras: somebody's own `Dense` is not Keras's."""
    name, registered, module = str(entry["class_name"]), entry.get("registered_name"), entry.get("module")
    if isinstance(registered, str) and ">" in registered:
        return registered
    if registered is not None and not str(module).startswith(("keras.", "tf_keras.")):
        return f"Custom>{name}"
    return name


def _looks_like_op(entry: dict[str, Any]) -> bool:
    """A Keras 3 operation in an `.h5` file, which drops the module: its config is only its name.

    The operation `Add` takes `(x, 3.0)`, the layer `Add` takes `([x, y])`, and the layer has a dtype.
    """
    config = entry["config"]
    calls = entry.get("inbound_nodes")
    modern = isinstance(calls, list) and bool(calls) and isinstance(calls[0], dict)
    return (
        modern
        and "module" not in entry
        and isinstance(config, dict)
        and "dtype" not in config
        and "trainable" not in config
    )


def _name(entry: dict[str, Any]) -> Any:
    config = entry["config"]
    return config.get("name") if isinstance(config, dict) else entry.get("name")


def _input_shape(config: Any) -> Any:
    return (config.get("batch_shape") or config.get("batch_input_shape")) if isinstance(config, dict) else None


def _call(node: Any) -> Call:
    if isinstance(node, dict):  # Keras 3
        return Call(list(_substitute(node["args"])), dict(_substitute(node["kwargs"])))
    if node and isinstance(node[0], str):  # an operation of tf.keras 2: one entry, not a list of them
        node = [node]
    # tf.keras: a first operand that is a number.
    refs = [e[2] if e[0] == "_CONSTANT_VALUE" else Ref(str(e[0]), int(e[1]), int(e[2])) for e in node]
    kwargs = _substitute_old(node[0][3]) if len(node[0]) > 3 else {}
    return Call(refs, kwargs)


def _substitute(value: Any) -> Any:
    """Keras 3: `__keras_tensor__` objects become Refs."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            layer, call, tensor = value["config"]["keras_history"]
            return Ref(str(layer), int(call), int(tensor))
        return {key: _substitute(item) for key, item in value.items()}
    return [_substitute(item) for item in value] if isinstance(value, list) else value


def _substitute_old(value: Any) -> Any:
    """tf.keras 2: `["conv2d", 0, 0]` inside keyword arguments is a reference."""
    if isinstance(value, dict):
        return {key: _substitute_old(item) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) in (3, 4) and isinstance(value[0], str) and all(type(i) is int for i in value[1:3]):
            return Ref(value[0], value[1], value[2])
        return [_substitute_old(item) for item in value]
    return value


def _refs_of(value: Any) -> Iterator[Ref]:
    """`input_layers` and `output_layers`: one reference, a list, or a dictionary, which Keras numbers by its keys."""
    if isinstance(value, dict):
        for _, item in sorted(value.items()):
            yield from _refs_of(item)
    elif len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
        yield Ref(value[0], value[1], value[2])
    else:
        for item in value:
            yield from _refs_of(item)


def references(value: Any) -> Iterator[Ref]:
    """All references in a nested structure, in order."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references(item)


def _renumber(network: Network) -> None:
    """Number the calls of each layer from 0.

    A nested model that was built before it was called has had a call of its own, which is not in
    the file: its calls are numbered from 1. Keras 3 counts that call in `output_layers` only.
    """
    calls = [call for layer in network.layers.values() for call in layer.calls]
    arguments = [[call.args, call.kwargs] for call in calls]
    modern = any(layer.modern for layer in network.layers.values())
    if modern:
        inside = _shifts(network, arguments)
        outside = dict.fromkeys(_shifts(network, network.outputs, first=True), 1)
    else:
        inside = outside = _shifts(network, [arguments, network.outputs])
    if inside:
        for call in calls:
            call.args, call.kwargs = _shifted(call.args, inside), _shifted(call.kwargs, inside)
    if outside:
        network.outputs = _shifted(network.outputs, outside)
    _check(network, [[call.args, call.kwargs] for call in calls] + network.outputs)


def _shifts(network: Network, value: Any, *, first: bool = False) -> dict[str, int]:
    """The nested models whose calls `value` numbers from 1; `first` trusts that they all are, where they can be."""
    used: dict[str, set[int]] = {}
    for ref in references(value):
        used.setdefault(ref.layer, set()).add(ref.call)
    shift = {}
    for name, numbers in used.items():
        layer = network.layers.get(name)
        if layer is None or layer.network is None or min(numbers) < 1:
            continue
        if max(numbers) >= len(layer.calls) or (first and layer.class_name != "Sequential"):
            shift[name] = 1
    return shift


def _shifted(value: Any, shift: dict[str, int]) -> Any:
    if isinstance(value, Ref):
        return Ref(value.layer, value.call - shift.get(value.layer, 0), value.tensor)
    if isinstance(value, dict):
        return {key: _shifted(item, shift) for key, item in value.items()}
    return [_shifted(item, shift) for item in value] if isinstance(value, list) else value


def _check(network: Network, value: Any) -> None:
    for ref in references(value):
        layer = network.layers.get(ref.layer)
        if layer is None:
            raise InvalidModel(f"a layer of {network.name!r} refers to {ref.layer!r}, which is not in the file")
        if not 0 <= ref.call < len(layer.calls):
            raise InvalidModel(
                f"layer {ref.layer!r} is called {len(layer.calls)} times; call {ref.call} is referred to"
            )


def snake_case(name: str) -> str:
    """Keras's own rule for the names of groups: `Conv2D` is `conv2d`, `ReLU` is `re_lu`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
