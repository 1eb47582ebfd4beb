"""No attribute of CNTK's functions is overlooked: each is given other values, and whatever CNTK itself makes of a
model so changed is what comes out here, or the model is refused."""

from __future__ import annotations

import random
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cntk_files import EVALUATOR, Net, cntk_python, small

import hub
from hub import dnn
from hub.dnn import Axis, Float, Int, Shape
from importers.cntk.table import FUNCTIONS, IGNORABLE, TYPES

EACH = 6
"""Changes of each attribute of each function."""

BLOCK = 57
REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "LogSum", "Argmax", "Argmin", "Any")

CONTRADICTORY = {("sequence.softmax", "reductionKeepDimensions"), ("an attention", "reductionKeepDimensions")}
"""Changes after which a file contradicts the shapes that it says of its placeholders; CNTK believes either."""


def others(value: Any) -> Iterable[Any]:
    """Other values of the same type."""
    match value:
        case bool():
            return [not value]
        case Axis():
            near = (0, 1, 2, -1, -2) if abs(value.index) < 64 else (0, 1)
            return [Axis(i, f"staticAxisIdx={i}") for i in near if i != value.index]
        case Int():
            return [Int(i) for i in (-2, -1, 0, 1, 2, 3) if i != value]
        case int():
            return [i for i in (0, 1, 2, 3) if i != value]
        case Shape():
            changed = [[*value[:i], max(d + by, 0), *value[i + 1 :]] for i, d in enumerate(value) for by in (1, -1)]
            return [Shape(sizes) for sizes in changed if max(sizes) < 1 << 60]
        case float() | Float():
            return [0.3]
        case str():
            return [name for name in REDUCTIONS if name != value]
        case list():
            return [[*value[:i], other, *value[i + 1 :]] for i, item in enumerate(value) for other in others(item)]
    return []


@pytest.fixture(scope="module")
def changed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with changed models and CNTK's results, where it has any; and what was changed in each."""
    folder = tmp_path_factory.mktemp("changed")
    groups: dict[tuple[int, str], list[tuple[Path, int, Any]]] = defaultdict(list)
    for path in sorted(made.glob("*.dnn")):
        for number, function in enumerate(dnn.read(path)["primitive_functions"]):
            for key, value in function["attributes"].items() if function["op"] != BLOCK else ():
                if (path.stem, key) not in CONTRADICTORY:
                    groups[function["op"], key] += [(path, number, other) for other in others(value)]
    rng, told = random.Random(4), {}
    for (_, key), items in sorted(groups.items()):
        for path, number, other in rng.sample(items, min(EACH, len(items))):
            name = f"{len(told):05}"
            told[name] = _write(folder / name, path, number, key, other)
    subprocess.run([cntk_python(), EVALUATOR, folder], capture_output=True, timeout=600, check=True)
    return folder, told


def _write(target: Path, path: Path, number: int, key: str, value: Any) -> str:
    tree = dnn.read(path)
    function = tree["primitive_functions"][number]
    told = f"{path.stem}: {function['uid']} {key} {function['attributes'][key]} -> {value}"
    function["attributes"] = {**function["attributes"], key: value}
    dnn.write(target.with_suffix(".dnn"), tree)
    with np.load(path.with_suffix(".npz")) as file:
        feeds = {name.split("/", 2)[2]: file[name] for name in file if name.startswith("in/3/")}
    np.savez(target.with_suffix(".in.npz"), **feeds)
    return told


@pytest.mark.slow
def test_what_is_changed_counts_or_is_refused(changed: tuple[Path, dict[str, str]]) -> None:
    folder, told = changed
    same, wrong = 0, []
    for name, what in told.items():
        reference = folder / f"{name}.out.npz"
        if not reference.exists():
            continue  # CNTK refuses it
        try:
            model = hub.load(folder / f"{name}.dnn")
        except (hub.UnsupportedOps, hub.InvalidModel):
            continue
        feeds, expected = dict(np.load(folder / f"{name}.in.npz")), dict(np.load(reference))
        results = model.run({info.name: feeds[info.name] for info in model.inputs})
        pairs = [(result, expected[str(i)]) for i, result in enumerate(results.values())]
        if all(_agree(*pair) for pair in pairs):
            same += 1
        else:
            wrong.append(what)
    assert not wrong
    assert same > 150


def _agree(got: np.ndarray, expected: np.ndarray) -> bool:
    if got.shape != expected.shape:
        return False
    spread = max(float(np.ptp(expected)), 1.0) if expected.size else 1.0
    return bool(np.allclose(got, expected, rtol=0, atol=(2e-5 if expected.dtype != np.float16 else 1e-2) * spread))


@pytest.mark.parametrize("uid", ["conv", "sum", "bn", "relu", "pool", "fc", "prob"])
def test_an_attribute_that_is_unknown_is_refused(uid: str, tmp_path: Path) -> None:
    net = small()
    next(f for f in net.functions if f["uid"] == uid)["attributes"]["secret"] = 3
    with pytest.raises(hub.UnsupportedOps, match="attribute secret=3 is not supported"):
        hub.load(net.save(tmp_path / "net.dnn"))


def test_every_function_refuses_what_it_does_not_name(tmp_path: Path) -> None:
    for op in sorted(FUNCTIONS):
        net = Net()
        x = net.input("x", 3, 4, sequence=True)
        net.op(op, x, uid="y", secret=1)
        with pytest.raises(hub.UnsupportedOps, match="secret=1"):
            hub.load(net.save(tmp_path / "net.dnn"))


def test_every_attribute_that_is_named_has_a_type() -> None:
    from hub.optable import parameters_of

    named = {p.name for entry in FUNCTIONS.values() for p in parameters_of(entry.function) if p.kind is p.KEYWORD_ONLY}
    assert named - set(TYPES) == set()
    assert not named & IGNORABLE
