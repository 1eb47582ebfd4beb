"""What a network returns, by name: `hub` names the outputs of the ONNX model so, and `parity` those of the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["named"]


def named(results: Any) -> dict[str, Any]:
    """One tensor is `output`; those of a tuple or list are `output_0`, `output_1`, ..., nested ones counted through;
    those of a dict or a named tuple have its keys. None is left out."""
    if isinstance(results, Mapping):
        return _keyed(results.items())
    if hasattr(results, "_fields"):
        return _keyed(zip(results._fields, results, strict=True))
    if isinstance(results, (tuple, list)):
        leaves = list(_leaves(results))
        return {f"output_{i}": leaf for i, leaf in enumerate(leaves)}
    return {"output": results}


def _keyed(items: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in items:
        leaves = list(_leaves(value))
        single = len(leaves) == 1 and not isinstance(value, (tuple, list, Mapping))
        found |= {str(key): leaves[0]} if single else {f"{key}_{i}": leaf for i, leaf in enumerate(leaves)}
    return found


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _leaves(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _leaves(part)
    elif value is not None:
        yield value
