"""CNTK's functions, layer classes and small networks, each built and run by the real CNTK, then imported without it."""

from __future__ import annotations

import ast
import json
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cntk_files import MAKER, cntk_python

import hub
from hub import dnn
from importers.cntk.blocks import FORMS
from importers.cntk.table import FUNCTIONS

Arrays = dict[str, np.ndarray]


def names() -> list[str]:
    """The cases of the maker, which only CNTK's Python can import: loops over names and all."""
    return sorted(json.loads((MAKER.parent / "cases.json").read_text("utf-8")))


def arrays(file: Arrays, kind: str, batch: int) -> Arrays:
    """What is called `kind/batch/...`."""
    start = f"{kind}/{batch}/"
    return {key[len(start) :]: file[key] for key in file if key.startswith(start)}


def agree(got: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Of one shape and type, and as near as the type allows: measured by the spread, and not by offsets."""
    assert got.shape == expected.shape, f"{what}: {got.shape}, CNTK {expected.shape}"
    assert got.dtype == expected.dtype, f"{what}: {got.dtype}, CNTK {expected.dtype}"
    if expected.size == 0:
        return
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(got), finite)
    rounding = {"float16": 2e-3, "float32": 1e-5, "float64": 1e-12}[expected.dtype.name]
    size = float(np.max(np.abs(expected[finite]), initial=0))
    spread = max(float(np.ptp(expected[finite])) if finite.any() else 0, 0.02 * size, 1e-3)
    worst = float(np.max(np.abs(got[finite] - expected[finite]), initial=0))
    assert worst <= rounding * spread + 4e-7 * size, f"{what}: off by {worst} of {spread}"


@pytest.mark.parametrize("name", names())
def test_it_computes_what_cntk_does(name: str, made: Path) -> None:
    path = made / f"{name}.dnn"
    expected = dict(np.load(path.with_suffix(".npz")))
    model = hub.load(path)
    for batch in (1, 3):
        feeds = arrays(expected, "in", batch)
        results = list(model.run({key: feeds[key] for key in (i.name for i in model.inputs)}).values())
        outputs = arrays(expected, "out", batch)
        assert len(results) == len(outputs)
        for number, result in enumerate(results):
            agree(result, outputs[str(number)], f"output {number}, batch {batch}")


NETWORKS = ("ResNet", "LeNet", "tagger", "classifier", "an attention", "an autoencoder", "several outputs")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_by_name(name: str, made: Path) -> None:
    path = made / f"{name}.dnn"
    expected = dict(np.load(path.with_suffix(".npz")))
    feeds, layers = arrays(expected, "in", 3), arrays(expected, "layer", 3)
    layers = {key: value for key, value in layers.items() if key not in feeds and not key.startswith("_")}
    assert len(layers) > 2
    model = hub.load(path, outputs=list(layers))
    results = model.run({key: feeds[key] for key in (i.name for i in model.inputs)})
    assert list(results) == list(layers)
    for key, value in results.items():
        agree(value, layers[key], key)
    assert set(layers) <= set(hub.load(path).layers) | {output.name for output in hub.load(path).outputs}


def test_a_model_is_the_same_in_both_forms(made: Path, tmp_path: Path) -> None:
    tree = dnn.read(made / "ResNet.dnn")
    dnn.write(tmp_path / "large.model", tree, limit=1)
    assert (tmp_path / "large.model").read_bytes()[:4] == b"ktnc"
    x = np.load(made / "ResNet.npz")["in/3/x"]
    small, large = (hub.load(path).run(x)["prob"] for path in (made / "ResNet.dnn", tmp_path / "large.model"))
    np.testing.assert_array_equal(small, large)
    assert hub.load(tmp_path / "large.model").source == "cntk"


def test_weights_are_views_of_the_file(made: Path) -> None:
    model = hub.load(made / "ResNet.dnn")
    weights = [value.const_value for value in model.ir.graph.initializers.values()]
    large = [tensor for tensor in weights if tensor is not None and tensor.size > 50]
    assert large
    assert all(type(tensor).__name__ == "ViewTensor" and not tensor.raw.flags.owndata for tensor in large)


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in hub.load(path).ir.graph)


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("leaky_relu alpha", "LeakyRelu"), ("elu alpha", "Elu"), ("selu numbers", "Selu"), ("softplus", "Softplus"),
        ("hard_sigmoid", "HardSigmoid"), ("param_relu", "PRelu"), ("element_max", "Max"), ("element_min", "Min"),
        ("division by a constant", "Div"), ("softmax 1", "Softmax"), ("log_softmax 1", "LogSoftmax"),
        ("reduce_l1", "ReduceL1"), ("reduce_l2", "ReduceL2"), ("reduce_sum_square", "ReduceSumSquare"),
        ("depth_to_space", "DepthToSpace"), ("space_to_depth", "SpaceToDepth"), ("local_response_normalization", "LRN"),
    ],
)  # fmt: skip
def test_one_operator_where_it_is_the_same(name: str, op: str, made: Path) -> None:
    assert operators(made / f"{name}.dnn") == {op: 1}


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNNStep"])
def test_recurrences_are_cells_where_they_are_the_same(cell: str, made: Path) -> None:
    op = {"RNNStep": "RNN"}.get(cell, cell)
    for kind in ("Recurrence {}", "Recurrence {} backwards", "Recurrence {} initial", "Fold {}"):
        assert operators(made / f"{kind.format(cell)}.dnn")[op] == 1
    assert operators(made / f"Recurrence {cell} stabilized.dnn")["Scan"] == 1


def test_every_function_is_in_some_case(made: Path) -> None:
    """What CNTK 2.7's Python does not make is in `test_primitives_that_python_does_not_make`."""
    seen: set[str] = set()
    blocks: set[str] = set()
    for path in made.glob("*.dnn"):
        for function in dnn.read(path)["primitive_functions"]:
            seen.add(dnn.OPERATORS[function["op"]])
            blocks.add(function.get("block_function_op_name", ""))
    assert set(FUNCTIONS) - seen == set(RETAGGED)
    assert set(FORMS) <= blocks
    assert seen <= set(FUNCTIONS) | {"Block", "Combine"}


def test_the_cases_are_those_of_the_maker(made: Path) -> None:
    assert sorted(path.stem for path in made.glob("*.dnn")) == names()
    assert ast.parse(MAKER.read_text("utf-8"))


RETAGGED = {
    "Sigmoid": ("tanh", 2), "LogSoftmax": ("tanh", 2), "Pass": ("tanh", 2), "SumAll": ("tanh", 2),
    "SquaredError": ("plus", 19), "CrossEntropyWithSoftmax": ("plus of one axis", 19),
    "ClassificationError": ("plus of one axis", 19), "Logistic": ("plus of one axis", 19),
}  # fmt: skip
"""Functions of old models: the case that one is made from, and the number of the operator that is replaced."""

EVALUATE = """
import sys, warnings
warnings.simplefilter("ignore")
import cntk, numpy as np
model = cntk.Function.load(sys.argv[1])
given = np.load(sys.argv[2])
np.save(sys.argv[3], np.asarray(model.eval({a: given[a.name] for a in model.arguments}), np.float32))
"""


@pytest.mark.parametrize("op", sorted(RETAGGED))
def test_primitives_that_python_does_not_make(op: str, made: Path, tmp_path: Path) -> None:
    source, number = RETAGGED[op]
    tree = dnn.read(made / f"{source}.dnn")
    code = next(key for key, value in dnn.OPERATORS.items() if value == op)
    for function in tree["primitive_functions"]:
        if function["op"] == number:
            function["op"], function["attributes"] = code, {}
    dnn.write(tmp_path / "m.dnn", tree)
    expected = dict(np.load(made / f"{source}.npz"))
    feeds = {key: np.clip(np.abs(value) / 2, 0.05, 0.95) for key, value in arrays(expected, "in", 3).items()}
    np.savez(tmp_path / "in.npz", **feeds)
    command = [cntk_python(), "-c", EVALUATE, tmp_path / "m.dnn", tmp_path / "in.npz", tmp_path / "out.npy"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (result,) = hub.load(tmp_path / "m.dnn").run(feeds).values()
    agree(result, np.load(tmp_path / "out.npy"), op)
