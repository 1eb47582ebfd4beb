"""The text that the PyTorch exporter writes: read it here as a user would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from torch_nets import check, net, node, small_cnn, text, weight

EXPECTED = '''"""small_cnn, converted from ONNX.

Inputs:
    image: float32 (N, 3, 6, 7)
Outputs:
    head: float32 (N, 5)
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Block(nn.Module):
    """Used for block1, block2, block3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return F.relu(x + residual)


class SmallCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem_conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(*(Block() for _ in range(3)))
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.stem_bn(self.stem_conv(image)))
        x = self.blocks(x)
        x = x.mean((2, 3))
        x = self.drop(x)
        return self.head(x)


def load(weights: str | Path | None = None, device: str = "cpu") -> SmallCnn:
    """Build the network with its weights, ready for inference.

    `weights` is a .safetensors file; by default the one beside this file.
    """
    path = Path(weights) if weights else Path(__file__).with_suffix(".safetensors")
    model = SmallCnn()
    model.load_state_dict(load_file(path), strict=True)
    return model.to(device).eval()
'''


def test_a_small_network_reads_as_written_by_hand(tmp_path: Path) -> None:
    assert text(small_cnn(), tmp_path) == EXPECTED


def test_it_computes_the_same_for_any_batch(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        check(small_cnn(), tmp_path, rng.normal(size=(batch, 3, 6, 7)).astype(np.float32))


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    model = small_cnn()
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    assert text(model, first) == text(model, second)
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def test_the_text_is_formatted(tmp_path: Path) -> None:
    text(small_cnn(), tmp_path)
    command = [sys.executable, "-m", "ruff", "format", "--check", "--isolated", "--line-length", "100"]
    done = subprocess.run([*command, str(tmp_path / "model.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_state_dict_names_are_those_of_the_layers(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 7)).astype(np.float32)
    names = list(check(small_cnn(), tmp_path, x).state_dict())
    assert names[:2] == ["stem_conv.weight", "stem_bn.weight"]
    assert "blocks.1.conv1.weight" in names
    assert names[-2:] == ["head.weight", "head.bias"]


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    model = net(
        [node("Add", "left right", "total"), node("Mul", "left right", "product"), node("Relu", "total", "clipped")],
        {"left": ["N", 4], "right": ["N", 4]},
        ["product", "clipped", "left", "mean"],
        {"mean": weight(4)},
    )
    written = text(model, tmp_path)
    assert "def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:" in written
    rng = np.random.default_rng(0)
    check(model, tmp_path, rng.normal(size=(2, 4)).astype("f"), rng.normal(size=(2, 4)).astype("f"))


def test_a_layer_called_twice_is_one_module(tmp_path: Path) -> None:
    model = net(
        [node("Conv", "a w b", "first"), node("Conv", "c w b", "second"), node("Add", "first second", "sum")],
        {"a": ["N", 3, 5, 6], "c": ["N", 3, 5, 6]},
        ["sum"],
        {"w": weight(4, 3, 3, 3), "b": weight(4)},
    )
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 3, 5, 6)).astype("f") for _ in range(2)]
    assert len(list(check(model, tmp_path, *arrays).parameters())) == 2


def test_tied_weights_are_one_parameter(tmp_path: Path) -> None:
    nodes = [
        node("Gather", "table ids", "embedded"),
        node("Transpose", "table", "turned", perm=[1, 0]),
        node("MatMul", "embedded turned", "logits"),
    ]
    model = net(nodes, {"ids": ["N", 4]}, ["logits"], {"table": weight(9, 6)}, types={"ids": 7})
    network = check(model, tmp_path, np.array([[1, 2, 3, 8], [0, 4, 5, 6]]))
    assert len(list(network.parameters())) == 1


def test_sizes_become_plain_expressions(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Concat", "batch rest", "target", axis=0),
        node("Reshape", "x target", "y"),
    ]
    weights = {"zero": np.array([0]), "rest": np.array([3, 4])}
    model = net(nodes, {"x": ["N", 12]}, ["y"], weights)
    assert "return x.reshape(x.shape[0], 3, 4)" in text(model, tmp_path)
    check(model, tmp_path, np.arange(24, dtype=np.float32).reshape(2, 12))


def test_torch_export_with_a_dynamic_batch(tmp_path: Path) -> None:
    import torch

    x = np.random.default_rng(0).normal(size=(2, 3, 6, 7)).astype(np.float32)
    network = check(small_cnn(), tmp_path, x)
    program = torch.export.export(
        network, (torch.from_numpy(x),), dynamic_shapes={"image": {0: torch.export.Dim("batch")}}
    )
    assert program.module()(torch.zeros(5, 3, 6, 7)).shape == (5, 5)
