"""The rules that make a model fit for Caffe: it computes the same before and after, and where a rule must not fire
it says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from conftest import need_runtime
from out_nets import Build, agrees, network

import hub
from exporters.rules import Applied
from exporters.rules.absorb_pads import absorb_pads
from exporters.rules.fold_batchnorm import fold_batchnorm
from exporters.rules.fold_shapes import fold_shapes
from exporters.rules.hoist_transposes import hoist_transposes
from exporters.rules.static_shapes import static_shapes
from hub.model import Model

Rng = np.random.Generator
Rule = Callable[[ir.Model], Applied]


def pick(rng: Rng, *options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def normal(rng: Rng, *shape: int) -> Any:
    return rng.normal(0, 1, shape).astype(np.float32)


def loaded(build: Build, *shapes: Sequence[int | str]) -> Model:
    """As a file gives it: names of layers and canonical form."""
    return hub.load(ir.to_proto(network(build, *shapes).ir))


def same(model: Model, rule: Rule, *batches: int, tolerance: float = 1e-5) -> Applied:
    """Apply a rule to a copy, require what it had before of it, and return what it did."""
    changed = Model(model.ir.clone())
    applied = rule(changed.ir)
    rng = np.random.default_rng(0)
    for batch in batches or (1, 3):
        feeds = {}
        for info in model.inputs:
            shape = [size if isinstance(size, int) else batch for size in info.shape]
            feeds[info.name] = rng.normal(-0.3, 1, shape).astype(np.float32)
        after = changed.run(feeds)
        for name, expected in model.run(feeds).items():
            assert after[name].shape == expected.shape
            np.testing.assert_allclose(after[name], expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
    return applied


def ops(model: Model, rule: Rule) -> list[str]:
    changed = model.ir.clone()
    rule(changed)
    return [node.op_type for node in changed.graph]


def left(model: Model, rule: Rule) -> str:
    """The only reason for which a rule left something, having changed nothing."""
    applied = same(model, rule)
    assert not applied.changed
    (reason,) = applied.left.values()
    return reason


# -- pads ------------------------------------------------------------------------------------------------


def padded(
    rng: Rng, op: str, source: str = "", fill: float | None = None, mode: str = "constant", axes: bool = False
) -> Build:
    pads = [int(p) for p in rng.integers(0, 3, 4)]
    own = [int(p) for p in rng.integers(0, 2, 4)]
    weight = normal(rng, 5, 4, 3, 3)

    def build(g: Any, x: Any) -> Any:
        y = g.op(source, x[0]) if source else x[0]
        value = None if fill is None else g.constant(np.float32(fill), "fill")
        if axes:
            y = g.op("Pad", y, g.ints(pads, "pads"), value, g.ints([-2, 3], "axes"), mode=mode)
        else:
            y = g.op("Pad", y, g.ints([0, 0, *pads[:2], 0, 0, *pads[2:]], "pads"), value, mode=mode)
        if op == "Conv":
            return g.op("Conv", y, g.constant(weight, "w"), kernel_shape=[3, 3], strides=[2, 1], pads=own)
        include = {"AveragePool": 1, "AveragePool without": 0}.get(op)
        options = {} if include is None else {"count_include_pad": include}
        return g.op(op.split()[0], y, kernel_shape=[4, 4], strides=[1, 2], pads=own, **options)

    return build


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("op", "source", "fill"),
    [
        ("Conv", "", 0.0),
        ("Conv", "", None),
        ("AveragePool", "", 0.0),
        ("MaxPool", "", -np.inf),
        ("MaxPool", "Relu", 0.0),
        ("MaxPool", "Sigmoid", None),
    ],
)
def test_pads_are_absorbed(op: str, source: str, fill: float | None, seed: int) -> None:
    model = loaded(padded(np.random.default_rng(seed), op, source, fill, axes=seed % 2 == 1), ["N", 4, 7, 8])
    same(model, absorb_pads)
    assert ops(model, absorb_pads) == [source, op][not source :]


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (padded(np.random.default_rng(0), "Conv", fill=1.5), "Conv after it does not mean the same"),
        (padded(np.random.default_rng(0), "Conv", mode="edge"), "its mode is edge"),
        (padded(np.random.default_rng(0), "MaxPool", fill=0.0), "MaxPool after it does not mean the same"),
        (padded(np.random.default_rng(0), "MaxPool", "Tanh", 0.0), "MaxPool after it does not mean the same"),
        (padded(np.random.default_rng(0), "AveragePool without", fill=0.0), "AveragePool after it"),
    ],
)
def test_pads_that_stay(build: Build, reason: str) -> None:
    assert reason in left(loaded(build, ["N", 4, 7, 8]), absorb_pads)


@pytest.mark.parametrize(
    ("pads", "reason"),
    [
        ([0, 1, 0, 0, 0, 0, 0, 0], "it pads the batch or the channels"),
        ([0, 0, -1, 0, 0, 0, 0, 0], "computed or negative"),
        ([0, 0, 0, 3, 0, 0, 0, 0], "over a whole kernel"),
    ],
)
def test_widths_that_stay(pads: list[int], reason: str) -> None:
    def build(g: Any, x: Any) -> Any:
        y = g.op("Pad", g.op("Relu", x[0]), g.ints(pads, "pads"))
        return g.op("MaxPool", y, kernel_shape=[3, 3], strides=[1, 1])

    assert reason in left(loaded(build, ["N", 4, 7, 8]), absorb_pads)


@pytest.mark.parametrize("given", [False, True])
def test_pads_whose_result_is_used_elsewhere_stay(given: bool) -> None:
    def build(g: Any, x: Any) -> Any:
        y = g.op("Pad", x[0], g.ints([0, 0, 1, 1, 0, 0, 1, 1], "pads"))
        z = g.op("Conv", y, g.constant(np.ones((2, 3, 3, 3), np.float32), "w"))
        return [z, y if given else g.op("Tanh", y)]

    assert "more than once" in left(loaded(build, ["N", 3, 5, 6]), absorb_pads)


def test_a_pad_before_a_pool_that_rounds_up_stays() -> None:
    def build(g: Any, x: Any) -> Any:
        y = g.op("Pad", g.op("Relu", x[0]), g.ints([0, 0, 1, 1, 0, 0, 0, 0], "pads"))
        return g.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)

    assert "rounds up" in left(loaded(build, ["N", 3, 6, 8]), absorb_pads)


# -- batch normalization ---------------------------------------------------------------------------------


def normalized(rng: Rng, kind: str) -> tuple[Build, list[int | str]]:
    group = pick(rng, 1, 2)
    bias = rng.random() < 0.5
    numbers = [normal(rng, 6), normal(rng, 6), normal(rng, 6), rng.uniform(0.1, 2, 6).astype(np.float32)]
    epsilon = pick(rng, 1e-5, 1e-2)

    def build(g: Any, x: Any) -> Any:
        more = [g.constant(normal(np.random.default_rng(1), 6), "b")] if bias else []
        if kind == "Conv":
            y = g.op("Conv", x[0], g.constant(normal(rng, 6, 4 // group, 3, 2), "w"), *more, group=group)
        elif kind == "ConvTranspose":
            w = g.constant(normal(rng, 4, 6 // group, 3, 2), "w")
            y = g.op("ConvTranspose", x[0], w, *more, group=group, strides=[2, 1])
        else:
            turned = int(rng.integers(2))
            w = g.constant(normal(rng, *((6, 4) if turned else (4, 6))), "w")
            if more and rng.random() < 0.5:
                more = [g.constant(normal(rng, *pick(rng, [], [1], [1, 6], [1, 1])), "b")]
            y = g.op("Gemm", x[0], w, *more, transB=turned)
        return g.op("BatchNormalization", y, *(g.constant(n, f"n{i}") for i, n in enumerate(numbers)), epsilon=epsilon)

    return build, ["N", 4] if kind == "Gemm" else ["N", 4, 7, 6]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "Gemm"])
def test_normalizations_are_folded(kind: str, seed: int) -> None:
    model = loaded(*normalized(np.random.default_rng(seed), kind))
    same(model, fold_batchnorm, tolerance=1e-4)
    assert ops(model, fold_batchnorm) == [kind]


def batch_norm(g: Any, y: Any, channels: int = 4, **options: Any) -> Any:
    rng = np.random.default_rng(0)
    numbers = [normal(rng, channels), normal(rng, channels), normal(rng, channels), rng.uniform(0.1, 2, channels)]
    inputs = [y, *(g.constant(n.astype(np.float32), "n") for n in numbers)]
    return g.ops("BatchNormalization", *inputs, outputs=3 if options else 1, **options)[0]


def gemm(c: Sequence[int], **options: Any) -> Build:
    rng = np.random.default_rng(0)
    w, b = normal(rng, 4, 4), normal(rng, *c)
    return lambda g, x: batch_norm(g, g.op("Gemm", x[0], g.constant(w, "w"), g.constant(b, "b"), **options))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda g, x: batch_norm(g, g.op("Relu", x[0])), "does not follow"),
        (lambda g, x: batch_norm(g, x[0]), "does not follow"),
        (gemm([4], alpha=0.5), "factors"),
        (gemm([4], beta=2.0), "factors"),
        (gemm([4, 1]), "row"),
        (gemm([4, 4]), "row"),
        (lambda g, x: batch_norm(g, g.op("Gemm", x[0], g.op("Tanh", x[0]))), "computed"),
        (
            lambda g, x: [
                y := g.op("Gemm", x[0], g.constant(np.eye(4, dtype=np.float32), "w")),
                batch_norm(g, y),
            ],
            "used elsewhere",
        ),
    ],
    ids=range(8),
)
def test_normalizations_that_stay(build: Build, reason: str) -> None:
    assert reason in left(loaded(build, [4, 4]), fold_batchnorm)


def test_a_normalization_by_the_batch_stays() -> None:
    def build(g: Any, x: Any) -> Any:
        y = g.op("Gemm", x[0], g.constant(np.eye(4, dtype=np.float32), "w"))
        return batch_norm(g, y, training_mode=1)

    changed = loaded(build, ["N", 4]).ir.clone()
    applied = fold_batchnorm(changed)
    assert not applied.changed
    assert "training" in next(iter(applied.left.values()))


# -- transposes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_transposes_are_hoisted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = [4, 5, 3]
    perm = [0, *(int(a) + 1 for a in rng.permutation(3))]

    def build(g: Any, x: Any) -> Any:
        y = x[0]
        for _ in range(int(rng.integers(1, 5))):
            kind = pick(rng, "unary", "clip", "constant", "constant")
            if kind == "unary":
                y = g.op(pick(rng, "Relu", "Tanh", "Abs", "LeakyRelu", "Neg"), y)
            elif kind == "clip":
                y = g.op("Clip", y, g.constant(np.float32(-0.5), "low"), g.constant(np.float32(0.5), "high"))
            else:
                operand = g.constant(normal(rng, *pick(rng, [], [1], [3], [5, 1], [4, 1, 3], [1, 4, 5, 3])), "c")
                y = g.op(pick(rng, "Add", "Sub", "Mul", "Max"), *((y, operand) if rng.random() < 0.7 else (operand, y)))
        return g.op("Softmax", g.op("Transpose", y, perm=perm), axis=1)

    model = loaded(build, ["N", *shape])
    same(model, hoist_transposes)
    if perm != [0, 1, 2, 3]:
        assert ops(model, hoist_transposes)[0] == "Transpose"


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda g, x: g.op("Transpose", g.op("Tanh", x[0]), perm=[0, 2, 1]), "its result is an output"),
        (
            lambda g, x: g.op("Tanh", g.op("Transpose", g.op("Softmax", x[0], axis=1), perm=[0, 2, 1])),
            "does not lead up to an input",
        ),
        (
            lambda g, x: [y := g.op("Tanh", x[0]), g.op("Relu", g.op("Transpose", y, perm=[0, 2, 1]))],
            "does not lead up to an input",
        ),
        (
            lambda g, x: [g.op("Relu", g.op("Transpose", g.op("Tanh", x[0]), perm=[0, 2, 1])), g.op("Abs", x[0])],
            "does not lead up to an input",
        ),
        (
            lambda g, x: g.op("Relu", g.op("Transpose", g.op("Mul", x[0], x[0]), perm=[0, 2, 1])),
            "does not lead up to an input",
        ),
        (lambda g, x: g.op("Relu", g.op("Transpose", g.op("Tanh", x[0]), perm=[1, 0, 2])), "it moves the batch"),
        (  # a constant that adds an axis
            lambda g, x: g.op(
                "Relu",
                g.op(
                    "Transpose",
                    g.op("Add", x[0], g.constant(np.ones((2, 1, 1, 1), np.float32), "c")),
                    perm=[0, 1, 3, 2],
                ),
            ),
            "does not lead up to an input",
        ),
    ],
    ids=range(7),
)
def test_transposes_that_stay(build: Build, reason: str) -> None:
    assert reason in left(loaded(build, ["N", 3, 4]), hoist_transposes)


# -- shapes ----------------------------------------------------------------------------------------------


def shape_of(g: Any, x: Any, *parts: int) -> Any:
    """A shape that is computed: the batch of `x`, then numbers."""
    batch = g.op("Slice", g.op("Shape", x), g.ints([0], "s"), g.ints([1], "e"))
    return g.op("Concat", batch, g.ints(parts, "parts"), axis=0)


@pytest.mark.parametrize("zero", [0, 1])
@pytest.mark.parametrize("parts", [(24,), (4, 6), (2, 3, 4)])
def test_computed_shapes_of_a_reshape(parts: tuple[int, ...], zero: int) -> None:
    model = loaded(lambda g, x: g.op("Reshape", x[0], shape_of(g, x[0], *parts), allowzero=zero), ["N", 4, 6])
    assert same(model, static_shapes).changed
    assert ops(model, static_shapes) == ["Reshape"]


def test_computed_shapes_of_an_expansion() -> None:
    model = loaded(lambda g, x: g.op("Expand", x[0], shape_of(g, x[0], 4, 6)), ["N", 1, 6])
    assert same(model, static_shapes).changed
    assert ops(model, static_shapes) == ["Expand"]


@pytest.mark.parametrize("way", ["slice", "gather", "start and end"])
def test_computed_sizes_of_a_resize(way: str) -> None:
    def build(g: Any, x: Any) -> Any:
        sizes = shape_of(g, x[0], 2, 8, 9)
        if way == "gather":
            batch = g.op(
                "Unsqueeze", g.op("Gather", g.op("Shape", x[0]), g.constant(np.int64(0), "i")), g.ints([0], "a")
            )
            sizes = g.op("Concat", batch, g.ints([2, 8, 9], "parts"), axis=0)
        elif way == "start and end":
            sizes = g.op("Concat", g.op("Shape", x[0], start=0, end=-2), g.ints([8, 9], "parts"), axis=0)
        return g.op("Resize", x[0], None, None, sizes, mode="nearest")

    model = loaded(build, ["N", 2, 4, 3])
    assert same(model, static_shapes).changed
    assert ops(model, static_shapes) == ["Resize"]


@pytest.mark.parametrize(
    ("build", "shape", "reason"),
    [
        (lambda g, x: g.op("Reshape", x[0], g.op("Shape", x[1])), ["N", 4], "several sizes"),
        (lambda g, x: g.op("Expand", x[0], g.op("Shape", x[1])), [1, 1], "open"),
    ],
    ids=range(2),
)
def test_shapes_that_stay(build: Build, shape: list[int | str], reason: str) -> None:
    model = loaded(build, shape, ["M", "K"])
    changed = model.ir.clone()
    applied = static_shapes(changed)
    assert not applied.changed
    assert reason in next(iter(applied.left.values()))


def test_shapes_that_are_computed_are_folded_and_scalars_stay_scalars(tmp_path: Path) -> None:
    def build(g: Any, x: Any) -> Any:
        shape = g.op("Shape", x[0])
        first, second = (g.op("Gather", shape, g.constant(np.int64(i), f"i{i}")) for i in (1, 2))
        product = g.op("Unsqueeze", g.op("Mul", first, second), g.ints([0], "axes"))
        scale = g.op("Sqrt", g.op("Cast", first, to=1))
        return g.op("Div", g.op("Reshape", x[0], g.op("Concat", g.ints([-1], "rest"), product, axis=0)), scale)

    model = network(build, [2, 3, 4])
    changed = fold_shapes(model.ir).changed
    assert changed
    assert [node.op_type for node in model.ir.graph] == ["Reshape", "Div"]
    assert model.outputs[0].shape == (2, 12)
    need_runtime("caffe")
    agrees(model, tmp_path, np.random.default_rng(0).normal(0, 1, (2, 3, 4)).astype(np.float32))
