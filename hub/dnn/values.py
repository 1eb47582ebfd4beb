"""The typed values of CNTK's model files, as Python has them; `hub/dnn/__init__.py` lists them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

import numpy as np

__all__ = [
    "BATCH",
    "FLOAT",
    "FREE",
    "INFERRED",
    "LARGE",
    "LIMIT",
    "OPERATORS",
    "Array",
    "Axis",
    "Float",
    "Int",
    "Shape",
    "Tree",
]

Tree: TypeAlias = dict[str, Any]

LARGE = 0x636E746B
"""The first four bytes, little endian, of a file whose arrays lie behind the message."""

LIMIT = (1 << 31) - 1
"""From this size on, in bytes, a file has the large form."""

FREE, INFERRED = (1 << 64) - 3, (1 << 64) - 1
"""Sizes in a shape: one that is known at run time only, one that CNTK works out."""

OPERATORS = dict(
    enumerate(
        """Negate Sigmoid Tanh ReLU Exp Log Sqrt Floor Abs Reciprocal Softmax Hardmax TransposeAxes Where Slice
        Dropout Reshape Pooling SumAll Plus Minus ElementTimes Equal NotEqual Less LessEqual Greater GreaterEqual
        PackedIndex GatherPacked ScatterPacked Times TransposeTimes Convolution SquaredError
        CrossEntropyWithSoftmax ClassificationError PastValue FutureValue ReduceElements BatchNormalization Clip
        Select Splice Combine RandomSample RandomSampleInclusionFrequency ROIPooling Logistic OptimizedRNNStack
        ReconcileDynamicAxis LogSoftmax LogPlus CosDistance Sin Cos Pass Block Unpooling LambdaRank NDCG
        EditDistanceError NoOp LabelsToGraph StopGradient ELU ForwardBackward CosDistanceWithNegativeSamples
        OneHot Pow ToSequence ToSequenceLike UnpackSequence Assign Gather StableSigmoid RandomDistribution Sinh
        Cosh UnpackBatch ToBatch Asin Acos Pad Crop Atanh Asinh TopK Squeeze ConstantOp
        LatticeSequenceWithSoftmax Cast EyeLike CustomProxyOp StraightThrough Tan Atan ConvolutionSequenceShape
        """.split()
    )
)
"""The names of CNTK's primitive functions by their numbers in files (PrimitiveOpType.h)."""


class Int(int):
    """A signed number of 32 bits; a plain int is a SizeT, unsigned and of 64 bits."""


class Float(float):
    """A number of 32 bits; a plain float is a Double."""


class Shape(tuple[int, ...]):
    """An NDShape, the fastest axis first."""


@dataclass(frozen=True)
class Axis:
    """A static axis by its number from the fastest on (-1: all), or a dynamic one by its name."""

    index: int
    name: str = "staticAxisIdx="
    ordered: bool = True


BATCH = Axis((1 << 31) - 1, "defaultBatchAxis", False)

FLOAT: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 4: np.dtype("<f4")}
"""How the numbers of a DataType are stored: Float, Double; Float16 as 32 bits."""


@dataclass(frozen=True)
class Array:
    """An NDArrayView: its DataType (1 Float, 2 Double, 4 Float16, 5 Int8, 6 Int16), its shape, and its numbers.

    `put` writes the numbers as they are stored, little endian, into a file.
    """

    data_type: int
    shape: Shape
    put: Callable[[IO[bytes]], None]

    @property
    def nbytes(self) -> int:
        """What `put` writes."""
        return math.prod(self.shape) * FLOAT[self.data_type].itemsize
