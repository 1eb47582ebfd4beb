"""Caffe models: prototxt and caffemodel of every version, read without Caffe."""

from importers.caffe.read import read

__all__ = ["read"]
