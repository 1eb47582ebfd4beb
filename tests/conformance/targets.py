"""One adapter for every exporter: a canonical model becomes a function of arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hub
from hub.model import Model

__all__ = ["TARGETS", "Runner"]

Runner = Callable[[list[Any]], list[Any]]


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


def caffe_target(model: Model) -> Runner:
    from exporters.caffe.ops.table import APPROXIMATE
    from hub.errors import HubError
    from parity.runners import caffe

    folder = tempfile.TemporaryDirectory(prefix="hub-")
    try:
        path = hub.save(model, Path(folder.name) / "net.prototxt")[0]
    except HubError:
        folder.cleanup()
        raise

    def run(inputs: list[Any]) -> list[Any]:
        with folder:
            runner = caffe.open(path)
            try:
                feeds = {info.name: np.asarray(value) for info, value in zip(model.inputs, inputs, strict=True)}
                outputs = runner.run(feeds)
            finally:
                runner.close()
        return [outputs[info.name] for info in model.outputs]

    return Said(run, any(warning.startswith(tuple(APPROXIMATE.values())) for warning in model.warnings))


TARGETS: dict[str, Callable[[Model], Runner]] = {"caffe": caffe_target, "torch": torch_target}
