"""TensorFlow and TFLite in, by tf2onnx in a process of its own."""

from importers.tensorflow.read import read

__all__ = ["read"]
