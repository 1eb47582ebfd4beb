"""The table of what CNTK can say, and what its op functions share."""

from __future__ import annotations

from hub.optable import OpTable

__all__ = ["APPROXIMATE", "OPS"]

OPS = OpTable("CNTK")

APPROXIMATE = {
    "Erf": "the error function is said by a formula with an error of 3e-7",
    "Gelu": "the error function is said by a formula with an error of 3e-7",
}
"""Operators without an exact form: how far off they are. A conversion says so where it uses them."""
