"""Layers of well-known forks of Caffe that are no SSD."""

from __future__ import annotations

import onnx_ir as ir

from hub.errors import Refusal
from importers.caffe.layers import Context, layer

__all__: list[str] = []


@layer("Normalize", param="norm_param", words=True)
def normalize(
    caffe: Context,
    x: ir.Value,
    *,
    across_spatial: bool = True,
    channel_shared: bool = True,
    eps: float = 1.000000013351432e-10,
) -> ir.Value:
    """SSD's: to length 1, of each item or of each place, times a scale."""
    rank = caffe.rank(x)
    caffe.require(2 <= rank <= 4, f"its bottom has {rank} axes, 2 to 4 are needed")
    axes = caffe.ints(list(range(1, rank)) if across_spatial else [1], "axes")
    squares = caffe.op("ReduceSumSquare", x, axes, keepdims=1)
    length = caffe.op("Sqrt", caffe.op("Add", squares, caffe.constant(eps, "eps")))
    shape = () if channel_shared else (caffe.size(x, 1),)
    spread = () if channel_shared else (*shape, *[1] * (rank - 2))
    (blob,) = caffe.blobs(scale=shape).values()
    scale = caffe.weight("scale", shape, blob, 0, lambda a: a.reshape(spread), f"+{rank - 2}")
    return caffe.op("Mul", caffe.op("Div", x, length), scale)


@layer("ShuffleChannel", param="shuffle_channel_param")
def shuffle_channel(caffe: Context, x: ir.Value, *, group: int = 1) -> ir.Value:
    """ShuffleNet's: the first channel of each group, then the second ones, and so on."""
    channels = caffe.size(x, 1)
    caffe.require(group > 0 and channels % group == 0, f"{channels} channels do not divide into {group} groups")
    caffe.require(caffe.rank(x) == 4, f"its bottom has {caffe.rank(x)} axes, 4 are needed")
    height, width = caffe.sizes(x, 2)
    y = caffe.reshape(x, [0, group, channels // group, height, width])
    y = caffe.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    return caffe.reshape(y, [0, channels, height, width])


@layer("Reorg", param="reorg_param")
def reorg(caffe: Context, x: ir.Value, *, stride: int = 0, reverse: bool = False) -> ir.Value:
    """YOLO 2's, in the order of darknet: it takes the numbers for those of an image of `stride` times the size."""
    caffe.require(caffe.rank(x) == 4 and stride > 0, "stride is 1 or more, its bottom has 4 axes")
    channels, height, width = caffe.sizes(x, 1)
    caffe.require(channels % stride**2 == 0, f"{channels} channels do not divide by {stride} twice")
    if reverse:
        return caffe.op("DepthToSpace", x, blocksize=stride, mode="DCR")
    caffe.require(height % stride == 0 and width % stride == 0, f"{height}x{width} does not divide by {stride}")
    y = caffe.reshape(x, [0, channels // stride**2, height * stride, width * stride])
    y = caffe.op("SpaceToDepth", y, blocksize=stride)
    return caffe.reshape(y, [0, channels * stride**2, height // stride, width // stride])


@layer("Interp", param="interp_param")
def interp(
    caffe: Context,
    x: ir.Value,
    *,
    height: int | None = None,
    width: int | None = None,
    zoom_factor: int | None = None,
    shrink_factor: int | None = None,
    pad_beg: int = 0,
    pad_end: int = 0,
) -> ir.Value:
    """DeepLab's: linear between the corners; negative pads cut off."""
    caffe.require(caffe.rank(x) == 4, f"its bottom has {caffe.rank(x)} axes, 4 are needed")
    caffe.require(pad_beg <= 0 and pad_end <= 0, "pads are not positive")
    sizes = [size + pad_beg + pad_end for size in caffe.sizes(x, 2)]
    caffe.require(min(sizes) > 0, "its pads leave nothing")
    caffe.require(min(zoom_factor or 1, shrink_factor or 1) >= 1, "factors are 1 or more")
    if pad_beg or pad_end:
        ends = [size - pad_beg for size in sizes]
        axes = caffe.ints([2, 3], "axes")
        x = caffe.op("Slice", x, caffe.ints([-pad_beg] * 2, "start"), caffe.ints(ends, "end"), axes)
    if zoom_factor is None and shrink_factor is None:
        caffe.require(bool(height and width), "it has neither a factor nor height and width")
        target = [int(height or 0), int(width or 0)]
    elif height and width and zoom_factor is not None and shrink_factor is not None:
        target = [height, width]
    else:
        target = [(size - 1) // (shrink_factor or 1) + 1 for size in sizes]
        target = [size + (size - 1) * ((zoom_factor or 1) - 1) for size in target]
    caffe.require(min(target) > 0, f"the size {target} is none")
    batch = caffe.shape(x)[0]
    if batch is None:
        raise Refusal("the size of the batch is not known", "give it with inputs=")
    return caffe.op(
        "Resize",
        x,
        None,
        None,
        caffe.ints([batch, caffe.size(x, 1), *target], "sizes"),
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )


@layer("Upsample", param="upsample_param")
def upsample(
    caffe: Context,
    x: ir.Value,
    mask: ir.Value | None = None,
    *,
    scale: int | None = None,
    scale_h: int | None = None,
    scale_w: int | None = None,
    pad_out_h: bool = False,
    pad_out_w: bool = False,
    upsample_h: int | None = None,
    upsample_w: int | None = None,
) -> ir.Value:
    """YOLO 3's, each number `scale` times; or SegNet's, with the places of a pooling as second bottom."""
    caffe.require(caffe.rank(x) == 4, f"its bottom has {caffe.rank(x)} axes, 4 are needed")
    if mask is None:
        if scale is None or {scale_h, scale_w, upsample_h, upsample_w} != {None} or pad_out_h or pad_out_w:
            raise Refusal("of one bottom, forks agree on `scale` alone", "give it a scale and nothing else")
        caffe.require(scale > 0, "scale is 1 or more")
        scales = caffe.constant([1.0, 1.0, scale, scale], "scales")
        mode = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return caffe.op("Resize", x, None, scales, mode="nearest", **mode)
    channels, height, width = caffe.sizes(x, 1)
    tall, wide = upsample_h, upsample_w
    if not tall or not wide:
        tall = height * (scale_h or scale or 2) - pad_out_h
        wide = width * (scale_w or scale or 2) - pad_out_w
    # Each plane by itself: numbers go to their places, everything else is 0.
    places = caffe.op("Cast", caffe.reshape(mask, [0, channels, -1]), to=ir.DataType.INT64.value)
    batch = caffe.size(x, 0)
    zeros = caffe.op("Expand", caffe.constant(0.0, "zero"), caffe.ints([batch, channels, tall * wide], "planes"))
    y = caffe.op("ScatterElements", zeros, places, caffe.reshape(x, [0, channels, -1]), axis=2)
    return caffe.reshape(y, [0, channels, tall, wide])
