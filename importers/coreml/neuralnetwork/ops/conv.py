"""Convolutions and their transposes, of two and of three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.neuralnetwork.layers import Context, layer

__all__ = ["borders", "same_pads"]


def borders(net: Context, amounts: Any, count: int) -> tuple[list[int], list[int]]:
    """What is added before and behind each of the last `count` axes, by a `BorderAmounts`."""
    edges = list(amounts.borderAmounts) if amounts is not None else []
    if not edges:
        return [0] * count, [0] * count
    net.require(len(edges) == count, f"it has pads for {len(edges)} axes, there are {count}")
    return [int(edge.startEdgeSize) for edge in edges], [int(edge.endEdgeSize) for edge in edges]


def same_pads(totals: Sequence[int], mode: str) -> tuple[list[int], list[int]]:
    """Pads that are the same on both sides, but for one, which is at the side that `mode` says."""
    small = [total // 2 for total in totals]
    large = [total - total // 2 for total in totals]
    return (large, small) if mode == "TOP_LEFT_HEAVY" else (small, large)


def _spread(net: Context, given: Sequence[int], default: int, count: int, name: str) -> list[int]:
    values = [int(value) for value in given] or [default] * count
    net.require(len(values) == count and min(values) >= 1, f"its {name} is {values}")
    return values


def _totals(net: Context, x: ir.Value, kernel: Sequence[int], step: Sequence[int]) -> list[int] | None:
    """How much a convolution of padding "same" adds; None where sizes that matter are not known."""
    totals = []
    for size, k, s in zip(net.shape(x)[2:], kernel, step, strict=True):
        if s == 1:
            totals.append(k - 1)
        elif size is None:
            return None
        else:
            totals.append(max((-(-size // s) - 1) * s + k - size, 0))
    return totals


def _mode(same: Any) -> str:
    return str(same.DESCRIPTOR.fields_by_name["asymmetryMode"].enum_type.values_by_number[same.asymmetryMode].name)


def _convolve(
    net: Context,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None,
    kernel: Sequence[int],
    step: Sequence[int],
    rate: Sequence[int],
    groups: int,
    pads: tuple[list[int], list[int]] | str,
) -> ir.Value:
    """`pads`: the amounts, or where the odd one of the padding "same" is."""
    attributes: dict[str, Any] = {"kernel_shape": list(kernel)}
    if isinstance(pads, str):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, rate, strict=True)]
        totals = _totals(net, x, reach, step)
        if totals is None:
            attributes["auto_pad"] = "SAME_LOWER" if pads == "TOP_LEFT_HEAVY" else "SAME_UPPER"
            pads = ([0], [0])
        else:
            pads = same_pads(totals, pads)
    if any(pads[0]) or any(pads[1]):
        attributes["pads"] = [*pads[0], *pads[1]]
    return net.op("Conv", x, weight, bias, **attributes, **_common(step, rate, groups))


def _common(step: Sequence[int], rate: Sequence[int], groups: int) -> dict[str, Any]:
    return {
        "strides": list(step) if any(s != 1 for s in step) else None,
        "dilations": list(rate) if any(d != 1 for d in rate) else None,
        "group": groups if groups != 1 else None,
    }


def _deconvolve(
    net: Context,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None,
    kernel: Sequence[int],
    step: Sequence[int],
    rate: Sequence[int],
    groups: int,
    pads: tuple[list[int], list[int]] | str,
    target: Sequence[int],
) -> ir.Value:
    """`target`: the spatial sizes of the result, if they are given."""
    count = len(kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, rate, strict=True)]
    more = [0] * count
    if isinstance(pads, str):
        totals = [k - s for k, s in zip(reach, step, strict=True)]
        if target:
            full = [(net.size(x, 2 + i) - 1) * step[i] + reach[i] for i in range(count)]
            totals = [size - int(wanted) for size, wanted in zip(full, target, strict=True)]
        more = [max(-total, 0) for total in totals]
        before, behind = same_pads([max(total, 0) for total in totals], pads)
    else:
        before, behind = list(pads[0]), list(pads[1])
        if target:
            for i in range(count):
                found = (net.size(x, 2 + i) - 1) * step[i] + reach[i] - before[i] - behind[i]
                gap = int(target[i]) - found
                if gap < 0:
                    behind[i] -= gap
                more[i] = max(gap, 0)
    for extra, s, d in zip(more, step, rate, strict=True):
        if extra >= max(s, d):
            raise Refusal("the given sizes of its result are larger than what it computes")
    return net.op(
        "ConvTranspose",
        x,
        weight,
        bias,
        kernel_shape=list(kernel),
        pads=[*before, *behind] if any(before) or any(behind) else None,
        output_padding=more if any(more) else None,
        **_common(step, rate, groups),
    )


@layer("convolution")
def convolution(
    net: Context,
    x: ir.Value,
    dynamic: ir.Value | None = None,
    given_bias: ir.Value | None = None,
    *,
    outputChannels: int,
    kernelChannels: int,
    nGroups: int,
    kernelSize: Sequence[int],
    stride: Sequence[int],
    dilationFactor: Sequence[int],
    valid: Any,
    same: Any,
    isDeconvolution: bool,
    hasBias: bool,
    weights: Any,
    bias: Any,
    outputShape: Sequence[int],
) -> ir.Value:
    """Weights may be the second input; a bias may then be the third."""
    groups = nGroups or 1
    kernel = _spread(net, kernelSize, 3, 2, "kernelSize")
    step = _spread(net, stride, 1, 2, "stride")
    rate = _spread(net, dilationFactor, 1, 2, "dilationFactor")
    net.require(outputChannels > 0 and kernelChannels > 0, "it has no channels")
    net.require(outputChannels % groups == 0, f"{groups} groups do not fit {outputChannels} channels")
    net.require(valid is not None or same is not None, "it does not say how it pads")
    if outputShape and not isDeconvolution:
        raise Refusal("its field outputShape is for deconvolutions")
    channels = [kernelChannels, outputChannels // groups] if isDeconvolution else [outputChannels, kernelChannels]
    if dynamic is None:
        net.require(weights is not None, "it has no weights")
        weight = net.weight(weights, [*channels, *kernel], "weight")
    else:
        weight = dynamic
    vector = given_bias if dynamic is not None else None
    if hasBias and dynamic is None:
        net.require(bias is not None, "it has no bias")
        vector = net.weight(bias, (outputChannels,), "bias")
    elif hasBias and vector is None:
        vector = net.weight(bias, (outputChannels,), "bias")
    flat, back = net.as_rank(x, 4)
    inside = kernelChannels if isDeconvolution else kernelChannels * groups
    net.require(net.shape(flat)[1] in (None, inside), f"it needs {inside} channels, its input has {net.shape(flat)[1]}")
    pads = _mode(same) if same is not None else borders(net, valid.paddingAmounts, 2)
    if isDeconvolution:
        return back(_deconvolve(net, flat, weight, vector, kernel, step, rate, groups, pads, outputShape))
    return back(_convolve(net, flat, weight, vector, kernel, step, rate, groups, pads))


@layer("convolution3d")
def convolution3d(
    net: Context,
    x: ir.Value,
    *,
    outputChannels: int,
    inputChannels: int,
    nGroups: int,
    kernelDepth: int,
    kernelHeight: int,
    kernelWidth: int,
    strideDepth: int,
    strideHeight: int,
    strideWidth: int,
    dilationDepth: int,
    dilationHeight: int,
    dilationWidth: int,
    hasBias: bool,
    weights: Any,
    bias: Any,
    paddingType: str,
    customPaddingFront: int,
    customPaddingBack: int,
    customPaddingTop: int,
    customPaddingBottom: int,
    customPaddingLeft: int,
    customPaddingRight: int,
    isDeconvolution: bool,
    outputShape: Sequence[int],
) -> ir.Value:
    groups = nGroups or 1
    kernel = [kernelDepth, kernelHeight, kernelWidth]
    step = [strideDepth or 1, strideHeight or 1, strideWidth or 1]
    rate = [dilationDepth or 1, dilationHeight or 1, dilationWidth or 1]
    net.require(min([outputChannels, inputChannels, groups, *kernel, *step, *rate]) >= 1, "a size of it is below 1")
    net.require(outputChannels % groups == 0 and inputChannels % groups == 0, f"{groups} groups do not fit")
    net.require(weights is not None, "it has no weights")
    shape = [outputChannels, inputChannels // groups]
    if isDeconvolution:
        shape = [inputChannels, outputChannels // groups]
    if outputShape and not isDeconvolution:
        raise Refusal("its field outputShape is for deconvolutions")
    weight = net.weight(weights, [*shape, *kernel], "weight")
    vector = net.weight(bias, (outputChannels,), "bias") if hasBias and bias is not None else None
    net.require(not hasBias or vector is not None, "it has no bias")
    custom = (
        [customPaddingFront, customPaddingTop, customPaddingLeft],
        [
            customPaddingBack,
            customPaddingBottom,
            customPaddingRight,
        ],
    )
    if paddingType != "CUSTOM" and (any(custom[0]) or any(custom[1])):
        raise Refusal(f"it has pads of its own and the padding {paddingType}")
    pads: Any = {"CUSTOM": custom, "VALID": ([0] * 3, [0] * 3), "SAME": "BOTTOM_RIGHT_HEAVY"}[paddingType]
    flat, back = net.as_rank(x, 5)
    if isDeconvolution:
        return back(_deconvolve(net, flat, weight, vector, kernel, step, rate, groups, pads, outputShape))
    return back(_convolve(net, flat, weight, vector, kernel, step, rate, groups, pads))
