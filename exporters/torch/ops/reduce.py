"""Reductions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from exporters.codegen.program import ADD, Expression, Literal, call
from exporters.torch.ops.table import OPS
from exporters.torch.values import FLOATS, dtype_code
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.torch.emit import Emitter


def _axes(emit: Emitter, x: ir.Value, axes: ir.Value | None, noop: int) -> tuple[int, ...] | None:
    """The axes to reduce; None to reduce nothing."""
    given = [] if axes is None else emit.ints(axes, "axes")
    if not given:
        return None if noop else tuple(range(emit.rank(x)))
    return tuple(given)


def _reduced(text: str, source: Expression, axes: tuple[int, ...], keepdims: int, extra: str = "") -> Expression:
    keep = ", keepdim=True" if keepdims else ""
    dim = Literal(axes[0] if len(axes) == 1 else axes, "dim")
    return call(f"{text}({{}}{keep}{extra})", source, dim)


def _reduction(name: str, before: str, function: str, after: str = "", since: int = 18) -> None:
    @OPS(name, since=since)
    def reduce(
        emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int
    ) -> Expression:
        dims = _axes(emit, x, axes, noop_with_empty_axes)
        dtype = emit.dtype(x)
        source = emit.tensor(x)
        if dims is None and not before and not after:
            return source
        if before:
            source = call(before, source)
        if dims is None:
            dims = ()
            result = source
        elif not dims:
            result = source
        else:
            if function == "mean" and dtype not in FLOATS:
                raise Refusal("the mean of integers")
            if function in ("amax", "amin"):
                shape = emit.shape(x)
                if shape is None or any(shape[d] == 0 for d in dims):
                    raise Refusal("the maximum or minimum of nothing")
            extra = f", dtype={dtype_code(dtype)}" if function == "sum" and dtype not in FLOATS else ""
            result = _reduced("{}." + function, source, dims, keepdims, extra)
        if after and dtype not in FLOATS:
            raise Refusal("a root or logarithm of integers")
        return call(after, result) if after else result


_reduction("ReduceMean", "", "mean")
_reduction("ReduceSum", "", "sum", since=13)
_reduction("ReduceMax", "", "amax")
_reduction("ReduceMin", "", "amin")
_reduction("ReduceSumSquare", "{}.square()", "sum")
_reduction("ReduceL1", "{}.abs()", "sum")
_reduction("ReduceL2", "{}.square()", "sum", "{}.sqrt()")
_reduction("ReduceLogSum", "", "sum", "{}.log()")


@OPS("ReduceLogSumExp", since=18)
def reduce_log_sum_exp(
    emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int
) -> Expression:
    dims = _axes(emit, x, axes, noop_with_empty_axes)
    if emit.dtype(x) not in FLOATS:
        raise Refusal("a logarithm of integers")
    return emit.tensor(x) if not dims else _reduced("{}.logsumexp", emit.tensor(x), dims, keepdims)


@OPS("ReduceProd", since=18)
def reduce_prod(
    emit: Emitter, x: ir.Value, axes: ir.Value | None, *, keepdims: int, noop_with_empty_axes: int
) -> Expression:
    dims = _axes(emit, x, axes, noop_with_empty_axes)
    result = emit.tensor(x)
    dtype = emit.dtype(x)
    extra = "" if dtype in FLOATS else f", dtype={dtype_code(dtype)}"
    for dim in sorted((d % emit.rank(x) for d in dims or ()), reverse=True):
        result = _reduced("{}.prod", result, (dim,), keepdims, extra)
    return result


@OPS("ArgMax", since=13)
def arg_max(emit: Emitter, x: ir.Value, *, axis: int, keepdims: int, select_last_index: int) -> Expression:
    return _arg("argmax", emit, x, axis, keepdims, select_last_index)


@OPS("ArgMin", since=13)
def arg_min(emit: Emitter, x: ir.Value, *, axis: int, keepdims: int, select_last_index: int) -> Expression:
    return _arg("argmin", emit, x, axis, keepdims, select_last_index)


def _arg(function: str, emit: Emitter, x: ir.Value, axis: int, keepdims: int, last: int) -> Expression:
    source = emit.tensor(x)
    if not last:
        return _reduced("{}." + function, source, (axis,), keepdims)
    size = emit.size(x, axis)
    flipped = call("{}.flip({})", source, Literal(axis, "dim"))
    found = _reduced("{}." + function, flipped, (axis,), keepdims)
    limit = size - 1 if isinstance(size, int) else call("{} - 1", size, precedence=ADD)
    return call("{} - {}", limit, found, precedence=ADD)


@OPS("CumSum", since=11)
def cum_sum(emit: Emitter, x: ir.Value, axis: ir.Value, *, exclusive: int, reverse: int) -> Expression:
    dim = Literal(emit.ints(axis, "its axis")[0], "dim")
    source = emit.tensor(x)
    dtype = dtype_code(emit.dtype(x))
    extra = "" if emit.dtype(x) in FLOATS else f", dtype={dtype}"
    if reverse:
        source = call("{}.flip({})", source, dim)
    result: Expression = call(f"{{}}.cumsum({{}}{extra})", source, dim)
    if exclusive:
        if extra or reverse:
            raise Refusal("an exclusive cumulative sum that is reversed or of integers")
        result = call("{} - {}", result, source, precedence=ADD)
    return call("{}.flip({})", result, dim) if reverse else result
