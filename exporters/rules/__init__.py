"""Legalization rules: ONNX to equal ONNX that a target can say better. One idea a file.

A rule is a function of a model, which it changes in place. It returns what it did and, for what it looked
at and left alone, why.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Applied"]


@dataclass
class Applied:
    """What a rule did: the layers it changed, and for those that it left alone the reason."""

    changed: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
