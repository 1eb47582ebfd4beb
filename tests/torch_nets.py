"""Tiny networks for the tests of the PyTorch exporter, and how to run what it writes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
from onnx import numpy_helper

import hub
from exporters.torch import write

TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7, np.dtype(np.int32): 6, np.dtype(bool): 9}
RNG = np.random.default_rng(7)


def weight(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def net(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[int | str]],
    outputs: Sequence[str],
    weights: dict[str, np.ndarray] | None = None,
    name: str = "tiny_net",
    types: dict[str, int] | None = None,
) -> hub.Model:
    """A canonical model; a node's layer is its name."""
    types = types or {}
    graph = oh.make_graph(
        list(nodes),
        name,
        [oh.make_tensor_value_info(n, types.get(n, 1), list(s)) for n, s in inputs.items()],
        [oh.make_tensor_value_info(n, types.get(n, 1), inputs.get(n)) for n in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()],
    )
    return hub.load(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 25)], ir_version=10))


def node(op: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    return oh.make_node(op, inputs.split(), outputs.split(), name=name or outputs.split()[0], **attributes)


def text(model: hub.Model, folder: Path) -> str:
    write(model, folder / "model.py")
    return (folder / "model.py").read_text()


def module(model: hub.Model, folder: Path) -> ModuleType:
    """The written file, imported."""
    write(model, folder / "model.py")
    spec = importlib.util.spec_from_file_location(f"generated_{folder.name}", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def check(model: hub.Model, folder: Path, *arrays: np.ndarray, rtol: float = 1e-4) -> Any:
    """Run both sides on the arrays; the network is returned."""
    import torch

    network = module(model, folder).load()
    expected = list(model.run(list(arrays)).values())
    with torch.no_grad():
        result = network(*(torch.from_numpy(a) for a in arrays))
    actual = [t.numpy() for t in (result if isinstance(result, tuple) else (result,))]
    assert len(actual) == len(expected)
    for e, a in zip(expected, actual, strict=True):
        assert a.shape == e.shape
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=rtol, atol=1e-5)
    return network


def small_cnn(name: str = "small_cnn") -> hub.Model:
    """Three equal blocks of convolution, normalization and a shortcut; a classifier with dropout."""
    nodes, weights = [], {}

    def conv_bn(x: str, prefix: str, channels: int, out: int, relu: bool) -> str:
        weights[f"{prefix}_conv.w"] = weight(out, channels, 3, 3)
        nodes.append(node("Conv", f"{x} {prefix}_conv.w", f"{prefix}_conv", pads=[1, 1, 1, 1]))
        for key in ("scale", "bias", "mean"):
            weights[f"{prefix}_bn.{key}"] = weight(out)
        weights[f"{prefix}_bn.var"] = np.abs(weight(out)) + 0.5
        names = " ".join(f"{prefix}_bn.{key}" for key in ("scale", "bias", "mean", "var"))
        nodes.append(node("BatchNormalization", f"{prefix}_conv {names}", f"{prefix}_bn"))
        if not relu:
            return f"{prefix}_bn"
        nodes.append(node("Relu", f"{prefix}_bn", f"{prefix}_relu"))
        return f"{prefix}_relu"

    x = conv_bn("image", "stem", 3, 8, True)
    for k in (1, 2, 3):
        y = conv_bn(x, f"block{k}_1", 8, 8, True)
        y = conv_bn(y, f"block{k}_2", 8, 8, False)
        nodes.append(node("Add", f"{x} {y}", f"block{k}_add"))
        nodes.append(node("Relu", f"block{k}_add", f"block{k}_out"))
        x = f"block{k}_out"
    weights["rate"] = np.float32(0.25)
    weights["head.w"], weights["head.b"] = weight(8, 5), weight(5)
    nodes += [
        node("GlobalAveragePool", x, "pool"),
        node("Flatten", "pool", "flat"),
        node("Dropout", "flat rate", "drop"),
        node("Gemm", "drop head.w head.b", "head"),
    ]
    return net(nodes, {"image": ["N", 3, 6, 7]}, ["head"], weights, name)
