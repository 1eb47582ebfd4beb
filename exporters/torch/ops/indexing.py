"""Ops that pick or add elements: slicing, gathering, padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from exporters.codegen.program import Argument, Expression, Literal, Member, call
from exporters.torch.ops.table import OPS, arguments
from exporters.torch.values import FLOATS, size_expression
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.torch.emit import Emitter


@OPS("Slice", since=10)
def slice_(
    emit: Emitter,
    x: ir.Value,
    starts: ir.Value,
    ends: ir.Value,
    axes: ir.Value | None,
    steps: ir.Value | None,
) -> Expression:
    begin, end = emit.dims(starts, "its start"), emit.dims(ends, "its end")
    rank = emit.rank(x)
    dims = list(range(len(begin))) if axes is None else [a % rank for a in emit.ints(axes, "axes")]
    stride = [1] * len(begin) if steps is None else emit.ints(steps, "its step")
    source = emit.tensor(x)
    ranges: dict[int, tuple[str, list[Expression]]] = {}
    for dim, first, last, step in zip(dims, begin, end, stride, strict=True):
        if step < 0:
            source, first, last, step = _reversed(emit, x, source, dim, first, last, step)
        ranges[dim] = _range(first, last, step)
    parts, operands = [], []
    for dim in range(max(ranges, default=-1) + 1):
        text, values = ranges.get(dim, (":", []))
        parts.append(text)
        operands.extend(values)
    if not parts or all(part == ":" for part in parts):
        return source
    return call("{}[" + ", ".join(parts) + "]", source, *operands)


def _range(first: int | Expression, last: int | Expression, step: int) -> tuple[str, list[Expression]]:
    operands = []
    text = ""
    if not (isinstance(first, int) and first == 0):
        text += "{}"
        operands.append(size_expression(first))
    text += ":"
    if not (isinstance(last, int) and last >= 1 << 30):
        text += "{}"
        operands.append(size_expression(last))
    if step != 1:
        text += f":{step}"
    return text, operands


def _reversed(
    emit: Emitter,
    x: ir.Value,
    source: Expression,
    dim: int,
    first: int | Expression,
    last: int | Expression,
    step: int,
) -> tuple[Expression, int, int, int]:
    """A slice with a negative step as a slice of the flipped axis."""
    shape = emit.shape(x)
    size = shape[dim] if shape else None
    if not isinstance(size, int) or not isinstance(first, int) or not isinstance(last, int):
        raise Refusal("a negative step along an axis whose size is known only at run time")
    picked = range(size)[slice(*slice(first, last if last > -(1 << 30) else None, step).indices(size))] if size else []
    if last < -size:
        picked = range(size)[slice(first, None, step)]
    flipped = call("{}.flip({})", source, Literal(dim, "dim"))
    if not len(picked):
        return flipped, 0, 0, 1
    return flipped, size - 1 - picked[0], size - picked[-1], -step


@OPS("Gather")
def gather(emit: Emitter, data: ir.Value, indices: ir.Value, *, axis: int) -> Expression:
    weight, constant = emit.owned(data), emit.constant(indices)
    if weight is not None and weight.root is not None and len(weight.shape) == 2 and axis == 0 and constant is None:
        if emit.dtype(indices) not in (ir.DataType.INT64, ir.DataType.INT32):
            raise Refusal("indices of another type")
        named = arguments([("num_embeddings", weight.shape[0]), ("embedding_dim", weight.shape[1])])
        module = emit.module("nn.Embedding", named, {"weight": weight}, "embedding")
        return emit.apply(module, emit.tensor(indices))
    source = emit.constant(data)
    tensor = emit.tensor(data) if source is None else emit.weight(data, source, train=True)
    rank = emit.rank(data)
    axis %= rank
    lead = ":, " * axis
    if constant is not None and len(constant.shape) == 0:
        return call(f"{{}}[{lead}{{}}]", tensor, Literal(int(constant.numpy()), "index"))
    if constant is not None and len(constant.shape) == 1 and constant.size <= 16:
        picked = [int(i) for i in constant.numpy()]
        if picked and picked == list(range(picked[0], picked[0] + len(picked))) and picked[0] >= 0:
            return call(f"{{}}[{lead}{{}}:{{}}]", tensor, picked[0], picked[-1] + 1)
        return call(f"{{}}[{lead}{{}}]", tensor, Literal(picked, "indices"))
    index = emit.tensor(indices)
    table = source is not None and source.root is not None and source.dtype in FLOATS
    if axis == 0 and rank == 2 and table and constant is None:
        return call("F.embedding({}, {})", index, tensor)
    if constant is None and emit.dtype(indices) is ir.DataType.INT32:
        index = call("{}.long()", index)
    return call(f"{{}}[{lead}{{}}]", tensor, index)


@OPS("GatherElements", since=11)
def gather_elements(emit: Emitter, data: ir.Value, indices: ir.Value, *, axis: int) -> Expression:
    array = emit.array(indices)
    size = emit.shape(data)
    if array is None or (array.size and int(array.min()) < 0):
        raise Refusal("indices that may be negative")
    if size is None:
        raise Refusal("its shape is not known")
    return call("torch.gather({}, {}, {}.long())", emit.tensor(data), Literal(axis, "dim"), emit.tensor(indices))


@OPS("Pad", since=11)
def pad(
    emit: Emitter,
    data: ir.Value,
    pads: ir.Value,
    constant_value: ir.Value | None,
    axes: ir.Value | None,
    *,
    mode: str,
) -> Expression:
    widths, rank = emit.ints(pads, "its widths"), emit.rank(data)
    dims = list(range(rank)) if axes is None else [a % rank for a in emit.ints(axes, "axes")]
    pairs = [(0, 0)] * rank
    for position, dim in enumerate(dims):
        pairs[dim] = (widths[position], widths[position + len(dims)])
    value = 0 if constant_value is None else emit.scalar(constant_value, "its value")
    first = next((axis for axis, pair in enumerate(pairs) if pair != (0, 0)), rank)
    if first == rank:
        return emit.tensor(data)
    source = emit.tensor(data)
    if mode == "constant":
        if first >= 2 and 3 <= rank <= 5 and value == 0 and emit.dtype(data) in FLOATS:
            spatial = tuple(w for pair in reversed(pairs[2:]) for w in pair)
            argument = Argument("padding", spatial[0] if len(set(spatial)) == 1 else spatial, positional=True)
            return emit.apply(Member("module", f"nn.ZeroPad{rank - 2}d", emit.hint(), [argument]), source)
        flat = tuple(w for pair in reversed(pairs[first:]) for w in pair)
        if value == 0:
            return call("F.pad({}, {})", source, Literal(flat, "padding"))
        return call("F.pad({}, {}, value={})", source, Literal(flat, "padding"), Literal(value, "value"))
    if mode not in ("reflect", "edge") or first < 2 or any(w < 0 for pair in pairs for w in pair) or rank > 5:
        raise Refusal(f"{mode} padding of these axes")
    if emit.dtype(data) not in FLOATS:
        raise Refusal(f"{mode} padding of integers")
    shape = emit.shape(data) or []
    if mode == "reflect":
        for size, pair in zip(shape[2:], pairs[2:], strict=True):
            if not isinstance(size, int) or max(pair) >= size:
                raise Refusal("a reflection that may be wider than the tensor")
    flat = tuple(w for pair in reversed(pairs[2:]) for w in pair)
    torch_mode = "replicate" if mode == "edge" else "reflect"
    return call(f'F.pad({{}}, {{}}, mode="{torch_mode}")', source, Literal(flat, "padding"))
