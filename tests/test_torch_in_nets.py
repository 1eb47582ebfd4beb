"""Twelve architectures of PyTorch: their numbers at sizes other than those they were read at, names, every target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need, need_runtime

import hub
from hub.errors import HubError, UnsupportedOps, UsageError

need("torch", "coremltools")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch_sources import NETS, net  # noqa: E402

OTHER = {"N": 5, "H": 80, "W": 48, "L": 9, "M": 4}
"""Sizes that nothing was read or compared at."""

ONWARDS = {"H": 64, "W": 96, "L": 12, "M": 7}
"""What targets without free sizes are given; the batch stays free in networks of images, and is 1 in the others."""

IMAGES = ("ResNet", "DenseNet", "MobileNetV3", "EfficientNet", "ConvNeXt", "UNet")

TARGETS = {"torch": "net.py", "caffe": "net.prototxt", "cntk": "net.dnn", "coreml": "net.mlpackage"}

REFUSED = {
    ("BERT", "caffe"): "float32, not in int64",
    ("BERT", "cntk"): "float32, not in int64",
    ("LSTM", "torch"): "LSTM x2: PyTorch has no form of it yet",
    ("GRU", "torch"): "GRU x2: PyTorch has no form of it yet",
    ("GRU", "caffe"): "GRU x2: Caffe has no form of it yet",
}
"""Why a target does not take a network; all others take all."""

REORDERED = {"LSTM": "lstm.", "GRU": "gru.", "Decoder": "multihead_attn.in_proj_"}
"""Weights that ONNX wants otherwise: they do not keep their names."""

slow = pytest.mark.slow
SOME = [pytest.param(name, marks=() if name == "GRU" else slow) for name in NETS]
_READ: dict[str, tuple[nn.Module, hub.Model]] = {}


@pytest.fixture(scope="module", autouse=True)
def _free() -> Iterator[None]:
    yield
    _READ.clear()


def read(name: str) -> tuple[nn.Module, hub.Model]:
    """The module, and what hub.load has made of it; read once."""
    if name not in _READ:
        module = net(name)
        _READ[name] = module, hub.load(module, inputs=NETS[name][1])
    return _READ[name]


def sized(said: Any, sizes: dict[str, int]) -> tuple[str, tuple[int | str, ...]]:
    dtype, shape = said if isinstance(said[1], tuple) else ("float32", said)
    return dtype, tuple(sizes.get(n, n) for n in shape)


def returned(module: nn.Module, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        results = module(*(torch.from_numpy(array) for array in feeds.values()))
    flat = results.values() if isinstance(results, dict) else results if isinstance(results, tuple) else [results]
    return [tensor.numpy() for tensor in flat]


@pytest.mark.parametrize("name", SOME)
def test_numbers_names_and_layers(name: str) -> None:
    module, model = read(name)
    assert not [warning for warning in model.warnings if "not proved" in warning]
    random = np.random.default_rng(5)
    feeds = {}
    for key, said in NETS[name][1].items():
        dtype, shape = sized(said, OTHER)
        values = random.integers(0, 10, shape) if dtype == "int64" else random.standard_normal(shape)
        feeds[key] = values.astype(dtype)
    assert [info.name for info in model.inputs] == list(feeds)
    ours, theirs = list(model.run(feeds).values()), returned(module, feeds)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5 * float(np.ptp(b)))
    counts: dict[str, int] = {}
    for node in model.ir.graph:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
        assert node.metadata_props.get("hub.layer"), node.name
    assert counts.get("BatchNormalization", 0) == sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    assert not {"Identity", "CastLike", "Constant", "SequenceAt", "SplitToSequence"} & set(counts)
    kept = set(model.ir.graph.initializers)
    lost = [key for key in dict(module.named_parameters()) if key not in kept]
    assert all(key == "wte.weight" or REORDERED.get(name, "?") in key for key in lost), lost


@pytest.mark.parametrize("name", SOME)
def test_layers_are_compared_by_name(name: str) -> None:
    module, model = read(name)
    report = hub.check(module, model, layers=True)
    assert report.ok, str(report)
    compared = {row.name for row in report.rows if row.kind == "layer" and row.verdict == "ok"}
    leaves = {key for key, part in module.named_modules() if not [*part.children()] and [*part.parameters()]}
    assert len(compared & leaves) >= (0.4 if name in ("LSTM", "GRU", "Decoder", "ConvNeXt") else 0.7) * len(leaves) - 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SOME)
def test_onwards(name: str, target: str, tmp_path: Path) -> None:
    if target in ("caffe", "cntk"):
        need_runtime(target)
    _, model = read(name)
    sizes = ONWARDS | ({} if name in IMAGES else {"N": 1})
    inputs = {key: sized(said, sizes)[1] for key, said in NETS[name][1].items()}
    if reason := REFUSED.get((name, target)):
        with pytest.raises(UnsupportedOps, match=reason):
            hub.convert(model.ir, tmp_path / TARGETS[target], to=target, inputs=inputs)
        assert not list(tmp_path.iterdir())
        return
    done = hub.convert(model.ir, tmp_path / TARGETS[target], to=target, inputs=inputs)
    assert done.report is not None
    assert done.report.ok
    assert not done.report.not_compared


@slow
def test_a_module_goes_to_a_target_in_one_call(tmp_path: Path) -> None:
    need_runtime("caffe")
    done = hub.convert(net("ResNet"), tmp_path / "net.prototxt", inputs=[("N", 3, 64, 96)])
    assert done.report is not None
    assert done.report.ok
    assert not done.report.not_compared
    assert {row.between for row in done.report.rows} == {"ONNX against PyTorch source", "Caffe target against ONNX"}
    assert list(done.report.inputs.values()) == ["float32 2x3x64x96, 3x3x64x96"]


# -- what is said of inputs, and what cannot be captured ----------------------------------------------


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor, ids: Tensor, factor: float = 1.0, shift: Tensor | None = None) -> Tensor:
        y = self.fc(x) * factor + ids[:, None]
        return y if shift is None else y + shift


def test_inputs_are_asked_for() -> None:
    with pytest.raises(UsageError, match="'x', 'ids' have") as caught:
        hub.load(Two())
    assert '("N", 3, 224, 224)' in str(caught.value)
    for inputs, words in (
        ({"y": (2, 4)}, "no parameter 'y'"),
        ([(2, 4)], "'ids' has"),
        ({"x": (2, 4), "ids": "what"}, "."),
        ({"x": ("N", 4.5), "ids": (2,)}, "cannot be understood"),
        ({"x": ("two words", 4), "ids": (2,)}, "no name for a size"),
        ([(2, 4)] * 5, "5 inputs"),
    ):
        with pytest.raises(HubError, match=words):
            hub.load(Two(), inputs=inputs)


@slow
def test_what_can_be_said_of_inputs() -> None:
    """Types, free sizes without a name, examples, values, optional parameters; the mode comes back."""
    module = Two()
    model = hub.load(module, inputs={"x": (None, 4), "ids": ("int64", (None,)), "factor": 2.0, "shift": (3,)})
    assert module.training
    assert module.fc.training
    assert any("training mode" in warning for warning in model.warnings)
    assert not any("not proved" in warning for warning in model.warnings)
    assert [(info.name, info.dtype, info.shape) for info in model.inputs] == [
        ("x", "float32", ("N", 4)), ("ids", "int64", ("N",)), ("shift", "float32", (3,)),
    ]  # fmt: skip
    x, shift = np.ones((2, 4), np.float32), np.arange(3, dtype=np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x), torch.tensor([1, 2]), 2.0, torch.from_numpy(shift)).numpy()
    np.testing.assert_allclose(model.run([x, np.array([1, 2]), shift])["output"], expected, rtol=1e-5, atol=1e-6)
    fixed = hub.load(module.eval(), inputs=[np.zeros((2, 4), np.float32), torch.tensor([1, 2])])
    assert [info.shape for info in fixed.inputs] == [(2, 4), (2,)]
    assert not fixed.warnings


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x - 1


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part * i for i, part in enumerate(x.unbind(1))], 0)


class Strange(nn.Module):
    """Two operators without a form in ONNX."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(x) + torch.special.i1(x).sum(-1)


def test_what_cannot_be_captured_is_said() -> None:
    with pytest.raises(HubError, match=r"torch\.export cannot capture Branch") as caught:
        hub.load(Branch(), inputs=[("N", 3)])
    assert "torch.where" in str(caught.value)
    with pytest.raises(HubError, match="L is always"):
        hub.load(Fixed(), inputs=[("N", "L")])


@slow
def test_operators_without_a_form_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOps) as caught:
        hub.convert(Strange(), tmp_path / "net.onnx", inputs=[("N", 3, 3)])
    assert len(caught.value.ops) >= 2, str(caught.value)
    assert any("linalg_eigh" in op.op for op in caught.value.ops)
    assert any("i1" in op.op for op in caught.value.ops)
    assert not list(tmp_path.iterdir())


@slow
def test_projections_are_refused() -> None:
    with pytest.raises(UnsupportedOps, match="proj_size"):
        hub.load(nn.LSTM(4, 5, proj_size=3), inputs={"input": (6, "N", 4)})


@slow
def test_a_scripted_branch_stays() -> None:
    module = torch.jit.script(Branch())
    model = hub.load(module, inputs=[("N", 3)])
    assert any(node.op_type == "If" for node in model.ir.graph)
    for x in (np.ones((2, 3), np.float32), -np.ones((2, 3), np.float32)):
        np.testing.assert_allclose(model.run([x])["output"], module(torch.from_numpy(x)).numpy())


@slow
def test_a_live_program(tmp_path: Path) -> None:
    count = torch.export.Dim("count")
    program = torch.export.export(
        net("ResNet"), (torch.zeros(2, 3, 64, 64),), dynamic_shapes=({0: count},), strict=False
    )
    done = hub.convert(program, tmp_path / "net.onnx", inputs={"x": ("batch", 3, 64, 64)})
    assert done.report is not None
    assert done.report.ok
    assert not done.report.not_compared
    assert done.model.inputs[0].shape == ("batch", 3, 64, 64)
