"""The real Caffe 1.0, in a process of its own with a Python of its own."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hub import runtimes
from hub.schemas.caffe import DIALECTS, lint
from hub.sidecar import Died, Process, Server
from parity.runners import BEFORE, Array, Description, LoadFailed, RunFailed, Unfit
from parity.runners.interface import Interface
from parity.runners.layergraph import Capture, Layer, LayerGraph
from parity.runners.prototxt import Prototxt, open_prototxt

__all__ = ["CaffeRunner", "available", "open"]

PACKAGED = frozenset({"layer type Swish", "layer type Permute", "pooling_param.round_mode"})
"""What the packaged Caffe knows beyond Caffe 1.0."""


def available() -> str | None:
    """None if Caffe is installed, else why not and how to get it."""
    return runtimes.status("caffe").missing


def open(source: Any) -> CaffeRunner:
    """A `.prototxt` or a `.caffemodel`, with the other of the same stem beside it, or both.

    Raises:
        LoadFailed: Caffe cannot load it, in its own words; or a file is missing, or the net has layers that read
            files, execute code, or are wrong in this build of Caffe.
        Unfit: the net has layers that only another Caffe has.
    """
    model = open_prototxt(source)
    for beyond in lint(model.net):
        if beyond.dialect is not None and beyond.what not in PACKAGED:
            dialect = DIALECTS[beyond.dialect]
            raise Unfit(f"the net is for {dialect}, not for the Caffe 1.0 here: {beyond.what} {beyond.layer!r}")
    for layer in model.net.layer:
        norm = layer.batch_norm_param
        if norm.HasField("use_global_stats") and not norm.use_global_stats:
            # The package lacks that branch of the code and gives numbers all the same.
            raise LoadFailed(f"the layer {layer.name!r} normalises by the batch, which the packaged Caffe does wrongly")
    return CaffeRunner(model)


class CaffeRunner(Description):
    """Runs a net for inference. Values come in Caffe's layout, except inputs, outputs and what goes into the
    activation of an output, which come as the source has them (`parity.runners.prototxt.Interface`).
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
            self._graph = LayerGraph(Layer(*layer) for layer in net["layers"])
            # Caffe gives the outputs in alphabetical order.
            said = list(model.interface.outputs)
            outputs = sorted(net["outputs"], key=self._graph.order)
            outputs.sort(key=lambda blob: said.index(blobs[blob][0]) if blobs[blob][0] in said else len(said))
            self._outputs: dict[int, str] = {blob: blobs[blob][0] for blob in outputs}
            inputs = dict(blobs[blob] for blob in net["inputs"])
            model.interface.check(inputs, dict(blobs[blob] for blob in outputs))
        except BaseException:
            self.close()
            raise
        super().__init__("caffe", runtimes.status("caffe").version, layout="canonical", grain="parts")
        self._shapes = inputs
        self.inputs = [model.interface.port(name, shape) for name, shape in inputs.items()]
        self.layers = model.interface.named(self._graph.types)
        self.flow = model.interface.flowing(self._graph.flow)
        self._before: dict[str, Capture] = {}
        for blob, name in self._outputs.items():
            producer = self._graph.producer(blob)
            self.ops[name] = self._graph.layers[producer].type if producer is not None else ""
            if (before := self._graph.before_squashing(blob)) is not None:
                key = f"before:{name}"
                self._before[key], self.ops[key] = before
                shape = blobs[before[0].blob][1]
                if name in model.interface.outputs and blobs[blob][1] == shape:
                    self.perms[key] = tuple(range(len(shape)))  # it comes in the source's layout

    def as_written(self) -> None:
        """Take and give what the net does, whatever its text says of its source."""
        self._model = replace(self._model, interface=Interface())
        self.inputs = [Interface().port(name, shape) for name, shape in self._shapes.items()]
        self.layers, self.flow = self._graph.types, self._graph.flow
        self.perms.clear()

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        interface = self._model.interface
        arrays = interface.to_net([port.name for port in self.inputs], feeds)
        wanted = {tap: at for tap in taps if (at := self._graph.capture(interface.asked(tap))) is not None}
        if BEFORE in taps:
            wanted |= self._before
        # Names of layers and of blobs are the model's: what is asked for goes by number.
        request = {
            "captures": [[f"{i}", at.layer, at.blob] for i, at in enumerate(wanted.values())],
            "outputs": [[f"output {blob}", blob] for blob in self._outputs],
        }
        with _SERVER.lock:
            if self._closed:
                raise RunFailed("it is closed")
            process = _SERVER.process()
            if self._generation != _SERVER.generation:
                self._open()
            values = process.ask_arrays({"run": self._id, **request}, arrays)
        result = {name: interface.from_net(name, values[f"output {blob}"]) for blob, name in self._outputs.items()}
        for i, tap in enumerate(wanted):
            value = values[f"{i}"]
            result[tap] = (
                interface.arranged(tap.partition(":")[2], value)
                if tap in self.perms
                else interface.tapped(interface.asked(tap), value)
            )
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
        path.write_text(self._model.text, encoding="utf-8", errors="surrogateescape")
        weights = self._model.weights
        try:
            answer = process.ask({"open": str(path), "weights": str(weights) if weights else None})
        except RunFailed as error:
            raise LoadFailed(str(error)) from error
        self._generation, self._id = _SERVER.generation, answer["id"]
        return answer


def _start() -> Process:
    """A process in which the real Caffe waits for nets."""
    python = runtimes.status("caffe").python
    if python is None:
        raise LoadFailed(available() or "")
    threads = os.environ.get("OPENBLAS_NUM_THREADS") or str(min(4, len(os.sched_getaffinity(0))))
    command = [str(python), "-E", "-s", "-B", str(runtimes.find("caffe").server)]
    return Process(command, {"OPENBLAS_NUM_THREADS": threads}, _message)


_FATAL = re.compile(r"^F\d{4,8} \S+ +\d+ \S+:\d+\] (.*?)(?=\*\*\* Check failure|\Z)", re.MULTILINE | re.DOTALL)
_PROTOBUF = re.compile(r"^\[libprotobuf ERROR \S+\] (Error parsing .*)$", re.MULTILINE)


def _message(text: str) -> str:
    """Caffe's own words on why it ended: what protobuf said about a file, else its failed check."""
    found = _PROTOBUF.search(text) or _FATAL.search(text)
    return textwrap.shorten(found[1], 400) if found else ""


_SERVER = Server(_start)
