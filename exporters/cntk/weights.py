"""`net.npz`: the weights by name, written as a stream."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from exporters.cntk.net import Function, Variable

__all__ = ["weights_of", "write_npz"]


def weights_of(functions: Sequence[Function]) -> dict[str, Variable]:
    """Parameters and constants by the names that they have in code."""
    found: dict[str, Variable] = {}
    for function in functions:
        for variable in function.inputs:
            if variable.group is not None:
                found.setdefault(variable.key, variable)
    return found


def write_npz(path: Path, functions: Sequence[Function]) -> None:
    """Write the archive as `numpy.savez` does, weight by weight, the same bytes each time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, variable in weights_of(functions).items():
            assert variable.data is not None
            header = {"descr": "<f4", "fortran_order": False, "shape": variable.data.shape}
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                variable.data.write(member)
