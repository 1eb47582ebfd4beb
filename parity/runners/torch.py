"""PyTorch: a live module, or a Python file that defines one.

Opening a file executes it, which is why only a file that the user names, or that hub has just
written, comes here. It runs in this process if PyTorch is loaded already, which saves two seconds;
otherwise in a child, so that a conversion does not leave PyTorch in the memory of its caller.
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

from parity.runners import BEFORE, SQUASHING, Array, Description, LoadFailed, Port, RunFailed, Runner, need, single_line
from parity.runners.child import ChildRunner

__all__ = ["TorchRunner", "available", "open", "open_here"]

_MOVES = frozenset({"permute", "transpose", "contiguous", "movedim", "clone", "to"})


def available() -> str | None:
    """None if PyTorch can be used here, else why not."""
    return need(["torch", "safetensors"], "PyTorch", 'pip install "onnx-hub[torch]"')


def open(source: Any) -> Runner:
    """A live `nn.Module`, the path of a `.py` with `load()`, or a pair of it and its weights.

    Raises:
        LoadFailed: the file cannot be executed, or has no `load`, or its weights do not fit.
    """
    if isinstance(source, (str, os.PathLike)):
        source = [source]
    if not isinstance(source, (tuple, list)):
        return TorchRunner(source)
    paths = [Path(part) for part in source]
    return open_here(paths) if "torch" in sys.modules else ChildRunner("torch", paths)


def open_here(paths: Sequence[Path]) -> Runner:
    """Execute the file in this process and call its `load`, with the weights if they are given."""
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
    """Runs a live module in eval mode, without gradients; its own mode is restored afterwards."""

    def __init__(self, module: Any) -> None:
        import inspect

        import torch

        super().__init__("torch", str(torch.__version__), layout="canonical", grain="core")
        if not isinstance(module, torch.nn.Module):
            raise LoadFailed(f"{type(module).__name__} is not an nn.Module")
        self.module = module
        parameters = inspect.signature(module.forward).parameters.values()
        self.inputs = [
            Port(p.name)
            for p in parameters
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
        ]
        self._modules = {name: part for name, part in module.named_modules() if name and not any(part.children())}
        self.layers = {name: type(part).__name__ for name, part in self._modules.items()}

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        import torch

        first = next(self.module.parameters(), None)
        device = first.device if first is not None else torch.device("cpu")
        seen: dict[str, list[Any]] = {}
        with ExitStack() as stack:
            stack.enter_context(_evaluating(self.module))
            for tap in taps:
                if tap.startswith("layer:") and tap[6:] in self.layers:
                    calls = seen.setdefault(tap, [])
                    handle = self._modules[tap[6:]].register_forward_hook(_recorder(calls))
                    stack.callback(handle.remove)
            watch = stack.enter_context(_watch()) if BEFORE in taps else {}
            try:
                tensors = [_tensor(feeds[port.name]).to(device) for port in self.inputs]
                outputs = _named(self.module(*tensors))
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

    def close(self) -> None:
        """Nothing to do: the module is the user's."""


def _recorder(calls: list[Any]) -> Any:
    def record(module: Any, arguments: Any, output: Any) -> None:
        calls.append(output)

    return record


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Every submodule in eval mode and no gradients; each gets its own mode back."""
    import torch

    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True


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
    """Outputs by name; those of a tuple or list are called output_0, output_1, ..."""
    import torch

    if isinstance(results, torch.Tensor):
        return {"output": results}
    if isinstance(results, Mapping):
        named = {str(name): value for name, value in results.items()}
    elif isinstance(results, (tuple, list)):
        fields = getattr(results, "_fields", None) or [f"output_{i}" for i in range(len(results))]
        named = dict(zip(fields, results, strict=True))
    else:
        raise RunFailed(f"the module returns a {type(results).__name__}, not tensors")
    for name, value in named.items():
        if not isinstance(value, torch.Tensor):
            raise RunFailed(f"the output {name} is a {type(value).__name__}, not a tensor")
    return named


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
