"""PyTorch code: `write` makes `model.py` and `model.safetensors`, `build` the live module."""

from __future__ import annotations

from exporters.torch.write import build, write

__all__ = ["build", "write"]
