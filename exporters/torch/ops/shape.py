"""Ops that move data and do not compute: reshaping, slicing, joining, gathering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from exporters.codegen.program import Expression, Literal, Use, Variable, call
from exporters.constants import Constant
from exporters.torch.ops.table import OPS
from exporters.torch.values import dtype_code, plain, size_expression
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
