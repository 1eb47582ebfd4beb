"""Resizing between fixed sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from exporters.caffe.axes import along, select
from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob
from exporters.caffe.ops.table import OPS
from exporters.constants import Array, Constant
from exporters.resizing import axis_matrices, picks_of
from hub.errors import Refusal


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
) -> Blob:
    """A fixed linear map along each axis, whose matrix is the operator's own result for the identity.

    Rows that only pick are a Deconvolution by ones (nearest, whole factors), or `select`; others a product.
    """
    source = emit.blob(x)
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
    matrices = axis_matrices(emit, scales, source.shape, axes, options)
    if 0 in matrices:
        raise Refusal("a resize of the batch")
    whole = _whole_factors(source, matrices)
    if whole is not None:
        return _repeated(emit, source, whole)
    for number, axis in enumerate(reversed(matrices)):
        role = None if number == len(matrices) - 1 else f"axis_{axis}"
        picks = picks_of(matrices[axis])
        if picks is not None:
            source = select(emit, source, axis, picks, role)
        else:
            source = along(emit, source, axis, matrices[axis], role)
    return source


def _whole_factors(x: Blob, matrices: dict[int, Array]) -> list[int] | None:
    """By spatial axis of an image, how often each row is repeated, if that is what the matrices say."""
    if x.rank != 4 or not matrices or not set(matrices) <= {2, 3}:
        return None
    factors = []
    for axis in (2, 3):
        matrix = matrices.get(axis)
        if matrix is None:
            factors.append(1)
            continue
        factor, rest = divmod(matrix.shape[0], matrix.shape[1])
        if rest or factor < 1 or picks_of(matrix) != [i // factor for i in range(matrix.shape[0])]:
            return None
        factors.append(factor)
    return factors


def _repeated(emit: Emitter, x: Blob, factors: Sequence[int]) -> Blob:
    """Each pixel repeated: a Deconvolution by ones, channel by channel, with stride and kernel the factors."""
    channels = emit.fixed(x.shape)[0]
    fh, fw = factors
    parameters: dict[str, object] = {"num_output": channels, "bias_term": False, "group": channels}
    if fh == fw:
        parameters |= {"kernel_size": [fh], "stride": [fh]}
    else:
        parameters |= {"kernel_h": fh, "kernel_w": fw, "stride_h": fh, "stride_w": fw}
    ones = Constant.of(np.ones((channels, 1, fh, fw), np.float32))
    shape = (*x.shape[:2], *(size * f for size, f in zip(emit.fixed(x.shape, 2), factors, strict=True)))
    return emit.layer("Deconvolution", [x], shape, None, [ones], convolution_param=parameters)
