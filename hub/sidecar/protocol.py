"""How a runtime in a process of its own is asked: lines of JSON on its standard input and output,
and arrays in `.npz` files.

Both ends use this file, and the other one may be a Python 3.6: it needs NumPy and nothing else.
"""

import json
import os
import sys
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np

__all__ = ["read_arrays", "say", "serve", "write_arrays"]

_ANSWERS: List[Any] = []


def write_arrays(path: str, arrays: Mapping[str, Any]) -> List[Tuple[str, str]]:
    """Write `arrays` and return their names and dtypes; the members of the file are numbered, as a
    name may be anything, and dtypes that NumPy does not know (bfloat16) are written as bytes."""
    members: Dict[str, Any] = {}
    for i, array in enumerate(arrays.values()):
        plain = np.ascontiguousarray(array)
        if plain.dtype.kind == "V":
            plain = plain.view(f"V{plain.dtype.itemsize}")
        members[f"a{i}"] = plain.reshape(array.shape)
    np.savez(path, **members)
    return [(name, array.dtype.name) for name, array in arrays.items()]


def read_arrays(path: str, names: Sequence[Any]) -> Dict[str, Any]:
    """The arrays that `write_arrays` wrote, by `names`, which it returned. The file is removed."""
    with np.load(path, allow_pickle=False) as content:
        arrays = [content[f"a{i}"] for i in range(len(names))]
    os.unlink(path)
    result = {}
    for (name, dtype), array in zip(names, arrays):
        if array.dtype.kind == "V":
            import ml_dtypes

            array = array.view(getattr(ml_dtypes, dtype))
        result[name] = array
    return result


def serve(handle: Callable[[Any], Any]) -> None:
    """Answer requests until the standard input is closed. `handle` turns a request into its answer; one
    with the key "error" ("load" or "run") says in "message" what went wrong.

    What the runtime itself writes to its standard output goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    _ANSWERS[:] = [answers]
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(handle(json.loads(line))) + "\n")
        answers.flush()


def say(stage: str) -> None:
    """Say, before the answer to a request, what is being done; nothing where nobody asked."""
    for answers in _ANSWERS:
        answers.write(json.dumps({"progress": stage}) + "\n")
        answers.flush()
