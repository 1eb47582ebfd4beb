"""Whether two classifiers choose the same classes, over all inputs that they were given."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from parity.runners import Array

__all__ = ["Ranks"]

FEWEST = 2
"""Classes of a classifier, at least."""

MANY = 8
"""Examples, of fewer of which only disagreement is said."""


@dataclass
class Ranks:
    """Counts, by output, of examples whose first class, and first five, are the same."""

    counts: dict[str, list[int]] = field(default_factory=dict)

    def saw(self, name: str, ours: Array, theirs: Array) -> None:
        """Two outputs [batch, classes]; anything else is passed over."""
        if ours.ndim != 2 or ours.shape != theirs.shape or ours.shape[1] < FEWEST or ours.dtype.kind != "f":
            return
        if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            return
        count = self.counts.setdefault(name, [0, 0, 0, ours.shape[1]])
        first, second = (np.argsort(-array.astype(np.float64), axis=1, kind="stable") for array in (ours, theirs))
        count[0] += ours.shape[0]
        count[1] += int((first[:, 0] == second[:, 0]).sum())
        count[2] += sum(set(a) == set(b) for a, b in zip(first[:, :5], second[:, :5], strict=True))

    def said(self, between: str) -> list[str]:
        """One line for each output, of more than a few examples."""
        lines = []
        for name, (examples, top1, top5, classes) in self.counts.items():
            if examples < MANY and top1 == top5 == examples:
                continue
            five = f", the first five for {top5}" if classes > 5 else ""
            lines.append(f"{between}, {name}: the first class is the same for {top1} of {examples} examples{five}")
        return lines
