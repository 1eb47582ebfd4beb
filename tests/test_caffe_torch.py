"""PyTorch networks by way of PyTorch's own ONNX exporters to Caffe, in the real Caffe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need, need_runtime
from out_nets import agrees

need("torch", "onnxscript")
need_runtime("caffe")

import torch  # noqa: E402
from torch import nn  # noqa: E402

import hub  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Squeeze(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool, self.down, self.up = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Any) -> Any:
        return x * nn.functional.hardsigmoid(self.up(torch.relu(self.down(self.pool(x)))))


class Mobile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()]
        depthwise = [nn.Conv2d(16, 16, 5, 1, 2, groups=16), nn.BatchNorm2d(16), Squeeze(16)]
        last = [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(16, 8, 1), nn.SiLU(), nn.MaxPool2d(3, 2, 1)]
        self.layers = nn.Sequential(*first, *depthwise, *last, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    def forward(self, x: Any) -> Any:
        return self.layers(x)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.up, self.last, self.norm = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 4, 3, 1, 1), nn.GroupNorm(2, 8)

    def forward(self, x: Any) -> Any:
        a = torch.relu(self.norm(self.first(x)))
        return self.last(torch.cat([a, self.up(torch.relu(self.down(a)))], 1)).softmax(1)


class Vision(nn.Module):
    """A vision transformer of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 5)
        self.position, self.token = nn.Parameter(torch.randn(1, 17, 16)), nn.Parameter(torch.randn(1, 1, 16))
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu", norm_first=True)

    def forward(self, x: Any) -> Any:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(y.shape[0], -1, -1), y], 1) + self.position
        return self.head(self.layer(y)[:, 0])


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True), nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


NETWORKS = {"mobile": Mobile, "unet": UNet, "vision": Vision, "recurrent": Recurrent}
SHAPES = {"vision": (2, 3, 16, 16), "recurrent": (2, 5, 6)}
ALONG_THE_BATCH = {"vision", "recurrent"}
"""Networks with constructions that need the size of the batch."""


@pytest.mark.parametrize("free", [False, True], ids=["fixed", "free batch"])
@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "script"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network(name: str, dynamo: bool, free: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    x = torch.randn(*SHAPES.get(name, (2, 3, 16, 20)))
    path = tmp_path / "net.onnx"
    if dynamo:
        sizes = ({0: torch.export.Dim.DYNAMIC},) if free else None
        torch.onnx.export(network, (x,), path, dynamo=True, verbose=False, dynamic_shapes=sizes)
    else:
        axes = {"x": {0: "N"}} if free else None
        torch.onnx.export(network, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    model = hub.load(path)
    if free and name in ALONG_THE_BATCH:
        with pytest.raises(hub.UnsupportedOps, match="batch=1"):
            hub.save(model, tmp_path / "net.prototxt")
        agrees(model, tmp_path, x.numpy(), batch=2)
    else:
        agrees(model, tmp_path, x.numpy())
    with torch.no_grad():
        expected = network(x).numpy()
    (result,) = model.run(x.numpy()).values()
    assert np.abs(result - expected).max() <= 1e-5 * np.ptp(expected)
