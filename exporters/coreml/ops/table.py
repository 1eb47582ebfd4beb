"""The table of Core ML's op functions: which operators of ONNX it has, in part, by others, or not at all, and why."""

from __future__ import annotations

from hub.optable import OpTable

__all__ = ["DECOMPOSED", "OPS", "PARTIAL", "REFUSED"]

DECOMPOSED = frozenset(
    """Acosh Asinh BitwiseNot ConvInteger EyeLike GlobalLpPool HardSwish Hardmax IsInf IsNaN LogSoftmax LpNormalization
    LpPool MatMulInteger Mean Mish Neg OneHot RMSNormalization Selu Shrink Size Sum ThresholdedRelu Trilu Expand
    CastLike Compress ReduceLogSum ReduceLogSumExp DequantizeLinear QuantizeLinear QLinearConv QLinearMatMul""".split()
)
"""What is said by several operations of Core ML."""

PARTIAL = {
    "AveragePool": "dilated windows of up to 64 entries",
    "Cast": "between float32, float16, int32, int64 and bool; to small integers only from smaller ones",
    "ConvTranspose": "of constant kernels",
    "CumSum": "along a constant axis",
    "Einsum": "up to 5 letters, no diagonals",
    "Expand": "to constant shapes",
    "GRU": "of constant weights, whole sequences; with the reset after the product from iOS 18 on, else by steps",
    "GatherND": "negative indices of known sizes only",
    "GridSample": "linear samples of 4 axes, without reflection",
    "LSTM": "of constant weights, whole sequences",
    "Loop": "of states; what each step gives out only where the number of steps is known",
    "MaxPool": "dilated windows of up to 64 entries; no indices",
    "Mod": "numbers that are not whole with fmod=1",
    "Pad": "by constant pads",
    "Pow": "of floating point",
    "RNN": "of constant weights, whole sequences",
    "Resize": "by constant scales or sizes that are known; no crops",
    "Scan": "of a known number of steps",
    "Slice": "computed limits by steps of 1 only",
    "Split": "of known sizes",
    "Tile": "by constant counts",
    "TopK": "of a constant k; of equal numbers any",
}
"""What of an operator Core ML has, where that is not all."""

_SEQUENCES = "Core ML has tensors only, no sequences and no optional values"
_STRINGS = "Core ML has no text"
_BITS = "Core ML has no operations on bits"

REFUSED = {
    **dict.fromkeys(
        """ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty
        SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence""".split(),
        _SEQUENCES,
    ),
    **dict.fromkeys("RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer".split(), _STRINGS),
    **dict.fromkeys("BitCast BitShift BitwiseAnd BitwiseOr BitwiseXor".split(), _BITS),
    "ImageDecoder": "Core ML decodes no images inside of a model",
    **dict.fromkeys(
        "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split(),
        "random numbers, of which nothing can be proved",
    ),
    "NonMaxSuppression": "Core ML's own gives boxes in another order, and rows of padding",
    "Unique": "a result whose size depends on the numbers",
    "MaxUnpool": "places that are computed at run time",
    **dict.fromkeys(
        "QuantizeLinear QLinearConv QLinearMatMul".split(), "quantized numbers; compress= quantizes weights"
    ),
}
"""What Core ML cannot say, and why. Of what is neither here nor in the table there is no form yet."""

OPS = OpTable("Core ML", REFUSED)
