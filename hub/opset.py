"""Writes a model at an earlier opset, where every operator means the same there.

There is no down-converter that can be relied on, and none is needed: most revisions of an operator
only admit more types, or add an attribute whose default is what was done before. An operator can be
written at an earlier revision if it has no attribute or input that the earlier one lacks, its types
were admitted already, the defaults of the attributes it leaves out were the same, and the revision
is not one of those that changed the meaning under an unchanged signature (`CHANGED`).
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from hub.canonical import OPSET, layer_of
from hub.errors import Refusal, UnsupportedOps, UsageError
from hub.optable import defaults, type_string

__all__ = ["COMPATIBLE", "compatible", "lower"]

EARLIEST = 11
"""Before opset 11, axes and indices could not be negative, which no signature says."""

COMPATIBLE = 21
"""The opset that is written where nothing later is needed: ONNX Runtime runs it since 1.18, of spring 2024."""

CHANGED: dict[str, dict[int, str]] = {
    "Softmax": {13: "the input was flattened to two dimensions at `axis`"},
    "LogSoftmax": {13: "the input was flattened to two dimensions at `axis`"},
    "Hardmax": {13: "the input was flattened to two dimensions at `axis`"},
    "GroupNormalization": {21: "scale and bias were one number a group, not a channel"},
    "Attention": {24: "masks were read in another way"},
}
"""Revisions, by since-version, that changed an operator's meaning and not its signature."""


def lower(model: ir.Model, opset: int) -> ir.Model:
    """A copy of the canonical `model`, sharing its weights, that says `opset`.

    Raises:
        UsageError: `opset` is later than the canonical one, or too early to be written at all.
        UnsupportedOps: naming every operator that means something else there, and why.
    """
    if not EARLIEST <= opset <= OPSET:
        raise UsageError(f"opset={opset} cannot be written; opsets from {EARLIEST} to {OPSET} can")
    refusals = [
        (node.op_type, layer_of(node), Refusal(reason, f"write it at opset {compatible(model)}, the default"))
        for node, reason in _obstacles(model, opset)
    ]
    if refusals:
        raise UnsupportedOps.collect(f"At ONNX opset {opset} the model cannot be written exactly:", refusals)
    copy = model.clone()
    copy.opset_imports[""] = opset
    copy.ir_version = max(8, onnx.helper.OP_SET_ID_VERSION_MAP.get(("ai.onnx", opset), 8))
    return copy


def compatible(model: ir.Model) -> int:
    """The earliest opset from `COMPATIBLE` on at which the canonical `model` says exactly the same.

    Runtimes refuse files of an opset that they do not know, used or not.
    """
    return next((o for o in range(COMPATIBLE, OPSET) if next(_obstacles(model, o), None) is None), OPSET)


def _obstacles(model: ir.Model, opset: int) -> Iterator[tuple[ir.Node, str]]:
    for node in model.graph.all_nodes():
        reason = _why_not(node, opset) if node.domain in ("", "ai.onnx") else ""
        if reason:
            yield node, reason


def _why_not(node: ir.Node, opset: int) -> str:
    """Why `node` cannot be written at `opset`, or an empty string."""
    new = onnx.defs.get_schema(node.op_type, OPSET, "")
    try:
        old = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return f"the operator exists since opset {new.since_version}"
    if old.since_version == new.since_version:
        return ""
    for since, why in CHANGED.get(node.op_type, {}).items():
        if old.since_version < since <= new.since_version:
            return f"before opset {since} {why}"
    ceil = node.attributes.get("ceil_mode")
    if node.op_type == "AveragePool" and opset < 19 and ceil is not None and ceil.value:
        return "before opset 19 ceil_mode counted what lies beyond the padding"
    return _attributes(node, old, opset) or _arity(node, old) or _types(node, old)


def _attributes(node: ir.Node, old: onnx.defs.OpSchema, opset: int) -> str:
    new_defaults, old_defaults = defaults(node.op_type, "", OPSET), defaults(node.op_type, "", opset)
    for name in node.attributes:
        if name not in old.attributes:
            return f"it has no attribute {name!r} there"
    for name, attribute in old.attributes.items():
        if name in node.attributes:
            continue
        if attribute.required:
            return f"it needs an attribute {name!r} there"
        if name in new_defaults and old_defaults[name] != new_defaults[name]:
            return f"the default of {name!r} is another there"
    return ""


def _arity(node: ir.Node, old: onnx.defs.OpSchema) -> str:
    given = max((i + 1 for i, value in enumerate(node.inputs) if value is not None), default=0)
    if given > old.max_input or given < old.min_input:
        return f"it takes {old.min_input} to {old.max_input} inputs there, not {given}"
    used = max((i + 1 for i, value in enumerate(node.outputs) if value.uses() or value.is_graph_output()), default=0)
    return f"it has {old.max_output} outputs there, not {used}" if used > old.max_output else ""


def _types(node: ir.Node, old: onnx.defs.OpSchema) -> str:
    bound: dict[str, str] = {}
    for formal, values in ((old.inputs, node.inputs), (old.outputs, node.outputs)):
        for i, value in enumerate(values):
            if value is None or value.type is None or not formal:
                continue
            parameter = formal[min(i, len(formal) - 1)]
            text = type_string(value)
            if text not in parameter.types:
                return f"{text} is not admitted for {parameter.name!r} there"
            single = parameter.option != onnx.defs.OpSchema.FormalParameterOption.Variadic or parameter.is_homogeneous
            if single and bound.setdefault(parameter.type_str, text) != text:
                return f"{parameter.name!r} must be {bound[parameter.type_str]} there"
    return ""
