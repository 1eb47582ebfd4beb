"""What a Core ML file that hub wrote says of its source's inputs and outputs, for both ways to run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hub.errors import HubError
from importers.coreml.bundle import Bundle
from parity.runners import Array, LoadFailed, Port, RunFailed
from parity.runners.interface import Interface

__all__ = ["KEY", "Record", "path_of"]

KEY = "hub"
"""The key of the file's own metadata under which this stands, as JSON."""


class Record:
    """The interface of the source, with the types that the file takes.

    Attributes:
        precision: what the file computes in, a key of `parity.compare.TOLERANCES` or a compression's name.
        kind: of the model, such as mlProgram.
    """

    def __init__(self, path: Path) -> None:
        try:
            bundle = Bundle(path)
            self.kind = bundle.kind
        except HubError as error:
            raise LoadFailed(str(error)) from error
        said = bundle.model.description.metadata.userDefined.get(KEY)
        self.interface = Interface.parse(said, f"its metadata {KEY!r}") if said else Interface()
        self.precision = self.interface.precision

    def ports(self, own: list[Port]) -> list[Port]:
        """The source's inputs, from those of the file."""
        return [self._port(port) for port in own]

    def _port(self, port: Port) -> Port:
        known = self.interface.inputs.get(port.name)
        if known is None:
            return port
        return Port(
            known.holds or port.name,
            known.dtype or port.dtype,
            known.shape if known.shape is not None else port.shape,
            (0.0, 1.0) if known.dtype == "bool" else port.range,
        )

    def to_file(self, own: list[Port], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What the file takes, from what the source takes.

        Raises:
            RunFailed: an input is missing, or a number is beyond the file's type.
        """
        result: dict[str, Array] = {}
        for port in own:
            name = self._port(port).name
            if name not in feeds:
                raise RunFailed(f"the input {name!r} is not given")
            given = self.interface.arranged_input(port.name, np.asarray(feeds[name]))
            array = given.astype(port.dtype or given.dtype)
            if array.dtype.kind in "iu" and not np.array_equal(array, given):
                raise RunFailed(f"the input {name!r} has numbers beyond {array.dtype.name}")
            rank = len(port.shape) if port.shape is not None else array.ndim
            result[port.name] = array.reshape(1) if array.ndim == 0 and rank == 1 else array
        return result

    def from_file(self, name: str, array: Array) -> Array:
        """The source's output, from the file's."""
        known = self.interface.outputs.get(name)
        if known is None:
            return array
        if known.shape == () and array.size == 1:
            array = array.reshape(())
        return array.astype(known.dtype) if known.dtype else array

    def name(self, name: str) -> str:
        """The source's name of an output."""
        known = self.interface.outputs.get(name)
        return known.holds or name if known is not None else name

    def forget(self) -> None:
        """Take and give what the file itself does."""
        self.interface = Interface()


def path_of(source: Any) -> Path:
    """The path of a Core ML file.

    Raises:
        LoadFailed: it is none.
    """
    try:
        path = Path(source)
    except TypeError:
        raise LoadFailed("a Core ML model is the path of an .mlpackage or .mlmodel") from None
    if not path.exists():
        raise LoadFailed(f"{path} does not exist")
    return path
