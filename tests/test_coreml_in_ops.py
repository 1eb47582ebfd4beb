"""Operations of MIL, built by coremltools, read by hub, against NumPy and PyTorch; batches of 1 and 3 where open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need
from coreml_built import run, saved

import hub

need("coremltools")
pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4, 6, 5)).astype(np.float32)
P = np.abs(X) + 0.5
Array = np.ndarray


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def norm(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def grid(x: Array, places: Array) -> Array:
    """The last axis, linearly between pixels."""
    places = np.clip(places, 0, x.shape[-1] - 1)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, x.shape[-1] - 1)
    return x[..., low] * (1 - (places - low)) + x[..., high] * (places - low)


def both(x: Array, rows: Array, columns: Array) -> Array:
    return grid(grid(x, columns).swapaxes(-1, -2), rows).swapaxes(-1, -2)


def lrn(x: Array, size: int, alpha: float) -> Array:
    """Across the third axis from the end."""
    total, count = np.zeros_like(x), x.shape[-3]
    for i in range(count):
        near = x[..., max(i - size // 2, 0) : i + size // 2 + 1, :, :]
        total[..., i, :, :] = (near**2).sum(-3)
    return x / (1 + alpha / size * total) ** 0.75


A = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
I = np.array([2, 0, -1], np.int32)  # noqa: E741

CASES: dict[str, tuple[Callable[..., Any], Callable[[Array], Any], Array]] = {
    "log adds its epsilon": (lambda mb, x: mb.log(x=x), lambda x: np.log(x + 1e-45), P),
    "log without": (lambda mb, x: mb.log(x=x, epsilon=0.0), np.log, np.zeros_like(X)),
    "inverse adds 1e-4": (lambda mb, x: mb.inverse(x=x), lambda x: 1 / (x + 1e-4), np.full_like(X, 1e-4)),
    "rsqrt adds 1e-12": (lambda mb, x: mb.rsqrt(x=x), lambda x: 1 / np.sqrt(x + 1e-12), np.full_like(X, 1e-12)),
    "floor_div": (lambda mb, x: mb.floor_div(x=x, y=0.7), lambda x: np.floor(x / np.float32(0.7)), X),
    "mod": (lambda mb, x: mb.mod(x=x, y=-0.7), lambda x: np.mod(x, np.float32(-0.7)), X),
    "exp2": (lambda mb, x: mb.exp2(x=x), np.exp2, X),
    "clip": (lambda mb, x: mb.clip(x=x, alpha=-0.5, beta=0.5), lambda x: np.clip(x, -0.5, 0.5), X),
    "thresholded_relu takes alpha itself": (
        lambda mb, x: mb.thresholded_relu(x=x, alpha=1.0),
        lambda x: np.where(x >= 1, x, 0),
        np.ones_like(X),
    ),
    "clamped_relu": (
        lambda mb, x: mb.clamped_relu(x=x, alpha=0.3, beta=0.8),
        lambda x: np.minimum(np.where(x >= 0, x, 0.3 * x), 0.8),
        X,
    ),
    "sigmoid_hard": (
        lambda mb, x: mb.sigmoid_hard(x=x, alpha=0.3, beta=0.4),
        lambda x: np.clip(0.3 * x + 0.4, 0, 1),
        X,
    ),
    "scaled_tanh": (lambda mb, x: mb.scaled_tanh(x=x, alpha=2.0, beta=0.5), lambda x: 2 * np.tanh(x / 2), X),
    "prelu": (
        lambda mb, x: mb.prelu(x=x, alpha=A),
        lambda x: np.where(x >= 0, x, A[:, None, None] * x),
        X,
    ),
    "gelu by sigmoid": (
        lambda mb, x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"),
        lambda x: x * sigmoid(1.702 * x),
        X,
    ),
    "gelu by tanh": (
        lambda mb, x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        X,
    ),
    "layer_norm of the last axes": (
        lambda mb, x: mb.layer_norm(x=x, axes=[2, 3], gamma=X[0, 0], beta=X[0, 1], epsilon=1e-3),
        lambda x: norm(x, (2, 3), 1e-3) * X[0, 0] + X[0, 1],
        X,
    ),
    "layer_norm of an axis between": (
        lambda mb, x: mb.layer_norm(x=x, axes=[1], gamma=A, beta=A, epsilon=1e-3),
        lambda x: norm(x, (1,), 1e-3) * A[:, None, None] + A[:, None, None],
        X,
    ),
    "layer_norm without gamma": (
        lambda mb, x: mb.layer_norm(x=x, axes=[-1], epsilon=1e-5),
        lambda x: norm(x, (3,), 1e-5),
        X,
    ),
    "instance_norm": (
        lambda mb, x: mb.instance_norm(x=x, epsilon=1e-2),
        lambda x: norm(x, (2, 3), 1e-2),
        X,
    ),
    "local_response_norm": (lambda mb, x: mb.local_response_norm(x=x, size=3, alpha=0.6), lambda x: lrn(x, 3, 0.6), X),
    "local_response_norm of 3 axes": (
        lambda mb, x: mb.local_response_norm(x=x, size=3, alpha=0.6),
        lambda x: lrn(x, 3, 0.6),
        X[0],
    ),
    "local_response_norm of 5 axes": (
        lambda mb, x: mb.local_response_norm(x=x, size=5, alpha=0.6),
        lambda x: lrn(x, 5, 0.6),
        X.reshape(3, 2, 2, 6, 5),
    ),
    "local_response_norm of one channel": (
        lambda mb, x: mb.local_response_norm(x=x, size=2, alpha=0.6),
        lambda x: x / (1 + 0.3 * x**2) ** 0.75,
        X.reshape(3, 1, 24, 5),
    ),
    "l2_norm": (
        lambda mb, x: mb.l2_norm(x=x, epsilon=1e-2),
        lambda x: x / np.sqrt((x**2).sum((1, 2, 3), keepdims=True) + 1e-2),
        X,
    ),
    "reduce_log_sum_exp": (
        lambda mb, x: mb.reduce_log_sum_exp(x=x, axes=[1, -1], keep_dims=True),
        lambda x: np.log(np.exp(x).sum((1, 3), keepdims=True)),
        X,
    ),
    "argmax": (
        lambda mb, x: mb.reduce_argmax(x=x, axis=-2, keep_dims=False),
        lambda x: x.argmax(2).astype(np.int32),
        X,
    ),
    "cumsum": (
        lambda mb, x: mb.cumsum(x=x, axis=2, exclusive=True, reverse=True),
        lambda x: np.flip(np.cumsum(np.flip(x, 2), 2), 2) - x,
        X,
    ),
    "topk": (
        lambda mb, x: mb.topk(x=x, k=2, axis=1, ascending=True),
        lambda x: [np.sort(x, 1)[:, :2], np.argsort(x, 1, kind="stable")[:, :2].astype(np.int32)],
        X,
    ),
    "interleaved concat": (
        lambda mb, x: mb.concat(values=[x, mb.relu(x=x)], axis=1, interleave=True),
        lambda x: np.stack([x, np.maximum(x, 0)], 2).reshape(x.shape[0], 8, 6, 5),
        X,
    ),
    "reshape with zeros": (lambda mb, x: mb.reshape(x=x, shape=[0, -1, 0, 1]), lambda x: x.reshape(-1, 20, 6, 1), X),
    "slice_by_index": (
        lambda mb, x: mb.slice_by_index(
            x=x,
            begin=[0, -1, 4, 3],
            end=[0, 0, 0, -1],
            stride=[1, 1, -2, 1],
            begin_mask=[True, False, False, False],
            end_mask=[True, False, True, False],
            squeeze_mask=[False, True, False, False],
        ),
        lambda x: x[:, -1, 4::-2, 3:-1],
        X,
    ),
    "slice_by_size": (
        lambda mb, x: mb.slice_by_size(x=x, begin=[0, 1, -2, 2], size=[-1, 2, 2, -1]),
        lambda x: x[:, 1:3, -2:, 2:],
        X,
    ),
    "pad reflect": (
        lambda mb, x: mb.pad(x=x, pad=[1, 2, 0, 3], mode="reflect"),
        lambda x: np.pad(x, [(0, 0), (0, 0), (1, 2), (0, 3)], "reflect"),
        X,
    ),
    "gather along a middle axis": (lambda mb, x: mb.gather(x=x, indices=I, axis=2), lambda x: x[:, :, I], X),
    "gather of several axes of indices": (
        lambda mb, x: mb.gather(x=x, indices=[[0, 1], [2, 3]], axis=1),
        lambda x: x[:, [[0, 1], [2, 3]]],
        X,
    ),
    "scatter sub": (
        lambda mb, x: mb.scatter(data=x, indices=[0, 0], updates=X[:2], axis=0, mode="sub"),
        lambda x: np.concatenate([x[:1] - X[:1] - X[1:2], x[1:]]),
        X,
    ),
    "band_part": (
        lambda mb, x: mb.band_part(x=x, lower=1, upper=2),
        lambda x: np.tril(np.triu(x, -1), 2),
        X,
    ),
    "one_hot": (
        lambda mb, x: mb.one_hot(
            indices=mb.reduce_argmax(x=x, axis=1), one_hot_vector_size=4, axis=1, on_value=2.0, off_value=-1.0
        ),
        lambda x: np.moveaxis(np.eye(4, dtype=np.float32)[x.argmax(1)], -1, 1) * 3 - 1,
        X,
    ),
    "sliding_windows": (
        lambda mb, x: mb.sliding_windows(x=x, axis=2, size=3, stride=2),
        lambda x: np.stack([x[:, :, i : i + 3] for i in (0, 2)], 2),
        X,
    ),
    "space_to_batch": (
        lambda mb, x: mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[0, 0], [0, 1]]),
        lambda x: (
            np.pad(x, [(0, 0), (0, 0), (0, 0), (0, 1)])
            .reshape(-1, 4, 3, 2, 2, 3)
            .transpose(3, 5, 0, 1, 2, 4)
            .reshape(-1, 4, 3, 2)
        ),
        X,
    ),
    "pixel_shuffle": (
        lambda mb, x: mb.pixel_shuffle(x=x, upscale_factor=2),
        lambda x: x.reshape(-1, 1, 2, 2, 6, 5).transpose(0, 1, 4, 2, 5, 3).reshape(-1, 1, 12, 10),
        X,
    ),
    "avg_pool of the padding too": (
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[1, 2], strides=[1, 1], pad_type="custom", pad=[0, 0, 1, 0]),
        lambda x: (np.pad(x, [(0, 0)] * 3 + [(1, 0)])[..., :-1] + x) / 2,
        X,
    ),
    "l2_pool": (
        lambda mb, x: mb.l2_pool(x=x, kernel_sizes=[6, 5], strides=[1, 1], pad_type="valid"),
        lambda x: np.sqrt((x**2).sum((2, 3), keepdims=True)),
        X,
    ),
    "linear": (
        lambda mb, x: mb.linear(x=x, weight=X[0, :, 0], bias=A),
        lambda x: x @ X[0, :, 0].T + A,
        X,
    ),
    "matmul": (
        lambda mb, x: mb.matmul(x=x, y=x, transpose_y=True),
        lambda x: x @ x.swapaxes(-1, -2),
        X,
    ),
    "upsample_nearest_neighbor": (
        lambda mb, x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
        lambda x: x.repeat(2, 2).repeat(3, 3),
        X,
    ),
    "resize_nearest_neighbor": (
        lambda mb, x: mb.resize_nearest_neighbor(x=x, target_size_height=7, target_size_width=3),
        lambda x: x[:, :, (2 * np.arange(7) + 1) * 6 // 14][..., (2 * np.arange(3) + 1) * 5 // 6],
        X,
    ),
    "upsample_nearest_neighbor by a fraction": (
        lambda mb, x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=1.5, scale_factor_width=1.6),
        lambda x: x[:, :, np.arange(9) * 6 // 9][..., np.arange(8) * 5 // 8],
        X,
    ),
    "resize_bilinear, offset corners": (
        lambda mb, x: mb.resize_bilinear(
            x=x, target_size_height=9, target_size_width=4, sampling_mode="OFFSET_CORNERS"
        ),
        lambda x: both(x, (np.arange(9) + 0.5) * 5 / 9, (np.arange(4) + 0.5) * 4 / 4),
        X,
    ),
    "resize_bilinear, default": (
        lambda mb, x: mb.resize_bilinear(x=x, target_size_height=9, target_size_width=4),
        lambda x: both(x, np.arange(9) * 6 / 9, np.arange(4) * 5 / 4),
        X,
    ),
    "upsample_bilinear, half pixels": (
        lambda mb, x: mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=2, align_corners=False),
        lambda x: both(x, (np.arange(12) + 0.5) / 2 - 0.5, (np.arange(10) + 0.5) / 2 - 0.5),
        X,
    ),
}


def compare(found: list[Array], expected: Any) -> None:
    expected = expected if isinstance(expected, list) else [expected]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype or other.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_against_numpy(name: str, tmp_path: Path) -> None:
    build, expected, x = CASES[name]
    path = saved(build, {"x": (x.shape, np.float32)}, tmp_path / "net.mlpackage")
    with np.errstate(divide="ignore"):
        compare(run(path, {"x": x}), expected(x))


@pytest.mark.parametrize("name", CASES)
def test_open_batches(name: str, tmp_path: Path) -> None:
    build, expected, x = CASES[name]
    path = saved(build, {"x": ((None, *x.shape[1:]), np.float32)}, tmp_path / "net.mlpackage")
    model = hub.load(path)
    assert model.inputs[0].shape[0] == "x_0"
    for batch in (1, 3):
        with np.errstate(divide="ignore"):
            compare(list(model.run({"x": x[:batch]}).values()), expected(x[:batch]))


def test_an_even_window_across_channels_is_refused(tmp_path: Path) -> None:
    path = saved(
        lambda mb, x: mb.local_response_norm(x=x, size=2), {"x": (X.shape, np.float32)}, tmp_path / "a.mlpackage"
    )
    with pytest.raises(hub.UnsupportedOps, match="which channels an even one takes is not documented"):
        hub.load(path)


def test_loops_branches_and_lists(tmp_path: Path) -> None:
    def build(mb: Any, x: Any, n: Any) -> Any:
        def body(i: Any, total: Any, ls: Any) -> Any:
            ls = mb.list_write(ls=ls, index=i, value=total)
            return mb.add(x=i, y=1), mb.mul(x=total, y=2.0), ls

        ls = mb.make_list(init_length=1, elem_shape=(2,), dynamic_length=True)
        first = mb.const(val=np.int32(0))
        _, total, ls = mb.while_loop(_cond=lambda i, total, ls: mb.less(x=i, y=n), _body=body, loop_vars=(first, x, ls))
        large = mb.greater(x=mb.reduce_sum(x=total, keep_dims=False), y=10.0)
        chosen = mb.cond(pred=large, _true_fn=lambda: mb.relu(x=total), _false_fn=lambda: mb.add(x=total, y=1.0))
        return chosen, mb.list_gather(ls=ls, indices=[0, 2])

    inputs = {"x": ((2,), np.float32), "n": ((1,), np.int32)}

    def wrapped(mb: Any, x: Any, n: Any) -> Any:
        return build(mb, x, mb.squeeze(x=n, axes=[0]))

    path = saved(wrapped, inputs, tmp_path / "net.mlpackage")
    for x, n in ((np.array([1, -1], np.float32), 3), (np.array([1, 2], np.float32), 4)):
        total = x * 2**n
        chosen, taken = run(path, {"x": x, "n": np.array([n], np.int32)})
        np.testing.assert_allclose(chosen, np.maximum(total, 0) if total.sum() > 10 else total + 1)
        np.testing.assert_allclose(taken, [x, x * 4])


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm_against_pytorch(direction: str, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    ways = 2 if direction == "bidirectional" else 1
    net = torch.nn.LSTM(3, 4, bidirectional=ways == 2)
    state = {key: value.detach().numpy() for key, value in net.state_dict().items()}

    def gates(array: Array) -> Array:
        i, f, z, o = np.split(array, 4)
        return np.concatenate([i, f, o, z])

    weights: dict[str, Array] = {}
    for own, other in (("", ""), ("_back", "_reverse"))[:ways]:
        weights[f"weight_ih{own}"] = gates(state[f"weight_ih_l0{other}"])
        weights[f"weight_hh{own}"] = gates(state[f"weight_hh_l0{other}"])
        weights[f"bias{own}"] = gates(state[f"bias_ih_l0{other}"] + state[f"bias_hh_l0{other}"])

    def build(mb: Any, x: Any, h: Any, c: Any) -> Any:
        return mb.lstm(x=x, initial_h=h, initial_c=c, direction=direction, output_sequence=True, **weights)

    shapes = {"x": (5, 2, 3), "h": (2, 4 * ways), "c": (2, 4 * ways)}
    arrays = {key: RNG.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    path = saved(build, {key: (shape, np.float32) for key, shape in shapes.items()}, tmp_path / "net.mlpackage")
    x = torch.from_numpy(arrays["x"][::-1].copy() if direction == "reverse" else arrays["x"])
    states = [torch.from_numpy(arrays[key].reshape(2, ways, 4).swapaxes(0, 1).copy()) for key in ("h", "c")]
    y, (h, c) = net(x, tuple(states))
    flat = [one.detach().numpy().swapaxes(0, 1).reshape(2, -1) for one in (h, c)]
    for found, expected in zip(run(path, arrays), [y.detach().numpy(), *flat], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_classifier_gives_probabilities_and_labels(tmp_path: Path) -> None:
    import coremltools as ct

    path = saved(
        lambda mb, x: mb.softmax(x=x, axis=-1),
        {"x": ((1, 3), np.float32)},
        tmp_path / "net.mlpackage",
        classifier_config=ct.ClassifierConfig(["a", "b", "c"]),
    )
    model = hub.load(path)
    assert model.ir.metadata_props["hub.coreml.labels"] == '["a", "b", "c"]'
    assert any("3 labels (a, b, c)" in text for text in model.warnings)
    (y,) = model.run(np.zeros((1, 3), np.float32)).values()
    np.testing.assert_allclose(y, 1 / 3)


def test_half_precision_emulated_is_numpys(tmp_path: Path) -> None:
    def build(mb: Any, x: Any) -> Any:
        return mb.mul(x=mb.mul(x=x, y=np.float32(300)), y=np.float32(300))

    path = saved(build, {"x": ((4,), np.float32)}, tmp_path / "net.mlpackage", half=True)
    x = np.array([0.001, 0.1, 0.5, 1], np.float32)
    with np.errstate(over="ignore"):
        true = (x.astype(np.float16) * np.float16(300) * np.float16(300)).astype(np.float32)
    assert np.isinf(true).any()
    np.testing.assert_array_equal(run(path, {"x": x}, fp16="emulate")[0], true)
    np.testing.assert_allclose(run(path, {"x": x}, fp16="upcast")[0], x * 9e4, rtol=1e-6)
