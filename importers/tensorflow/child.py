"""The process in which TensorFlow and tf2onnx are: it opens a source, says what it is, and converts it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from hub.errors import HubError, InvalidModel
from hub.sidecar import refusal
from hub.sidecar.protocol import say, serve
from importers.tensorflow.program import Options, open_program

__all__ = ["handle"]


def handle(request: Any) -> Any:
    """Convert `request["path"]`; the model is written to `request["to"]`."""
    from importers.tensorflow.engine import convert

    try:
        say("opening it in TensorFlow")
        program = open_program(Path(request["path"]), Options(**request["options"]))
        say("tf2onnx converts it")
        facts = convert(program, Path(request["to"]))
    except HubError as error:
        return refusal(error)
    except MemoryError:
        return refusal(InvalidModel(f"{request['path']} does not fit into memory"))
    return {
        "title": program.title,
        "inputs": [asdict(port) for port in program.inputs],
        "outputs": [asdict(port) for port in program.outputs],
        "warnings": program.warnings,
        **asdict(facts),
    }


if __name__ == "__main__":
    serve(handle)
