"""Every construction of the Core ML exporter on random cases: both kinds of file, run by hub's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need
from op_cases import CASES, SEEDS, drawn
from out_nets import agrees, network, opened, saved
from out_random import judged

import hub
from hub.builder import GraphBuilder

need("coremltools")

BEYOND = "Core ML at most 5"
"""Axes, of which some cases have more."""

KINDS = ("coremlread", "coremlread network")


def beyond(model: hub.Model, folder: Path, kind: str) -> bool:
    """Whether a model is refused for that."""
    try:
        saved(model, folder, kind)
    except hub.UnsupportedOps as error:
        return all(BEYOND in op.reason for op in error.ops)
    return False


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CASES)
def test_a_random_case(name: str, seed: int, tmp_path: Path) -> None:
    for kind in KINDS if seed % 3 == 0 else KINDS[:1]:
        model, shape, rng = drawn(name, seed)
        if beyond(model, tmp_path, kind):
            continue
        for batch in (1, 3):
            agrees(model, tmp_path, rng.normal(-0.5, 2, [batch, *shape]).astype(np.float32), target=kind)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_are_right_or_refused(seed: int, tmp_path: Path) -> None:
    outcome = judged(seed, tmp_path, layers=True, target="coremlread")
    assert not outcome.wrong


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turned", [False, True], ids=["data first", "constant first"])
@pytest.mark.parametrize("op", ["Add", "Sub"])
@pytest.mark.parametrize(("width", "shape"), [(1, ()), (1, (1, 1, 1)), (4, (4,)), (4, (1, 1, 4))], ids=str)
def test_a_sum_that_coremltools_may_take_for_a_bias(
    width: int, shape: tuple[int, ...], op: str, turned: bool, kind: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    weights, number = rng.normal(size=(5, width)).astype(np.float32), np.asarray(rng.normal(size=shape), np.float32)

    def build(g: GraphBuilder, xs: Any) -> Any:
        product, added = g.op("MatMul", xs[0], g.constant(weights, "w")), g.constant(number, "c")
        return g.op(op, *((added, product) if turned else (product, added)))

    agrees(network(build, [3, 5]), tmp_path, rng.normal(size=(3, 5)).astype(np.float32), target=kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 1, 4, 1, 1)], ids=str)
def test_a_constant_taken_from_a_convolution_stays_what_it_is(
    shape: tuple[int, ...], kind: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    weights, number = rng.normal(size=(4, 4, 3, 3)).astype(np.float32), np.asarray(rng.normal(size=shape), np.float32)

    def build(g: GraphBuilder, xs: Any) -> Any:
        taken = g.constant(number, "c")
        less = g.op("Sub", g.op("Conv", xs[0], g.constant(weights, "w"), pads=[1] * 4), taken)
        return g.op("Mul", less, g.op("Add", xs[0], taken))

    agrees(network(build, [2, 4, 6, 6]), tmp_path, rng.normal(size=(2, 4, 6, 6)).astype(np.float32), target=kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"), [(11, 1, 3, [0, 0]), (9, 2, 4, [0, 1]), (11, 2, 4, [0, 0])]
)
def test_a_window_that_begins_behind_the_input_is_none(
    size: int, kernel: int, stride: int, pads: list[int], dilation: int, kind: str, tmp_path: Path
) -> None:
    form = {"kernel_shape": [kernel], "strides": [stride], "pads": pads, "dilations": [dilation], "ceil_mode": 1}
    model = network(lambda g, xs: g.op("MaxPool", xs[0], **form), [1, 2, size])
    agrees(model, tmp_path, np.random.default_rng(0).normal(size=(1, 2, size)).astype(np.float32), target=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_local_response_normalization_of_three_axes_is_over_channels(kind: str, tmp_path: Path) -> None:
    """Which ONNX Runtime cannot run: with an axis more it can."""

    def build(g: GraphBuilder, xs: Any) -> Any:
        return g.op("LRN", xs[0], size=3, alpha=0.6, bias=1.5)

    x = np.random.default_rng(0).normal(size=[2, 6, 5]).astype(np.float32)
    runner = opened(saved(network(build, [2, 6, 5]), tmp_path, kind), kind)
    expected = network(build, [2, 6, 5, 1]).run(x[..., None])["y0"][..., 0]
    np.testing.assert_allclose(runner.run({"x0": x})["y0"], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_of_few_axes(kind: str, tmp_path: Path) -> None:
    def build(g: GraphBuilder, xs: Any) -> Any:
        return g.op("Slice", xs[0], g.ints([1], "s"), g.ints([4], "e"), g.ints([1], "a"))

    agrees(network(build, [2, 5]), tmp_path, np.arange(10, dtype=np.float32).reshape(2, 5), target=kind)


def test_indices_from_the_end_of_an_open_size(tmp_path: Path) -> None:
    def build(g: GraphBuilder, xs: Any) -> Any:
        return g.op("Gather", xs[0], g.op("Neg", g.op("ArgMax", xs[0], axis=1, keepdims=0)), axis=0)

    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    agrees(network(build, ["N", 4]), tmp_path, x, target="coremlread")


@pytest.mark.parametrize("known", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["none", "add"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_fewer_updates_than_the_data_is_long(axis: int, reduction: str, kind: str, known: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    places = np.moveaxis(rng.permuted(np.tile(np.arange(-2, 2), (2, 2, 1)), axis=2)[..., :2], 2, axis)

    def build(g: GraphBuilder, xs: Any) -> Any:
        at = g.constant(places.astype(np.int64), "i") if known else g.op("Cast", xs[2], to=7)
        return g.op("ScatterElements", xs[0], at, xs[1], axis=axis, reduction=reduction)

    model = network(build, [4, 4, 4], [2, 2, 2], *([] if known else [[2, 2, 2]]))
    feeds = [rng.normal(size=s).astype(np.float32) for s in ((4, 4, 4), (2, 2, 2))]
    agrees(model, tmp_path, *feeds, *([] if known else [places.astype(np.float32)]), target=kind)


@pytest.mark.parametrize(("kind", "since"), [(KINDS[0], "iOS15"), (KINDS[0], "iOS16"), (KINDS[1], "iOS13")])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_index_tuples_within_each_example(batch: int, kind: str, since: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(batch)
    places = rng.integers(-3, 3, [2, 3, 2, 1])

    def build(g: GraphBuilder, xs: Any) -> Any:
        return g.op("GatherND", xs[0], g.op("Cast", xs[1], to=7), batch_dims=batch)

    data = rng.normal(size=[2, 3, 4, 5] if batch else [4, 3, 5]).astype(np.float32)
    model = network(build, list(data.shape), list(places.shape))
    agrees(model, tmp_path, data, places.astype(np.float32), target=kind, minimum_deployment_target=since)
