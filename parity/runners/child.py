"""Any runner of this package, in a process of its own.

For runtimes that are heavy, may abort, or run code of the model's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hub.sidecar import Process, own_python
from hub.sidecar.protocol import read_arrays, serve, write_arrays
from parity.runners import Array, Description, LoadFailed, Port, RunFailed, Runner, find

__all__ = ["ChildRunner"]


class ChildRunner(Description):
    """Runs `paths` with the runtime `runtime` ("keras", "torch", ...) in a child process.

    `options` reach the child as JSON, and there `open_here(paths, **options)`.

    Raises:
        LoadFailed: the runtime cannot load the model; the message is the runtime's own.
    """

    def __init__(
        self,
        runtime: str,
        paths: Sequence[Path],
        environment: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        arguments, search = own_python("parity.runners.child", runtime)
        self._process = Process(arguments, {**(environment or {}), **search})
        try:
            where = [str(path.resolve()) for path in paths]
            answer = self._process.ask({"open": {"paths": where, "options": dict(options or {})}})
        except RunFailed as error:
            self.close()
            raise LoadFailed(str(error)) from error
        except BaseException:
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
            answer["grain"],
            answer["precision"],
            answer["remarks"],
            answer["flow"],
        )

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        return self._process.ask_arrays({"taps": list(taps)}, feeds)

    def close(self) -> None:
        """End the child and remove its files."""
        self._process.close()


def _port(values: dict[str, Any]) -> Port:
    shape, bounds = values["shape"], values["range"]
    return Port(
        values["name"],
        values["dtype"],
        None if shape is None else tuple(shape),
        (bounds[0], bounds[1]) if bounds else None,
    )


class _Opened:
    """The child's side: a runner of `runtime`, opened by the first request and run by the others."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.runner: Runner | None = None

    def handle(self, request: Any) -> Any:
        try:
            if "open" in request:
                module: Any = find(self.runtime)
                opening = request["open"]
                self.runner = module.open_here([Path(path) for path in opening["paths"]], **opening["options"])
                return _description(self.runner)
            assert self.runner is not None
            values = self.runner.run(read_arrays(request["feeds"], request["names"]), request["taps"])
            return {"names": write_arrays(request["to"], values)}
        except LoadFailed as error:
            return {"error": "load", "message": str(error)}
        except RunFailed as error:
            return {"error": "run", "message": str(error)}


def _description(runner: Runner) -> dict[str, Any]:
    return {
        "name": runner.name,
        "version": runner.version,
        "inputs": [asdict(port) for port in runner.inputs],
        "layers": runner.layers,
        "ops": runner.ops,
        "perms": runner.perms,
        "layout": runner.layout,
        "grain": runner.grain,
        "precision": runner.precision,
        "remarks": runner.remarks,
        "flow": runner.flow,
    }


if __name__ == "__main__":
    serve(_Opened(sys.argv[1]).handle)
