"""CNTK's model files, version 2: one tree of typed values, read and written without CNTK.

A file is a `Dictionary` message of Protocol Buffers (CNTK.proto in CNTK's sources): a map from names to values,
each of which says its type. In Python the types are

    Bool bool · Int `Int` · SizeT int · Float `Float` · Double float · String str · None None
    NDShape `Shape` · Axis `Axis` · Vector list · Dictionary dict · NDArrayView `Array`

Shapes run as CNTK's do, the fastest axis first: an array of C order (O, I, H, W) has the shape (W, H, I, O) and
the same bytes. A file of 2 GB or more has the numbers of its arrays behind the message, in its order
(`LARGE`; Serialization.cpp in CNTK's sources).
"""

from hub.dnn.reader import MappedArray, read
from hub.dnn.values import (
    BATCH,
    FLOAT,
    FREE,
    INFERRED,
    LARGE,
    OPERATORS,
    Array,
    Axis,
    Float,
    Int,
    Shape,
    Tree,
)
from hub.dnn.writer import encode, write

__all__ = [
    "BATCH",
    "FLOAT",
    "FREE",
    "INFERRED",
    "LARGE",
    "OPERATORS",
    "Array",
    "Axis",
    "Float",
    "Int",
    "MappedArray",
    "Shape",
    "Tree",
    "encode",
    "read",
    "write",
]
