"""Every construction of the Caffe exporter on random cases: the real Caffe against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from conftest import need_runtime
from op_cases import CASES, SEEDS, drawn, normal
from out_nets import agrees, network, text_of

import hub

need_runtime("caffe")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CASES)
def test_a_random_case(name: str, seed: int, tmp_path: Path) -> None:
    model, shape, rng = drawn(name, seed)
    for batch in (2, 3):
        agrees(model, tmp_path, rng.normal(-0.5, 2, [batch, *shape]).astype(np.float32))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_lstm(direction: str, states: bool, outputs: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(outputs)
    count = 2 if direction == "bidirectional" else 1

    def build(g: Any, x: Any) -> Any:
        weights = [normal(rng, count, 20, 3), normal(rng, count, 20, 5), normal(rng, count, 40)]
        inputs = [g.constant(w, f"w{i}") for i, w in enumerate(weights)]
        start = [None, *(g.constant(normal(rng, count, 2, 5), f"s{i}") for i in range(2))] if states else []
        return g.ops("LSTM", x[0], *inputs, *start, outputs=3, hidden_size=5, direction=direction)[:outputs]

    agrees(network(build, [4, 2, 3]), tmp_path, normal(rng, 4, 2, 3))


def test_limits_hold_for_infinite_and_huge_numbers(tmp_path: Path) -> None:
    x = np.array([[-3e38, -1, 0, 5.9999995, 6, 7, 1e30, 3e38, np.inf]], np.float32)
    bounds = [np.float32(0), np.float32(6)]
    model = network(lambda g, v: g.op("Clip", v[0], *(g.constant(b, f"b{b}") for b in bounds)), ["N", 9])
    agrees(model, tmp_path, x, tolerance=0)


def test_a_maximum_of_negative_numbers_is_never_the_padding(tmp_path: Path) -> None:
    model = network(
        lambda g, x: g.op("MaxPool", x[0], kernel_shape=[3, 2], strides=[2, 1], pads=[0, 0, 1, 1]), ["N", 2, 8, 7]
    )
    agrees(model, tmp_path, -1 - np.random.default_rng(0).random((2, 2, 8, 7)).astype(np.float32), tolerance=0)


def test_an_embedding_of_integer_indices(tmp_path: Path) -> None:
    table = normal(np.random.default_rng(0), 11, 4)
    model = network(lambda g, x: g.op("Gather", g.constant(table, "t"), x[0]), ["N", 5], dtype=ir.DataType.INT64)
    agrees(model, tmp_path, np.array([[0, 10, 3, 3, 7]] * 2), tolerance=0)


def test_the_cheapest_form_is_taken(tmp_path: Path) -> None:
    def pool(size: int, **options: Any) -> list[str]:
        model = network(lambda g, x: g.op("MaxPool", x[0], **options), ["N", 3, size, size])
        lines = text_of(model, tmp_path).splitlines()
        return [line.split('"')[1] for line in lines if line.startswith("  type:")][1:]

    assert pool(8, kernel_shape=[2, 2], strides=[2, 2]) == ["Pooling"]
    assert pool(9, kernel_shape=[3, 3], strides=[2, 2]) == ["Pooling"]
    assert pool(8, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]) == ["Pooling"]  # SAME, by rounding up
    assert pool(8, kernel_shape=[3, 3], strides=[2, 2]) == ["Pooling", "Slice", "Slice", "Silence"]


def test_everything_refused_comes_in_one_error(tmp_path: Path) -> None:
    def build(g: Any, x: Any) -> Any:
        y = g.op("Sin", g.op("Floor", x[0]))
        return g.op("MaxPool", y, kernel_shape=[2, 2], dilations=[2, 2])

    with pytest.raises(hub.UnsupportedOps) as error:
        hub.save(network(build, ["N", 2, 8, 8]), tmp_path / "net.prototxt")
    assert [op.op for op in error.value.ops] == ["Floor", "Sin", "MaxPool"]
    assert not list(tmp_path.iterdir())


def test_open_sizes_are_refused_with_the_way_out(tmp_path: Path) -> None:
    model = network(lambda g, x: g.op("Relu", x[0]), ["N", 3, "H", "W"])
    with pytest.raises(hub.UnsupportedOps, match="inputs="):
        hub.save(model, tmp_path / "net.prototxt")
    model = network(lambda g, x: g.op("Transpose", g.op("Tanh", x[0]), perm=[1, 0]), ["N", 3])
    with pytest.raises(hub.UnsupportedOps, match="batch=1"):
        hub.save(model, tmp_path / "net.prototxt")
    agrees(model, tmp_path, normal(np.random.default_rng(0), 5, 3), batch=5)


def test_what_is_approximate_is_said(tmp_path: Path) -> None:
    model = network(lambda g, x: g.op("Gelu", x[0]), ["N", 3])
    hub.save(model, tmp_path / "net.prototxt")
    assert any("error function" in warning for warning in model.warnings)
