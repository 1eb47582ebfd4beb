"""Resizing, as far as PyTorch's interpolation means the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from exporters.codegen.program import Expression, Literal, call
from exporters.torch.ops.table import OPS, simplest
from exporters.torch.values import FLOATS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.torch.emit import Emitter

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
# Where the nearest pixel of an enlargement by a whole number is the one of the plain repetition.
_REPEATS = {
    ("asymmetric", "floor"),
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
    ("pytorch_half_pixel", "round_prefer_floor"),
    ("pytorch_half_pixel", "round_prefer_ceil"),
}


@OPS("Resize", since=18)
def resize(
    emit: Emitter,
    x: ir.Value,
    roi: ir.Value | None,
    scales: ir.Value | None,
    sizes: ir.Value | None,
    *,
    coordinate_transformation_mode: str,
    mode: str,
    nearest_mode: str,
    extrapolation_value: float,
    cubic_coeff_a: float,
) -> Expression:
    shape = emit.shape(x)
    factors = None if scales is None else emit.array(scales)
    if shape is None or factors is None or factors.size != len(shape) or not 3 <= len(shape) <= 5:
        raise Refusal("a resize without constant scales for all axes")
    if emit.dtype(x) not in FLOATS or any(f != 1 for f in factors[:2]):
        raise Refusal("a resize of the batch or the channels, or of integers")
    whole = [int(f) for f in factors[2:]]
    if any(f != w or w < 1 for f, w in zip(factors[2:], whole, strict=True)):
        raise Refusal("a resize by something other than whole numbers")
    factor = Literal(simplest(whole), "scale_factor")
    if mode == "nearest" and (coordinate_transformation_mode, nearest_mode) in _REPEATS:
        return call("F.interpolate({}, scale_factor={})", emit.tensor(x), factor)
    if mode == "linear" and coordinate_transformation_mode in ("half_pixel", "align_corners"):
        corners = ", align_corners=True" if coordinate_transformation_mode == "align_corners" else ""
        text = f'F.interpolate({{}}, scale_factor={{}}, mode="{_MODES[len(whole)]}"{corners})'
        return call(text, emit.tensor(x), factor)
    raise Refusal(f"a {mode} resize with {coordinate_transformation_mode} coordinates")
