"""TensorFlow in, by tf2onnx in a process of its own; believed after what `hub/guard.py` says."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hub.errors import InvalidModel, UsageError
from hub.formats import resolve
from hub.guard import believe, opened
from hub.model import Model
from hub.sidecar import PATIENCE, Died, Process, RunFailed, own_python
from importers.tensorflow.finish import finish, origin, prepare

__all__ = ["QUIET", "options_of", "read"]

ENGINES = ("tf2onnx",)
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": "-1"}
"""The environment of a child: no log, no rounding of oneDNN's, the CPU alone."""


def read(
    src: Any,
    *,
    inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    outputs: Sequence[str] | None = None,
    trust: bool = False,
    engine: str = "tf2onnx",
    tag: str | None = None,
    signature: str | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Model:
    """Read a SavedModel, a frozen graph, a checkpoint, a TFLite model, or a live `tf.function`.

    Args:
        inputs: shapes by input, for what the source leaves open; or the value that an input always has, such as
            `{"is_training": False}`. A tensor within the graph that is named here becomes an input. For a live
            function without a signature: shapes or `tf.TensorSpec`s by argument, or in their order.
        outputs: tensors that are given out, where the source does not say, or instead of those that it says.
        engine: what converts; "tf2onnx".
        tag: the tags of the graph of a SavedModel that has several, such as "serve".
        signature: the signature of a SavedModel that has several.
        progress: called with what is being done.

    Raises:
        UnsupportedOps: naming every operator that the engine cannot convert, or that would run code or open files.
        InvalidModel: a file is damaged, or a part is missing.
        UsageError: an option names something that is not there, or the outputs cannot be told.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine={engine!r}: it is one of {', '.join(ENGINES)}")
    if isinstance(src, tuple | list):
        raise UsageError("a TensorFlow source is one path, or a live function")
    if isinstance(src, str | Path):
        options = options_of(inputs, outputs, tag, signature)
        return _converted(_path(src), options, engine, options, progress)
    if tag is not None or signature is not None:
        raise UsageError("tag= and signature= are of SavedModels; this is a live object")
    from importers.tensorflow.live import write_frozen

    with tempfile.TemporaryDirectory(prefix="hub-") as folder:
        path, options = write_frozen(src, inputs, outputs, Path(folder))
        return _converted(path, options, engine, {"inputs": inputs, "outputs": list(outputs or ())}, progress)


def _path(src: str | Path) -> Path:
    path = Path(src)
    beside = any(Path(f"{path}{suffix}").is_file() for suffix in (".index", ".meta"))
    return path if beside else resolve(path)


def options_of(
    inputs: Mapping[str, Any] | Sequence[Any] | None,
    outputs: Sequence[str] | None,
    tag: str | None = None,
    signature: str | None = None,
) -> dict[str, Any]:
    """The user's words as JSON: a list or tuple is a shape, anything else a value.

    Raises:
        UsageError: `inputs` are not by name, or a shape is none.
    """
    if inputs and not isinstance(inputs, Mapping):
        raise UsageError('inputs= of a TensorFlow file are by name: inputs={"x": [None, 224, 224, 3]}')
    shapes: dict[str, list[int | str | None]] = {}
    values: dict[str, Any] = {}
    for name, given in dict(inputs or {}).items():
        if isinstance(given, list | tuple):
            if not all(size is None or isinstance(size, str) or (isinstance(size, int) and size > 0) for size in given):
                raise UsageError(
                    f"the shape of the input {name!r} is {given!r}; sizes are numbers above 0, names or None"
                )
            shapes[str(name)] = list(given)
        else:
            try:
                values[str(name)] = np.asarray(given).tolist()
            except ValueError as error:
                raise UsageError(f"the value of the input {name!r} is not one: {error}") from error
    return {"shapes": shapes, "values": values, "outputs": list(outputs or ()), "tag": tag, "signature": signature}


def _converted(
    path: Path, options: Mapping[str, Any], engine: str, opening: dict[str, Any], progress: Callable[[str], None]
) -> Model:
    process = started(progress)
    try:
        return converted(process, path, options, engine, opening)
    finally:
        process.close()


def started(progress: Callable[[str], None] = lambda stage: None) -> Process:
    """A process that converts."""
    arguments, search = own_python("importers.tensorflow.child")
    return Process(arguments, {**QUIET, **search}, progress=progress, timeout=PATIENCE)


def converted(
    process: Process, path: Path, options: Mapping[str, Any], engine: str = "tf2onnx", opening: Any = None
) -> Model:
    """The model of a file, converted by `process`; see `read`."""
    to = process.folder / "model.onnx"
    try:
        answer = process.ask({"path": os.path.abspath(path), "options": dict(options), "to": str(to)})
    except Died as error:
        raise InvalidModel(f"{path}: TensorFlow or {engine} did not survive it; {error}") from error
    except RunFailed as error:
        raise InvalidModel(f"{path}: {error}") from error
    made = opened(to, engine)
    prepare(made, answer, options["shapes"])
    believe(made, engine, [port["name"] for port in answer["inputs"]], origin(made, answer["operators"]))
    finish(made, answer)
    model = Model(made, "tensorflow", answer["warnings"], variant=answer["title"])
    model.opening = dict(options) if opening is None else opening
    return model
