"""The table of CNTK's functions, and the context in which one of them is said in ONNX.

A function of CNTK is one plain function here: positional parameters are the context and the inputs (as `*inputs`
where their number varies), keyword-only ones the attributes. An attribute that is in the file and that the
function does not name is refused, unless it cannot matter at inference (`IGNORABLE`) or has a value that changes
nothing (`harmless`):

    @function("Cast")
    def cast(cntk, x, *, newDataType): ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hub.dnn import Axis, Float, Shape
from hub.errors import InvalidModel, Refusal
from hub.optable import bind_attributes, parameters_of
from importers.cntk.functions import Function

__all__ = ["FUNCTIONS", "Entry", "bind", "function", "inputs_fit"]

Said = Callable[..., Any]


@dataclass(frozen=True)
class Entry:
    """A registered function, and the values of attributes that change nothing."""

    function: Said
    harmless: dict[str, Any]


FUNCTIONS: dict[str, Entry] = {}
"""Primitive function -> entry."""

IGNORABLE = frozenset(
    """maxTempMemSizeInSamples rngSeed rngOffset useCuDNNEngine disableRegularization normalizationTimeConstant
    blendTimeConstant""".split()
)
"""Attributes that only matter to training or to speed: CNTK normalizes with the running statistics at inference."""

NUMBER = (float, Float, int)

TYPES: dict[str, type | tuple[type, ...]] = {
    "axis": Axis, "axis1": Axis, "axis2": Axis, "beginAxis": Axis, "endAxis": Axis, "onehotAxis": Axis,
    "axisVec": list, "beginIndexVec": list, "endIndexVec": list, "sliceStridesVec": list, "newDynamicAxes": list,
    "autoPadding": list, "sharing": list, "paddingHead": list, "paddingFoot": list, "Biases": list,
    "strides": Shape, "dilation": Shape, "lowerPad": Shape, "upperPad": Shape, "kernelShape": Shape,
    "outputShape": Shape, "poolingWindowShape": Shape, "unpoolingWindowShape": Shape, "newShape": Shape,
    "roiOutputShape": Shape, "beginIndex": int, "endIndex": int, "sliceStrides": int, "offset": (int, list),
    "outputRank": int, "inferInputRankToMap": int, "groups": int, "poolingType": int, "numItems": int,
    "numClass": int, "newDataType": int, "paddingMode": int, "blockSize": int, "depthRadius": int,
    "newSequenceAxisLengthScalingFactor": int, "newSequenceAxisLengthAdditiveFactor": int,
    "hiddenSize": int, "numLayers": int, "reductionKeepDimensions": bool, "transpose": bool, "sequential": bool,
    "ceilOutDim": bool, "includePad": bool, "spatial": bool, "bidirectional": bool, "oneHotOutputSparse": bool,
    "OutputSparse": bool, "sequenceUnpackSuppressMaskOutput": bool, "doVarianceScaling": bool,
    "useStatsAcrossChannels": bool, "reductionOpName": str, "recurrentOp": str, "sequenceAxis": str,
    "epsilon": NUMBER, "alpha": NUMBER, "beta": NUMBER, "gamma": NUMBER, "bias": NUMBER, "Scaler": NUMBER,
    "fillValue": NUMBER, "dropoutRate": NUMBER, "spatialScale": NUMBER, "paddingConstantValue": NUMBER,
    "sequenceUnpackPaddingValue": NUMBER,
}  # fmt: skip
"""The types of attributes; one that is not listed is not named by any function."""

ITEMS: dict[str, type] = {
    "axisVec": Axis, "newDynamicAxes": Axis, "autoPadding": bool, "sharing": bool, "beginIndexVec": int,
    "endIndexVec": int, "sliceStridesVec": int, "paddingHead": int, "paddingFoot": int, "offset": int,
}  # fmt: skip
"""The types of what is in lists."""


def function(*names: str, **harmless: Any) -> Callable[[Said], Said]:
    """Register a function for primitive functions; a second registration is an error."""

    def register(said: Said) -> Said:
        for name in names:
            if name in FUNCTIONS:
                raise ValueError(f"CNTK {name} is registered twice")
            FUNCTIONS[name] = Entry(said, harmless)
        return said

    return register


def bind(found: Function) -> tuple[Said, dict[str, Any]]:
    """The function that says `found`, and its attributes as keywords; what can be said without its inputs.

    Raises:
        Refusal: there is none, or it does not name an attribute that is there.
        InvalidModel: an attribute has another type.
    """
    entry = FUNCTIONS.get(found.op)
    if entry is None:
        raise Refusal(*_why_unknown(found))
    for key, value in found.attributes.items():
        kind = TYPES.get(key)
        if kind is not None and (not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))):
            raise InvalidModel(f"{found.label!r} ({found.kind}): its {key} is of type {type(value).__name__}")
        item = ITEMS.get(key)
        if item is not None and isinstance(value, list) and not all(isinstance(one, item) for one in value):
            raise InvalidModel(f"{found.label!r} ({found.kind}): its {key} are not of type {item.__name__}")
    return entry.function, bind_attributes(entry.function, dict(found.attributes), entry.harmless, IGNORABLE)


def inputs_fit(said: Said, count: int) -> bool:
    """Whether a function takes so many inputs."""
    parameters = parameters_of(said)[1:]
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    least = sum(p.default is p.empty for p in positional)
    return least <= count and (count <= len(positional) or any(p.kind is p.VAR_POSITIONAL for p in parameters))


WAY_OUT = "give what comes before it with outputs=, or register a function with importers.cntk.table.function"


def _why_unknown(found: Function) -> tuple[str, str]:
    return RANDOM.get(found.op, WHY.get(found.op, "this function is not supported yet")), WAY_OUT


RANDOM = dict.fromkeys(
    ("RandomSample", "RandomSampleInclusionFrequency", "RandomDistribution"), "it gives random numbers"
)

WHY = {
    "OptimizedRNNStack": "it runs on GPUs of CNTK alone, its weights are cuDNN's",
    "Assign": "it changes a weight while the model runs, which ONNX has no form for",
    "CustomProxyOp": "it runs code that is not in the model",
    "UserDefinedFunction": "it runs code that is not in the model",
    **dict.fromkeys(
        ("LambdaRank", "NDCG", "EditDistanceError", "ForwardBackward", "LabelsToGraph", "LatticeSequenceWithSoftmax",
         "CosDistanceWithNegativeSamples"),
        "it is for training alone",
    ),
}  # fmt: skip
