"""PyTorch models, by torch.onnx in a child process, believed only after `hub.guard`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.errors import Refusal, UnsupportedOps, UsageError
from hub.formats import resolve
from hub.guard import believe, opened
from hub.model import Model
from hub.sidecar import PATIENCE, Process, own_python
from importers.torch import archive as archives
from importers.torch.given import Given, given, normal
from importers.torch.graph import free_outputs, name_inputs, name_outputs, name_recurrences, origin, scripted_origin
from importers.torch.settle import settle
from importers.torch.sources import ENVIRONMENT, refuse_unsaid

__all__ = ["read"]

ENGINE = "torch.onnx"


def read(
    src: Any,
    *,
    inputs: Any = None,
    trust: bool = False,
    engine: str = ENGINE,
    module: str | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Model:
    """Read a network of PyTorch's: a live `nn.Module`, `ExportedProgram` or `ScriptModule`; a `.pt2`, a TorchScript
    archive, a state_dict with `module`, or with `trust` a pickled module.

    Args:
        inputs: for each parameter of `forward`, by name or in order: sizes, with a name (or None) for each free one;
            a pair of a type and sizes, ("int64", ("N", 12)); an example array; or a value that it always has. For
            a program, which knows its inputs, names of its free sizes.
        engine: torch.onnx is the only one.
        module: what makes the network for weights without one, "package.module:function".
        progress: called with what is being done.

    Raises:
        UnsupportedOps: naming every operator that has no form in ONNX.
        InvalidModel: a file is damaged or hostile, or pickled and not trusted.
        UsageError: an input or an option is missing, or names something that is not there.
        HubError: torch.export or torch.onnx fails; its words, and the way out.
    """
    if engine != ENGINE:
        raise UsageError(f"engine={engine!r}: PyTorch is read by {ENGINE!r}")
    if isinstance(src, (tuple, list)):
        raise UsageError("a PyTorch source is one file or one object; weights without a network take module=")
    arguments, environment = own_python("importers.torch.child")
    if isinstance(src, (str, Path)):
        path = resolve(src)
        found = archives.opened(path)
        refuse_unsaid(found, module, trust)
        process = Process(arguments, {**environment, **ENVIRONMENT}, progress=progress, timeout=PATIENCE)
        try:
            request = {"convert": str(path.resolve()), "module": module, "trust": trust, "where": str(Path.cwd())}
            model, answer = _asked(process, {**request, "inputs": normal(inputs)})
        finally:
            process.close()
        result = _believed(model, answer, found.kind, [])
        result.opening = {"inputs": answer["inputs"], "module": module, "trust": trust}
        return result
    if module is not None:
        raise UsageError("module= is for weights in a file, not for a live object")
    process = Process(arguments, {**environment, **ENVIRONMENT}, progress=progress, timeout=PATIENCE)
    try:
        progress("torch.export captures the module")
        path, said, remarks, kind = _saved(src, inputs, process.folder)
        request = {"convert": str(path), "module": None, "trust": False, "where": None}
        wanted = normal(inputs) if said is None else None
        model, answer = _asked(process, {**request, "inputs": wanted})
    finally:
        process.close()
    if said is not None:
        answer["inputs"] = [one.to_json() for one in said]
    result = _believed(model, answer, kind, remarks)
    result.opening = {"inputs": answer["inputs"]}
    return result


def _saved(src: Any, inputs: Any, folder: Path) -> tuple[Path, list[Given] | None, list[str], str]:
    """A live object in a file for the child; its inputs, where the object itself does not know them."""
    torch = sys.modules["torch"]
    remarks: list[str] = []
    said: list[Given] | None = None
    if isinstance(src, torch.jit.ScriptModule):
        src.save(str(folder / "script.pt"))
        return folder / "script.pt", None, [], "script"
    if isinstance(src, torch.export.ExportedProgram):
        program, kind = src, "program"
    elif isinstance(src, torch.nn.Module):
        from importers.torch.capture import capture, parameters

        said = given({} if inputs is None else inputs, *parameters(src))
        program, remarks = capture(src, said)
        kind = "module"
    else:
        raise UsageError(f"a {type(src).__name__} is no network: give the nn.Module, or the file")
    _refuse_own_operators(program)
    with open(folder / "program.pt2", "wb") as file:
        torch.export.save(program, file)
    return folder / "program.pt2", said, remarks, kind


def _refuse_own_operators(program: Any) -> None:
    """Operators of other libraries are not there in the child, and torch.onnx has no form of them."""
    known = {"aten", "prims", "prim", "quantized_decomposed", "quantized", "torchvision", "higher_order", "onnx_hub"}
    refusals = []
    for node in program.graph.nodes:
        space = getattr(node.target, "namespace", None) if node.op == "call_function" else None
        if isinstance(space, str) and space not in known:
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            layer = stack[-1][0] if stack and stack[-1][0] else node.name
            refusals.append((str(node.target), layer, Refusal("it is an operator of another library")))
    if refusals:
        raise UnsupportedOps.collect(f"{ENGINE} cannot convert:", refusals)


def _asked(process: Process, request: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    to = process.folder / "model.onnx"
    answer = process.ask({**request, "to": str(to)})
    return opened(to, ENGINE), answer


def _believed(model: Any, answer: dict[str, Any], kind: str, remarks: Sequence[str]) -> Model:
    free = [one for one in answer["inputs"] if not one["fixed"]]
    scripted = "layers" in answer
    name_inputs(model, free)
    name_outputs(model, answer["outputs"])
    if scripted and any(not isinstance(size, int) for one in free for size in one["shape"]):
        free_outputs(model)
    settle(model)
    where = scripted_origin(answer["layers"]) if scripted else origin
    believe(model, ENGINE, [one["name"] for one in free], where)
    name_recurrences(model)
    names = {"program": "an exported program", "script": "TorchScript", "module": "a module"}
    return Model(model, "torch", [*remarks, *answer["warnings"]], variant=names.get(kind, "weights and a module"))
