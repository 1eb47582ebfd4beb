"""Ops that move data and do not compute: reshaping, slicing, joining, gathering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from exporters.codegen.program import Argument, Expression, Literal, Member, Use, Variable, call
from exporters.torch.ops.table import OPS, arguments
from exporters.torch.values import FLOATS, Constant, dtype_code, plain, size_expression
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.torch.emit import Emitter


@OPS("Reshape", since=5)
def reshape(emit: Emitter, x: ir.Value, shape: ir.Value, *, allowzero: int) -> Expression:
    wanted = emit.dims(shape, "the new shape")
    source, old = emit.tensor(x), emit.shape(x)
    target: list[int | Expression] = []
    for axis, size in enumerate(wanted):
        target.append(emit.size(x, axis) if isinstance(size, int) and size == 0 and not allowzero else size)
    node = emit.node
    known = list(node.outputs[0].shape) if node and node.outputs[0].shape is not None else []
    if len(known) == len(target):  # a size that inference knows reads better than -1
        target = [k if isinstance(k, int) and t == -1 else t for k, t in zip(known, target, strict=True)]
        if old and known and not isinstance(known[0], int) and target[0] == -1 and _keeps_batch(old, known):
            target[0] = emit.size(x, 0)
    batch = bool(old) and bool(target) and target[0] == emit.size(x, 0)
    if batch and len(target) == 2 and old is not None and len(old) > 2:
        return call("{}.flatten(1)", source)
    if (
        batch
        and old is not None
        and len(old) == 2
        and len(target) > 2
        and target[1] == old[1]
        and set(target[2:]) == {1}
    ):
        return call("{}[:, :" + ", None" * (len(target) - 2) + "]", source)
    sizes = [Literal(t, "size") if isinstance(t, int) else t for t in target]
    if not sizes:
        return call("{}.reshape(())", source)
    return call("{}.reshape(" + ", ".join(["{}"] * len(sizes)) + ")", source, *sizes)


def _keeps_batch(old: list[int | str | None], new: Sequence[object]) -> bool:
    """Whether the sizes after the first are known and their product is the same."""
    if any(not isinstance(d, int) for d in [*old[1:], *new[1:]]) or isinstance(old[0], int):
        return False
    sizes = [d for d in new[1:] if isinstance(d, int)]
    return int(np.prod([d for d in old[1:] if isinstance(d, int)])) == int(np.prod(sizes))


@OPS("Flatten")
def flatten(emit: Emitter, x: ir.Value, *, axis: int) -> Expression:
    producer = x.producer()
    if axis == 1 and producer is not None and producer.op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        if len(x.uses()) == 1 and not x.is_graph_output():
            return emit.tensor(x)  # the pool kept no axis
    rank = emit.rank(x)
    axis = axis % rank if axis < 0 else axis
    if axis == 1 and rank >= 2:
        return call("{}.flatten(1)", emit.tensor(x))
    shape = emit.static(x)
    if shape is None:
        raise Refusal("it flattens axes whose sizes are known only at run time")
    first, second = int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))
    return call("{}.reshape({}, {})", emit.tensor(x), first, second)


@OPS("Transpose")
def transpose(emit: Emitter, x: ir.Value, *, perm: list[int] | None) -> Expression:
    order = perm if perm is not None else list(reversed(range(emit.rank(x))))
    return call("{}.permute(" + ", ".join(str(int(p)) for p in order) + ")", emit.tensor(x))


@OPS("Squeeze", since=13)
def squeeze(emit: Emitter, x: ir.Value, axes: ir.Value | None) -> Expression:
    if axes is None:
        shape = emit.static(x)
        if shape is None:
            raise Refusal("it removes axes that are not known")
        dims = [axis for axis, size in enumerate(shape) if size == 1]
    else:
        dims = emit.ints(axes, "axes")
    if not dims:
        return emit.tensor(x)
    return call("{}.squeeze({})", emit.tensor(x), Literal(dims[0] if len(dims) == 1 else tuple(dims), "dim"))


@OPS("Unsqueeze", since=13)
def unsqueeze(emit: Emitter, x: ir.Value, axes: ir.Value) -> Expression:
    dims = emit.ints(axes, "axes")
    rank = emit.rank(x) + len(dims)
    result = emit.tensor(x)
    for dim in sorted(d % rank for d in dims):
        result = call("{}.unsqueeze({})", result, Literal(dim, "dim"))
    return result


@OPS("Concat", since=4)
def concat(emit: Emitter, *inputs: ir.Value, axis: int) -> Expression:
    tensors = [emit.tensor(v) for v in inputs]
    return call("torch.cat([" + ", ".join(["{}"] * len(tensors)) + "], dim={})", *tensors, Literal(axis, "dim"))


@OPS("Split", since=18, outputs=1 << 20)
def split(emit: Emitter, x: ir.Value, sizes: ir.Value | None, *, axis: int, num_outputs: int | None) -> list[Variable]:
    count = len(emit.node.outputs) if emit.node else 0
    if sizes is not None:
        parts = emit.ints(sizes, "the sizes of the parts")
    else:
        shape = emit.shape(x)
        size = shape[axis] if shape else None
        if not isinstance(size, int) or not num_outputs:
            raise Refusal("it splits an axis whose size is known only at run time")
        part = -(-size // num_outputs)
        parts = [part] * (num_outputs - 1) + [size - part * (num_outputs - 1)]
    value = Literal(parts[0] if len(set(parts)) == 1 and parts[0] > 0 else list(parts), "sizes")
    return emit.steps_of(call("torch.split({}, {}, dim={})", emit.tensor(x), value, Literal(axis, "dim")), count)


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


@OPS("Expand")
def expand(emit: Emitter, x: ir.Value, shape: ir.Value) -> Expression:
    wanted, old = emit.dims(shape, "the new shape"), emit.shape(x)
    if old is None:
        raise Refusal("the shape of its input is not known")
    wanted = [1] * (len(old) - len(wanted)) + wanted
    lead = len(wanted) - len(old)
    sizes: list[Expression] = []
    for axis, size in enumerate(wanted):
        before = old[axis - lead] if axis >= lead else 1
        if isinstance(size, int) and size == 1 and axis >= lead:
            sizes.append(Literal(-1, "size"))
        elif isinstance(before, int) or isinstance(size, int):
            sizes.append(size_expression(size))
        else:
            raise Refusal("whether an axis is repeated is known only at run time")
    if not sizes:
        return emit.tensor(x)
    return call("{}.expand(" + ", ".join(["{}"] * len(sizes)) + ")", emit.tensor(x), *sizes)


@OPS("Tile", since=6)
def tile(emit: Emitter, x: ir.Value, repeats: ir.Value) -> Expression:
    counts = [size_expression(c) for c in emit.dims(repeats, "its repeats")]
    if not counts:
        return emit.tensor(x)
    return call("{}.repeat(" + ", ".join(["{}"] * len(counts)) + ")", emit.tensor(x), *counts)


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


@OPS("DepthToSpace")
def depth_to_space(emit: Emitter, x: ir.Value, *, blocksize: int, mode: str) -> Expression:
    if mode == "CRD":
        return call("F.pixel_shuffle({}, {})", emit.tensor(x), Literal(blocksize, "block"))
    shape = emit.shape(x)
    if shape is None or not all(isinstance(d, int) for d in shape[1:]):
        raise Refusal("its size is known only at run time")
    channels, height, width = (int(d) for d in shape[1:] if isinstance(d, int))
    b = blocksize
    batch = size_expression(emit.size(x, 0))
    split = call("{}.reshape({}, {}, {}, {}, {}, {})", emit.tensor(x), batch, b, b, channels // b**2, height, width)
    moved = call("{}.permute(0, 3, 4, 1, 5, 2)", Use(emit.step(split)))
    return call("{}.reshape({}, {}, {}, {})", moved, batch, channels // b**2, height * b, width * b)


@OPS("SpaceToDepth")
def space_to_depth(emit: Emitter, x: ir.Value, *, blocksize: int, mode: str = "DCR") -> Expression:
    shape = emit.shape(x)
    if mode != "DCR" or shape is None or not all(isinstance(d, int) for d in shape[1:]):
        raise Refusal("its size is known only at run time")
    channels, height, width = (int(d) for d in shape[1:] if isinstance(d, int))
    b = blocksize
    batch = size_expression(emit.size(x, 0))
    split = call("{}.reshape({}, {}, {}, {}, {}, {})", emit.tensor(x), batch, channels, height // b, b, width // b, b)
    moved = call("{}.permute(0, 3, 5, 1, 2, 4)", Use(emit.step(split)))
    return call("{}.reshape({}, {}, {}, {})", moved, batch, channels * b**2, height // b, width // b)


@OPS("Shape", since=13)
def shape(emit: Emitter, x: ir.Value, *, start: int, end: int | None) -> Expression:
    raise Refusal("the number of dimensions of its input is not known")


@OPS("Size")
def size(emit: Emitter, x: ir.Value) -> Expression:
    source = emit.tensor(x)
    return call("torch.tensor({}.numel(), device={}.device)", source, source)


@OPS("ConstantOfShape", since=9)
def constant_of_shape(emit: Emitter, shape: ir.Value, *, value: ir.TensorProtocol | None) -> Expression:
    sizes = [size_expression(d) for d in emit.dims(shape, "its shape")]
    array = np.zeros(1, dtype=np.float32) if value is None else value.numpy()
    dtype = ir.DataType.FLOAT if value is None else value.dtype
    text = ", ".join(["{}"] * len(sizes))
    device, extra = emit.device()
    return call(
        f"torch.full(({text},), {{}}, dtype={dtype_code(dtype)}{device})" if sizes else "torch.tensor({})",
        *sizes,
        Literal(plain(Constant.of(array, dtype).numpy()), "value"),
        *extra,
    )


@OPS("Trilu", since=14)
def trilu(emit: Emitter, x: ir.Value, k: ir.Value | None, *, upper: int) -> Expression:
    diagonal = 0 if k is None else emit.ints(k, "its diagonal")[0]
    text = f"torch.{'triu' if upper else 'tril'}({{}}"
    if not diagonal:
        return call(text + ")", emit.tensor(x))
    return call(text + ", {})", emit.tensor(x), Literal(diagonal, "diagonal"))
