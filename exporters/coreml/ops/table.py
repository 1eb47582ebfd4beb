"""The table of Core ML's op functions."""

from __future__ import annotations

from hub.optable import OpTable

__all__ = ["OPS"]

OPS = OpTable("Core ML")
