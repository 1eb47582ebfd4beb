"""Core ML's models, `.mlpackage` and `.mlmodel`, read without coremltools."""

from importers.coreml.read import read

__all__ = ["read"]
