"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from exporters.codegen.program import Expression, Literal, Member, Op
from exporters.torch.ops.padding import pad_step, resolve, same_step, spatial, torch_pads
from exporters.torch.ops.table import OPS, arguments, simplest
from exporters.torch.values import FLOATS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.torch.emit import Emitter

Pads = list[tuple[int, int]]


def _ceil_needed(
    sizes: Sequence[int | None],
    pads: Pads,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> bool:
    """Whether ceil_mode changes the size of the output (True where sizes are not known)."""
    for size, (begin, end), k, s, d in zip(sizes, pads, kernel, strides, dilations, strict=True):
        if size is None or (size + begin + end - (k - 1) * d - 1) % s:
            return True
    return False


def _as_ceil(sizes: Sequence[int | None], pads: Pads, kernel: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether padding at the end alone is what ceil_mode does without any padding."""
    for size, (begin, end), k, s in zip(sizes, pads, kernel, strides, strict=True):
        if size is None or begin or end >= k or size < k:
            return False
        count = (size + end - k) // s + 1
        if count != math.ceil((size - k) / s) + 1 or (count - 1) * s >= size:
            return False
    return True


def _check(emit: Emitter, x: ir.Value, kernel: Sequence[int]) -> list[int | None]:
    if not 1 <= len(kernel) <= 3:
        raise Refusal(f"a pool over {len(kernel)} axes")
    return spatial(emit, x) or [None] * len(kernel)


def _module(emit: Emitter, kind: str, kernel: Sequence[int], options: list[tuple[str, Any, Any]]) -> Member:
    return Member(
        "module", f"nn.{kind}{len(kernel)}d", emit.hint(), arguments([("kernel_size", simplest(kernel))], options)
    )


@OPS("MaxPool")
def max_pool(
    emit: Emitter,
    x: ir.Value,
    *,
    auto_pad: str,
    ceil_mode: int,
    dilations: list[int] | None,
    kernel_shape: list[int],
    pads: list[int] | None,
    strides: list[int] | None,
    storage_order: int,
) -> Expression:
    n = len(kernel_shape)
    stride, dilation = strides or [1] * n, dilations or [1] * n
    sizes, source = _check(emit, x, kernel_shape), emit.tensor(x)
    if emit.dtype(x) not in FLOATS:
        raise Refusal("a pool of integers")
    padding = resolve(auto_pad, pads, sizes, kernel_shape, stride, dilation)
    ceil = bool(ceil_mode)
    if padding is None:
        source = same_step(emit, source, kernel_shape, stride, dilation, auto_pad, -math.inf)
        padding, ceil = [(0, 0)] * n, False
    else:
        ceil = ceil and _ceil_needed(sizes, padding, kernel_shape, stride, dilation)
        if (
            not ceil
            and set(dilation) == {1}
            and any(e for _, e in padding)
            and _as_ceil(sizes, padding, kernel_shape, stride)
        ):
            padding, ceil = [(0, 0)] * n, True
        elif any(b != e or b > k // 2 for (b, e), k in zip(padding, kernel_shape, strict=True)):
            if ceil:
                raise Refusal("ceil_mode together with pads that differ at the two ends")
            source = pad_step(emit, source, padding, -math.inf)
            padding = [(0, 0)] * n
    options = [
        ("stride", simplest(stride), simplest(kernel_shape)),
        ("padding", simplest(begin for begin, _ in padding), 0),
        ("dilation", simplest(dilation), 1),
        ("ceil_mode", ceil, False),
    ]
    return emit.apply(_module(emit, "MaxPool", kernel_shape, options), source)


@OPS("AveragePool")
def average_pool(
    emit: Emitter,
    x: ir.Value,
    *,
    auto_pad: str,
    ceil_mode: int,
    count_include_pad: int,
    dilations: list[int] | None,
    kernel_shape: list[int],
    pads: list[int] | None,
    strides: list[int] | None,
) -> Expression:
    n = len(kernel_shape)
    if set(dilations or [1]) != {1}:
        raise Refusal("an average pool with dilations")
    stride = strides or [1] * n
    sizes, source = _check(emit, x, kernel_shape), emit.tensor(x)
    padding = resolve(auto_pad, pads, sizes, kernel_shape, stride, [1] * n)
    if padding is None:
        raise Refusal("an average pool with SAME padding of a size that is known only at run time")
    ceil = bool(ceil_mode) and _ceil_needed(sizes, padding, kernel_shape, stride, [1] * n)
    include = bool(count_include_pad)
    # PyTorch wants volumes at least as large as the kernel, whatever the padding.
    small = n == 3 and any(size is None or size < k for size, k in zip(sizes, kernel_shape, strict=True))
    if not ceil and not include and any(e for _, e in padding) and _as_ceil(sizes, padding, kernel_shape, stride):
        padding, ceil = [(0, 0)] * n, True
    elif (small and any(b or e for b, e in padding)) or any(
        b != e or b > k // 2 for (b, e), k in zip(padding, kernel_shape, strict=True)
    ):
        if ceil:
            raise Refusal("ceil_mode together with pads that differ at the two ends")
        if not include:
            literals = (
                Literal(tuple(kernel_shape), "kernel_size"),
                Literal(tuple(stride), "stride"),
                Literal(torch_pads(padding), "padding"),
            )
            name = f"average_pool{n}d"
            return Op(f"{name}({{}}, {{}}, {{}}, {{}})", (source, *literals), helper=name)
        source = pad_step(emit, source, padding)
        padding = [(0, 0)] * n
    padded = any(begin for begin, _ in padding)
    if ceil and include and padded:
        raise Refusal("ceil_mode together with count_include_pad")
    options = [
        ("stride", simplest(stride), simplest(kernel_shape)),
        ("padding", simplest(begin for begin, _ in padding), 0),
        ("ceil_mode", ceil, False),
        ("count_include_pad", include or not padded, True),
    ]
    return emit.apply(_module(emit, "AvgPool", kernel_shape, options), source)


def _spatial_axes(emit: Emitter, x: ir.Value) -> tuple[int, ...]:
    rank = emit.rank(x)
    if rank < 3:
        raise Refusal(f"a global pool of {rank} axes")
    return tuple(range(2, rank))


def _flattened(emit: Emitter) -> bool:
    """Whether the only thing that happens to the result is a Flatten: then no axis is kept."""
    output = emit.node.outputs[0] if emit.node else None
    users = list(output.uses()) if output is not None else []
    if output is None or len(users) != 1 or output.is_graph_output():
        return False
    user = users[0][0]
    return user.op_type == "Flatten" and ("axis" not in user.attributes or user.attributes["axis"].as_int() == 1)


@OPS("GlobalAveragePool")
def global_average_pool(emit: Emitter, x: ir.Value) -> Expression:
    axes = _spatial_axes(emit, x)
    keep = "" if _flattened(emit) else ", keepdim=True"
    return Op(f"{{}}.mean({axes if len(axes) > 1 else axes[0]}{keep})", (emit.tensor(x),))


@OPS("GlobalMaxPool")
def global_max_pool(emit: Emitter, x: ir.Value) -> Expression:
    axes = _spatial_axes(emit, x)
    keep = "" if _flattened(emit) else ", keepdim=True"
    return Op(f"{{}}.amax({axes if len(axes) > 1 else axes[0]}{keep})", (emit.tensor(x),))


@OPS("GlobalLpPool")
def global_lp_pool(emit: Emitter, x: ir.Value, *, p: int) -> Expression:
    axes = _spatial_axes(emit, x)
    return Op(f"torch.linalg.vector_norm({{}}, {{}}, {axes}, keepdim=True)", (emit.tensor(x), Literal(p, "p")))
