"""The real Caffe 1.0, in a process of its own with a Python of its own."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any, NamedTuple

from hub import runtimes
from parity.runners import BEFORE, SQUASHING, Array, Description, LoadFailed, RunFailed
from parity.runners.prototxt import Prototxt, open_prototxt
from parity.runners.sidecar import Died, Process, Server

__all__ = ["CaffeRunner", "available", "open"]

_COMPUTING = frozenset({"Convolution", "Deconvolution", "InnerProduct", "BatchNorm", "Scale", "Bias", "LRN", "MVN"})
"""Layers of which one layer of the source may be made, its activation not counted."""

_PASSING = frozenset({"Reshape", "Flatten", "Split", "Dropout"})
"""Layers that change no number."""


def available() -> str | None:
    """None if Caffe is installed, else why not and how to get it."""
    status = runtimes.status("caffe")
    if status.installed:
        return None
    if status.state == "not supported":
        return status.reason
    return f"Caffe is not installed{f' ({status.reason})' if status.reason else ''}: hub runtimes install caffe"


def open(source: Any) -> CaffeRunner:
    """A `.prototxt` or a `.caffemodel`, with the other of the same stem beside it, or both.

    Raises:
        LoadFailed: Caffe cannot load it, in its own words; or a file is missing, or the net has layers that read
            files or execute code.
    """
    return CaffeRunner(open_prototxt(source))


class _Layer(NamedTuple):
    name: str
    type: str
    bottoms: list[int]
    tops: list[int]


class _Capture(NamedTuple):
    """A blob, before or after a layer runs; layers may write over their inputs."""

    layer: int
    blob: int
    moment: str


class CaffeRunner(Description):
    """Runs a net for inference. Values come in Caffe's layout, except inputs, outputs and what goes into the
    activation of an output, which come as the source has them (`parity.runners.prototxt.Interface`).

    Beside "layer:NAME" it gives "exit:NAME": the value after the last layer of NAME and those called NAME/...,
    of which a converter makes one layer of the source.
    """

    def __init__(self, model: Prototxt) -> None:
        self._model = model
        self._closed = False
        self._generation = self._id = 0
        _SERVER.enter()
        try:
            with _SERVER.lock:
                net = self._open()
            blobs = [(name, shape) for name, shape in net["blobs"]]
            self._net = [_Layer(*layer) for layer in net["layers"]]
            # Caffe gives the outputs in alphabetical order.
            self._outputs = sorted(net["outputs"], key=lambda blob: self._producer(blob) or 0)
            self._names = {blob: blobs[blob][0] for blob in self._outputs}
            inputs = dict(blobs[blob] for blob in net["inputs"])
            model.interface.check(inputs, dict(blobs[blob] for blob in self._outputs))
        except BaseException:
            self.close()
            raise
        version = runtimes.status("caffe").version
        super().__init__("caffe", version, layout="canonical", grain="parts")
        self.inputs = [model.interface.port(name, shape) for name, shape in inputs.items()]
        self._index = {
            layer.name: i
            for i, layer in enumerate(self._net)
            if layer.type != "Input" and not (layer.type == "Split" and layer.name.endswith("_split"))
        }
        self.layers = {name: self._net[i].type for name, i in self._index.items()}
        self._before: dict[str, _Capture] = {}
        for blob, name in self._names.items():
            producer = self._producer(blob)
            self.ops[name] = self._net[producer].type if producer is not None else ""
            if (capture := self._before_squashing(blob)) is not None:
                key = f"before:{name}"
                self._before[key] = capture
                self.ops[key] = self._net[capture.layer].type
                shape, source = blobs[blob][1], blobs[capture.blob][1]
                if name in model.interface.outputs and len(shape) == len(source):
                    self.perms[key] = tuple(range(len(shape)))  # it comes in the source's layout

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        interface = self._model.interface
        if missing := [port.name for port in self.inputs if port.name not in feeds]:
            raise RunFailed(f"the input {missing[0]!r} is not given")
        arrays = {port.name: interface.to_net(port.name, feeds[port.name]) for port in self.inputs}
        wanted = {tap: capture for tap in taps if (capture := self._capture(tap)) is not None}
        if BEFORE in taps:
            wanted |= self._before
        # Names of layers and of blobs are the model's: what is asked for goes by number.
        request = {
            "captures": [[f"{i}", *capture] for i, capture in enumerate(wanted.values())],
            "outputs": [[f"output {blob}", blob] for blob in self._outputs],
        }
        with _SERVER.lock:
            if self._closed:
                raise RunFailed("it is closed")
            process = _SERVER.process()
            if self._generation != _SERVER.generation:
                self._open()
            values = process.ask_arrays({"run": self._id, **request}, arrays)
        result = {name: interface.from_net(name, values[f"output {blob}"]) for blob, name in self._names.items()}
        for i, tap in enumerate(wanted):
            kind, _, name = tap.partition(":")
            result[tap] = interface.arranged(name, values[f"{i}"]) if kind == "before" else values[f"{i}"]
        return result

    def close(self) -> None:
        """Free the net."""
        with _SERVER.lock:
            if self._closed:
                return
            self._closed = True
            if self._generation == _SERVER.generation and _SERVER.running:
                with suppress(Died):
                    _SERVER.process().ask({"close": self._id})
        _SERVER.leave()

    def _open(self) -> Any:
        """Load the net into the running process, and remember which process that was."""
        process = _SERVER.process()
        path = process.folder / "net.prototxt"  # the text that was checked, whatever the file holds by now
        path.write_text(self._model.text, encoding="utf-8")
        weights = self._model.weights
        try:
            answer = process.ask({"open": str(path), "weights": str(weights) if weights else None})
        except RunFailed as error:
            raise LoadFailed(str(error)) from error
        self._generation, self._id = _SERVER.generation, answer["id"]
        return answer

    def _capture(self, tap: str) -> _Capture | None:
        """Where "layer:NAME", "exit:NAME" or "core:NAME" is; None if there is no such single value."""
        kind, _, name = tap.partition(":")
        if name not in self._index or kind not in ("layer", "exit", "core"):
            return None
        group = [self._index[name]]
        if kind != "layer":
            group += [i for other, i in self._index.items() if other.startswith(f"{name}/")]
        if kind == "core" and self._net[group[0]].type in _COMPUTING:
            group = [*takewhile(lambda i: self._net[i].type in _COMPUTING, group)]
        tops = self._net[group[-1]].tops
        return _Capture(group[-1], tops[0], "after") if len(tops) == 1 else None

    def _producer(self, blob: int, before: int | None = None) -> int | None:
        """The last layer that writes `blob`, of those `before` a layer."""
        return next((i for i in reversed(range(len(self._net))[:before]) if blob in self._net[i].tops), None)

    def _before_squashing(self, blob: int) -> _Capture | None:
        """What goes into the squashing layer that an output comes from, if a layer computes it."""
        producer = self._producer(blob)
        while producer is not None and (layer := self._net[producer]).bottoms:
            source = layer.bottoms[0]
            previous = self._producer(source, producer)
            if layer.type.lower() in SQUASHING:
                computed = previous is not None and self._net[previous].type != "Input"
                return _Capture(producer, source, "before") if computed else None
            if layer.type not in _PASSING:
                return None
            producer = previous
        return None


def _start() -> Process:
    """A process in which the real Caffe waits for nets."""
    python = runtimes.status("caffe").python
    if python is None:
        raise LoadFailed(available() or "Caffe is not installed")
    threads = {"OPENBLAS_NUM_THREADS": "1"} if "OPENBLAS_NUM_THREADS" not in os.environ else {}
    return Process([str(python), "-E", "-s", "-B", str(runtimes.find("caffe").server)], threads, _message)


_FATAL = re.compile(r"^F\d{4,8} \S+ +\d+ \S+:\d+\] (.*?)(?=\*\*\* Check failure|\Z)", re.MULTILINE | re.DOTALL)
_PROTOBUF = re.compile(r"^\[libprotobuf ERROR \S+\] (Error parsing .*)$", re.MULTILINE)


def _message(text: str) -> str:
    """Caffe's own words on why it ended: what protobuf said about a file, else its failed check."""
    found = _PROTOBUF.search(text) or _FATAL.search(text)
    return textwrap.shorten(found[1], 400) if found else ""


_SERVER = Server(_start)
