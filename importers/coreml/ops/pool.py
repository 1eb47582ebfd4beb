"""Poolings."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.context import Mil
from importers.coreml.ops.conv import padding
from importers.coreml.table import Ints, op

__all__: list[str] = []


def _attributes(
    mil: Mil, x: ir.Value, kernel: Ints, strides: Ints | None, kind: str, pad: Ints | None, ceil: bool
) -> dict[str, Any]:
    count = len(kernel)
    steps = [1] * count if strides is None else list(strides)
    mil.require(count == mil.rank(x) - 2 and len(steps) == count, f"a window of {count} sizes")
    mil.require(all(0 < n < 1 << 31 for n in (*kernel, *steps)), "a window, or a stride, that is not positive")
    around = padding(mil, x, kind, pad, kernel, steps, [1] * count)
    if any(p >= k for p, k in zip(around.get("pads", ()), [*kernel, *kernel], strict=False)):
        raise Refusal("a window may lie in the padding altogether")
    return {"kernel_shape": list(kernel), "strides": steps, "ceil_mode": 1 if ceil else None, **around}


@op("max_pool")
def max_pool(
    mil: Mil,
    x: ir.Value,
    *,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> ir.Value:
    """MaxPool."""
    return mil.op("MaxPool", x, **_attributes(mil, x, kernel_sizes, strides, pad_type, pad, ceil_mode))


@op("avg_pool")
def avg_pool(
    mil: Mil,
    x: ir.Value,
    *,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
    exclude_padding_from_average: bool = False,
) -> ir.Value:
    """AveragePool."""
    found = _attributes(mil, x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return mil.op("AveragePool", x, count_include_pad=int(not exclude_padding_from_average), **found)


@op("l2_pool")
def l2_pool(
    mil: Mil,
    x: ir.Value,
    *,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> ir.Value:
    """LpPool with p 2."""
    return mil.op("LpPool", x, p=2, **_attributes(mil, x, kernel_sizes, strides, pad_type, pad, ceil_mode))
