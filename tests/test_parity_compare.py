"""The rule by which two arrays agree, and everything that must not slip through it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from parity.compare import TOLERANCES, compare, compare_arrays

RNG = np.random.default_rng(7)
REFERENCE = RNG.standard_normal((2, 3, 5), dtype=np.float32)


def verdict(a: Any, b: Any, **options: Any) -> str:
    return compare_arrays("y", np.asarray(a), np.asarray(b), **options).verdict


def test_rounding_is_ok_and_one_part_in_a_thousand_is_not() -> None:
    assert verdict(REFERENCE, REFERENCE * np.float32(1 + 1e-6)) == "ok"
    wrong = REFERENCE.copy()
    wrong[1, 2, 3] += np.ptp(REFERENCE) * 1.5e-4
    row = compare_arrays("y", REFERENCE, wrong)
    assert row.verdict == "mismatch"
    assert row.worst == (1, 2, 3)
    assert row.of_spread == pytest.approx(1.5e-4, rel=1e-2)


def test_a_softmax_of_tiny_outputs_is_judged_by_its_own_spread() -> None:
    # Outputs of an untrained classifier: an absolute tolerance of 1e-5 would accept any of them.
    reference = (0.001 + 1e-6 * RNG.standard_normal((2, 1000))).astype(np.float32)
    other = (0.001 + 1e-6 * RNG.standard_normal((2, 1000))).astype(np.float32)
    assert np.allclose(reference, other, atol=1e-5)
    assert verdict(reference, other) == "mismatch"
    assert verdict(reference, reference) == "ok"


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_a_constant_output_proves_nothing(value: float) -> None:
    row = compare_arrays("y", np.full((2, 4), value, np.float32), np.full((2, 4), value, np.float32))
    assert row.verdict == "not compared"
    assert "constant" in row.reason


def test_a_spread_below_the_rounding_of_its_magnitude_proves_nothing() -> None:
    reference = np.float32(1e6) + np.array([0, 0.0625, 0.125], np.float32)
    assert verdict(reference, reference) == "not compared"


def test_a_tolerance_that_covers_the_spread_proves_nothing() -> None:
    assert verdict(REFERENCE, REFERENCE, atol=100.0) == "not compared"
    assert verdict(REFERENCE, REFERENCE + 0.1, atol=0.2) == "ok"


def test_one_element_is_judged_by_its_size() -> None:
    assert verdict(np.float32(2.0), np.float32(2.00001)) == "ok"
    assert verdict(np.float32(2.0), np.float32(2.001)) == "mismatch"
    assert verdict(np.float32(0.0), np.float32(0.0)) == "not compared"


def test_shape_dtype_and_order_are_never_forgiven() -> None:
    assert verdict(REFERENCE, REFERENCE.reshape(2, 5, 3)) == "mismatch"
    assert verdict(REFERENCE, REFERENCE[..., None]) == "mismatch"
    assert verdict(REFERENCE[:1], REFERENCE) == "mismatch"
    assert verdict(REFERENCE, REFERENCE.astype(np.float64)) == "mismatch"
    square = RNG.standard_normal((2, 4, 4), dtype=np.float32)
    assert verdict(square, square.transpose(0, 2, 1)) == "mismatch"


def test_nan_and_inf_have_to_be_at_the_same_places() -> None:
    for special in (np.nan, np.inf, -np.inf):
        broken = REFERENCE.copy()
        broken[0, 0, 0] = special
        assert verdict(REFERENCE, broken) == "mismatch"
        assert verdict(broken, REFERENCE) == "mismatch"
        row = compare_arrays("y", broken, broken)
        assert row.verdict == "ok"
        assert "1 of 30" in row.reason
        elsewhere = REFERENCE.copy()
        elsewhere[1, 0, 0] = special
        assert verdict(broken, elsewhere) == "mismatch"
    assert verdict(np.float32([np.inf, 1, 2]), np.float32([-np.inf, 1, 2])) == "mismatch"
    assert verdict(np.float32([np.nan, 1, 2]), np.float32([np.inf, 1, 2])) == "mismatch"
    assert verdict(np.full(4, np.nan, np.float32), np.full(4, np.nan, np.float32)) == "not compared"


def test_integers_and_booleans_have_to_be_equal() -> None:
    assert verdict([1, 2, 3], [1, 2, 3]) == "ok"
    assert verdict([1, 2, 3], [1, 2, 4]) == "mismatch"
    assert verdict([True, False], [True, True]) == "mismatch"
    assert verdict([0, 0, 0], [0, 0, 0]) == "not compared"
    assert verdict(np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int64)) == "not compared"
    assert verdict(np.array(["a", "b"], object), np.array(["a", "c"], object)) == "mismatch"


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_each_dtype_has_its_tolerance(dtype: str) -> None:
    reference = RNG.standard_normal((4, 50)).astype(dtype)
    spread = float(np.ptp(reference.astype(np.float64)))
    slightly, clearly = reference.copy(), reference.copy()
    slightly[2, 7] += np.dtype(dtype).type(0.5 * TOLERANCES[dtype].rtol * spread)
    clearly[2, 7] += np.dtype(dtype).type(2 * TOLERANCES[dtype].rtol * spread)
    assert verdict(reference, slightly) == "ok"
    assert verdict(reference, clearly) == "mismatch"


def test_bfloat16_and_complex() -> None:
    import ml_dtypes

    reference = REFERENCE.astype(ml_dtypes.bfloat16)
    assert verdict(reference, reference) == "ok"
    assert verdict(reference, -reference) == "mismatch"
    complex_ = (REFERENCE + 1j * REFERENCE[::-1]).astype(np.complex64)
    assert verdict(complex_, complex_) == "ok"
    assert verdict(complex_, complex_.conj()) == "mismatch"


def test_max_rel_only_counts_elements_above_the_tolerance() -> None:
    reference = np.float32([1.0, 2.0, 1e-9])
    row = compare_arrays("y", reference, reference + np.float32(1e-6))
    assert row.verdict == "ok"
    assert row.max_rel is not None
    assert row.max_rel < 1e-5


def test_outputs_that_one_side_lacks_are_mismatches() -> None:
    rows = compare({"a": REFERENCE, "b": REFERENCE}, {"a": REFERENCE, "c": REFERENCE})
    assert [(row.name, row.verdict) for row in rows] == [("a", "ok"), ("b", "mismatch"), ("c", "mismatch")]
    assert json.dumps([row.to_dict() for row in rows], allow_nan=False)
