"""Small models with the same numbers in ONNX, PyTorch and Keras, for the tests of parity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.model import Model

Weights = dict[str, np.ndarray[Any, Any]]


def weights(seed: int = 1) -> Weights:
    """A 3x3 convolution, 3 to 4 channels (Keras's layout), and a dense layer, 4 to 6."""
    rng = np.random.default_rng(seed)
    shapes = {"conv/kernel": (3, 3, 3, 4), "conv/bias": (4,), "probs/kernel": (4, 6), "probs/bias": (6,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def onnx_model(w: Weights, *, hw: tuple[Any, Any] = (9, 7), activation: str = "Softmax") -> Model:
    """NHWC in, convolution, ReLU, mean over H and W, dense, softmax; canonical ONNX as an importer writes it."""
    g = GraphBuilder("net")
    x = g.input("image", ir.DataType.FLOAT, ["N", *hw, 3], "NHWC")
    with g.layer("conv", "Conv2D"):
        x = g.op("Transpose", x, perm=[0, 3, 1, 2])
        kernel = g.constant(w["conv/kernel"].transpose(3, 2, 0, 1), "kernel")
        x = g.op("Conv", x, kernel, g.constant(w["conv/bias"], "bias"), pads=[0, 0, 0, 0], kernel_shape=[3, 3])
        x = g.op("Relu", x)
        x.metadata_props["hub.perm"] = "0,2,3,1"
    with g.layer("pool", "GlobalAveragePooling2D"):
        x = g.op("ReduceMean", x, g.ints([2, 3], "axes"), keepdims=0)
    with g.layer("probs", "Dense"):
        x = g.op("MatMul", x, g.constant(w["probs/kernel"], "kernel"))
        x = g.op("Add", x, g.constant(w["probs/bias"], "bias"))
        x = g.op(activation, x)
    g.output(x, "probs")
    return Model(g.model(), "keras")


def torch_module(w: Weights) -> Any:
    """The same network as a torch module with functional softmax."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.probs = nn.Linear(4, 6)
            self.dropout = nn.Dropout(0.5)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.conv(image.permute(0, 3, 1, 2)))
            return torch.softmax(self.probs(self.dropout(x.mean((2, 3)))), dim=-1)

    net = Net()
    state = {
        "conv.weight": w["conv/kernel"].transpose(3, 2, 0, 1),
        "conv.bias": w["conv/bias"],
        "probs.weight": w["probs/kernel"].T,
        "probs.bias": w["probs/bias"],
    }
    net.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()})
    return net


TORCH_FILE = """
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.probs = nn.Linear(4, 6)

    def forward(self, image):
        x = torch.relu(self.conv(image.permute(0, 3, 1, 2)))
        return torch.softmax(self.probs(x.mean((2, 3))), dim=-1)


def load(path=Path(__file__).with_suffix(".safetensors")):
    net = Net()
    net.load_state_dict(load_file(path))
    return net
"""


def torch_file(w: Weights, folder: Path) -> Path:
    """The same network as `model.py` and `model.safetensors`."""
    from safetensors.numpy import save_file

    arrays = {
        "conv.weight": w["conv/kernel"].transpose(3, 2, 0, 1),
        "conv.bias": w["conv/bias"],
        "probs.weight": w["probs/kernel"].T,
        "probs.bias": w["probs/bias"],
    }
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, folder / "model.safetensors")
    path = folder / "model.py"
    path.write_text(TORCH_FILE)
    return path


def keras_model(w: Weights, *, hw: tuple[Any, Any] = (9, 7)) -> Any:
    """The same network in Keras."""
    import keras

    image = keras.Input((*hw, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, keras.layers.Dense(6, activation="softmax", name="probs")(x))
    model.get_layer("conv").set_weights([w["conv/kernel"], w["conv/bias"]])
    model.get_layer("probs").set_weights([w["probs/kernel"], w["probs/bias"]])
    return model
