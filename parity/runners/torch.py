"""PyTorch: a live module, program or ScriptModule; a file of one; or a Python file that defines one.

Opening a Python file executes it, which is why only a file that the user names, or that hub has just
written, comes here. It runs in this process if PyTorch is loaded already, which saves two seconds;
otherwise in a child, so that a conversion does not leave PyTorch in the memory of its caller. Other
files always open in a child, whose PyTorch unpickles nothing but weights.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hub.errors import HubError
from importers.torch import archive, sources
from importers.torch.outputs import named
from parity.runners import BEFORE, SQUASHING, Array, Description, LoadFailed, Port, RunFailed, Runner, need, single_line
from parity.runners.child import ChildRunner

__all__ = ["TorchRunner", "available", "open", "open_here"]

_MOVES = frozenset({"permute", "transpose", "contiguous", "movedim", "clone", "to"})


def available() -> str | None:
    """None if PyTorch can be used here, else why not."""
    return need(["torch", "safetensors"], "PyTorch", sources.INSTALL)


def open(
    source: Any, *, inputs: Sequence[Mapping[str, Any]] | None = None, module: str | None = None, trust: bool = False
) -> Runner:
    """A live `nn.Module`, `ExportedProgram` or `ScriptModule`; the path of a `.pt2`, of TorchScript, or of weights
    with the `module` that they are of; the path of a `.py` with `load()`, or a pair of it and its weights.

    `inputs`: those that the network is given, as `importers.torch.given.Given.to_json`, where it does not say.
    `module`, `trust`: as for `importers.torch.read`.

    Raises:
        LoadFailed: the file cannot be opened, or has no `load`, or its weights do not fit.
    """
    if isinstance(source, (str, os.PathLike)):
        source = [source]
    if not isinstance(source, (tuple, list)):
        return TorchRunner(source, inputs)
    paths = [Path(part) for part in source]
    if paths[0].suffix.lower() == ".py":
        return open_here(paths) if "torch" in sys.modules else ChildRunner("torch", paths)
    try:
        sources.refuse_unsaid(archive.opened(paths[0]), module, trust)
    except HubError as error:
        raise LoadFailed(str(error)) from error
    options = {"inputs": inputs, "module": module, "trust": trust, "where": str(Path.cwd())}
    return ChildRunner("torch", paths[:1], sources.ENVIRONMENT, options)


def open_here(
    paths: Sequence[Path],
    inputs: Sequence[Mapping[str, Any]] | None = None,
    module: str | None = None,
    trust: bool = False,
    where: str | None = None,
) -> Runner:
    """Open a file in this process; a Python file is executed, and its `load` called, with the weights if they are
    given."""
    if paths[0].suffix.lower() == ".py":
        return _executed(paths)
    try:
        return TorchRunner(sources.live(paths[0], module, trust, where), inputs)
    except HubError as error:
        raise LoadFailed(str(error)) from error


def _executed(paths: Sequence[Path]) -> Runner:
    path = paths[0].resolve()
    name = f"_hub_generated_{abs(hash(path))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadFailed(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look it up
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "load"):
            raise LoadFailed(f"{path.name} defines no load()")
        return TorchRunner(module.load(*(part.resolve() for part in paths[1:])))
    except (LoadFailed, KeyboardInterrupt):
        raise
    except BaseException as error:  # a file can raise anything, SystemExit too
        raise LoadFailed(single_line(error)) from error
    finally:
        del sys.modules[name]


class TorchRunner(Description):
    """Runs a live module in eval mode, without gradients; its own mode is restored afterwards. Programs and
    ScriptModules run as they are."""

    def __init__(self, source: Any, inputs: Sequence[Mapping[str, Any]] | None = None) -> None:
        import torch

        super().__init__("torch", str(torch.__version__), layout="canonical", grain="core")
        self.program = source if isinstance(source, torch.export.ExportedProgram) else None
        module = source if self.program is None else _module_of(source)
        if not isinstance(module, torch.nn.Module):
            raise LoadFailed(f"{type(module).__name__} is not an nn.Module")
        self.module = module
        self._values = {one["name"]: one["value"] for one in inputs or () if one["fixed"]}
        self.inputs = _ports(self.program, module, [one for one in inputs or () if not one["fixed"]])
        parts = () if self.program is not None or isinstance(module, torch.jit.ScriptModule) else module.named_modules()
        self._modules = {name: part for name, part in parts if name and not any(part.children())}
        self.layers = {name: type(part).__name__ for name, part in self._modules.items()}

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        import torch

        first = next(self.module.parameters(), None)
        device = first.device if first is not None else torch.device("cpu")
        seen: dict[str, list[Any]] = {}
        with ExitStack() as stack:
            if self.program is None:
                stack.enter_context(sources.evaluating(self.module))
            stack.enter_context(torch.no_grad())
            for tap in taps:
                if tap.startswith("layer:") and tap[6:] in self.layers:
                    calls = seen.setdefault(tap, [])
                    handle = self._modules[tap[6:]].register_forward_hook(_recorder(calls))
                    stack.callback(handle.remove)
            watch = stack.enter_context(_watch()) if BEFORE in taps else {}
            try:
                tensors = {port.name: _tensor(feeds[port.name]).to(device) for port in self.inputs}
                outputs = _named(self._call(tensors))
            except Exception as error:  # the module can raise anything
                raise RunFailed(single_line(error)) from error
        result = {name: _numpy(tensor) for name, tensor in outputs.items()}
        for name, tensor in outputs.items():
            before = _before(tensor, watch)
            if before is not None:
                result[f"before:{name}"] = _numpy(before)
        single = {
            tap: calls[0] for tap, calls in seen.items() if len(calls) == 1 and isinstance(calls[0], torch.Tensor)
        }
        return result | {tap: _numpy(tensor) for tap, tensor in single.items()}

    def _call(self, tensors: Mapping[str, Any]) -> Any:
        """What the network returns for tensors by the names of its inputs."""
        import torch

        if self.program is None:
            known = [port.name for port in self.inputs]
            if self._values or not self._positional(known):
                return self.module(**tensors, **self._values)
            return self.module(*tensors.values())
        flat = []
        for spec in self.program.graph_signature.input_specs:
            if spec.kind is torch.export.graph_signature.InputKind.USER_INPUT:
                flat.append(tensors.get(spec.arg.name, getattr(spec.arg, "value", None)))
        arguments, keywords = torch.utils._pytree.tree_unflatten(flat, self.program.call_spec.in_spec)
        return self.module(*arguments, **keywords)

    def _positional(self, names: Sequence[str]) -> bool:
        return names == _parameters(self.module)[0][: len(names)]

    def close(self) -> None:
        """Nothing to do: the module is the user's."""


def _module_of(program: Any) -> Any:
    """A program as a module; its guards are text that would be run, and what they forbid shows in the numbers."""
    try:
        return program.module(check_guards=False)
    except TypeError:  # before PyTorch 2.9
        return program.module()


def _parameters(module: Any) -> tuple[list[str], list[str]]:
    """The parameters of `forward`, and those of them without a default."""
    import inspect

    schema = getattr(module.forward, "schema", None)
    if schema is not None:  # TorchScript
        arguments = list(schema.arguments)[1:]
        return [a.name for a in arguments], [a.name for a in arguments if not a.has_default_value()]
    parameters = inspect.signature(module.forward).parameters.values()
    ours = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [p.name for p in ours], [p.name for p in ours if p.default is p.empty and p.kind is not p.KEYWORD_ONLY]


def _ports(program: Any, module: Any, inputs: Sequence[Mapping[str, Any]]) -> list[Port]:
    """The inputs: those of the program, or those that were said, or the parameters without a default."""
    if program is not None:
        from importers.torch.translate import ports

        return [Port(one["name"], one["dtype"], tuple(one["shape"])) for one in ports(program)]
    if inputs:
        return [Port(one["name"], one["dtype"], tuple(one["shape"])) for one in inputs]
    return [Port(name) for name in _parameters(module)[1]]


def _recorder(calls: list[Any]) -> Any:
    def record(module: Any, arguments: Any, output: Any) -> None:
        calls.append(output.clone() if hasattr(output, "clone") else output)  # what follows may work in place

    return record


@contextmanager
def _watch() -> Iterator[dict[int, tuple[str, Any, Any]]]:
    """Record, by the id of its result, each squashing or moving function: its name, result and first argument.

    The result is held so that its id stays its own.
    """
    from torch.overrides import TorchFunctionMode

    calls: dict[int, tuple[str, Any, Any]] = {}

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            name = getattr(func, "__name__", "")
            if args and (name in _MOVES or name in SQUASHING):
                calls[id(result)] = (name, result, args[0])
            return result

    with Watch():
        yield calls


def _before(tensor: Any, calls: Mapping[int, tuple[str, Any, Any]]) -> Any | None:
    """What went into the squashing function that `tensor` comes from, moves in between allowed."""
    while entry := calls.get(id(tensor)):
        name, _, source = entry
        if name in SQUASHING:
            return source
        if source is tensor:
            return None
        tensor = source
    return None


def _named(results: Any) -> dict[str, Any]:
    """Outputs by name, see `importers.torch.outputs.named`."""
    import torch

    found = named(results)
    for name, value in found.items():
        if not isinstance(value, torch.Tensor):
            what = "the module returns" if name == "output" else f"the output {name} is"
            raise RunFailed(f"{what} a {type(value).__name__}, not a tensor")
    return found


def _tensor(array: Array) -> Any:
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def _numpy(tensor: Any) -> Array:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        array: Array = tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return array
    plain: Array = tensor.numpy()
    return plain
