"""Keras models of every version, read without Keras and without TensorFlow."""

from importers.keras.read import read

__all__ = ["read"]
