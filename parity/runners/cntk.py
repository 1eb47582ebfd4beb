"""The real CNTK 2.7: its libraries, in a process of their own, and its Python, which code for CNTK needs."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hub import runtimes
from hub.dnn import read, write
from hub.errors import HubError
from hub.sidecar import Died, Process, Server
from parity.runners import BEFORE, Array, Description, LoadFailed, NotInstalled, RunFailed, single_line
from parity.runners.cntkgraph import Graph
from parity.runners.interface import Interface

__all__ = ["KEY", "CNTKRunner", "available", "open"]

KEY = "hub"
"""The key of a model file under which the interface of the source stands, as JSON. CNTK passes over it."""

_LINE = re.compile(r"^# hub: *(.*)$", re.MULTILINE)


def available() -> str | None:
    """None if CNTK is installed, else why not and how to get it."""
    return runtimes.status("cntk").missing


def open(source: Any) -> CNTKRunner:
    """A model file of CNTK 2, or a `.py` whose `build()` returns a model, which is executed and saved first.

    Raises:
        LoadFailed: CNTK cannot load it, in its own words; or it is damaged, has functions that are code, or does not
            take float32.
        NotInstalled: it is a `.py`, and CNTK's Python is not installed.
    """
    parts = [Path(part) for part in (source if isinstance(source, (tuple, list)) else [source])]
    path = next((part for part in parts if part.suffix.lower() != ".npz"), parts[0]).resolve()
    if not path.is_file():
        raise LoadFailed(f"{path} does not exist")
    if path.suffix.lower() != ".py":
        return CNTKRunner(path)
    line = _LINE.search(path.read_text(encoding="utf-8", errors="replace"))
    interface = Interface.parse(line[1]) if line else Interface()
    folder = TemporaryDirectory(prefix="hub-")
    try:
        saved = Path(folder.name) / "model.dnn"
        _build(path, saved)
        return CNTKRunner(saved, interface, folder)
    except BaseException:
        folder.cleanup()
        raise


def _build(path: Path, saved: Path) -> None:
    """Execute code for CNTK, and save the model that it makes."""
    if reason := runtimes.status("cntk-python").missing:
        raise NotInstalled(reason)
    _PYTHON.enter()
    try:
        with _PYTHON.lock:
            _PYTHON.process().ask({"open": str(path), "to": str(saved)})
    except RunFailed as error:  # it died
        raise LoadFailed(str(error)) from error
    finally:
        _PYTHON.leave()


class CNTKRunner(Description):
    """Runs a model for inference. Values come as ONNX has them, the batch axis first, where there is one. The first
    run that asks for values from within loads a copy of the model whose outputs they are.
    """

    def __init__(
        self, path: Path, interface: Interface | None = None, folder: TemporaryDirectory[str] | None = None
    ) -> None:
        self._path, self._folder = path, folder
        self._closed = False
        self._generation = self._id = 0
        self._form = ""
        self._inputs: list[int] = []
        self._positions: dict[str, int] = {}
        try:
            self._graph = graph = Graph(read(path))
        except HubError as error:
            raise LoadFailed(str(error)) from error
        for known in graph.inputs:
            if known.data_type != 1:
                raise LoadFailed(
                    f"the input {known.name or known.uid!r} is not of float32, and CNTK's interface for C takes "
                    "nothing else"
                )
        # CNTK's interface for C takes and gives by name, which is of ASCII characters, and takes no sparse arrays.
        self._direct = graph.ascii and not any(known.sparse for known in graph.inputs)
        if interface is None:
            said = graph.tree.get(KEY)
            interface = Interface.parse(said, f"its key {KEY!r}") if isinstance(said, str) else Interface()
        self._interface = interface
        names = [known.name or known.uid for known in graph.inputs]
        self._names = [
            name if names.count(name) == 1 else known.uid for name, known in zip(names, graph.inputs, strict=True)
        ]
        self._shapes = {
            name: (*known.axes, *known.sizes) for name, known in zip(self._names, graph.inputs, strict=True)
        }
        interface.check(self._shapes, dict.fromkeys(graph.outputs))
        super().__init__("cntk", runtimes.status("cntk").version, layout="canonical", grain="parts", batch_first=True)
        self.inputs = [interface.port(name, shape) for name, shape in self._shapes.items()]
        self.layers = interface.named(graph.layers)
        self.ops = dict(graph.ops)
        for key, (_, op, same) in graph.before.items():
            self.ops[key] = op
            said = interface.outputs.get(key.partition(":")[2])
            if said is not None and same and (rank := len(said.perm or said.shape or ())):
                self.perms[key] = tuple(range(rank))  # it comes in the source's layout
        _SERVER.enter()
        try:
            with _SERVER.lock:
                self._open("as it is" if graph.ascii else "tapped")
        except BaseException:
            self.close()
            raise

    def as_written(self) -> None:
        """Take and give what the file does, whatever it says of its source."""
        self._interface = Interface()
        self.inputs = [Interface().port(name, shape) for name, shape in self._shapes.items()]
        self.layers = self._graph.layers
        self.perms.clear()

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        interface = self._interface
        arrays = interface.to_net(self._names, feeds)
        samples = self._samples(arrays)
        wanted = {tap: value for tap in taps if (value := self._graph.capture(interface.asked(tap))) is not None}
        if BEFORE in taps:
            wanted |= {tap: value for tap, (value, _, _) in self._graph.before.items()}
        with _SERVER.lock:
            if self._closed:
                raise RunFailed("it is closed")
            outputs = self._graph.outputs
            values = self._evaluate(arrays, samples, [*outputs.values(), *wanted.values()])
        result = {name: interface.from_net(name, values[value]) for name, value in outputs.items()}
        for tap, value in wanted.items():
            if value in values:
                result[tap] = (
                    interface.arranged(tap.partition(":")[2], values[value])
                    if tap in self.perms
                    else interface.tapped(interface.asked(tap), values[value])
                )
        return result

    def close(self) -> None:
        """Free the model."""
        with _SERVER.lock:
            if self._closed:
                return
            self._closed = True
            self._free()
        _SERVER.leave()
        if self._folder is not None:
            self._folder.cleanup()

    # -- the process -------------------------------------------------------------------------------------

    def _evaluate(self, arrays: Mapping[str, Array], samples: int, values: list[str]) -> dict[str, Array]:
        """Values by their uids; those of the outputs at least."""
        outputs = dict.fromkeys(self._graph.outputs.values())
        if self._form == "tapped" or not self._direct or not {*values} <= {*outputs}:
            try:
                self._open("tapped")
                return self._ask(arrays, samples, list(dict.fromkeys(values)))
            except (LoadFailed, RunFailed):
                if not self._direct:
                    raise
        # A copy is for what it gives beyond the outputs; whatever is wrong with it, the model itself has the word.
        self._open("as it is")
        return self._ask(arrays, samples, list(outputs))

    def _ask(self, arrays: Mapping[str, Array], samples: int, values: list[str]) -> dict[str, Array]:
        order = [self._names[i] for i in self._inputs]
        request = {
            "run": self._id,
            "samples": samples,
            "batched": [self._graph.inputs[i].batched for i in self._inputs],
            "outputs": [self._positions[value] for value in values],
        }
        answer = _SERVER.process().ask_arrays(request, {name: arrays[name] for name in order})
        return {value: answer[str(i)] for i, value in enumerate(values)}

    def _open(self, form: str) -> None:
        """Load the model in the form that is asked for, unless that is what is loaded in the running process."""
        process = _SERVER.process()
        if self._generation == _SERVER.generation and self._form == form:
            return
        self._free()
        graph = self._graph
        # CNTK's interface for C takes a path of ASCII characters only: it finds the model in its working directory.
        path = process.folder / "model.dnn"
        try:
            if form == "tapped":
                inputs = [f"hub input {i}" for i in range(len(graph.inputs))]
                renamed = zip((known.uid for known in graph.inputs), inputs, strict=True)
                write(path, graph.with_outputs(graph.taps, dict(renamed)))
            else:
                inputs = [known.name for known in graph.inputs]
                path.symlink_to(self._path)
            answer = process.ask({"open": path.name})
        except RunFailed as error:
            raise LoadFailed(str(error)) from error
        except (OSError, KeyError, TypeError) as error:
            raise LoadFailed(f"it cannot be handed to CNTK: {single_line(error)}") from error
        finally:
            path.unlink(missing_ok=True)
        self._generation, self._id, self._form = _SERVER.generation, answer["id"], form
        if form == "tapped":
            self._positions = {value: answer["outputs"].index(name) for name, value in graph.taps.items()}
        else:
            values = list(graph.outputs.values())
            named = sorted(answer["inputs"]) == sorted({*inputs}) and len({*answer["outputs"]}) == len(values)
            self._direct = self._direct and named
            self._positions = {value: i for i, value in enumerate(values)}
        self._inputs = [inputs.index(name) for name in answer["inputs"]] if form == "tapped" or self._direct else []

    def _free(self) -> None:
        if self._form and self._generation == _SERVER.generation and _SERVER.running:
            with suppress(Died):
                _SERVER.process().ask({"close": self._id})
        self._form = ""

    def _samples(self, arrays: Mapping[str, Array]) -> int:
        """How many samples the inputs are; one if no input has a batch axis."""
        counts = set()
        for known, (name, array) in zip(self._graph.inputs, arrays.items(), strict=True):
            sizes = array.shape[len(known.axes) :]
            fits = all(size in (None, given) for size, given in zip(known.sizes, sizes, strict=False))
            if array.ndim != len(self._shapes[name]) or not fits:
                shape = ", ".join("?" if size is None else str(size) for size in self._shapes[name])
                raise RunFailed(f"the input {name!r} has the shape {array.shape} in place of ({shape})")
            if 0 in array.shape:
                raise RunFailed(f"the input {name!r} of shape {array.shape} is empty")
            if known.batched:
                counts.add(array.shape[0])
        if len(counts) > 1:
            raise RunFailed(f"the inputs have {' and '.join(map(str, sorted(counts)))} samples")
        return counts.pop() if counts else 1


def _start() -> Process:
    """A process in which CNTK's libraries wait for models."""
    return _process("cntk", str(min(4, len(os.sched_getaffinity(0)))))


def _start_python() -> Process:
    """A process in which CNTK's Python waits for code."""
    return _process("cntk-python", "1")


def _process(name: str, threads: str) -> Process:
    status = runtimes.status(name)
    if status.python is None:
        raise LoadFailed(status.missing or "")
    command = [str(status.python), "-E", "-s", "-B", str(runtimes.find(name).server), str(status.path)]
    return Process(command, {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or threads}, _message)


_THROWN = re.compile(r"^(?:About to throw exception '|  what\(\): +)(.*?)'?$", re.MULTILINE)


def _message(text: str) -> str:
    """CNTK's own words on why it ended: the last exception that it threw."""
    found = _THROWN.findall(text)
    return textwrap.shorten(found[-1], 400) if found else ""


_SERVER = Server(_start)
_PYTHON = Server(_start_python)
