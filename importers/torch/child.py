"""The process that runs torch.onnx: its memory, its time and its crashes stay there.

One request: {"convert": path, "to": path, "inputs": [...] or None, "module", "trust", "where"}; the answer says what
the inputs, the outputs and the sizes are called, and what the user should know.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from hub.errors import HubError, InvalidModel, UsageError
from hub.sidecar import refusal
from hub.sidecar.protocol import say, serve

__all__ = ["handle"]


def handle(request: Any) -> Any:
    """Answer one request; see above."""
    try:
        return _convert(request)
    except HubError as error:
        return refusal(error)
    except Exception as error:  # noqa: BLE001 (torch.onnx and the network can raise anything)
        text = " ".join(str(error).split())[:400]
        return refusal(HubError(f"torch.onnx failed: {type(error).__name__}: {text}"))


def _convert(request: Any) -> dict[str, Any]:
    say("opening it in PyTorch")
    import torch

    from importers.torch import capture, scripted, translate
    from importers.torch.given import given
    from importers.torch.sources import live

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    source = live(Path(request["convert"]), request["module"], request["trust"], request["where"])
    said = request["inputs"]
    to = Path(request["to"])
    say("torch.onnx converts it")
    if isinstance(source, torch.export.ExportedProgram):
        return translate.translate(source, to, said)
    if isinstance(source, torch.jit.ScriptModule):
        return scripted.translate(source, to, said)
    if not isinstance(source, torch.nn.Module):
        raise InvalidModel(f"it holds a {type(source).__name__}, which is no network")
    names, required = capture.parameters(source)
    inputs = given(_restored(said), names, required)
    program, remarks = capture.capture(source, inputs)
    answer = translate.translate(program, to, None)
    answer["inputs"] = [one.to_json() for one in inputs]
    answer["warnings"] = [r for r in remarks if "training mode" not in r] + answer["warnings"]
    return answer


def _restored(said: Any) -> Any:
    """What the user said of the inputs, as `importers.torch.read` has sent it."""
    if said is None:
        return {}

    def one(value: Any) -> Any:
        if isinstance(value, dict):
            if "value" in value:
                return value["value"]
            return (value["dtype"], value["shape"])
        raise UsageError("inputs cannot be understood")

    return {k: one(v) for k, v in said.items()} if isinstance(said, dict) else [one(v) for v in said]


if __name__ == "__main__":
    serve(handle)
