"""CNTK's files written by hand, without CNTK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hub import dnn, runtimes
from hub.dnn import BATCH, Array, Axis, Int, Shape

MAKER = Path(__file__).parent / "fixtures" / "cntk" / "make_models.py"
EVALUATOR = MAKER.with_name("evaluate.py")


def cntk_python() -> Path:
    """The Python 3.6 of the installed runtime."""
    return runtimes.folder() / "cntk-python" / "bin" / "python"


STEPS = Axis((1 << 31) - 1, "defaultDynamicAxis", True)
NUMBERS = {name: number for number, name in dnn.OPERATORS.items()}


def array(data: np.ndarray) -> Array:
    """Numbers as a file has them."""
    data = np.ascontiguousarray(data, np.float32)
    return Array(1, Shape(data.shape[::-1]), lambda file: file.write(data.tobytes()) and None)


class Net:
    """Adds variables and functions one by one; `tree` is the model whose root is the last function."""

    def __init__(self) -> None:
        self.inputs: list[dict[str, Any]] = []
        self.functions: list[dict[str, Any]] = []

    def variable(self, kind: int, uid: str, shape: tuple[int, ...], axes: tuple[Axis, ...] = (), **more: Any) -> str:
        self.inputs.append(
            {
                "type": "Variable", "version": 1, "uid": uid, "kind": kind, "data_type": 1, "dynamic_axis": list(axes),
                "is_sparse": False, "needs_gradient": kind == 2, "shape": Shape(shape[::-1]), "name": uid, **more,
            }
        )  # fmt: skip
        return uid

    def input(self, uid: str, *shape: int, sequence: bool = False) -> str:
        return self.variable(0, uid, shape, (STEPS, BATCH) if sequence else (BATCH,))

    def weight(self, uid: str, *shape: int, constant: bool = False, **more: Any) -> str:
        rng = np.random.default_rng(len(self.inputs))
        value = array(rng.uniform(0.1, 1, shape))
        return self.variable(3 if constant else 2, uid, shape, value=value, **more)

    def op(self, op: str | int, *inputs: str, uid: str = "", **attributes: Any) -> str:
        uid, number = uid or f"{op}{len(self.functions)}", NUMBERS[op] if isinstance(op, str) else op
        self.functions.append(
            {
                "type": "PrimitiveFunction", "version": 24, "uid": uid, "op": number,
                "name": uid, "inputs": list(inputs), "attributes": attributes,
            }
        )  # fmt: skip
        return f"{uid}_Output_0"

    @property
    def tree(self) -> dict[str, Any]:
        return {
            "type": "CompositeFunction", "version": 3, "uid": "model", "root": self.functions[-1]["uid"], "name": "",
            "inputs": self.inputs, "primitive_functions": self.functions,
        }  # fmt: skip

    def save(self, path: Path, **changes: Any) -> Path:
        dnn.write(path, {**self.tree, **changes})
        return path


CONV = {
    "strides": Shape((1, 1, 3)), "autoPadding": [True, True, False], "lowerPad": Shape((0,)), "upperPad": Shape((0,)),
    "dilation": Shape((1, 1, 1)), "groups": 1, "kernelShape": Shape((3, 3, 3)), "outputShape": Shape((0,)),
    "maxTempMemSizeInSamples": 0, "sequential": False, "sharing": [True] * 3, "transpose": False,
}  # fmt: skip
POOL = {
    "poolingType": 0, "poolingWindowShape": Shape((2, 2)), "strides": Shape((2, 2)), "autoPadding": [False],
    "lowerPad": Shape((0,)), "upperPad": Shape((0,)), "ceilOutDim": False, "includePad": False,
}  # fmt: skip
NORM = {
    "spatial": True, "epsilon": 1e-5, "normalizationTimeConstant": 0.0, "blendTimeConstant": 0.0,
    "useCuDNNEngine": False, "disableRegularization": False,
}  # fmt: skip
TIMES = {"outputRank": 1, "inferInputRankToMap": Int(-1)}


def small() -> Net:
    """A convolution, a normalization, a pooling and a product."""
    net = Net()
    x = net.input("x", 3, 6, 8)
    x = net.op("Convolution", net.weight("W", 4, 3, 3, 3), x, uid="conv", **CONV)
    x = net.op("Plus", x, net.weight("b", 4, 1, 1), uid="sum")
    vectors = [net.weight(f"v{i}", 4) for i in range(4)] + [net.weight("count", constant=True)]
    x = net.op("BatchNormalization", x, *vectors, uid="bn", **NORM)
    x = net.op("Pooling", net.op("ReLU", x, uid="relu"), uid="pool", **POOL)
    x = net.op("Times", net.weight("V", 4, 3, 4, 5), x, uid="fc", **TIMES)
    net.op("Softmax", x, uid="prob")
    return net


def recurrence() -> Net:
    """h = tanh(x + H h), step by step."""
    net = Net()
    x, first = net.input("x", 4, sequence=True), net.weight("first", 1, constant=True)
    net.op("PastValue", "h_Output_0", first, uid="past", offset=1)
    product = net.op("Times", net.weight("H", 4, 4), "past_Output_0", uid="product", **TIMES)
    net.op("Tanh", net.op("Plus", x, product, uid="sum"), uid="h")
    net.variable(4, "h_Output_0", (4,), (STEPS, BATCH), name="")
    return net
