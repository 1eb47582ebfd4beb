"""Recorded inputs and outputs of a model, in an `.npz`: proof without the source's framework.

The file holds plain arrays: `inputs/NAME`, `outputs/NAME`, `taps/NAME` (values from within, such as
`before:probs`), and `about`, one JSON text that says which runtime made them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hub.errors import InvalidModel
from parity.runners import Array, Description, Port, RunFailed, Runner

__all__ = ["Recorded", "is_golden", "layout_of", "save_golden"]


def save_golden(
    path: str | os.PathLike[str], inputs: Mapping[str, Array], outputs: Mapping[str, Array], **about: str
) -> Path:
    """Write recorded `inputs` and `outputs`; outputs called `before:NAME` or `layer:NAME` are taps.

    `about` is kept as it is; `runtime` and `version` in it are shown in reports.
    """
    arrays: dict[str, Any] = {f"inputs/{name}": array for name, array in inputs.items()}
    for name, array in outputs.items():
        arrays[f"{'taps' if name.startswith(('before:', 'layer:')) else 'outputs'}/{name}"] = array
    arrays["about"] = np.array(json.dumps(about, sort_keys=True))
    path = Path(path)
    with open(path, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return path


def is_golden(source: Any) -> bool:
    """Whether `source` is the path of an `.npz`."""
    return isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() == ".npz"


class Recorded(Description):
    """The recorded outputs as a runner. It runs on its own `feeds` and on nothing else.

    Raises:
        InvalidModel: the file is not a recording.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            with np.load(path, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
            about = json.loads(str(arrays.pop("about", "{}")))
        except (OSError, ValueError, EOFError, AttributeError) as error:
            raise InvalidModel(f"{path} is not a recording of inputs and outputs: {error}") from error
        self.feeds = _part(arrays, "inputs/")
        self._outputs, self._taps = _part(arrays, "outputs/"), _part(arrays, "taps/")
        if not self.feeds or not self._outputs or not isinstance(about, dict):
            raise InvalidModel(f"{path} is not a recording: it has no arrays inputs/NAME and outputs/NAME")
        super().__init__(f"recorded {about.get('runtime', 'outputs')}", str(about.get("version", "")))
        self.about = {str(key): str(value) for key, value in about.items()}
        self.inputs = [Port(name, array.dtype.name, array.shape) for name, array in self.feeds.items()]
        self.layers = {name[6:]: "" for name in self._taps if name.startswith("layer:")}
        self._lay_out(path)

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """The recorded outputs, if `feeds` are the recorded inputs."""
        if set(feeds) != set(self.feeds) or any(not np.array_equal(feeds[n], self.feeds[n]) for n in feeds):
            raise RunFailed("there are no recorded outputs for these inputs")
        wanted = tuple(tap.removesuffix("*") for tap in taps)
        return self._outputs | {name: array for name, array in self._taps.items() if name.startswith(wanted)}

    def _lay_out(self, path: str | os.PathLike[str]) -> None:
        """In which order of axes values from within were recorded; the source's if the file does not say."""
        try:
            layout = json.loads(self.about.get("layout", "{}"))
            self.perms = {str(tap): tuple(map(int, perm)) for tap, perm in layout.get("perms", {}).items()}
            self.onnx = layout.get("order") == "onnx"
            self.layout = "canonical" if layout.get("order") == "canonical" else "source"
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidModel(f"{path} is not a recording: its layout says {str(error)[:80]}") from error

    def close(self) -> None:
        """Nothing to do."""


def layout_of(runner: Runner) -> str:
    """What a recording says of the order of axes, for `save_golden`."""
    order = "onnx" if runner.onnx else runner.layout
    return json.dumps({"order": order, "perms": {tap: list(perm) for tap, perm in runner.perms.items()}})


def _part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
