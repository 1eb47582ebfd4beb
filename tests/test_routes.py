"""Every source through every target: small networks, judged by the source's and the target's own runtime."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import need, need_runtime

need("keras", "tensorflow", "torch", "safetensors", "coremltools")
for runtime in ("caffe", "cntk", "cntk-python"):
    need_runtime(runtime)

import numpy as np  # noqa: E402
from keras_cases import CASES, Case, built  # noqa: E402
from keras_nets import agree, feeds, outputs_of  # noqa: E402

import hub  # noqa: E402
from parity.runners import find  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

Arrays = Sequence[np.ndarray[Any, Any]]
Through = Callable[[hub.Model, Path, Arrays], list[np.ndarray[Any, Any]]]


def through_onnx(model: hub.Model, folder: Path, feeds: Arrays) -> list[np.ndarray[Any, Any]]:
    """The written file, in ONNX Runtime without hub."""
    import onnxruntime

    (path,) = hub.save(model, folder / "net.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return list(session.run(None, dict(zip(names, feeds, strict=True))))


def through_torch(model: hub.Model, folder: Path, feeds: Arrays) -> list[np.ndarray[Any, Any]]:
    """The written code and weights, in PyTorch without hub."""
    import torch

    path = hub.save(model, folder / "net.py")[0]
    spec = importlib.util.spec_from_file_location("routed_net", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["routed_net"] = module
    spec.loader.exec_module(module)
    with torch.no_grad():
        result = module.load()(*(torch.from_numpy(np.array(x)) for x in feeds))
    return [y.numpy() for y in (result if isinstance(result, tuple) else (result,))]


def through_runtime(name: str, file: str, to: str | None = None) -> Through:
    """The written files, in the real runtime; the runner translates layouts as the file says."""

    def through(model: hub.Model, folder: Path, feeds: Arrays) -> list[np.ndarray[Any, Any]]:
        runner = find(name).open(hub.save(model, folder / file, to=to)[0])
        try:
            taken = {port.name for port in runner.inputs}
            named = zip((info.name for info in model.inputs), feeds, strict=True)
            outputs = runner.run({name: array for name, array in named if name in taken})
        finally:
            runner.close()
        return [outputs[info.name] for info in model.outputs]

    return through


TARGETS: dict[str, Through] = {
    "caffe": through_runtime("caffe", "net.prototxt"),
    "cntk": through_runtime("cntk", "net.dnn"),
    "cntk code": through_runtime("cntk", "net.py", "cntk"),
    "coreml": through_runtime("coremlread", "net.mlpackage"),
    "coreml network": through_runtime("coremlread", "net.mlmodel"),
    "onnx": through_onnx,
    "torch": through_torch,
}

RECURRENT = r"(LSTM|GRU|SimpleRNN)|bidirectional"

REFUSED = {
    "torch": {
        "average pooling open sizes same": "SAME padding of a size that is known only at run time",
        rf"{RECURRENT}|RNN|time distributed LSTM": "(LSTM|GRU|RNN) x.: PyTorch has no form of it yet",
        ".*attention.* causal open steps.*": "Range x2: PyTorch has no form of it yet",
    },
    "caffe": {
        "embedding of floats": "a cast from FLOAT to INT32",
        "LSTM with .*activation .*": "LSTM x1: the activations",
        ".*(GRU|SimpleRNN)|bidirectional of different layers|RNN of an LSTM": "(GRU|RNN) x.: Caffe has no form of it",
    },
    "coreml": {
        "(LSTM|GRU|SimpleRNN) with .*activation (?!relu)": "(LSTM|GRU|RNN) x1: the activation",
    },
    "cntk": {
        "embedding of floats": "CNTK computes in float32, not in int32",
        "(LSTM|GRU|SimpleRNN) with .*activation linear": "the activation Affine",
        "time distributed (conv|batch norm|flatten|LSTM)": "Reshape x1: it makes",
    },
}
"""Cases that a target refuses: the beginning of a name, as an expression -> part of the message."""


FIXED_SIZES = {"caffe", "cntk", "cntk code", "coreml", "coreml network"}
"""Targets that need all sizes but the batch to be known at conversion."""

FIXED_BATCH = {"caffe": rf"{RECURRENT}|RNN|time distributed LSTM"}
"""Cases in which a target needs the batch as well."""


def refusal(target: str, case: str) -> str | None:
    """What the target says of a case that it refuses."""
    rows = REFUSED.get(target.split()[0], {}).items()
    return next((reason for pattern, reason in rows if re.match(pattern, case)), None)


def test_every_target_that_is_written_is_here() -> None:
    assert {name.split()[0] for name in TARGETS} == {row.name for row in hub.formats().rows if row.write == "yes"}


@pytest.mark.parametrize(
    "target", [pytest.param(name, marks=pytest.mark.slow) if name in FIXED_SIZES else name for name in TARGETS]
)
@pytest.mark.parametrize("case", [c for c in CASES.values() if c.refused is None], ids=str)
def test_a_keras_layer_through_a_target(case: Case, target: str, tmp_path: Path) -> None:
    source = built(case)
    source.save(tmp_path / "net.keras")
    arrays = feeds(source, case.sizes)
    fixed = case.sizes if target in FIXED_SIZES else ()
    batch = None
    if re.match(FIXED_BATCH.get(target, "$"), case.name):
        fixed, batch = [array.shape[1:] for array in arrays], len(arrays[0])
    sizes = {tensor.name: [batch, *size] for tensor, size in zip(source.inputs, fixed, strict=False)}
    model = hub.load(tmp_path / "net.keras", inputs=sizes)
    reason = refusal(target, case.name)
    if reason is not None:
        with pytest.raises(hub.UnsupportedOps, match=reason):
            TARGETS[target](model, tmp_path, arrays)
        return
    for expected, got in zip(outputs_of(source, arrays), TARGETS[target](model, tmp_path, arrays), strict=True):
        agree(expected, got)
