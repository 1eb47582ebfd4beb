"""Resizing between fixed sizes."""

from __future__ import annotations

import onnx_ir as ir

from exporters.cntk.emit import Emitter
from exporters.cntk.net import Tensor
from exporters.cntk.ops.indexing import along, picked
from exporters.cntk.ops.table import OPS
from exporters.resizing import axis_matrices, picks_of
from hub.errors import Refusal

__all__: list[str] = []


@OPS("Resize", since=11)
def resize(
    emit: Emitter,
    x: ir.Value,
    roi: ir.Value | None,
    scales: ir.Value | None,
    sizes: ir.Value | None,
    *,
    antialias: int,
    axes: list[int] | None,
    coordinate_transformation_mode: str,
    cubic_coeff_a: float,
    exclude_outside: int,
    extrapolation_value: float,
    keep_aspect_ratio_policy: str,
    mode: str,
    nearest_mode: str,
) -> Tensor:
    """A fixed linear map along each axis: C.gather of rows where it only picks, else C.times a matrix."""
    source = emit.tensor(x)
    options = {
        "antialias": antialias,
        "coordinate_transformation_mode": coordinate_transformation_mode,
        "cubic_coeff_a": cubic_coeff_a,
        "exclude_outside": exclude_outside,
        "mode": mode,
        "nearest_mode": nearest_mode,
    }
    if keep_aspect_ratio_policy != "stretch":
        raise Refusal(f"the policy {keep_aspect_ratio_policy!r}")
    v = source.variable
    for axis, matrix in reversed(axis_matrices(emit, scales, source.shape, axes, options).items()):
        place = emit.axis(source, axis)
        picks = picks_of(matrix)
        v = picked(emit, v, place, picks) if picks is not None else along(emit, v, place, matrix, "resize")
    return emit.like(source, v)
