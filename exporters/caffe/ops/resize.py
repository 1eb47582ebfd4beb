"""Resizing between fixed sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.caffe.axes import along, select
from exporters.caffe.emit import Emitter
from exporters.caffe.net import Blob
from exporters.caffe.ops.table import OPS
from exporters.constants import Array, Constant
from hub.builder import GraphBuilder
from hub.errors import Refusal
from hub.model import Model


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
    if coordinate_transformation_mode == "tf_crop_and_resize":
        raise Refusal("a crop whose place is an input")
    if keep_aspect_ratio_policy != "stretch":
        raise Refusal(f"the policy {keep_aspect_ratio_policy!r}")
    source = emit.blob(x)
    outputs = emit.result()
    given = emit.array(scales)
    if scales is not None and given is None:
        raise Refusal("its scales are computed at run time", "make them a constant of the model")
    which = [a % source.rank for a in axes] if axes else list(range(source.rank))
    factors: dict[int, float] = {}
    if given is not None and given.size:
        factors = dict(zip(which, [float(f) for f in given.reshape(-1)], strict=True))
    changed = [a for a in which if (factors[a] != 1 if factors else source.shape[a] != outputs[a])]
    if changed and changed[0] == 0:
        raise Refusal("a resize of the batch")
    options = {
        "antialias": antialias,
        "coordinate_transformation_mode": coordinate_transformation_mode,
        "cubic_coeff_a": cubic_coeff_a,
        "exclude_outside": exclude_outside,
        "mode": mode,
        "nearest_mode": nearest_mode,
    }
    matrices = {}
    for axis in changed:
        n, m = emit.fixed((source.shape[axis], outputs[axis]), 0)
        if coordinate_transformation_mode == "align_corners" and abs(factors.get(axis, 1.0) * n % 1) > 1e-5:
            raise Refusal("aligned corners with a broken size, where ONNX Runtime and the standard's reference differ")
        matrices[axis] = _matrix(n, m, factors.get(axis), options)
    whole = _whole_factors(source, matrices)
    if whole is not None:
        return _repeated(emit, source, whole)
    for number, axis in enumerate(reversed(changed)):
        role = None if number == len(changed) - 1 else f"axis_{axis}"
        picks = _picks(matrices[axis])
        if picks is not None:
            source = select(emit, source, axis, picks, role)
        else:
            source = along(emit, source, axis, matrices[axis], role)
    return source


def _matrix(n: int, m: int, factor: float | None, options: dict[str, Any]) -> Array:
    """The (m, n) matrix of a resize from n to m: what ONNX Runtime makes of the identity, row by row."""
    graph = GraphBuilder("resize")
    x = graph.input("x", ir.DataType.FLOAT, [1, n, 1, n])
    by = None if factor is None else graph.constant(np.array([1, 1, 1, factor], np.float32), "scales")
    to = graph.ints([1, n, 1, m], "sizes") if factor is None else None
    graph.output(graph.op("Resize", x, None, by, to, **options), "y")
    result = Model(graph.model()).run(np.eye(n, dtype=np.float32).reshape(1, n, 1, n))["y"]
    if result.shape != (1, n, 1, m):
        raise Refusal(f"a resize from {n} to {m} by {factor}")
    return np.ascontiguousarray(result[0, :, 0].T)


def _picks(matrix: Array) -> list[int] | None:
    """The column that each row picks, if that is all it does."""
    if not np.all((matrix == 0) | (matrix == 1)) or not np.all(matrix.sum(axis=1) == 1):
        return None
    return [int(i) for i in matrix.argmax(axis=1)]


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
        if rest or factor < 1 or _picks(matrix) != [i // factor for i in range(matrix.shape[0])]:
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
