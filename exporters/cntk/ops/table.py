"""The table of what CNTK can say, and what its op functions share."""

from __future__ import annotations

from hub.optable import OpTable

__all__ = ["APPROXIMATE", "EDGES", "OPS"]

OPS = OpTable("CNTK")

APPROXIMATE = {
    "Erf": "the error function is said by a formula with an error of 3e-7",
    "Gelu": "the error function is said by a formula with an error of 3e-7",
}
"""Operators without an exact form: how far off they are. A conversion says so where it uses them."""

EDGES = "CNTK gives 0 for x / 0 and for the root of a negative number, and -85.1 for the logarithm of 0"
"""What a conversion says where ONNX gives infinities or NaN and CNTK does not."""
