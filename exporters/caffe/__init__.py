"""ONNX to Caffe: `net.prototxt` and `net.caffemodel`, without Caffe."""

from exporters.caffe.write import write

__all__ = ["write"]
