"""Keras: a live model here, files in a child process (TensorFlow is heavy and may abort)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from parity.runners import BEFORE, SQUASHING, Array, Description, LoadFailed, Port, RunFailed, Runner, need, single_line
from parity.runners.child import ChildRunner

__all__ = ["KerasRunner", "available", "open", "open_here"]

_INSTALL = 'pip install "onnx-hub[tensorflow]"'
_SAFE = (3, 12)
"""Keras before this executes code that is in a model file, also in its safe mode (CVE-2025-1550,
CVE-2025-9905, CVE-2025-9906); files are given only to later ones."""


def available() -> str | None:
    """None if Keras with some backend can be used here, else why not."""
    backends = {"tensorflow": "tensorflow", "torch": "torch", "jax": "jax"}
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if reason := need(["keras", backends.get(backend, backend)], "Keras", _INSTALL):
        return reason
    return None


def open(source: Any) -> Runner:
    """A live `keras.Model`, the path of a `.keras`, `.h5` or `.hdf5`, or a pair (architecture `.json`, weights).

    Raises:
        LoadFailed: Keras cannot load the file; the message is its own.
    """
    if isinstance(source, (str, os.PathLike)):
        source = [source]
    if not isinstance(source, (tuple, list)):
        return KerasRunner(source)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": "-1"}
    return ChildRunner("keras", [Path(part) for part in source], quiet)


def open_here(paths: Sequence[Path]) -> Runner:
    """Load files in this process. Nothing in them is executed: Keras's safe mode is on."""
    version = metadata.version("keras")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _SAFE:
        raise LoadFailed(
            f"Keras {version} can be made to execute code from a file; it is used on files "
            f"from {_SAFE[0]}.{_SAFE[1]} on: pip install -U keras"
        )
    import keras

    try:
        if len(paths) == 1:
            model = keras.models.load_model(paths[0], compile=False, safe_mode=True)
        else:
            from keras.src.saving.serialization_lib import SafeModeScope

            with SafeModeScope(True):
                model = keras.models.model_from_json(paths[0].read_text(encoding="utf-8"))
            model.load_weights(paths[1])
    except Exception as error:  # whatever Keras and its layers raise
        raise LoadFailed(single_line(error)) from error
    return KerasRunner(model)


class KerasRunner(Description):
    """Runs a live model of Keras 3 or tf_keras, eagerly and in inference mode."""

    def __init__(self, model: Any) -> None:
        package = next(c.__module__.split(".")[0] for c in type(model).__mro__ if c.__name__ == "Model")
        super().__init__("keras", metadata.version("tf_keras" if package == "tf_keras" else "keras"))
        self.model = model
        if not getattr(model, "inputs", None):
            raise LoadFailed("the model has no declared inputs; build it, or call it once on data")
        self.inputs = [Port(_name(t), _dtype(t), tuple(t.shape)) for t in model.inputs]
        self._layers = _unique_layers(model)
        self.layers = {name: type(layer).__name__ for name, layer in self._layers.items()}
        self.flow = _flow(model, self._layers)
        self.ops = {name: type(layer).__name__ for name, layer in self._output_layers()}
        for name, layer in self._output_layers():
            if attribute := _squashing(layer):
                self.ops[f"before:{name}"] = type(layer).__name__ if attribute == "call" else layer.activation.__name__

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        flat = [feeds[port.name] for port in self.inputs]
        calls: dict[str, list[Any]] = {}
        with ExitStack() as stack:
            for tap in taps:
                if tap.startswith("layer:") and tap[6:] in self._layers:
                    layer = self._layers[tap[6:]]
                    stack.enter_context(_spy(layer, "call", calls.setdefault(tap, []), after=True))
            for name, layer in self._output_layers() if BEFORE in taps else ():
                attribute = _squashing(layer)
                if attribute:
                    stack.enter_context(_spy(layer, attribute, calls.setdefault(f"before:{name}", []), after=False))
            try:
                results = self.model(self._structured(flat), training=False)
            except Exception as error:  # whatever Keras and its layers raise
                raise RunFailed(single_line(error)) from error
        names, tensors = self._named(results)
        outputs = {name: _numpy(tensor) for name, tensor in zip(names, tensors, strict=True)}
        # A layer that is called more than once, or gives several tensors, has no single output.
        single = {tap: seen[0] for tap, seen in calls.items() if len(seen) == 1 and hasattr(seen[0], "shape")}
        return outputs | {tap: _numpy(tensor) for tap, tensor in single.items()}

    def close(self) -> None:
        """Nothing to do: the model is the user's."""

    def _structured(self, flat: list[Array]) -> Any:
        structure = getattr(self.model, "_inputs_struct", None)
        if structure is not None:
            import keras

            return keras.tree.pack_sequence_as(structure, flat)
        return flat[0] if len(flat) == 1 else flat

    def _named(self, results: Any) -> tuple[list[str], list[Any]]:
        if isinstance(results, Mapping):
            keys = sorted(results)  # the order in which Keras numbers them
            return list(map(str, keys)), [results[key] for key in keys]
        tensors = list(results) if isinstance(results, (list, tuple)) else [results]
        names = list(getattr(self.model, "output_names", None) or [])
        if len(set(names)) != len(tensors):
            names = [f"output_{i}" for i in range(len(tensors))]
        return names, tensors

    def _output_layers(self) -> Iterator[tuple[str, Any]]:
        """The layer that computes each output, by the output's name; through nested models."""
        names = list(getattr(self.model, "output_names", None) or [])
        for name, tensor in zip(names, self.model.outputs, strict=False):
            while True:
                history = getattr(tensor, "_keras_history", None)
                layer = getattr(history, "operation", None) or getattr(history, "layer", None)
                inner = getattr(layer, "outputs", None)
                if history is None or not isinstance(inner, list) or history.tensor_index >= len(inner):
                    break
                if inner[history.tensor_index] is tensor:
                    break
                tensor = inner[history.tensor_index]
            if layer is not None:
                yield name, layer


def _name(tensor: Any) -> str:
    return str(tensor.name).removesuffix(":0")


def _dtype(tensor: Any) -> str:
    dtype = tensor.dtype
    return dtype if isinstance(dtype, str) else str(dtype.name)


def _unique_layers(model: Any) -> dict[str, Any]:
    """All layers, nested ones too, whose names occur once."""
    layers: dict[str, Any] = {}
    twice = set()
    for layer in model._flatten_layers(include_self=False):
        name = str(layer.name)
        if name in layers and layers[name] is not layer:
            twice.add(name)
        layers[name] = layer
    return {name: layer for name, layer in layers.items() if name not in twice}


def _flow(model: Any, layers: Mapping[str, Any]) -> dict[str, list[str]]:
    """By layer those that feed it, without the inputs; nothing where models are within models."""
    if any(hasattr(layer, "layers") for layer in layers.values()):
        return {}
    flow: dict[str, list[str]] = {}
    for name, layer in layers.items():
        parents = [
            parent for node in getattr(layer, "_inbound_nodes", []) for parent in getattr(node, "parent_nodes", [])
        ]
        made = [getattr(parent, "operation", None) or getattr(parent, "layer", None) for parent in parents]
        feeding = [str(other.name) for other in made if other is not None and type(other).__name__ != "InputLayer"]
        flow[name] = list(dict.fromkeys(feeding))
    return flow if any(flow.values()) else {}


def _squashing(layer: Any) -> str | None:
    """The attribute of `layer` that is its squashing activation, if it has one."""
    if type(layer).__name__.lower() in SQUASHING:
        return "call"
    activation = getattr(layer, "activation", None)
    return "activation" if getattr(activation, "__name__", "").lower() in SQUASHING else None


@contextmanager
def _spy(layer: Any, attribute: str, seen: list[Any], *, after: bool) -> Iterator[None]:
    """While it lasts, what `layer.<attribute>` is given (or, `after`, what it returns) is appended to `seen`."""
    original: Callable[..., Any] = getattr(layer, attribute)
    own = attribute in vars(layer)

    def spy(*args: Any, **keywords: Any) -> Any:
        result = original(*args, **keywords)
        seen.append(result if after else args[0])
        return result

    object.__setattr__(layer, attribute, spy)
    try:
        yield
    finally:
        if own:
            object.__setattr__(layer, attribute, original)
        else:
            object.__delattr__(layer, attribute)


def _numpy(tensor: Any) -> Array:
    if hasattr(tensor, "detach"):  # the torch backend
        tensor = tensor.detach().cpu()
    if hasattr(tensor, "numpy"):  # TensorFlow and torch
        tensor = tensor.numpy()
    return np.asarray(tensor)
