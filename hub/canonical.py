"""The canonical dialect: the one form of ONNX that importers write and exporters read.

What `canonicalize` promises:

1. default-domain opset `OPSET` and IR version `IR_VERSION`;
2. no model-local functions (inlined), no Constant nodes in the main graph (initializers instead);
3. every node and value has a name, unique in its kind;
4. convolutions and poolings have explicit `pads`; `auto_pad` stays only where spatial sizes are unknown;
5. nodes are in topological order, and none is without a use;
6. every value has the type and shape that the standard's shape inference finds.

Nothing is folded or fused, and no layer is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import onnx
import onnx_ir as ir

from hub.errors import InvalidModel, Refusal, UnsupportedOps
from hub.onnxfile import INLINE_BYTES, skeleton

__all__ = [
    "COLUMNS",
    "IR_VERSION",
    "LAYER",
    "LAYOUT",
    "OPSET",
    "ORIGIN",
    "PERMUTATION",
    "ROLE",
    "SOURCE_OP",
    "canonicalize",
    "layer_of",
]

OPSET = 25
"""The canonical opset of the default domain."""

IR_VERSION = 13
"""The IR version that goes with `OPSET`; ONNX Runtime refuses later ones."""

OLDEST_OPSET = 7
"""Models older than this cannot be upgraded by ONNX's converter."""

LAYER = "hub.layer"
"""Metadata of a node: the name of the source layer that it comes from."""

SOURCE_OP = "hub.source_op"
"""Metadata of a node: the class or operator of that layer in the source framework."""

LAYOUT = "hub.layout"
"""Metadata of a graph input or output: its layout where the source says it, such as NHWC."""

PERMUTATION = "hub.perm"
"""Metadata of a value: the permutation that takes it back to the layout it has in the source."""

COLUMNS = "hub.columns"
"""Metadata of a flattened value whose columns are in another order than the source's: the sizes that
were flattened, then the permutation of (batch, *sizes) that takes them back: `512,7,7;0,2,3,1`."""

ORIGIN = "hub.origin"
"""Metadata of the node that gives a layer's result: the layer in the words of its framework (`hub/origin.py`)."""

ROLE = "hub.role"
"""Metadata of an initializer whose importer knows: `weight` is trained, `constant` is part of the network."""


def layer_of(node: ir.Node) -> str:
    """The source layer of a node, or the node's own name where there is none."""
    return node.metadata_props.get(LAYER) or node.name or f"{node.op_type} without a name"


def canonicalize(model: ir.Model) -> ir.Model:
    """Bring any valid ONNX model of opset 7 or later to the canonical dialect, in place.

    Raises:
        InvalidModel: the model is not valid ONNX.
        UnsupportedOps: an operator's meaning at the model's opset has no equal at `OPSET`.
    """
    for step in PASSES:
        step(model)
    return model


def upgrade(model: ir.Model) -> None:
    """Raise (or, where no operator has changed since, lower) the default-domain opset to `OPSET`."""
    imports = model.opset_imports
    if "ai.onnx" in imports:
        imports[""] = imports.pop("ai.onnx")
    opset = imports.get("")
    if opset is None:
        imports[""] = OPSET
        return
    if opset < OLDEST_OPSET:
        raise InvalidModel(
            f"ONNX opset {opset} is older than {OLDEST_OPSET}; export the model again with a later opset"
        )
    if opset > OPSET:
        _require_unchanged(model, opset)
        _relabel(model)
    elif opset < OPSET:
        _convert(model, opset)
    model.ir_version = IR_VERSION


def _require_unchanged(model: ir.Model, opset: int) -> None:
    refusals = []
    for node in _default_domain_nodes(model):
        try:
            since = onnx.defs.get_schema(node.op_type, opset, "").since_version
        except onnx.defs.SchemaError:
            continue
        if since > OPSET:
            refusal = Refusal(f"its meaning of opset {since} is newer than opset {OPSET}, which ONNX Runtime runs")
            refusals.append((node.op_type, layer_of(node), refusal))
    if refusals:
        raise UnsupportedOps.collect(f"The model is of opset {opset}:", refusals)


def _convert(model: ir.Model, opset: int) -> None:
    if all(_since(node.op_type, opset) == _since(node.op_type, OPSET) for node in _default_domain_nodes(model)):
        _relabel(model)
        return
    from onnxscript import version_converter

    _settle_old(model, opset)
    resizes = _old_resizes(model) if opset <= 10 else {}
    converter_log = logging.getLogger("onnxscript.version_converter")
    disabled, converter_log.disabled = converter_log.disabled, True
    try:
        version_converter.convert_version(model, OPSET, fallback=True)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidModel(f"the model could not be upgraded from opset {opset} to {OPSET}: {error}") from error
    finally:
        converter_log.disabled = disabled
    if model.opset_imports.get("") != OPSET:
        raise InvalidModel(f"ONNX's converter could not upgrade the model from opset {opset} to {OPSET}")
    for node in model.graph.all_nodes():
        for name, value in resizes.pop(node.outputs[0].name, {}).items():
            node.attributes[name] = ir.AttrString(name, value)
    if resizes:
        raise InvalidModel(f"ONNX's converter could not upgrade the Resize {next(iter(resizes))!r} from opset {opset}")
    _relabel(model)


def _settle_old(model: ir.Model, opset: int) -> None:
    """What ONNX's converter passes on unchanged, though it meant something else: before opset 13 Hardmax worked on
    the input flattened at `axis`, and in opset 8 Scan had a batch."""
    refusals = []
    for node in _default_domain_nodes(model):
        if node.op_type == "Scan" and opset < 9:
            refusal = Refusal(f"of opset {opset} it has a batch of its own", "export the model with opset 9 or later")
            refusals.append(("Scan", layer_of(node), refusal))
        if node.op_type != "Hardmax" or opset >= 13:
            continue
        axis = node.attributes.get_int("axis", 1)
        shape = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
        if axis == -1 or (shape is not None and axis == len(shape) - 1):
            node.attributes["axis"] = ir.AttrInt64("axis", -1)
        else:
            refusal = Refusal(f"of opset {opset} it flattens its input", "export the model with opset 13 or later")
            refusals.append(("Hardmax", layer_of(node), refusal))
    if refusals:
        raise UnsupportedOps.collect(f"The model is of opset {opset}:", refusals)


def _old_resizes(model: ir.Model) -> dict[str | None, dict[str, str]]:
    """What Upsample, and Resize of opset 10, mean in the attributes of later ones, by the name of their output.

    ONNX's converter leaves these attributes at their defaults, which mean other pixels. Nearest is
    the pixel before when an image grows and the one behind when it shrinks.
    """
    found: dict[str | None, dict[str, str]] = {}
    refusals = []
    for node in _default_domain_nodes(model):
        if node.op_type not in ("Upsample", "Resize"):
            continue
        attributes = {"coordinate_transformation_mode": "asymmetric"}
        if node.attributes.get_string("mode", "nearest") == "nearest":
            scales = _scales(node)
            if scales is None or (min(scales) < 1 < max(scales)):
                refusal = Refusal(
                    "its scales are computed, or grow one axis and shrink another",
                    "export the model with opset 11 or later",
                )
                refusals.append((node.op_type, layer_of(node), refusal))
                continue
            attributes["nearest_mode"] = "floor" if min(scales) >= 1 else "ceil"
        found[node.outputs[0].name] = attributes
    if refusals:
        raise UnsupportedOps.collect("The model is of opset 10 or earlier:", refusals)
    return found


def _scales(node: ir.Node) -> list[float] | None:
    if "scales" in node.attributes:
        return [float(scale) for scale in node.attributes.get_floats("scales")]
    value = node.inputs[1] if len(node.inputs) > 1 else None
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None or tensor.size == 0 else [float(scale) for scale in tensor.numpy().reshape(-1)]


def _relabel(model: ir.Model) -> None:
    model.opset_imports[""] = OPSET
    for function in model.functions.values():
        if "" in function.opset_imports:
            function.opset_imports[""] = OPSET
    for node in model.graph.all_nodes():
        node.version = None


def _default_domain_nodes(model: ir.Model) -> list[ir.Node]:
    nodes = list(model.graph.all_nodes())
    for function in model.functions.values():
        nodes.extend(function.all_nodes())
    return [node for node in nodes if node.domain in ("", "ai.onnx")]


def _since(op_type: str, opset: int) -> int | None:
    try:
        return onnx.defs.get_schema(op_type, opset, "").since_version
    except onnx.defs.SchemaError:
        return None


def inline(model: ir.Model) -> None:
    """Replace calls of model-local functions by their bodies."""
    if model.functions:
        from onnx_ir.passes.common import InlinePass

        InlinePass()(model)


def lift_constants(model: ir.Model) -> None:
    """Turn Constant nodes of the main graph into initializers, named as they were."""
    if any(node.op_type == "Constant" for node in model.graph):
        from onnx_ir.passes.common import LiftConstantsToInitializersPass

        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def fix_names(model: ir.Model) -> None:
    """Give every node and value a name, unique in its kind."""
    from onnx_ir.passes.common import NameFixPass

    NameFixPass()(model)


def explicit_pads(model: ir.Model) -> None:
    """Write `auto_pad` out as `pads` where the spatial sizes are known.

    SAME pads a total of `max((ceil(in / stride) - 1) * stride + (kernel - 1) * dilation + 1 - in, 0)`;
    SAME_UPPER puts the odd one at the end, SAME_LOWER at the beginning.
    """
    for node in model.graph.all_nodes():
        mode = node.attributes.get_string("auto_pad", "NOTSET") if "auto_pad" in node.attributes else "NOTSET"
        if mode == "NOTSET" or node.op_type not in (
            "Conv",
            "MaxPool",
            "AveragePool",
            "LpPool",
            "ConvInteger",
            "QLinearConv",
        ):
            continue
        pads = _pads(node, mode)
        if pads is not None:
            del node.attributes["auto_pad"]
            if any(pads):
                node.attributes["pads"] = ir.AttrInt64s("pads", pads)


def _pads(node: ir.Node, mode: str) -> list[int] | None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    kernel = list(node.attributes.get_ints("kernel_shape", ())) if "kernel_shape" in node.attributes else []
    if not kernel:
        weight = node.inputs[3 if node.op_type == "QLinearConv" else 1]
        if weight is None or weight.shape is None or not weight.shape.is_static():
            return None
        kernel = list(weight.shape.numpy())[2:]
    if mode == "VALID":
        return [0] * (2 * len(kernel))
    if shape is None or not all(isinstance(size, int) for size in shape[2:]):
        return None
    strides = list(node.attributes.get_ints("strides", [1] * len(kernel)))
    dilations = list(node.attributes.get_ints("dilations", [1] * len(kernel)))
    begins, ends = [], []
    for size, k, s, d in zip(shape[2:], kernel, strides, dilations, strict=True):
        assert isinstance(size, int)
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return begins + ends


def infer_shapes(model: ir.Model) -> None:
    """Infer every value's type and shape by the standard's own inference; large weights are only named to it.

    Raises:
        InvalidModel: types contradict each other.
    """
    for value, known in inferred(model):
        value.type = known.type if known.type is not None else value.type
        value.shape = known.shape if known.shape is not None else value.shape


def inferred(model: ir.Model, sizes: Mapping[str, int] | None = None) -> list[tuple[ir.Value, ir.Value]]:
    """The values of `model`, each with what the standard's inference says of it; `sizes` are numbers for symbols.

    Raises:
        InvalidModel: types contradict each other.
    """
    proto = skeleton(model)
    for info in proto.graph.input if sizes else ():
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param in (sizes or {}):
                dim.dim_value = (sizes or {})[dim.dim_param]
    if sizes:
        del proto.graph.value_info[:]
        for info in proto.graph.output:
            info.type.tensor_type.ClearField("shape")
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes <= INLINE_BYTES:
            tensor.name = value.name
            proto.graph.initializer.append(ir.serde.serialize_tensor(tensor))
        elif value not in model.graph.inputs:
            proto.graph.input.append(_weight_info(value))
    try:
        made = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=False, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise InvalidModel(f"the graph is not valid ONNX: {error}") from error
    found = ir.serde.deserialize_model(made)
    pairs = []
    for graph, other in zip(model.graphs(), found.graphs(), strict=True):
        types = ir.convenience.create_value_mapping(other)
        for name, value in ir.convenience.create_value_mapping(graph).items():
            if name in types and value.const_value is None:
                pairs.append((value, types[name]))
    return pairs


def tidy(model: ir.Model) -> None:
    """Sort nodes topologically; drop those, and the weights, that nothing uses, and empty inputs at the end."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    model.graph.sort()
    RemoveUnusedNodesPass()(model)
    for node in model.graph.all_nodes():
        given = max((i + 1 for i, value in enumerate(node.inputs) if value is not None), default=0)
        if given < len(node.inputs):
            node.resize_inputs(given)


def _weight_info(value: ir.Value) -> onnx.ValueInfoProto:
    """The type and shape of an initializer: those of its data, where it has some."""
    tensor = value.const_value
    if tensor is not None:
        return onnx.helper.make_tensor_value_info(value.name or "", int(tensor.dtype), tensor.shape.numpy())
    return ir.serde.serialize_value(value)


def validate(model: ir.Model) -> None:
    """Refuse operators, attributes, numbers of inputs and references that the standard does not know.

    The checker sees the graph without its weights, which it takes for inputs. It asks for the shape
    of every input and output, which files in the field leave out and inference finds.
    """
    proto = skeleton(model)
    for info in (*proto.graph.input, *proto.graph.output):
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.shape.SetInParent()
    taken = {value.name for value in proto.graph.input}
    weights = [value for value in model.graph.initializers.values() if value.name not in taken]
    proto.graph.input.extend(_weight_info(value) for value in weights)
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InvalidModel(f"the graph is not valid ONNX: {str(error).strip()}") from error
    made = {value for node in model.graph for value in node.outputs}
    for value in model.graph.outputs:
        if value not in made and not value.is_graph_input() and not value.is_initializer():
            raise InvalidModel(f"the graph is not valid ONNX: nothing gives its output {value.name!r}")


PASSES: list[Callable[[ir.Model], None]] = [
    inline,  # the version converter only sees the main graph, so functions go first
    upgrade,
    lift_constants,
    tidy,
    fix_names,
    validate,
    infer_shapes,  # explicit pads need sizes
    explicit_pads,
]
