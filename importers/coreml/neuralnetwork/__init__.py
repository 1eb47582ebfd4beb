"""Neural networks of Core ML, and pipelines of models."""

from importers.coreml.neuralnetwork.build import build

__all__ = ["build"]
