"""Operations on tensors inside functional models: `x + 3.0`, of Keras 3 and of tf.keras 2."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.keras.layers import Context, operation
from importers.keras.ops.activation import activate


def _operand(keras: Context, value: Any, name: str) -> ir.Value:
    if isinstance(value, ir.Value):
        return value
    if isinstance(value, dict) and value.get("class_name") in ("__numpy__", "__tensor__"):
        config = value["config"]
        if config.get("dtype") not in ("float32", "int32", "int64"):
            raise Refusal(f"a constant of the type {str(config.get('dtype'))[:40]} is not supported yet")
        value = config["value"]
    if isinstance(value, bool) or not isinstance(value, int | float | list):
        raise Refusal(f"the operand {str(value)[:40]} is not a number")
    return keras.constant(value, name)


def _binary(op_type: str) -> Any:
    def apply(keras: Context, x: Any, y: Any = None, x1: Any = None, x2: Any = None) -> ir.Value:
        left, right = (x, y) if y is not None else (x, x2)
        return keras.op(op_type, _operand(keras, left, "x"), _operand(keras, right, "y"))

    return apply


BINARY = {
    "Add": ["Add", "math.add", "__operators__.add"],
    "Sub": ["Subtract", "math.subtract", "__operators__.subtract", "math.sub"],
    "Mul": ["Multiply", "math.multiply", "__operators__.multiply"],
    "Div": ["Divide", "TrueDivide", "math.divide", "math.truediv", "__operators__.truediv"],
    "Max": ["Maximum", "math.maximum"],
    "Min": ["Minimum", "math.minimum"],
    "Pow": ["Power", "math.pow"],
}

for _op_type, _names in BINARY.items():
    operation(*_names)(_binary(_op_type))


ACTIVATIONS = {
    "relu": ["Relu", "ReLU", "nn.relu"],
    "relu6": ["Relu6", "nn.relu6"],
    "sigmoid": ["Sigmoid", "math.sigmoid", "nn.sigmoid"],
    "tanh": ["Tanh", "math.tanh", "nn.tanh"],
    "silu": ["Silu", "nn.silu", "nn.swish"],
    "softplus": ["Softplus", "math.softplus", "nn.softplus"],
    "softsign": ["Softsign", "nn.softsign"],
    "hard_sigmoid": ["HardSigmoid"],
    "hard_silu": ["HardSilu"],
    "selu": ["Selu", "nn.selu"],
    "elu": ["Elu", "nn.elu"],
    "leaky_relu": ["LeakyRelu"],
    "gelu": ["Gelu"],
    "mish": ["Mish"],
    "celu": ["Celu"],
    "softmax": ["Softmax"],
    "log_softmax": ["LogSoftmax"],
    "log_sigmoid": ["LogSigmoid"],
}


def _activation(name: str) -> Any:
    def apply(keras: Context, x: ir.Value, **config: Any) -> ir.Value:
        return activate(keras, x, {"class_name": name, **config} if config else name)

    return apply


for _name, _names in ACTIVATIONS.items():
    operation(*_names)(_activation(_name))


UNARY = {
    "Exp": ["Exp", "math.exp"],
    "Log": ["Log", "math.log"],
    "Sqrt": ["Sqrt", "math.sqrt"],
    "Abs": ["Absolute", "Abs", "math.abs"],
    "Neg": ["Negative", "math.negative"],
}


def _unary(op_type: str) -> Any:
    def apply(keras: Context, x: ir.Value) -> ir.Value:
        return keras.op(op_type, x)

    return apply


for _op_type, _names in UNARY.items():
    operation(*_names)(_unary(_op_type))


@operation("NotEqual", "math.not_equal")
def not_equal(keras: Context, x: Any, y: Any = None, x1: Any = None, x2: Any = None) -> ir.Value:
    """The mask of an embedding; layers that use masks are refused."""
    left, right = (x, y) if y is not None else (x, x2)
    if not isinstance(left, ir.Value) or isinstance(right, bool) or not isinstance(right, int | float):
        raise Refusal("a comparison with something that is no number is not supported")
    dtype = left.dtype or ir.DataType.FLOAT
    if dtype not in (ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64) or float(right) != int(right):
        raise Refusal("a comparison of these types is not supported")
    number = keras.builder.constant(np.asarray(right, dtype.numpy()), "y")
    return keras.op("Not", keras.op("Equal", left, number))
