"""The sources of PyTorch as live objects, in the process that calls this: a child, as loading takes memory and trust.

`hub` uses it to convert them, and `parity` to run them.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hub.errors import HubError, InvalidModel, MissingDependency, UsageError, blaming
from importers.torch import vetted
from importers.torch.archive import Archive, opened

__all__ = ["ENVIRONMENT", "INSTALL", "evaluating", "live", "network", "refuse_unsaid", "uses_code"]

INSTALL = 'pip install "onnx-hub[torch]"'

ENVIRONMENT = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "CUDA_VISIBLE_DEVICES": "-1"}
"""Of the processes that open files: no fallback of PyTorch's may unpickle what is no weight."""

_HOLDERS = ("state_dict", "model_state_dict", "model", "module", "net", "params_ema", "params", "weights")
_MODULE = 'module="package.module:function"'


def uses_code(archive: Archive, module: str | None) -> bool:
    """Whether opening it imports code of the user's."""
    return module is not None or bool(archive.classes)


def refuse_unsaid(archive: Archive, module: str | None, trust: bool) -> None:
    """What can be said without PyTorch; nothing of the file is run before.

    Raises:
        InvalidModel: it is pickled, and not trusted; the message lists what it wants. Or it is a program or TorchScript
            that does more than a network does, see `importers.torch.vetted`.
        UsageError: weights without a network, or a network with another one.
    """
    path = archive.path
    if archive.classes and not trust:
        shown = ", ".join(archive.classes[:12]) + (", ..." if len(archive.classes) > 12 else "")
        raise InvalidModel(
            f"{path} is pickled, and unpickling runs whatever it says. Besides weights it wants {shown}. If you know "
            f"where it comes from, give trust=True (--trust); else save the weights alone, "
            f"torch.save(model.state_dict(), ...), and give {_MODULE}"
        )
    if archive.kind == "program":
        vetted.program(path)
    elif archive.kind == "script":
        vetted.script(path)
    if archive.kind in ("program", "script") and module is not None:
        what = "a program" if archive.kind == "program" else "TorchScript"
        raise UsageError(f"{path} is {what} and has its network in it; module= is for weights without one")
    if (archive.kind == "safetensors" or (archive.kind == "pickle" and not archive.classes)) and module is None:
        raise UsageError(
            f"{path} has weights and no network: give {_MODULE} (-O module=...), which makes the nn.Module "
            f"they are of; or save the network itself, torch.export.save(torch.export.export(model, ...), 'net.pt2')"
        )


def live(path: Path, module: str | None = None, trust: bool = False, where: str | None = None) -> Any:
    """What is in a file: an `nn.Module`, a `ScriptModule` or an `ExportedProgram`.

    `where`: the folder in which the user works, from which modules are imported too.

    Raises:
        HubError: see `refuse_unsaid`; the file is damaged; the network and the weights do not fit.
    """
    archive = opened(path)
    refuse_unsaid(archive, module, trust)
    with _found_in(where):
        if archive.kind == "program":
            return _program(path)
        if archive.kind == "script":
            return _script(path)
        return _weights(archive, module, trust)


def _program(path: Path) -> Any:
    import torch

    from importers.torch.recurrent import operators

    operators()  # of programs that hub has captured
    with blaming(str(path)), open(path, "rb") as file:
        program = torch.export.load(file)
    program._guards_code = []  # text that would be run; sizes are checked by ONNX Runtime's side
    return program


def _script(path: Path) -> Any:
    import torch

    with blaming(str(path)):
        load: Any = torch.jit.load
        return load(str(path), map_location="cpu").eval()


def _weights(archive: Archive, module: str | None, trust: bool) -> Any:
    import torch

    with blaming(str(archive.path)):
        if archive.kind == "safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(archive.path)
        else:
            content = _unpickled(archive, trust)
    if isinstance(content, torch.nn.Module):
        return content
    if not isinstance(content, Mapping):
        raise InvalidModel(f"{archive.path} holds a {type(content).__name__}, neither weights nor an nn.Module")
    for holder in _HOLDERS:
        inner = content.get(holder)
        if isinstance(inner, torch.nn.Module) and module is None:
            return inner
        if isinstance(inner, Mapping) and any(isinstance(part, torch.Tensor) for part in inner.values()):
            content = inner
            break
    if module is None:
        raise UsageError(f"{archive.path} has weights and no network: give {_MODULE} (-O module=...)")
    return _filled(network(module), content, archive.path)


def _unpickled(archive: Archive, trust: bool) -> Any:
    import pickle

    import torch

    trusted = trust and bool(archive.classes)
    before = os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD", None) if trusted else None
    try:
        return torch.load(archive.path, map_location="cpu", weights_only=not trusted)
    except (pickle.UnpicklingError, ImportError) as error:
        text = " ".join(str(error).split())[:300]
        raise InvalidModel(f"{archive.path} cannot be unpickled: {type(error).__name__}: {text}") from error
    finally:
        if before is not None:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


def network(reference: str) -> Any:
    """The `nn.Module` that `package.module:function` makes: a class or a function without arguments, or a module.

    Raises:
        UsageError: it is not there, or makes something else.
    """
    import torch

    name, colon, attribute = reference.partition(":")
    if not colon or not all(re.fullmatch(r"\w+(\.\w+)*", part) for part in (name, attribute)):
        raise UsageError(f"module={reference!r}: write it as {_MODULE}")
    try:
        made: Any = importlib.import_module(name)
        for part in attribute.split("."):
            made = getattr(made, part)
        if not isinstance(made, torch.nn.Module):
            made = made()
    except ModuleNotFoundError as error:
        if error.name and not name.startswith(error.name):
            raise MissingDependency(f"module={reference!r} imports {error.name}, which is not installed") from error
        raise UsageError(f"module={reference!r}: there is no module {error.name!r} here") from error
    except Exception as error:  # it is the user's code
        text = " ".join(str(error).split())[:300]
        raise UsageError(f"module={reference!r} gives no network: {type(error).__name__}: {text}") from error
    if not isinstance(made, torch.nn.Module):
        raise UsageError(f"module={reference!r} gives a {type(made).__name__}, not an nn.Module")
    return made


def _filled(made: Any, weights: Mapping[str, Any], path: Path) -> Any:
    """`made` with these weights, every one of them in its place."""
    if weights and all(str(name).startswith("module.") for name in weights):  # nn.DataParallel
        weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    try:
        made.load_state_dict(weights, strict=True)
    except (RuntimeError, KeyError, AttributeError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise HubError(
            f"the weights of {path} are not those of this network: {' '.join(lines[1:] or lines)[:600]}"
        ) from error
    return made


@contextmanager
def _found_in(where: str | None) -> Iterator[None]:
    """Modules are looked for in the folder `where` as well, after all others."""
    if where is None or where in sys.path:
        yield
        return
    sys.path.append(where)
    yield  # it stays: a module may import more when it runs


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Every submodule in eval mode and no gradients; each gets its own mode back."""
    import torch

    training = [part for part in module.modules() if part.training]
    if training:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True
