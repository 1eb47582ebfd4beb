"""CNTK model files for tests, written without CNTK."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from hub import dnn

SEQUENCE = dnn.Axis((1 << 31) - 1, "defaultDynamicAxis", True)


class Net:
    """Functions and variables as they are added; sizes and arrays are given in C order."""

    def __init__(self) -> None:
        self.inputs: list[dnn.Tree] = []
        self.functions: list[dnn.Tree] = []

    def input(self, name: str, *sizes: int, axes: Sequence[dnn.Axis] = (dnn.BATCH,), **more: Any) -> str:
        """An input; its value."""
        return self._variable(name, 0, sizes, dynamic_axis=list(axes), **more)

    def parameter(self, name: str, array: Any) -> str:
        """A parameter; its value."""
        array = np.asarray(array, np.float32)
        value = dnn.Array(1, dnn.Shape(array.shape[::-1]), partial(_put, array))
        return self._variable(name, 2, array.shape, value=value)

    def add(self, op: str, *inputs: str, name: str = "", uid: str = "", **attributes: Any) -> str:
        """A function; the value of its first output."""
        uid = uid or f"{op}{len(self.functions)}"
        number = {text: i for i, text in dnn.OPERATORS.items()}[op] if op in dnn.OPERATORS.values() else int(op)
        function: dnn.Tree = {"type": "PrimitiveFunction", "version": 24, "uid": uid, "op": number}
        self.functions.append({**function, "attributes": attributes, "inputs": list(inputs), "name": name})
        return f"{uid}_Output_0"

    def conv(self, x: str, kernel: Any, name: str, pad: int = 0) -> str:
        """A convolution of stride 1."""
        kernel = np.asarray(kernel)
        _, channels, height, width = kernel.shape
        return self.add(
            "Convolution",
            self.parameter(f"{name} kernel", kernel),
            x,
            name=name,
            strides=dnn.Shape((1, 1, channels)),
            kernelShape=dnn.Shape((width, height, channels)),
            dilation=dnn.Shape((1,)),
            outputShape=dnn.Shape((0,)),
            lowerPad=dnn.Shape((pad, pad, 0)),
            upperPad=dnn.Shape((pad, pad, 0)),
            autoPadding=[False] * 3,
            sharing=[True],
            groups=1,
            transpose=False,
            sequential=False,
            maxTempMemSizeInSamples=0,
        )

    def pool(self, x: str, kind: int, size: int, stride: int, name: str, pad: int = 0) -> str:
        """A pooling, of kind 0 (maximum) or 1 (average)."""
        return self.add(
            "Pooling",
            x,
            name=name,
            poolingType=kind,
            poolingWindowShape=dnn.Shape((size, size)),
            strides=dnn.Shape((stride, stride)),
            lowerPad=dnn.Shape((pad, pad)),
            upperPad=dnn.Shape((pad, pad)),
            autoPadding=[False],
            ceilOutDim=False,
            includePad=False,
        )

    def norm(self, x: str, scale: Any, shift: Any, mean: Any, variance: Any, name: str) -> str:
        """A batch normalization by channel."""
        four = [self.parameter(f"{name} {i}", array) for i, array in enumerate((scale, shift, mean, variance))]
        return self.add(
            "BatchNormalization",
            x,
            *four,
            self.parameter(f"{name} count", 0.0),
            name=name,
            spatial=True,
            normalizationTimeConstant=0.0,
            blendTimeConstant=0.0,
            epsilon=1e-5,
            useCuDNNEngine=False,
            disableRegularization=False,
        )

    def dense(self, x: str, weights: Any, name: str) -> str:
        """A product with weights whose last axis is that of the output."""
        weights = np.asarray(weights)
        parameter = self.parameter(f"{name} weights", weights)
        return self.add("Times", parameter, x, name=name, outputRank=1, inferInputRankToMap=dnn.Int(-1))

    def write(self, path: Path, *outputs: str, limit: int | None = None, **more: Any) -> Path:
        """Write the model that gives `outputs`."""
        root = outputs[0] if len(outputs) == 1 else self.add("Combine", *outputs, uid="outputs")
        tree = {"type": "CompositeFunction", "version": 3, "uid": "model", "root": root.rpartition("_Output_")[0]}
        tree |= {"inputs": self.inputs, "primitive_functions": self.functions, **more}
        dnn.write(path, tree, **({} if limit is None else {"limit": limit}))
        return path

    def _variable(self, name: str, kind: int, sizes: Sequence[int], **more: Any) -> str:
        uid = f"Variable{len(self.inputs)}"
        variable: dnn.Tree = {"type": "Variable", "version": 1, "uid": uid, "kind": kind, "name": name}
        variable |= {"data_type": 1, "dynamic_axis": [], "is_sparse": False, "needs_gradient": False}
        self.inputs.append({**variable, "shape": dnn.Shape(sizes[::-1]), **more})
        return uid


def _put(array: Any, file: IO[bytes]) -> None:
    file.write(array.tobytes())
