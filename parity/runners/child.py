"""Any runner of this package, in a process of its own.

For runtimes that are heavy, may abort, or run code of the model's. Requests and answers are lines
of JSON on the child's standard input and output; arrays travel in `.npz` files in a private folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from parity.runners import Array, Description, LoadFailed, Port, RunFailed, Runner, find

__all__ = ["ChildRunner"]

_TIMEOUT = 900.0


class ChildRunner(Description):
    """Runs `paths` with the runtime `runtime` ("keras", "torch", ...) in a child process.

    Raises:
        LoadFailed: the runtime cannot load the model; the message is the runtime's own.
    """

    def __init__(self, runtime: str, paths: Sequence[Path], environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hub-")
        self._errors = open(Path(self._folder.name) / "stderr", "w+b")  # noqa: SIM115 (closed in close)
        root = str(Path(__file__).resolve().parents[2])
        search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        # The working directory is private: a `keras.py` lying about where the user works is not Keras.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "parity.runners.child", runtime],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self._folder.name,
            env={**os.environ, **(environment or {}), "PYTHONPATH": search},
        )
        try:
            answer = self._ask({"open": [str(path.resolve()) for path in paths]})
        except RunFailed as error:
            self.close()
            raise LoadFailed(str(error)) from error
        except LoadFailed:
            self.close()
            raise
        super().__init__(
            answer["name"],
            answer["version"],
            [_port(port) for port in answer["inputs"]],
            answer["layers"],
            answer["ops"],
            {name: tuple(perm) for name, perm in answer["perms"].items()},
            answer["layout"],
        )

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        feeds_path, outputs_path = Path(self._folder.name) / "feeds.npz", Path(self._folder.name) / "outputs.npz"
        names = _write(feeds_path, feeds)
        answer = self._ask({"feeds": str(feeds_path), "names": names, "taps": list(taps), "to": str(outputs_path)})
        return _read(outputs_path, answer["names"])

    def close(self) -> None:
        """End the child and remove its files."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._errors.close()
        self._folder.cleanup()

    def _ask(self, request: dict[str, Any]) -> Any:
        """Send one request and wait for its answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        timer = threading.Timer(_TIMEOUT, self._process.kill)
        timer.start()
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
            line = stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        if not line:
            raise RunFailed(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise (LoadFailed if answer["error"] == "load" else RunFailed)(answer["message"])
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"its process {how}" + (f": {' | '.join(lines[-3:])[-600:]}" if lines else "")


def _port(values: dict[str, Any]) -> Port:
    shape, bounds = values["shape"], values["range"]
    return Port(
        values["name"],
        values["dtype"],
        None if shape is None else tuple(shape),
        (bounds[0], bounds[1]) if bounds else None,
    )


def _write(path: Path, arrays: Mapping[str, Array]) -> list[tuple[str, str]]:
    """Write `arrays` and return their names and dtypes; the members of the file are numbered, as a
    name may be anything, and dtypes that NumPy does not know (bfloat16) are written as bytes."""
    plain = [
        a.view(f"V{a.dtype.itemsize}") if a.dtype.kind == "V" else a for a in map(np.ascontiguousarray, arrays.values())
    ]
    shaped = [a.reshape(original.shape) for a, original in zip(plain, arrays.values(), strict=True)]
    np.savez(path, allow_pickle=False, **{f"a{i}": array for i, array in enumerate(shaped)})
    return [(name, array.dtype.name) for name, array in arrays.items()]


def _read(path: Path, names: Sequence[tuple[str, str]]) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as content:
        arrays = [content[f"a{i}"] for i in range(len(names))]
    path.unlink()
    result = {}
    for (name, dtype), array in zip(names, arrays, strict=True):
        if array.dtype.kind == "V":
            import ml_dtypes

            array = array.view(getattr(ml_dtypes, dtype))
        result[name] = array
    return result


def _serve(runtime: str, requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until the standard input is closed."""
    runner: Runner | None = None
    for line in requests:
        request = json.loads(line)
        try:
            if "open" in request:
                paths = [Path(path) for path in request["open"]]
                module: Any = find(runtime)
                runner = module.open_here(paths)
                answer = _description(runner)
            else:
                assert runner is not None
                feeds = _read(Path(request["feeds"]), request["names"])
                answer = {"names": _write(Path(request["to"]), runner.run(feeds, request["taps"]))}
        except LoadFailed as error:
            answer = {"error": "load", "message": str(error)}
        except RunFailed as error:
            answer = {"error": "run", "message": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _description(runner: Runner) -> dict[str, Any]:
    return {
        "name": runner.name,
        "version": runner.version,
        "inputs": [asdict(port) for port in runner.inputs],
        "layers": runner.layers,
        "ops": runner.ops,
        "perms": runner.perms,
        "layout": runner.layout,
    }


if __name__ == "__main__":
    # The runtime may write to file descriptor 1; what it writes goes to stderr.
    _answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _serve(sys.argv[1], sys.stdin, _answers)
