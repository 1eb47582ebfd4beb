"""The table of what Caffe can say, and what its op functions share."""

from __future__ import annotations

from hub.optable import OpTable

__all__ = ["OPS"]

OPS = OpTable("Caffe")
