"""Compare arrays by name, and say for each pair whether the difference is rounding or a fault.

The rule, for floating point: the largest absolute difference of an output is at most

    max(rtol * spread, ulps * eps * max|ref|) + atol

where `spread` is max(ref) - min(ref) over the finite elements, or |ref| for a single element.
- `rtol` is relative to the spread and not to each element, because an element near zero carries
  the rounding of the large values it was computed from: a relative error there means nothing.
- `ulps` is the floor below which no runtime can agree: an output of 1000.001 .. 1000.002 has a
  spread of 0.001 and a rounding unit of 0.00006.
- `atol` is zero unless the user gives one. torch.testing's 1e-5 would prove nothing about the
  softmax of an untrained network, whose outputs are all about 0.001.
- Integers, booleans and strings must be equal; but 8 and 16-bit integers that a quantised model gives out are
  numbers, and may differ by one step where that is more than the tolerance.

`TOLERANCES` is the one table, by the type of an output or, where that is wider, by what a model computes in;
`COMPRESSED` is for models whose weights are kept in fewer bits. float32 is what hub promises, the others
follow torch.testing's ratios between dtypes (1.3e-6, 1e-3, 1.6e-2, 1e-7), widened for a whole network in place of
one op.

Never compared: different shapes or dtypes (a mismatch), values in another order (a mismatch; no
permutation is tried). NaN and Inf must be at the same places with the same sign. An output that
holds no information (constant, all NaN, empty, or with a spread below twice the tolerance) cannot
be "ok", however well it agrees: a model that returns a constant would have passed. It is
"not compared", with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from parity.runners import Array

__all__ = [
    "COMPRESSED",
    "TOLERANCES",
    "Row",
    "Tolerance",
    "Verdict",
    "compare",
    "compare_arrays",
    "tolerance_of",
    "worst",
]

Verdict = Literal["ok", "mismatch", "not compared"]


class Tolerance(NamedTuple):
    """`rtol` of the spread, `ulps` rounding units of the largest value, `eps` of the dtype."""

    rtol: float
    ulps: float
    eps: float


TOLERANCES: dict[str, Tolerance] = {
    "float64": Tolerance(1e-7, 16, 2.0**-52),
    "float32": Tolerance(1e-4, 16, 2.0**-23),
    "float16": Tolerance(1e-2, 4, 2.0**-10),
    "bfloat16": Tolerance(5e-2, 4, 2.0**-7),
    "float8_e4m3fn": Tolerance(0.2, 2, 2.0**-3),
    "float8_e5m2": Tolerance(0.25, 1, 2.0**-2),
    "complex64": Tolerance(1e-4, 16, 2.0**-23),
    "complex128": Tolerance(1e-7, 16, 2.0**-52),
}

COMPRESSED = {"int8": 0.05, "palette8": 0.05, "palette6": 0.2, "int4": 0.3, "palette4": 0.5}
COMPRESSED |= {"palette2": 2.0, "palette1": 2.0}
"""What weights in fewer bits may change, of the spread of an output: enough to find what is wrong beside the
rounding of the weights, which for the last ones is nothing but the order of magnitude."""

QUANTIZED = {name: Tolerance(0.05, 1, 0.0) for name in ("int8", "uint8", "int16", "uint16")}
"""Integers that a quantised model gives out: the tolerance of weights of 8 bits, and one step at least."""


def tolerance_of(precision: str) -> float | None:
    """`rtol` where a model computes in `precision` or keeps its weights in it; None if its outputs' type says it."""
    if precision in COMPRESSED:
        return COMPRESSED[precision]
    return None if precision in ("float32", "") or precision not in TOLERANCES else TOLERANCES[precision].rtol


@dataclass
class Row:
    """One pair of arrays.

    `between` names the two sides, reference first. `kind` is "output", "before activation" or
    "layer". `max_rel` is over the elements with |ref| above the tolerance. `of_spread` is max_abs
    by the spread of the reference. `snr` is the ratio of signal to noise, 10 log10(sum ref^2 / sum (ref - other)^2),
    in dB, infinite where the two are equal. `tolerance` is the absolute one that was applied, `worst` the
    index of the largest difference. What could not be computed is None.
    """

    name: str
    verdict: Verdict
    reason: str = ""
    kind: str = "output"
    op: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()
    max_abs: float | None = None
    max_rel: float | None = None
    cosine: float | None = None
    snr: float | None = None
    of_spread: float | None = None
    tolerance: float | None = None
    worst: tuple[int, ...] | None = None
    between: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        plain = asdict(self)
        plain["shape"] = list(self.shape)
        plain["worst"] = None if self.worst is None else list(self.worst)
        plain["snr"] = None if self.snr == math.inf else self.snr  # JSON has no infinity
        return plain


def compare(
    reference: Mapping[str, Array],
    candidate: Mapping[str, Array],
    *,
    rtol: float | Mapping[str, float | None] | None = None,
    atol: float | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    quantized: bool = False,
) -> list[Row]:
    """One row for each array of either side, in the order of the reference.

    `rtol`: for all, or by name. `pairs` says which name of the reference belongs to which of the candidate; by default
    equal names. An array that only one side has is a mismatch.
    """
    if pairs is None:
        pairs = [(name, name) for name in reference if name in candidate]
    partner = dict(pairs)
    rows = []
    for name, array in reference.items():
        if name in partner:
            own = rtol.get(name) if isinstance(rtol, Mapping) else rtol
            rows.append(compare_arrays(name, array, candidate[partner[name]], rtol=own, atol=atol, quantized=quantized))
        else:
            rows.append(_unpaired(name, array, "is missing on the other side"))
    taken = {other for _, other in pairs}
    rows += [
        _unpaired(name, array, "is not in the reference") for name, array in candidate.items() if name not in taken
    ]
    return rows


def worst(rows: Sequence[Row]) -> list[Row]:
    """For each value its worst row, in the order in which the values come first."""
    found: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        key = (row.between, row.kind, row.name)
        if key not in found or _rank(row) > _rank(found[key]):
            found[key] = row
    return list(found.values())


def _rank(row: Row) -> tuple[int, float]:
    """How much a row says, and how bad that is: of several, one that proves nothing says least."""
    share = (row.max_abs or 0.0) / row.tolerance if row.tolerance else 0.0
    return ("not compared", "ok", "mismatch").index(row.verdict), share


def _unpaired(name: str, array: Array, reason: str) -> Row:
    return Row(name, "mismatch", reason, dtype=array.dtype.name, shape=array.shape)


def compare_arrays(
    name: str,
    reference: Array,
    candidate: Array,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    quantized: bool = False,
) -> Row:
    """Compare two arrays of any shape and dtype. `rtol` and `atol` replace those of the table.

    `quantized`: small integers stand for numbers, as a quantised model gives them out.
    """
    row = Row(name, "ok", dtype=reference.dtype.name, shape=reference.shape)
    if reference.dtype != candidate.dtype:
        return _mismatch(row, f"dtype {candidate.dtype.name} instead of {reference.dtype.name}")
    if reference.shape != candidate.shape:
        return _mismatch(row, f"shape {_dims(candidate.shape)} instead of {_dims(reference.shape)}")
    if not reference.size:
        return _vacuous(row, "it is empty")
    if quantized and reference.dtype.name in QUANTIZED:
        return _close(row, reference, candidate, rtol, atol)
    if reference.dtype.name not in TOLERANCES:
        return _exact(row, reference, candidate)
    return _close(row, reference, candidate, rtol, atol)


def _mismatch(row: Row, reason: str) -> Row:
    row.verdict, row.reason = "mismatch", reason
    return row


def _vacuous(row: Row, reason: str) -> Row:
    row.verdict, row.reason = "not compared", f"{reason}, so that agreement proves nothing"
    return row


def _exact(row: Row, reference: Array, candidate: Array) -> Row:
    different = np.asarray(reference != candidate)
    row.tolerance = 0.0
    if reference.dtype.kind in "iub":
        wide = np.abs(reference.astype(np.float64) - candidate.astype(np.float64))
        row.max_abs, row.worst = _largest(wide)
    if different.any():
        row.worst = tuple(int(i) for i in np.unravel_index(int(different.argmax()), different.shape))
        return _mismatch(row, f"{int(different.sum())} of {different.size} elements differ")
    if reference.size > 1 and not np.any(reference):
        return _vacuous(row, "all elements are zero or empty")
    return row


def _close(row: Row, reference: Array, candidate: Array, rtol: float | None, atol: float | None) -> Row:
    table = TOLERANCES.get(row.dtype, QUANTIZED.get(row.dtype)) or Tolerance(0, 0, 0)
    wide = np.complex128 if reference.dtype.kind == "c" else np.float64
    ref, cand = reference.astype(wide), candidate.astype(wide)
    finite = np.isfinite(ref)
    if reason := _different_specials(ref, cand, finite):
        return _mismatch(row, reason)
    if not finite.any():
        return _vacuous(row, "no element is finite")
    specials = int(finite.size - finite.sum())
    difference = np.zeros(ref.shape)
    difference[finite] = np.abs(ref[finite] - cand[finite])
    values, others = ref[finite], cand[finite]
    magnitude = np.abs(values)
    spread = float(np.ptp(values.real) + np.ptp(values.imag)) if values.size > 1 else float(magnitude[0])
    floor = 1.0 if row.dtype in QUANTIZED else table.ulps * table.eps * float(magnitude.max())
    tolerance = max((table.rtol if rtol is None else rtol) * spread, floor) + (atol or 0.0)
    row.max_abs, row.worst = _largest(difference)
    row.tolerance = tolerance
    row.of_spread = row.max_abs / spread if spread else None
    row.cosine, row.snr = _cosine(values, others), _snr(magnitude, difference[finite])
    large = magnitude > tolerance
    row.max_rel = float((difference[finite][large] / magnitude[large]).max()) if large.any() else None
    if row.max_abs > tolerance:
        scale = f"{row.of_spread:.1e} of the spread" if row.of_spread is not None else "the reference is constant"
        return _mismatch(row, f"differs by {row.max_abs:.2e}, allowed {tolerance:.1e} ({scale})")
    if spread == 0:
        return _vacuous(row, "the reference is zero" if values.size == 1 else "the reference is constant")
    if tolerance >= spread / 2:
        return _vacuous(row, f"the tolerance {tolerance:.1e} covers the spread {spread:.1e} of the reference")
    if specials:
        row.reason = f"{specials} of {ref.size} elements are NaN or infinite on both sides"
    return row


def _different_specials(ref: Array, cand: Array, finite: Array) -> str:
    """Why NaN or Inf disagree, "" if they do not."""
    nan_ref, nan_cand = np.isnan(ref), np.isnan(cand)
    if (nan_ref != nan_cand).any():
        return f"NaN at {int(nan_cand.sum())} places instead of {int(nan_ref.sum())}, or elsewhere"
    infinite = ~finite & ~nan_ref
    if (infinite != np.isinf(cand)).any() or not np.array_equal(ref[infinite], cand[infinite]):
        return f"Inf at {int(np.isinf(cand).sum())} places instead of {int(infinite.sum())}, elsewhere or of other sign"
    return ""


def _largest(difference: Array) -> tuple[float, tuple[int, ...]]:
    index = np.unravel_index(int(difference.argmax()), difference.shape)
    return float(difference[index]), tuple(int(i) for i in index)


def _cosine(a: Array, b: Array) -> float | None:
    """Of the two as vectors, 1.0 for parallel; None if one of them is zero."""
    scale_a, scale_b = float(np.abs(a).max()), float(np.abs(b).max())
    if not scale_a or not scale_b:
        return None
    a, b = a / scale_a, b / scale_b
    return float(abs(np.vdot(a, b)) if np.iscomplexobj(a) else np.dot(a, b)) / float(
        np.linalg.norm(a) * np.linalg.norm(b)
    )


def _snr(signal: Array, noise: Array) -> float | None:
    """In dB; None where there is no signal."""
    scale = float(signal.max())
    if not scale:
        return None
    below = float(np.square(noise / scale).sum())
    return 10 * math.log10(float(np.square(signal / scale).sum()) / below) if below else math.inf


def _dims(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
