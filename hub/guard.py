"""What another project's converter wrote, and whether to believe it.

A converter that meets an operator it does not know may log that and write the file all the same. So what it wrote is
believed only if every operator is in the ONNX schema, the inputs are those of the source, and the standard's checker
and ONNX Runtime take it; `hub.convert` then compares its numbers with the source's own on two sizes of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes import InvariantError, PassError
from onnx_ir.serde import SerdeError

from hub.canonical import LAYER, SOURCE_OP, canonicalize
from hub.cleanup import clean
from hub.errors import HubError, InvalidModel, Refusal, UnsupportedOps, blaming
from hub.model import session

__all__ = ["Origin", "believe", "opened"]

Origin = Callable[[ir.Node], tuple[str, str]]
"""The source layer that a node comes from, and its operator or class there; empty where they are not known."""


def opened(path: Path, engine: str) -> ir.Model:
    """What `engine` wrote to `path`; its weights are held by the memory map of the file beside it, if there is one."""
    with blaming(f"what {engine} wrote", PassError, InvariantError, SerdeError):
        model = ir.load(path)
    for value in model.graph.initializers.values():
        held = value.const_value
        if isinstance(held, ir.ExternalTensor):  # it opens its file again where it is written; the mapped array stays
            value.const_value = ir.Tensor(held.numpy(), dtype=held.dtype, name=value.name)
    return model


def believe(model: ir.Model, engine: str, inputs: Collection[str], origin: Origin) -> ir.Model:
    """The canonical form of what `engine` wrote, if it is a model of these `inputs`.

    Raises:
        UnsupportedOps: naming every operator that the engine passed on without converting it, and its nodes.
        HubError: what the engine wrote is not valid in another way.
    """
    _mark(model, origin)
    _operators(model, engine)
    extra = [v.name for v in model.graph.inputs if v.name not in inputs and v.name not in model.graph.initializers]
    if extra:
        raise HubError(f"{engine} made inputs that the source does not have: {', '.join(map(repr, extra))}")
    try:
        canonicalize(model)
        clean(model)
        session(model)
    except UnsupportedOps:
        raise
    except (HubError, PassError, InvariantError, SerdeError) as error:
        raise InvalidModel(f"{engine} wrote a model that is not valid: {error}") from error
    return model


def _mark(model: ir.Model, origin: Origin) -> None:
    """Every node keeps the name of its source layer."""
    for node in _nodes(model):
        layer, kind = origin(node)
        if layer:
            node.metadata_props[LAYER] = layer
        if kind:
            node.metadata_props[SOURCE_OP] = kind


def _operators(model: ir.Model, engine: str) -> None:
    refusals = []
    own = {(function.domain, function.name) for function in model.functions.values()}
    for node in _nodes(model):
        opset = model.opset_imports.get(node.domain)
        domain = "" if node.domain == "ai.onnx" else node.domain
        if (node.domain, node.op_type) in own or (opset is not None and _known(node.op_type, opset, domain)):
            continue
        refusal = Refusal(f"{engine} has no form of it in ONNX")
        layer = node.metadata_props.get(LAYER) or node.name or "a node without a name"
        refusals.append((node.op_type if domain == "" else f"{domain}.{node.op_type}", layer, refusal))
    if refusals:
        raise UnsupportedOps.collect(f"{engine} cannot convert:", refusals)


def _known(op_type: str, opset: int, domain: str) -> bool:
    try:
        return not onnx.defs.get_schema(op_type, opset, domain).deprecated
    except onnx.defs.SchemaError:
        return False


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()
