"""Core ML: ML Programs (`.mlpackage`) and neural networks (`.mlmodel`), built with coremltools alone."""

from exporters.coreml.write import write

__all__ = ["write"]
