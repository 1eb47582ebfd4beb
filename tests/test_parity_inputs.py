"""Seeded inputs, and the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hub.errors import UsageError
from parity.inputs import generate, given
from parity.runners import Port, onnxruntime

IMAGE = Port("image", "float32", ("N", None, None, 3))


def test_free_dimensions_differ_and_the_batch_is_two() -> None:
    array = generate([IMAGE])["image"]
    assert array.dtype == np.float32
    n, height, width, channels = array.shape
    assert (n, channels) == (2, 3)
    assert height != width
    assert 0.9 < array.std() < 1.1


def test_the_same_symbol_has_one_size_and_the_seed_decides() -> None:
    ports = [Port("a", "float32", ("N", "T")), Port("b", "int64", ("N", "T")), Port("c", "bool", ("N", 40))]
    first, again, other = generate(ports, seed=3), generate(ports, seed=3), generate(ports, seed=4)
    assert first["a"].shape == first["b"].shape
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["a"], other["a"])
    assert first["b"].dtype == np.int64
    assert 0 <= first["b"].min() <= first["b"].max() <= 9
    assert set(np.unique(first["c"])) == {False, True}


def test_declared_ranges_and_small_dtypes_are_kept() -> None:
    ports = [
        Port("ids", "int32", (2, 500), (5, 7)),
        Port("pixels", "float32", (2, 500), (0, 255)),
        Port("bytes", "uint8", (2, 500)),
        Port("half", "bfloat16", (2, 5)),
    ]
    arrays = generate(ports)
    assert set(np.unique(arrays["ids"])) == {5, 6, 7}
    assert arrays["pixels"].min() >= 0
    assert arrays["pixels"].max() > 200
    assert arrays["bytes"].max() > 200
    assert arrays["half"].dtype.name == "bfloat16"


def test_what_cannot_be_made_up_is_said() -> None:
    with pytest.raises(UsageError, match="shape of the input 'x' is not known"):
        generate([Port("x")])
    with pytest.raises(UsageError, match="no values can be made up"):
        generate([Port("x", "object", (2,))])
    with pytest.raises(UsageError, match="dtype 'nonsense'"):
        generate([Port("x", "nonsense", (2,))])


PORTS = [Port("a", "float32", (None, 3)), Port("b", "int64", (2,))]
A, B = np.ones((4, 3), np.float32), np.array([1, 2])


@pytest.mark.parametrize("inputs", [{"a": A, "b": B}, [A, B], (A, B), {"b": [1, 2], "a": A.tolist()}])
def test_forms_of_given_inputs(inputs: Any) -> None:
    arrays = given(inputs, PORTS)
    assert list(arrays) == ["a", "b"]
    assert arrays["a"].shape == (4, 3)
    assert arrays["a"].dtype == np.float32
    assert arrays["b"].dtype == np.int64


def test_files_and_single_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=A, b=B)
    np.save(tmp_path / "x.npy", A)
    assert set(given(tmp_path / "x.npz", PORTS)) == {"a", "b"}
    assert np.array_equal(given(str(tmp_path / "x.npy"), PORTS[:1])["a"], A)
    assert np.array_equal(given(A, PORTS[:1])["a"], A)
    np.save(tmp_path / "evil.npy", np.array([{}], object), allow_pickle=True)
    for name in ("evil.npy", "none.npz"):
        with pytest.raises(UsageError, match="cannot read inputs"):
            given(tmp_path / name, PORTS[:1])
    (tmp_path / "empty.npz").touch()
    with pytest.raises(UsageError, match="cannot read inputs"):
        given(tmp_path / "empty.npz", PORTS[:1])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"a": A}, "'b' is not given"),
        ({"a": A, "b": B, "c": B}, "no input is called 'c'"),
        ([A], "1 inputs are given, the model takes 2"),
        ({"a": A.astype(np.float64), "b": B}, "float64, the model takes float32"),
        ({"a": A[:, :2], "b": B}, "shape 4x2, the model takes \\?x3"),
        ({"a": A[0], "b": B}, "shape 3, the model takes \\?x3"),
        ({"a": [["x"]], "b": B}, "is not an array"),
    ],
)
def test_wrong_inputs_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        given(inputs, PORTS)


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ("y = Gather <axis = 1> (x, i)", 3),
        ("j = Cast <to = 6> (i) y = Gather (x, j)", 2),
        ("y = GatherElements <axis = -1> (x, i)", 3),
        ("y = GatherND (x, i)", 2),
        ("y = ScatterElements (x, i, x)", 2),
        ("j = Add (i, i) y = Gather (x, j)", 9),
    ],
)
def test_numbers_that_index_are_within_what_they_index(body: str, most: int) -> None:
    text = f'<ir_version: 10, opset_import: ["" : 21]> g (float[3, 4] x, int64[2, 2] i) => (float[M] y) {{ {body} }}'
    ports = onnxruntime.open(onnx.parser.parse_model(text)).inputs
    drawn = [generate(ports, seed=seed)["i"] for seed in range(40)]
    assert min(array.min() for array in drawn) == 0
    assert max(array.max() for array in drawn) == most
