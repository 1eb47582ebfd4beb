"""The moves from which constructions are made, each of which is one Caffe layer.

Shapes are those of ONNX; axis 0 may be open (the batch). Every function says what identity it uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporters.caffe.emit import BATCH_HINT, SIZES_HINT, Emitter
from exporters.caffe.net import Blob, Size
from exporters.constants import Constant, elements
from hub.errors import Refusal

__all__ = [
    "bias",
    "concat",
    "copy",
    "cut",
    "eltwise",
    "filled",
    "merged",
    "power",
    "reshape",
    "scale",
    "slices",
    "tile",
    "unary",
]


def unary(emit: Emitter, x: Blob, type_: str, role: str | None = None, **parameters: dict[str, Any]) -> Blob:
    """A layer that keeps the shape."""
    return emit.layer(type_, [x], x.shape, role, (), **parameters)


def power(
    emit: Emitter, x: Blob, power: float = 1.0, scale: float = 1.0, shift: float = 0.0, role: str | None = None
) -> Blob:
    """(shift + scale x) ** power."""
    given = {"power": (power, 1.0), "scale": (scale, 1.0), "shift": (shift, 0.0)}
    return unary(emit, x, "Power", role, power_param={k: float(v) for k, (v, default) in given.items() if v != default})


def filled(emit: Emitter, like: Blob, value: float, role: str) -> Blob:
    """A blob of the shape of `like`, all `value`: Power with scale 0 does not look at its input."""
    return power(emit, like, scale=0.0, shift=value, role=role)


def eltwise(
    emit: Emitter, operation: str, xs: Sequence[Blob], coeff: Sequence[float] = (), role: str | None = None
) -> Blob:
    """SUM (with coefficients), PROD or MAX of blobs of one shape."""
    parameters: dict[str, Any] = {"operation": operation}
    if coeff and any(c != 1.0 for c in coeff):
        parameters["coeff"] = [float(c) for c in coeff]
    return emit.layer("Eltwise", xs, xs[0].shape, role, eltwise_param=parameters if operation != "SUM" or coeff else {})


def scale(
    emit: Emitter,
    x: Blob,
    factor: Constant | Blob,
    axis: int,
    shift: Constant | None = None,
    role: str | None = None,
) -> Blob:
    """x * factor (+ shift), the shape of `factor` being that of the axes of `x` from `axis` on."""
    parameters = _span(x, factor, axis, 1)
    if shift is not None:
        parameters["bias_term"] = True
    if isinstance(factor, Blob):
        parameters.pop("num_axes", None)
        return emit.layer("Scale", [x, factor], x.shape, role, [] if shift is None else [shift], scale_param=parameters)
    weights = [factor] if shift is None else [factor, shift]
    return emit.layer("Scale", [x], x.shape, role, weights, scale_param=parameters)


def bias(emit: Emitter, x: Blob, shift: Constant | Blob, axis: int, role: str | None = None) -> Blob:
    """x + shift, the shape of `shift` being that of the axes of `x` from `axis` on."""
    parameters = _span(x, shift, axis, 1)
    if isinstance(shift, Blob):
        parameters.pop("num_axes", None)
        return emit.layer("Bias", [x, shift], x.shape, role, bias_param=parameters)
    return emit.layer("Bias", [x], x.shape, role, [shift], bias_param=parameters)


def _span(x: Blob, operand: Constant | Blob, axis: int, default: int) -> dict[str, Any]:
    count = len(operand.shape)
    parameters: dict[str, Any] = {}
    if axis != 1:
        parameters["axis"] = axis
    if count != default:
        parameters["num_axes"] = -1 if count and axis + count == x.rank else count
    return parameters


def reshape(emit: Emitter, x: Blob, shape: Sequence[Size], role: str = "reshape") -> Blob:
    """The same numbers in another shape; nothing if it is the same.

    A first size that stays is copied (0), so that the batch of the file is not fixed; an open one elsewhere is -1.
    """
    shape = tuple(shape)
    if shape == x.shape:
        return x
    if 0 in shape:
        raise Refusal("a tensor without elements")
    open_axes = [i for i, size in enumerate(shape) if not isinstance(size, int)]
    if len(open_axes) == 1 and all(isinstance(size, int) for size in x.shape):
        rest = elements([size for size in shape if isinstance(size, int)])
        found = elements(emit.fixed(x.shape, 0)) // rest
        shape, open_axes = tuple(size if isinstance(size, int) else found for size in shape), []
    if len(open_axes) > 1:
        raise Refusal("a shape with several open sizes", SIZES_HINT)
    shape = _named(x.shape, shape)
    if shape == x.shape:
        return x
    dims = [size if isinstance(size, int) else -1 for size in shape]
    if x.shape and shape and x.shape[0] == shape[0]:
        dims[0] = 0
    elif not open_axes and x.shape and not isinstance(x.shape[0], int):
        raise Refusal("a shape that fixes the batch, whose size is open", BATCH_HINT)
    rest = elements([s for s in x.shape[1:] if isinstance(s, int)])
    if len(shape) == 2 and x.rank > 2 and dims[0] == 0 and shape[1] == rest:
        return emit.layer("Flatten", [x], shape, role)
    return emit.layer("Reshape", [x], shape, role, reshape_param={"shape": {"dim": dims}})


def _named(given: Sequence[Size], shape: tuple[Size, ...]) -> tuple[Size, ...]:
    """The open size of `shape`, if it has one, in terms of the only one of `given`, whose numbers it holds."""
    source = [size for size in given if not isinstance(size, int)]
    if len(source) != 1 or all(isinstance(size, int) for size in shape):
        return shape
    count, rest = (elements([size for size in sizes if isinstance(size, int)]) for sizes in (given, shape))
    factor, name = _multiple(source[0])
    if factor * count % rest:
        return shape
    return tuple(size if isinstance(size, int) else merged([factor * count // rest, name]) for size in shape)


def _multiple(name: str) -> tuple[int, str]:
    """The name of an open size as a multiple, in the form in which `merged` writes it."""
    factor, _, rest = name.partition("*")
    return (int(factor), rest) if factor.isdecimal() else (1, name)


def concat(emit: Emitter, xs: Sequence[Blob], axis: int, role: str | None = None) -> Blob:
    """Side by side along `axis`."""
    if len(xs) == 1:
        return xs[0]
    sizes = [x.shape[axis] for x in xs]
    total: Size = sum(s for s in sizes if isinstance(s, int)) if all(isinstance(s, int) for s in sizes) else "?"
    shape = (*xs[0].shape[:axis], total, *xs[0].shape[axis + 1 :])
    return emit.layer("Concat", xs, shape, role, concat_param={"axis": axis} if axis != 1 else {})


def slices(emit: Emitter, x: Blob, axis: int, points: Sequence[int], role: str | None = None) -> list[Blob]:
    """Cut at `points`, which are strictly increasing and inside the axis."""
    if not points:
        return [x]
    size = emit.fixed(x.shape, axis)[0]
    ends = [*points, size]
    shapes = [(*x.shape[:axis], b - a, *x.shape[axis + 1 :]) for a, b in zip([0, *points], ends, strict=True)]
    parameters: dict[str, Any] = {"slice_point": list(points)}
    if axis != 1:
        parameters["axis"] = axis
    return emit.split("Slice", [x], shapes, role, slice_param=parameters)


def cut(emit: Emitter, x: Blob, axis: int, start: int, stop: int, role: str | None = None) -> Blob:
    """x[start:stop] along `axis`."""
    size = emit.fixed(x.shape, axis)[0]
    if not 0 <= start < stop <= size:
        raise Refusal("a slice without elements")
    pieces = slices(emit, x, axis, [p for p in (start, stop) if 0 < p < size], role)
    return pieces[1 if start else 0]


def merged(sizes: Sequence[Size]) -> Size:
    """The product of sizes as one size; open, and named as a multiple, if one of them is."""
    known = [s for s in sizes if isinstance(s, int)]
    names = [s for s in sizes if not isinstance(s, int)]
    if not names:
        return elements(known)
    if len(names) > 1:
        raise Refusal("several open sizes", SIZES_HINT)
    factor, name = _multiple(names[0])
    count = elements(known) * factor
    return name if count == 1 else f"{count}*{name}"


def tile(emit: Emitter, x: Blob, axis: int, count: int, role: str | None = None) -> Blob:
    """`count` copies side by side along `axis`."""
    if count == 1:
        return x
    size = x.shape[axis]
    if not isinstance(size, int):
        raise Refusal("copies along the batch, whose size is open", BATCH_HINT)
    shape = (*x.shape[:axis], size * count, *x.shape[axis + 1 :])
    return emit.layer("Tile", [x], shape, role, tile_param={"axis": axis, "tiles": count})


def copy(emit: Emitter, x: Blob, role: str) -> Blob:
    """The same blob under a name of its own."""
    return emit.layer("Split", [x], x.shape, role)
