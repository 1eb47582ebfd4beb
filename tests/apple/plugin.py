"""A pytest plugin: coremltools believes that it runs on a Mac, and its predictions come from `tests.apple.serve`.

One JSON line a case goes to the file HUB_APPLE_LOG, after a first line with the ids of all selected cases.
HUB_APPLE_SELECT is the file with the selection, as JSON: "ids", "sample", "seed", "per_function".
"""

from __future__ import annotations

import collections
import functools
import gc
import json
import logging
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.apple import serve

LIMIT = 180
"""Seconds for one case."""

_KEEP: list[Any] = []


def pytest_configure(config: pytest.Config) -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")  # torchvision's own does not load with a CPU build of torch
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEEP.append(library)

    import coremltools.converters.mil.frontend.torch.test.testing_utils  # noqa: F401 - patched below
    import coremltools.converters.mil.testing_reqs as requirements
    import coremltools.converters.mil.testing_utils as mil_utils
    import coremltools.models.model as model

    logging.getLogger("coremltools").setLevel(logging.CRITICAL)
    system = {"_IS_MACOS": True, "_is_macos": lambda: True, "_macos_version": lambda: (15, 0)}
    for name, module in list(sys.modules.items()):
        if name.startswith("coremltools"):
            for attribute in set(system) & set(vars(module)):
                setattr(module, attribute, system[attribute])
    model.MLModel.predict, model.MLModel.make_state = serve.predict, serve.make_state
    np.argsort = functools.partial(np.argsort, kind="stable")  # by default the order of equal numbers is the CPU's

    requirements.backends_internal[:] = [b for b in requirements.backends_internal if b.precision == "fp32"]
    requirements.backends[:] = [b for b in requirements.backends if b[1] == "fp32"]
    mil_utils.compare_backend = _with_half_tolerance(mil_utils.compare_backend)


def _with_half_tolerance(compare: Any) -> Any:
    """Programs that compute in half precision are not held to the tolerance of single precision."""

    def compare_backend(
        mlmodel: Any,
        input_key_values: Any,
        expected_outputs: Any,
        dtype: str = "fp32",
        atol: float = 1e-4,
        rtol: float = 1e-5,
        **k: Any,
    ) -> Any:
        spec = mlmodel.get_spec()
        if spec.WhichOneof("Type") == "mlProgram" and _half(spec):
            atol, rtol = max(atol, 4e-3), max(rtol, 2e-3)
        return compare(mlmodel, input_key_values, expected_outputs, dtype, atol=atol, rtol=rtol, **k)

    return compare_backend


def _half(spec: Any) -> bool:
    return any(
        output.type.tensorType.dataType == 10
        for function in spec.mlProgram.functions.values()
        for block in function.block_specializations.values()
        for operation in block.operations
        for output in operation.outputs[:1]
    )


def _id(nodeid: str) -> str:
    return nodeid.rsplit("coremltools/", 1)[-1]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the selected cases."""
    select = json.loads(Path(os.environ["HUB_APPLE_SELECT"]).read_text(encoding="utf-8"))
    total = len(items)
    if select.get("ids") is not None:
        wanted = set(select["ids"])
        items[:] = [item for item in items if _id(item.nodeid) in wanted]
    if select.get("per_function"):
        groups: dict[str, list[pytest.Item]] = collections.defaultdict(list)
        for item in items:
            groups[item.nodeid.split("[")[0]].append(item)
        count = select["per_function"]
        items[:] = [
            item for name, group in groups.items() for item in _sample(group, count, f"{select['seed']} {name}")
        ]
    if select.get("sample"):
        items[:] = _sample(items, select["sample"], str(select["seed"]))
    _write({"collected": total, "selected": [_id(item.nodeid) for item in items]})
    gc.collect()
    gc.freeze()  # every conversion of coremltools collects garbage, among all cases and frameworks there are


def _sample(items: list[pytest.Item], count: int, seed: str) -> list[pytest.Item]:
    if len(items) <= count:
        return list(items)
    chosen = sorted(random.Random(seed).sample(range(len(items)), count))
    return [items[i] for i in chosen]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Count, and stop what takes too long."""
    serve.COUNT.predictions, serve.COUNT.refusals = 0, []
    item.stash[_REPORTS] = []

    def late(*_: Any) -> None:
        raise TimeoutError(f"more than {LIMIT} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        _write(_line(item))


_REPORTS = pytest.StashKey[list[pytest.TestReport]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    item.stash[_REPORTS].append(report)
    return report


def _line(item: pytest.Item) -> dict[str, Any]:
    reports = item.stash[_REPORTS]
    bad = next((r for r in reports if r.failed), None) or next((r for r in reports if r.skipped), None)
    count = serve.COUNT
    outcome, message = "right" if count.predictions else "no prediction", ""
    if bad is not None:
        detail = bad.longrepr
        message = str(detail[2]) if isinstance(detail, tuple) else ""
        message = message or getattr(getattr(detail, "reprcrash", None), "message", "") or str(detail)[-300:]
        outcome = "skipped by Apple" if bad.skipped else "failed" if bad.when == "call" else "error"
    if count.refusals and bad is not None and not bad.skipped:
        outcome, message = "refused", "; ".join(dict.fromkeys(count.refusals))
    name = _id(item.nodeid)
    return {
        "id": name,
        "file": name.split("::")[0],
        "function": name.split("::", 1)[-1].split("[")[0],
        "outcome": outcome,
        "predictions": count.predictions,
        "message": message[:600],
        "seconds": round(sum(r.duration for r in reports), 2),
    }


def _write(line: dict[str, Any]) -> None:
    with Path(os.environ["HUB_APPLE_LOG"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
