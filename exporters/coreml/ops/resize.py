"""Resizing: by Core ML's own operations where they are the same, else as a matrix along each axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from exporters.coreml.ops.table import OPS
from exporters.resizing import axis_matrices, picks_of
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var


@OPS("Resize", since=18)
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
) -> Var:
    if keep_aspect_ratio_policy != "stretch":
        raise Refusal(f"keep_aspect_ratio_policy={keep_aspect_ratio_policy!r}")
    options = {
        "antialias": antialias,
        "coordinate_transformation_mode": coordinate_transformation_mode,
        "cubic_coeff_a": cubic_coeff_a,
        "exclude_outside": exclude_outside,
        "extrapolation_value": extrapolation_value,
        "mode": mode,
        "nearest_mode": nearest_mode,
    }
    shape = emit.shape(x)
    matrices = axis_matrices(emit, scales, shape, axes, options)
    var, rank = emit.floats(x), len(shape)
    if not matrices:
        return emit("identity", x=var)
    if (native := _native(emit, var, matrices, rank, options)) is not None:
        return native
    for axis, matrix in matrices.items():
        picks = picks_of(matrix)
        if picks is not None:
            var = emit("gather", x=var, indices=np.array(picks, np.int32), axis=axis)
            continue
        weight = emit.cast(emit.var_of(np.ascontiguousarray(matrix.T)), emit.mil(x))
        last = [i for i in range(rank) if i != axis] + [axis]
        turned = var if axis == rank - 1 else emit("transpose", x=var, perm=last)
        turned = emit("matmul", x=turned, y=weight)
        var = turned if axis == rank - 1 else emit("transpose", x=turned, perm=[last.index(i) for i in range(rank)])
    return var


_PADDING = {"zeros": "constant", "border": "border"}


@OPS("GridSample", since=16)
def grid_sample(emit: Emitter, x: ir.Value, grid: ir.Value, *, align_corners: int, mode: str, padding_mode: str) -> Var:
    """The coordinates of both go from -1 to 1, first x, then y."""
    if emit.rank(x) != 4 or mode not in ("linear", "nearest"):
        raise Refusal(f"{mode} samples of {emit.rank(x)} axes, Core ML has linear and nearest ones of 4")
    if emit.version < 6:
        raise Refusal("neural networks cannot sample", "write an .mlpackage")
    if padding_mode not in _PADDING:
        raise Refusal(f"padding_mode={padding_mode!r}, where Core ML does not say what it reflects at")
    if mode == "nearest":
        raise Refusal("nearest samples, of which Core ML does not say where it rounds a half")
    return emit(
        "resample",
        x=emit.floats(x),
        coordinates=grid,
        sampling_mode="bilinear",
        padding_mode=_PADDING[padding_mode],
        padding_value=emit.number(x, 0),
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=bool(align_corners),
    )


def _native(emit: Emitter, x: Var, matrices: dict[int, np.ndarray], rank: int, options: dict[str, object]) -> Var:
    """An enlargement of the last two axes by whole numbers, if it is Core ML's."""
    if rank != 4 or not {*matrices} <= {2, 3}:
        return None
    factors = {axis: matrix.shape[0] / matrix.shape[1] for axis, matrix in matrices.items()}
    height, width = (factors.get(axis, 1.0) for axis in (2, 3))
    if height != int(height) or width != int(width):
        return None
    repeats = [
        matrix.shape == (n := (int(factors[a]) * matrix.shape[1]), matrix.shape[1])
        and np.array_equal(matrix, np.repeat(np.eye(matrix.shape[1], dtype=matrix.dtype), int(factors[a]), axis=0))
        and n > 0
        for a, matrix in matrices.items()
    ]
    if all(repeats):
        return emit("upsample_nearest_neighbor", x=x, scale_factor_height=int(height), scale_factor_width=int(width))
    plain = options["mode"] == "linear" and not options["antialias"] and not options["exclude_outside"]
    if plain and options["coordinate_transformation_mode"] == "align_corners" and min(height, width) >= 1:
        return emit(
            "upsample_bilinear", x=x, scale_factor_height=int(height), scale_factor_width=int(width),
            align_corners=True,
        )  # fmt: skip
    if plain and options["coordinate_transformation_mode"] == "half_pixel" and emit.version >= 7:
        return emit(
            "upsample_bilinear", x=x, scale_factor_height=int(height), scale_factor_width=int(width),
            align_corners=False, half_pixel_centers=True,
        )  # fmt: skip
    return None
