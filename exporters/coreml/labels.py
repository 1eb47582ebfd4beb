"""The labels of a classifier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hub.errors import UsageError

__all__ = ["labels_of"]


def labels_of(given: Any) -> Sequence[str] | Sequence[int] | None:
    """The labels that are given, or in a text file, one a line.

    Raises:
        UsageError: they are neither, or two are equal.
    """
    if given is None:
        return None
    if isinstance(given, str | Path):
        try:
            labels: list[Any] = Path(given).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"class_labels: {given} cannot be read as text: {error}") from error
    else:
        labels = list(given) if isinstance(given, Iterable) else []
    kinds = {type(label) for label in labels}
    if not labels or kinds not in ({str}, {int}):
        raise UsageError(
            "class_labels: a list of texts, a list of numbers, or the path of a file with one label a line"
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise UsageError(f"class_labels: {twice!r} is there twice, and Core ML gives probabilities by label")
    return labels
