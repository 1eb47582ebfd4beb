"""Keras models from `.keras`, `.h5` and `.json` + `.h5`, or live; without Keras or TensorFlow."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.errors import InvalidModel, UsageError, blaming
from hub.formats import resolve
from hub.model import Model
from importers.keras import graph
from importers.keras.config import Network, Origin, parse
from importers.keras.hdf5 import WeightFile, open_hdf5, open_member, text
from importers.keras.weights import GroupedWeights, WeightStore, open_store

__all__ = ["KerasFile", "open_source", "read"]

MAX_JSON = 256 << 20
"""Bytes to which the configuration of a model may unpack."""


@dataclass
class KerasFile:
    """A model's configuration, the store of its weights and the Keras that wrote it."""

    where: str
    network: Network
    store: WeightStore
    origin: Origin


def read(
    src: Any,
    *,
    inputs: Mapping[str, Sequence[int | str | None]] | None = None,
    outputs: Sequence[str] | None = None,
    trust: bool = False,
    backend: str | None = None,
) -> Model:
    """Read a Keras model: a `.keras` or `.h5` file, a pair (`.json`, `.h5`) or a live `keras.Model`.

    Channels-last networks become NCHW inside; inputs and outputs keep Keras's own layout and names.
    Nothing in the file is executed, with or without `trust`.

    Args:
        inputs: shapes by input name, for sizes that the model leaves open.
        outputs: layers whose results are given out instead of the outputs; what they do not need is not read.
        backend: "tensorflow" or "theano", of weights written by Keras 1, where the file does not tell:
            Theano's kernels are turned.

    Raises:
        UnsupportedOps: naming every layer that has no form yet.
        InvalidModel: the file is damaged, hostile, or not a Keras model.
    """
    if backend not in (None, "tensorflow", "theano"):
        raise UsageError(f"backend={backend!r}: it is tensorflow or theano")
    with tempfile.TemporaryDirectory(prefix="hub-") as folder:
        if not isinstance(src, str | Path | tuple | list):
            src = _save_live(src, Path(folder))
        with blaming(_where(src)):
            file = open_source(src, backend)
            try:
                return graph.build(file.network, file.store, file.origin, dict(inputs or {}), outputs or ())
            finally:
                file.store.close()


def _where(src: Any) -> str:
    return " and ".join(map(str, src)) if isinstance(src, tuple | list) else str(src)


def open_source(src: Any, backend: str | None = None) -> KerasFile:
    """Open a file or a (structure, weights) pair, checked, without reading any weight."""
    if isinstance(src, tuple | list):
        if len(src) != 2:
            raise UsageError(f"a Keras source is one path or the pair (architecture, weights), not {len(src)} paths")
        config = _json_file(resolve(src[0]))
        weights = _weights(resolve(src[1]))
        store = open_store(weights)
        return _file(str(src[0]), config, store, _origin(config, weights, store, backend))
    path = resolve(src)
    _check_file(path)
    if zipfile.is_zipfile(path):
        return _open_archive(path)
    if path.suffix.lower() == ".json":
        raise InvalidModel(
            f"{path} has no weights; give the pair (architecture, weights): {path.name} and its .h5 file"
        )
    weights = open_hdf5(path) if path.suffix.lower() != ".keras" else _not_an_archive(path)
    raw = weights.attribute(weights.root, "model_config")
    if raw is None:
        weights.close()
        raise InvalidModel(
            f"{path} has weights and no architecture; give the pair (architecture .json, weights), "
            "or save the whole model"
        )
    store = open_store(weights)
    return _file(str(path), _json(text(raw), str(path)), store, _origin({}, weights, store, backend))


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InvalidModel(f"{path} is a directory; a Keras model is a .keras, .h5 or .json file")
    try:
        if path.stat().st_size == 0:
            raise InvalidModel(f"{path} is empty")
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InvalidModel(f"{path} cannot be read: {error.strerror}") from error


def _not_an_archive(path: Path) -> WeightFile:
    with open(path, "rb") as file:
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return open_hdf5(path)
    raise InvalidModel(f"{path} is not a .keras archive (a zip file), or is truncated")


def _open_archive(path: Path) -> KerasFile:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            config = _json(_member(archive, "config.json", path), f"{path}:config.json")
            metadata = _json(_member(archive, "metadata.json", path), f"{path}:metadata.json")
            if "model.weights.h5" not in members:
                kinds = [name for name in members if name.startswith("model.weights")]
                raise InvalidModel(
                    f"{path} has no model.weights.h5 (found {kinds or 'no weights'}); save it as one .keras file"
                )
            weights = open_member(path, archive, "model.weights.h5")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise InvalidModel(f"{path} is a damaged .keras archive: {error}") from error
    store = open_store(weights)
    return _file(str(path), config, store, _origin(metadata, weights, store, None))


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> str:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise InvalidModel(f"{path} is a zip file and not a .keras archive: it has no {name}") from None
    if info.file_size > MAX_JSON:
        raise InvalidModel(f"{path}: {name} claims {info.file_size} bytes; a configuration is not that large")
    with archive.open(info) as member:
        data = member.read(MAX_JSON + 1)
    if len(data) > MAX_JSON:
        raise InvalidModel(f"{path}: {name} unpacks to more than {MAX_JSON} bytes")
    return data.decode("utf-8", "replace")


def _json_file(path: Path) -> dict[str, Any]:
    _check_file(path)
    if path.stat().st_size > MAX_JSON:
        raise InvalidModel(f"{path}: {path.stat().st_size} bytes is more than an architecture has")
    return _json(path.read_text("utf-8", "replace"), str(path))


def _json(content: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidModel(f"{where} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidModel(f"{where} is not a Keras configuration")
    return value


def _weights(path: Path) -> WeightFile:
    _check_file(path)
    return open_hdf5(path)


def _file(where: str, config: dict[str, Any], store: WeightStore, origin: Origin) -> KerasFile:
    if "class_name" not in config or "config" not in config:
        raise InvalidModel(f"{where} is not a Keras model: its configuration has no class and no layers")
    try:
        network = parse(str(config["class_name"]), config["config"], version=origin.version)
    except RecursionError as error:
        raise InvalidModel(f"{where}: the configuration is nested too deep") from error
    return KerasFile(where, network, store, origin)


def _origin(config: Mapping[str, Any], weights: WeightFile, store: WeightStore, backend: str | None) -> Origin:
    """Version and backend, from the architecture, the file or its group of weights; Keras 1 did not always say."""
    release, found = config.get("keras_version"), config.get("backend")
    for group in (weights.root, weights.group("model_weights")):
        if group is not None:
            release = release or _text(weights.attribute(group, "keras_version"))
            found = found or _text(weights.attribute(group, "backend"))
    digits = str(release or "1").split(".")[0]
    version = int(digits) if digits.isdigit() else 1
    if backend is None and not found and version == 1 and isinstance(store, GroupedWeights) and store.theano_names():
        found = "theano"
    return Origin(version, str(release or ""), backend or str(found or "tensorflow"))


def _text(value: Any) -> str | None:
    return None if value is None else text(value)


def _save_live(model: Any, folder: Path) -> Path:
    """A live model goes through its own `.keras` form: what is converted is what would be saved."""
    path = folder / "model.keras"
    try:
        model.save(path)
    except (AttributeError, TypeError, ValueError, NotImplementedError, RuntimeError, OSError) as error:
        raise InvalidModel(f"{type(model).__name__} could not be saved by Keras itself: {error}") from error
    return path
