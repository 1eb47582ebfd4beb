"""One adapter for every exporter: a canonical model becomes a function of arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hub
from exporters.caffe.ops.table import APPROXIMATE as caffe_approximate
from exporters.cntk.ops.table import APPROXIMATE as cntk_approximate
from hub.model import Model

__all__ = ["TARGETS", "Runner"]

Runner = Callable[[list[Any]], list[Any]]
Target = Callable[[Model], Runner]


@dataclass
class Said:
    """A runner of a network of which the conversion said whether it is only approximate."""

    run: Runner
    approximate: bool

    def __call__(self, inputs: list[Any]) -> list[Any]:
        return self.run(inputs)


def torch_target(model: Model) -> Runner:
    import torch

    from exporters.torch import build

    module = build(model)

    def run(inputs: list[Any]) -> list[Any]:
        with torch.no_grad():
            result = module(*(_to_torch(value) for value in inputs))
        return [_from_torch(r) for r in (result if isinstance(result, tuple) else (result,))]

    return run


def _to_torch(value: Any) -> Any:
    import torch

    array = np.array(value)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _from_torch(tensor: Any) -> Any:
    import ml_dtypes
    import torch

    if tensor.dtype is torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def file_target(runtime: str, name: str, approximate: tuple[str, ...], to: str | None = None) -> Target:
    """A target whose file is run by a runtime of `parity.runners`."""

    def target(model: Model) -> Runner:
        from hub.errors import HubError
        from parity.runners import find

        folder = tempfile.TemporaryDirectory(prefix="hub-")
        try:
            path = hub.save(model, Path(folder.name) / name, to=to)[0]
        except HubError:
            folder.cleanup()
            raise

        def run(inputs: list[Any]) -> list[Any]:
            with folder:
                runner = find(runtime).open(path)
                try:
                    taken = {port.name for port in runner.inputs}  # in an order of its own, and what is used
                    named = {info.name: np.asarray(v) for info, v in zip(model.inputs, inputs, strict=True)}
                    outputs = runner.run({name: value for name, value in named.items() if name in taken})
                finally:
                    runner.close()
            return list(outputs.values())

        return Said(run, any(warning.startswith(approximate) for warning in model.warnings))

    return target


CAFFE = tuple(caffe_approximate.values())
CNTK = tuple(cntk_approximate.values())

TARGETS: dict[str, Target] = {
    "core ml": file_target("coremlread", "net.mlpackage", ()),
    "core ml network": file_target("coremlread", "net.mlmodel", ()),
    "caffe": file_target("caffe", "net.prototxt", CAFFE),
    "cntk": file_target("cntk", "net.dnn", CNTK),
    "cntk code": file_target("cntk", "net.py", CNTK, "cntk"),
    "torch": torch_target,
}
