"""Keras models that were once converted into something else without a word: right now, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import need

need("keras", "tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers as L  # noqa: E402
from keras_nets import agree, feeds, outputs_of, randomise  # noqa: E402

import hub  # noqa: E402
from hub.errors import Refusal  # noqa: E402
from importers.keras.config import Layer, Network, Origin  # noqa: E402
from importers.keras.graph import _Walker  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=["model.keras", "model.h5"])
def path(request: Any, tmp_path: Path) -> Path:
    return tmp_path / request.param


def check(model: Any, path: Path) -> hub.Model:
    randomise(model)
    model.save(path)
    converted = hub.load(path)
    arrays = feeds(model)
    for expected, got in zip(outputs_of(model, arrays), converted.run(arrays).values(), strict=True):
        agree(expected, got)
    return converted


def test_one_dense_on_images_of_other_channels(path: Path) -> None:
    """Each use needs its own order of the kernel's rows."""
    inputs = [keras.Input((4, 6, 3)), keras.Input((4, 3, 6))]
    dense = L.Dense(5)
    check(keras.Model(inputs, [dense(L.Flatten()(L.Conv2D(x.shape[-1], 1)(x))) for x in inputs]), path)


A, B, U, V = "a", "b", "u", "v"


@pytest.mark.parametrize(
    ("inner", "given"),
    [((B, A), (A, B)), ((A, B), (B, A)), ((B, A), (B, A))],
    ids=["first by key", "call in another order", "both in another order"],
)
def test_a_nested_model_with_a_dictionary_of_inputs(inner: Any, given: Any, path: Path) -> None:
    parts = {name: keras.Input((3,), name=name) for name in (A, B)}
    nested = keras.Model({name: parts[name] for name in inner}, L.Subtract()([parts[A], parts[B]]), name="nested")
    values = {A: keras.Input((3,), name=U), B: keras.Input((3,), name=V)}
    check(keras.Model([values[A], values[B]], nested({name: values[name] for name in given})), path)


def test_a_nested_model_with_a_list_of_inputs_called_by_name(path: Path) -> None:
    a, b = (keras.Input((3,), name=name) for name in (A, B))
    nested = keras.Model([a, b], L.Subtract()([a, b]), name="nested")
    u, v = (keras.Input((3,), name=name) for name in (U, V))
    check(keras.Model([u, v], nested({B: v, A: u})), path)


def test_a_nested_model_with_a_dictionary_of_outputs(path: Path) -> None:
    """Keras numbers them by their sorted keys."""
    x = keras.Input((3,))
    nested = keras.Model(x, {"z": L.Dense(4)(x), "c": L.Dense(4)(x)}, name="nested")
    y = keras.Input((3,))
    made = nested(y)
    check(keras.Model(y, L.Subtract()([made["z"], made["c"]])), path)


def test_dictionaries_are_proved_in_the_order_of_keras(tmp_path: Path) -> None:
    """The outermost inputs and outputs come as `model.inputs` and `model.outputs` do, by their sorted keys."""
    a, b = (keras.Input((3,), name=name) for name in (A, B))
    model = keras.Model({"second": b, "first": a}, {"z": L.Dense(3, name="d")(a), "c": L.Dense(3, name="e")(b)})
    randomise(model).save(tmp_path / "model.keras")
    done = hub.convert(tmp_path / "model.keras", tmp_path / "model.onnx")
    assert [info.name for info in done.model.inputs] == [A, B]
    assert [info.name for info in done.model.outputs] == ["e", "d"]
    assert done.report is not None
    assert done.report.ok


def test_a_second_call_and_a_layer_that_share_a_name(path: Path) -> None:
    """The second call of `dense` is not to keep the name of the layer `dense_1`."""
    x = keras.Input((4,))
    dense = L.Dense(4, name="dense")
    first = dense(x)
    check(keras.Model(x, [L.Dense(3, name="dense_1")(dense(first)), first]), path)


@pytest.mark.parametrize("op", ["divide", "add", "average", "scaled", "dense"])
def test_integers_are_not_computed_with_by_the_rules_of_floats(op: str, path: Path) -> None:
    a, b = (keras.Input((3,), name=name, dtype="int32") for name in (A, B))
    y = {
        "divide": lambda: a / b,
        "add": lambda: a + b,
        "average": lambda: L.Average()([a, b]),
        "scaled": lambda: a * 0.5,
        "dense": lambda: L.Dense(2)(L.Concatenate()([a, b])),
    }[op]()
    model = keras.Model([a, b], y)
    model.save(path)
    with pytest.raises(hub.UnsupportedOps, match="computing with int32"):
        hub.load(path)


def test_integers_that_are_only_moved(path: Path) -> None:
    x = keras.Input((3, 4), dtype="int32")
    model = keras.Model(x, L.Flatten()(L.Permute((2, 1))(x)))
    model.save(path)
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    (got,) = hub.load(path).run(array).values()
    np.testing.assert_array_equal(got, outputs_of(model, [array])[0])


def test_a_call_with_training_is_converted_as_predict_runs_it(path: Path) -> None:
    x = keras.Input((5, 4, 3))
    converted = check(keras.Model(x, L.BatchNormalization()(x, training=True)), path)
    assert any("training=True" in warning for warning in converted.warnings)


@pytest.mark.parametrize("nested", [False, True])
def test_before_keras_3_a_call_with_training_trains_for_ever(nested: bool) -> None:
    norm = Layer("norm", "BatchNormalization", {}, [])
    layer = Layer("part", "Functional", {}, [], network=Network("part", {"norm": norm})) if nested else norm
    walker = _Walker(Network("net"), None, Origin(version=2))
    with pytest.raises(Refusal, match="training=True"):
        walker.inference(layer, [], {"training": True}, layer.name)
    assert walker.inference(layer, [], {"training": None}, layer.name) == ([], {})
    flatten = Layer("flat", "Flatten", {}, [])
    assert walker.inference(flatten, [], {"training": True}, "flat") == ([], {})


def test_a_cut_inside_of_a_nested_model_that_permutes_last(path: Path) -> None:
    """The output of the nested model has another layout than the layer that the cut names."""
    x = keras.Input((6, 5, 3))
    y = L.Conv2D(4, 3, name="conv")(x)
    nested = keras.Model(x, L.Permute((3, 1, 2), name="turned")(y), name="nested")
    z = keras.Input((6, 5, 3))
    model = keras.Model(z, nested(z))
    check(model, path)
    arrays = feeds(model)
    expected = outputs_of(keras.Model(x, y), arrays)[0]
    for name, array in (("nested/conv", expected), ("nested/turned", expected.transpose(0, 3, 1, 2))):
        (got,) = hub.load(path, outputs=[name]).run(arrays).values()
        agree(array, got)
    hub.save(hub.load(path), path.with_name("model.onnx"))
    (got,) = hub.load(path.with_name("model.onnx"), outputs=["nested/conv"]).run(arrays).values()
    agree(expected, got)


def test_a_cut_at_a_layer_of_which_nothing_is_left(path: Path) -> None:
    """A result that nothing uses, and a Permute that has become a part of others."""
    x = keras.Input((6, 5, 3))
    pooled = L.GlobalAveragePooling2D(name="pooled")(x)
    nested = keras.Model(x, [pooled, L.Conv2D(2, 3, name="conv")(x)], name="nested")
    z = keras.Input((6, 5, 3))
    _, y = nested(L.Permute((1, 2, 3), name="same")(z))
    model = keras.Model(z, y)
    converted = check(model, path)
    assert "nested/pooled" not in converted.layers
    arrays = feeds(model)
    for name, expected in (("nested/pooled", arrays[0].mean((1, 2))), ("same", arrays[0])):
        (got,) = hub.load(path, outputs=[name]).run(arrays).values()
        agree(expected, got)


def test_a_cut_before_a_layer_that_cannot_be_converted(path: Path) -> None:
    x = keras.Input((4,))
    y = L.Dense(3, name="features")(x)
    model = randomise(keras.Model(x, L.UnitNormalization(name="unit")(y)))
    model.save(path)
    with pytest.raises(hub.UnsupportedOps, match=r"(?s)unit.*outputs="):
        hub.load(path)
    arrays = feeds(model)
    (got,) = hub.load(path, outputs=["features"]).run(arrays).values()
    agree(outputs_of(keras.Model(x, y), arrays)[0], got)
