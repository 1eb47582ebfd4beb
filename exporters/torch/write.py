"""A model as `model.py` and `model.safetensors`, or as the live module of that very code."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from exporters.codegen.blocks import find_blocks, members_of
from exporters.codegen.names import class_name, identifier, prose, unique
from exporters.codegen.naming import name_blocks, name_members
from exporters.codegen.program import Member
from exporters.codegen.sequences import join_sequences
from exporters.constants import Constant
from exporters.torch.emit import Emitter
from exporters.torch.helpers import HELPERS
from exporters.torch.lower import Lowering
from exporters.torch.source import LOCALS, MODULE_ATTRIBUTES, Program, source
from exporters.torch.weights import write_safetensors
from hub.canonical import LAYOUT
from hub.errors import HubError
from hub.formats import find, require

if TYPE_CHECKING:
    from torch import nn

    from hub.model import Model

__all__ = ["build", "write"]

_TAKEN_CLASSES = frozenset({"Path", "Tensor", "load", "load_file", "torch", "nn", "F", "math", *HELPERS})


def write(model: Model, dst: Path) -> list[Path]:
    """Write the code to `dst` and the weights beside it.

    Raises:
        UnsupportedOps: listing everything that PyTorch code cannot say exactly.
    """
    program = generate(model.ir, find(model.source).title)
    weights = dst.with_suffix(".safetensors")
    dst.write_text(source(program), encoding="utf-8")
    write_safetensors(weights, dict(_state(program.members, "")))
    return [dst, weights]


def build(model: Model) -> nn.Module:
    """The live module: the code is written to a temporary folder, imported, and loads its weights.

    Raises:
        MissingDependency: PyTorch or safetensors is not installed.
        UnsupportedOps: listing everything that PyTorch code cannot say exactly.
    """
    require(("torch", "safetensors"), "torch", "A live PyTorch module")
    with tempfile.TemporaryDirectory(prefix="hub_torch_") as folder:
        path, _ = write(model, Path(folder) / "model.py")
        module = _import(path)
        network: nn.Module = module.load()
    return network


def _import(path: Path) -> Any:
    name = f"hub_generated_{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise HubError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = keep
    return module


def generate(model: ir.Model, origin: str = "ONNX") -> Program:
    """The program of a model that came from `origin`, with every name final."""
    emitter = Lowering(model)
    scope = emitter.run()
    blocks = find_blocks(scope)
    join_sequences(scope)
    members = members_of(scope)
    classes = set(_TAKEN_CLASSES)
    name = unique(class_name(model.graph.name or ""), classes)
    name_members(members, MODULE_ATTRIBUTES)
    name_blocks(blocks, MODULE_ATTRIBUTES, classes, name)
    inputs = _input_names([value.name or "" for value, _ in emitter.inputs])
    return Program(name, scope, members, blocks, _docstring(model, origin, emitter, inputs), inputs)


def _input_names(names: Sequence[str]) -> list[str]:
    """Names of the arguments of `forward`."""
    if len(names) == 1 and names[0].lower().startswith(("input", "x")) and "id" not in names[0].lower():
        return ["x"]
    taken = set(LOCALS)
    return [unique(identifier(name, LOCALS, "x"), taken) for name in names]


def _state(members: Sequence[Member], prefix: str) -> Iterator[tuple[str, Constant]]:
    """The state dict: names and tensors."""
    for member in members:
        path = f"{prefix}{member.name}"
        for key, constant in member.state.items():
            yield f"{path}.{key}" if key else path, constant
        if member.block is not None:
            for slot, child in zip(member.block.slots, member.children, strict=True):
                child.name = slot.name
        yield from _state(member.children, path + ".")


def _docstring(model: ir.Model, origin: str, emitter: Emitter, inputs: Sequence[str]) -> list[str]:
    graph = model.graph
    title = prose(graph.name or "") or "A network"
    lines = [f"{title}, converted from {prose(origin)}.", "", "Inputs:"]
    lines += [f"    {name}: {_type(value)}" for (value, _), name in zip(emitter.inputs, inputs, strict=True)]
    lines.append("Outputs:")
    lines += [f"    {prose(value.name or '')}: {_type(value)}" for value in graph.outputs]
    return lines


def _type(value: ir.Value) -> str:
    dtype = "unknown type" if value.dtype is None else value.dtype.name.lower()
    dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    if value.shape is None:
        return dtype
    sizes = ", ".join(str(d) if isinstance(d, int) else prose(str(d.value or "?"), 40) for d in value.shape)
    layout = value.metadata_props.get(LAYOUT)
    return f"{dtype} ({sizes}){f', {prose(layout, 10)}' if layout else ''}"
