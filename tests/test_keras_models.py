"""Whole Keras models: graphs of every shape, then keras.applications, then a real trained model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import need

need("keras", "tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers as L  # noqa: E402
from keras_nets import agree, calibrate, feeds, outputs_of, randomise  # noqa: E402

import hub  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def same(model: Any, tmp_path: Path, *, suffixes: tuple[str, ...] = (".keras", ".h5"), sizes: Any = ()) -> hub.Model:
    """Save the model in every form, load each, and compare with Keras; the last one comes back."""
    randomise(model)
    arrays = feeds(model, sizes)
    expected = outputs_of(model, arrays)
    for suffix in suffixes:
        path = tmp_path / f"model{suffix}"
        model.save(path)
        converted = hub.load(path)
        got = list(converted.run(arrays).values())
        assert len(got) == len(expected)
        for e, g in zip(expected, got, strict=True):
            agree(e, g)
    return converted


def block(name: str, channels: int = 3, filters: int = 4) -> Any:
    x = keras.Input((6, 5, channels), name=f"{name}_in")
    y = L.Conv2D(filters, 3, padding="same", activation="relu", name="conv")(x)
    y = L.BatchNormalization(name="bn")(y)
    return keras.Model(x, y, name=name)


# -- graphs ----------------------------------------------------------------------------------------


def test_nested_models_with_the_same_names_inside(tmp_path: Path) -> None:
    x = keras.Input((6, 5, 3), name="image")
    y = block("first")(x)
    y = block("second", 4, 4)(y)
    y = L.Conv2D(2, 1, name="conv")(y)
    model = same(keras.Model(x, y), tmp_path)
    assert model.layers == ["first/conv", "first/bn", "second/conv", "second/bn", "conv"]


def test_models_nested_three_deep(tmp_path: Path) -> None:
    inner = block("inner")
    x = keras.Input((6, 5, 3), name="middle_in")
    middle = keras.Model(x, L.MaxPooling2D(name="pool")(inner(x)), name="middle")
    x = keras.Input((6, 5, 3), name="image")
    model = same(keras.Model(x, L.Dense(2, name="dense")(middle(x))), tmp_path)
    assert model.layers == ["middle/inner/conv", "middle/inner/bn", "middle/pool", "dense"]


def test_a_sequential_model_inside_a_functional_one(tmp_path: Path) -> None:
    body = keras.Sequential([keras.Input((6, 5, 3)), L.Conv2D(4, 3, name="conv"), L.Flatten(name="flat")], name="body")
    x = keras.Input((6, 5, 3), name="image")
    same(keras.Model(x, L.Dense(2)(body(x))), tmp_path)


def test_a_functional_model_inside_a_sequential_one(tmp_path: Path) -> None:
    same(keras.Sequential([block("body"), L.GlobalAveragePooling2D(), L.Dense(3)]), tmp_path)


def test_a_nested_model_with_several_inputs_and_outputs(tmp_path: Path) -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    inner = keras.Model([a, b], [L.Subtract(name="diff")([a, b]), L.Dense(3, name="dense")(a)], name="inner")
    a, b = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    diff, dense = inner([b, a])
    same(keras.Model([a, b], [dense, L.Activation("tanh", name="end")(diff)]), tmp_path)


def test_a_model_called_twice_shares_its_weights(tmp_path: Path) -> None:
    twin = block("twin")
    a, b = keras.Input((6, 5, 3), name="a"), keras.Input((6, 5, 3), name="b")
    model = same(keras.Model([a, b], L.Subtract(name="diff")([twin(a), twin(b)])), tmp_path)
    counts = Counter(node.op_type for node in model.ir.graph)
    assert counts["Conv"] == 2
    assert sum(len(value.shape or ()) == 4 for value in model.ir.graph.initializers.values()) == 1, (
        "the kernel is shared"
    )


def test_a_layer_called_twice_in_a_row(tmp_path: Path) -> None:
    dense = L.Dense(4, activation="tanh", name="dense")
    x = keras.Input((4,), name="x")
    same(keras.Model(x, dense(dense(x))), tmp_path)


def test_a_layer_called_on_two_branches_both_of_them_outputs(tmp_path: Path) -> None:
    dense = L.Dense(4, name="dense")
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    model = same(keras.Model([a, b], [dense(b), dense(a)]), tmp_path)
    assert len({info.name for info in model.outputs}) == 2


def test_several_inputs_and_outputs_in_their_own_order(tmp_path: Path) -> None:
    a, b = keras.Input((6, 5, 3), name="zebra"), keras.Input((4,), name="ant")
    y = L.Conv2D(4, 3, name="conv")(a)
    z = L.Concatenate(name="joined")([L.GlobalMaxPooling2D(name="pool")(y), b])
    model = same(keras.Model([a, b], [L.Dense(2, name="late")(z), y, L.Dense(3, name="early")(b)]), tmp_path)
    assert [info.name for info in model.inputs] == ["zebra", "ant"]
    assert [info.name for info in model.outputs] == ["late", "conv", "early"]
    assert [info.layout for info in model.inputs] == ["NHWC", None]
    assert model.outputs[1].shape == ("N", 4, 3, 4), "an image goes out in Keras's layout"


def test_inputs_and_outputs_in_dictionaries(tmp_path: Path) -> None:
    ins = {"b": keras.Input((4,), name="b"), "a": keras.Input((4,), name="a")}
    outs = {"y": L.Dense(3, name="y")(ins["a"]), "x": L.Subtract(name="x")([ins["a"], ins["b"]])}
    model = randomise(keras.Model(ins, outs))
    model.save(tmp_path / "model.keras")
    converted = hub.load(tmp_path / "model.keras")
    rng = np.random.default_rng(3)
    arrays = {name: rng.standard_normal((2, 4)).astype(np.float32) for name in ("a", "b")}
    expected, got = model(arrays), converted.run(arrays)
    for name in ("x", "y"):
        agree(keras.ops.convert_to_numpy(expected[name]), got[name])


def test_an_input_that_is_an_output_as_well(tmp_path: Path) -> None:
    x = keras.Input((4,), name="x")
    same(keras.Model(x, [x, L.Dense(2, name="dense")(x)]), tmp_path)


def test_the_same_output_twice(tmp_path: Path) -> None:
    x = keras.Input((4,), name="x")
    y = L.Dense(2, name="dense")(x)
    same(keras.Model(x, [y, y]), tmp_path)


def test_inputs_that_share_a_tensor_with_several_layers(tmp_path: Path) -> None:
    x = keras.Input((6, 5, 3), name="x")
    y = L.Add()([L.Conv2D(3, 3, padding="same")(x), x, L.DepthwiseConv2D(3, padding="same")(x)])
    same(keras.Model(x, L.Concatenate()([y, x])), tmp_path)


def test_a_sequential_model_built_by_its_first_call(tmp_path: Path) -> None:
    """Keras records the batch of that call; `inputs=` opens it again."""
    model = keras.Sequential([L.Conv2D(4, 3), L.Flatten(), L.Dense(3)])
    model(np.zeros((1, 6, 5, 3), np.float32))
    randomise(model)
    arrays = feeds(model)
    for suffix in (".keras", ".h5"):
        model.save(tmp_path / f"model{suffix}")
        (info,) = hub.load(tmp_path / f"model{suffix}").inputs
        converted = hub.load(tmp_path / f"model{suffix}", inputs={info.name: (None, 6, 5, 3)})
        agree(outputs_of(model, arrays)[0], next(iter(converted.run(arrays).values())))


def test_a_sequential_model_that_was_never_built_needs_a_shape(tmp_path: Path) -> None:
    keras.Sequential([L.Activation("relu")]).save(tmp_path / "model.keras")
    with pytest.raises(hub.HubError, match=r"(?s)input.*inputs="):
        hub.load(tmp_path / "model.keras")


def test_a_constant_size_of_the_batch(tmp_path: Path) -> None:
    x = keras.Input(batch_shape=(2, 6, 5, 3), name="x")
    model = same(keras.Model(x, L.Conv2D(2, 3)(x)), tmp_path)
    assert model.inputs[0].shape == (2, 6, 5, 3)


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "x + 3": lambda x, y: x + 3.0,
    "3 + x": lambda x, y: 3.0 + x,
    "x - 1": lambda x, y: x - 1.0,
    "1 - x": lambda x, y: 1.0 - x,
    "x * 2": lambda x, y: x * 2.0,
    "2 * x": lambda x, y: 2.0 * x,
    "x / 4": lambda x, y: x / 4.0,
    "4 / (x + 5)": lambda x, y: 4.0 / (x + 5.0),
    "x ** 2": lambda x, y: x**2,
    "-x": lambda x, y: -x,
    "abs x": lambda x, y: abs(x),
    "x + y": lambda x, y: x + y,
    "x - y": lambda x, y: x - y,
    "y - x": lambda x, y: y - x,
    "x * y": lambda x, y: x * y,
    "y / (x + 5)": lambda x, y: y / (x + 5.0),
    "maximum": lambda x, y: keras.ops.maximum(x, y),
    "maximum of a number": lambda x, y: keras.ops.maximum(x, 0.3),
    "minimum": lambda x, y: keras.ops.minimum(y, x),
    "power": lambda x, y: keras.ops.power(keras.ops.abs(x), y),
    "exp": lambda x, y: keras.ops.exp(x),
    "log": lambda x, y: keras.ops.log(keras.ops.abs(x) + 1.0),
    "sqrt": lambda x, y: keras.ops.sqrt(keras.ops.abs(x)),
    "relu": lambda x, y: keras.ops.relu(x),
    "relu6": lambda x, y: keras.ops.relu6(x * 5.0),
    "sigmoid": lambda x, y: keras.ops.sigmoid(x),
    "silu": lambda x, y: keras.ops.silu(x),
    "hard_sigmoid": lambda x, y: keras.ops.hard_sigmoid(x),
    "hard_silu": lambda x, y: keras.ops.hard_silu(x),
    "tanh": lambda x, y: keras.ops.tanh(x),
    "softplus": lambda x, y: keras.ops.softplus(x),
    "softsign": lambda x, y: keras.ops.softsign(x),
    "selu": lambda x, y: keras.ops.selu(x),
    "elu": lambda x, y: keras.ops.elu(x, alpha=0.4),
    "leaky_relu": lambda x, y: keras.ops.leaky_relu(x, negative_slope=0.3),
    "gelu": lambda x, y: keras.ops.gelu(x, approximate=False),
    "gelu approximated": lambda x, y: keras.ops.gelu(x),
    "softmax over the height": lambda x, y: keras.ops.softmax(x, axis=1),
    "log_softmax": lambda x, y: keras.ops.log_softmax(x),
    "an activation function": lambda x, y: keras.activations.relu(x, negative_slope=0.1, max_value=0.5),
    "another": lambda x, y: keras.activations.silu(x),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_on_tensors(name: str, tmp_path: Path) -> None:
    a, b = keras.Input((6, 5, 3), name="a"), keras.Input((6, 5, 3), name="b")
    y = OPERATIONS[name](L.Conv2D(3, 1, name="conv_a")(a), L.Conv2D(3, 1, name="conv_b")(b))
    same(keras.Model([a, b], L.Conv2D(2, 2, name="end")(y)), tmp_path)


UNKNOWN_OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "Sum": lambda x: keras.ops.sum(x, axis=1),
    "GetItem": lambda x: x[:, 1:],
    "Mod": lambda x: x % 2.0,
    "Clip": lambda x: keras.ops.clip(x, 0.0, 1.0),
}


@pytest.mark.parametrize("name", UNKNOWN_OPERATIONS)
def test_other_operations_are_refused_by_name(name: str, tmp_path: Path) -> None:
    x = keras.Input((4, 5), name="x")
    model = keras.Model(x, UNKNOWN_OPERATIONS[name](L.Dense(5, name="dense")(x)))
    for suffix in (".keras", ".h5"):
        model.save(tmp_path / f"model{suffix}")
        with pytest.raises(hub.UnsupportedOps, match=name):
            hub.load(tmp_path / f"model{suffix}")


# -- what is refused ---------------------------------------------------------------------------------


def test_everything_unsupported_comes_in_one_error_with_the_names_of_its_layers(tmp_path: Path) -> None:
    x = keras.Input((6, 5, 4), name="x")
    y = L.Lambda(lambda t: t * 2, name="my_lambda")(x)
    y = L.GroupNormalization(2, name="norm_a")(y)
    inner_in = keras.Input((6, 5, 4), name="inner_in")
    inner = keras.Model(inner_in, L.GroupNormalization(2, name="norm_b")(inner_in), name="inner")
    y = L.RandomFlip(name="flip")(inner(y))
    y = L.UpSampling2D(name="up")(y)
    for suffix in (".keras", ".h5"):
        keras.Model(x, y).save(tmp_path / f"model{suffix}")
        with pytest.raises(hub.UnsupportedOps) as caught:
            hub.load(tmp_path / f"model{suffix}")
        found = {(op.op, tuple(op.layers)) for op in caught.value.ops}
        assert found == {
            ("Lambda", ("my_lambda",)),
            ("GroupNormalization", ("norm_a", "inner/norm_b")),
            ("RandomFlip", ("flip",)),
        }
        assert "never executed" in str(caught.value)
        assert all(op.hint for op in caught.value.ops), "every refusal says what to do"


def test_a_lambda_is_not_executed_even_with_trust(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    source = f"(lambda t: (open({str(trap)!r}, 'w').close(), t)[1])"
    x = keras.Input((4,), name="x")
    keras.Model(x, L.Lambda(eval(source), output_shape=(4,), name="trap")(x)).save(tmp_path / "model.keras")
    trap.unlink(missing_ok=True)
    with pytest.raises(hub.UnsupportedOps, match="trap"):
        hub.load(tmp_path / "model.keras", trust=True)
    assert not trap.exists()


def test_a_refusal_in_the_configuration_comes_with_its_layer(tmp_path: Path) -> None:
    x = keras.Input((6, 5, 4), name="x")
    a = L.UpSampling2D(2, interpolation="bicubic", name="up")(x)
    b = L.Activation("sparsemax", name="act")(x)
    keras.Model(x, [a, b]).save(tmp_path / "model.keras")
    with pytest.raises(hub.UnsupportedOps) as caught:
        hub.load(tmp_path / "model.keras")
    assert {name for op in caught.value.ops for name in op.layers} == {"up", "act"}


@keras.saving.register_keras_serializable("mine")
class Custom(L.Layer):
    def call(self, x: Any) -> Any:
        return x


class Subclassed(keras.Model):
    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.dense = L.Dense(3)

    def call(self, x: Any) -> Any:
        return self.dense(x)


def test_a_custom_layer_is_refused_by_name(tmp_path: Path) -> None:
    x = keras.Input((4,), name="x")
    keras.Model(x, Custom(name="special")(x)).save(tmp_path / "model.keras")
    with pytest.raises(hub.UnsupportedOps, match=r"(?s)Custom.*special.*outputs="):
        hub.load(tmp_path / "model.keras")


def test_a_custom_layer_can_be_registered(tmp_path: Path) -> None:
    from importers.keras.layers import LAYERS, layer

    x = keras.Input((4,), name="x")
    model = keras.Model(x, Custom(name="special")(L.Dense(3)(x)))

    @layer("Custom")
    def custom(context: Any, value: Any) -> Any:
        return context.op("Identity", value)

    try:
        same(model, tmp_path)
        with pytest.raises(ValueError, match="registered twice"):
            layer("Custom")(custom)
    finally:
        del LAYERS["Custom"]


@pytest.mark.parametrize("live", [False, True])
def test_a_subclassed_model_is_refused_clearly(live: bool, tmp_path: Path) -> None:
    model = Subclassed()
    model(np.zeros((1, 4), np.float32))
    source: Any = model
    if not live:
        source = tmp_path / "model.keras"
        model.save(source)
    with pytest.raises(hub.InvalidModel, match=r"class 'Subclassed'.*functional"):
        hub.load(source)


@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "bfloat16", "float64"])
def test_other_dtypes_are_refused_by_name(policy: str, tmp_path: Path) -> None:
    x = keras.Input((4,), name="x")
    keras.Model(x, L.Dense(3, dtype=policy, name="half")(x)).save(tmp_path / "model.keras")
    with pytest.raises(hub.UnsupportedOps, match=rf"(?s){policy}.*half"):
        hub.load(tmp_path / "model.keras")


# -- forms ----------------------------------------------------------------------------------------------


@pytest.fixture
def small() -> Any:
    x = keras.Input((6, 5, 3), name="image")
    y = L.BatchNormalization(name="bn")(L.Conv2D(4, 3, strides=2, padding="same", name="conv")(x))
    y = L.Flatten(name="flat")(L.ReLU(name="relu")(y))
    return randomise(keras.Model(x, L.Dense(3, activation="softmax", name="probs")(y), name="small"))


def check_against(model: Any, converted: hub.Model) -> None:
    arrays = feeds(model)
    agree(outputs_of(model, arrays)[0], next(iter(converted.run(arrays).values())))


def test_a_live_model(small: Any) -> None:
    check_against(small, hub.load(small))


def test_a_live_sequential_model() -> None:
    model = randomise(keras.Sequential([keras.Input((6, 5, 3)), L.Conv2D(4, 3), L.Flatten(), L.Dense(3)]))
    check_against(model, hub.load(model))


@pytest.mark.parametrize("weights", ["model.weights.h5", "whole.h5", "legacy.h5"])
def test_a_pair_of_architecture_and_weights(weights: str, small: Any, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(small.to_json())
    path = tmp_path / weights
    if weights == "model.weights.h5":
        small.save_weights(path)
    else:
        small.save(path)
    if weights == "legacy.h5":
        import h5py

        with h5py.File(path, "r+") as file:  # what save_weights of Keras 2 writes: the group is the file
            for name in list(file["model_weights"]):
                file.move(f"model_weights/{name}", f"/{name}")
            for name, value in file["model_weights"].attrs.items():
                file.attrs[name] = value
            del file["model_weights"], file.attrs["model_config"]
    check_against(small, hub.load((tmp_path / "model.json", path)))


def test_half_of_a_pair_says_what_is_missing(small: Any, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(small.to_json())
    small.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(hub.InvalidModel, match=r"(?s)has no weights.*pair"):
        hub.load(tmp_path / "model.json")
    with pytest.raises(hub.InvalidModel, match=r"(?s)no architecture.*pair"):
        hub.load(tmp_path / "model.weights.h5")


def test_weights_of_another_model_are_refused(small: Any, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(small.to_json())
    x = keras.Input((6, 5, 3), name="image")
    keras.Model(x, L.Dense(3, name="probs")(L.Flatten()(x))).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(hub.InvalidModel):
        hub.load((tmp_path / "model.json", tmp_path / "other.weights.h5"))


def test_names_survive(small: Any, tmp_path: Path) -> None:
    small.save(tmp_path / "model.keras")
    model = hub.load(tmp_path / "model.keras")
    assert model.layers == ["conv", "bn", "relu", "flat", "probs"]
    assert [info.name for info in model.inputs] == ["image"]
    assert [info.name for info in model.outputs] == ["probs"]
    assert {"conv/kernel", "conv/bias", "bn/gamma", "probs/bias"} <= set(model.ir.graph.initializers)
    assert {"conv", "bn", "relu"} <= {node.outputs[0].name for node in model.ir.graph}


def test_open_sizes_are_given_with_inputs(tmp_path: Path) -> None:
    x = keras.Input((None, None, 3), name="image")
    model = randomise(keras.Model(x, L.Conv2D(4, 3, strides=2, padding="same")(x)))
    model.save(tmp_path / "model.keras")
    converted = hub.load(tmp_path / "model.keras", inputs={"image": (None, 9, 8, 3)})
    assert converted.inputs[0].shape[1:] == (9, 8, 3)
    arrays = feeds(model, [(9, 8, 3)])
    agree(outputs_of(model, arrays)[0], next(iter(converted.run(arrays).values())))
    with pytest.raises(hub.UsageError, match="contradicts"):
        hub.load(tmp_path / "model.keras", inputs={"image": (None, 9, 8, 4)})
    with pytest.raises(hub.UsageError, match="image"):
        hub.load(tmp_path / "model.keras", inputs={"imgae": (None, 9, 8, 3)})
    with pytest.raises(hub.UsageError, match="no input"):
        hub.load(tmp_path / "model.keras", inputs={"image": (None, 9, 8, 3), "x": (1,)})


def test_a_cut_at_a_layer_gives_its_value_in_the_layout_of_keras(small: Any, tmp_path: Path) -> None:
    small.save(tmp_path / "model.keras")
    arrays = feeds(small)
    for name in ("conv", "bn", "relu", "flat", "probs"):
        part = keras.Model(small.input, small.get_layer(name).output)
        converted = hub.load(tmp_path / "model.keras", outputs=[name])
        (got,) = converted.run(arrays).values()
        agree(outputs_of(part, arrays)[0], got)
    several = hub.load(tmp_path / "model.keras", outputs=["relu", "probs"])
    assert [value.shape for value in several.run(arrays).values()] == [(2, 3, 3, 4), (2, 3)]
    with pytest.raises(hub.UsageError, match="conv"):
        hub.load(tmp_path / "model.keras", outputs=["conf"])


# -- keras.applications --------------------------------------------------------------------------------


IMAGE = (96, 128, 3)
FAMILIES: dict[str, dict[str, Any]] = {
    "VGG16": {"input_shape": (48, 64, 3), "classes": 10},
    "ResNet50": {},
    "ResNet50V2": {},
    "InceptionV3": {"input_shape": (80, 112, 3)},
    "InceptionResNetV2": {"input_shape": (80, 112, 3)},
    "Xception": {"input_shape": (80, 112, 3)},
    "MobileNet": {},
    "MobileNetV2": {},
    "MobileNetV3Small": {},
    "MobileNetV3Large": {},
    "DenseNet121": {},
    "NASNetMobile": {},
    "EfficientNetB0": {},
    "EfficientNetV2B0": {},
    "ConvNeXtTiny": {},
}
CONVNEXT_TRANSPOSES = 1 + 2 * 18 + 2 * 3
"""ConvNeXtTiny: one at the input, two around the normalization of each block, two where sizes change."""

BYTES = ("EfficientNet", "MobileNetV3", "ConvNeXt")
"""Families that scale images of 0 to 255 themselves."""


def before_every_layer(node: Any) -> bool:
    """Whether nothing but the scaling of the image comes before `node`."""
    while (producer := node.inputs[0].producer()) is not None:
        if producer.op_type not in ("Mul", "Add", "Sub", "Div"):
            return False
        node = producer
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_keras_applications(name: str, tmp_path: Path) -> None:
    options = {"input_shape": IMAGE, "classes": 20, "include_top": True, **FAMILIES[name]}
    keras.utils.clear_session()
    model = randomise(getattr(keras.applications, name)(weights=None, **options))
    head = model.layers[-1]
    logits = next(layer for layer in reversed(model.layers) if type(layer).__name__ in ("Dense", "Conv2D"))
    rng = np.random.default_rng(7)
    image = rng.uniform(0, 255 if name.startswith(BYTES) else 1, (2, *model.input_shape[1:])).astype(np.float32)
    calibrate(model, [image])
    activation = getattr(logits, "activation", None)
    before = keras.Model(model.input, logits.output if logits is not head else head.input)
    path = tmp_path / "model.keras"
    model.save(path)
    expected = outputs_of(model, [image])[0]
    converted = hub.load(path)
    agree(expected, next(iter(converted.run(image).values())))

    head_before = outputs_of(before, [image])[0]
    if logits is head:
        assert activation is keras.activations.softmax
        head_before = head_before @ np.asarray(logits.kernel) + np.asarray(logits.bias)
        softmax = next(node for node in converted.ir.graph if node.outputs[0].is_graph_output())
        assert softmax.op_type == "Softmax"
        cut = hub.load(path, outputs=[softmax.inputs[0].name])
    else:
        cut = hub.load(path, outputs=[logits.name])
    agree(head_before, next(iter(cut.run(image).values())))

    transposes = [node for node in converted.ir.graph if node.op_type == "Transpose"]
    if name.startswith("ConvNeXt"):
        assert len(transposes) == CONVNEXT_TRANSPOSES
    else:
        assert len(transposes) <= 1
        assert all(before_every_layer(node) for node in transposes), "the Transpose is at the input"
    expected_layers = {layer.name for layer in model.layers if type(layer).__name__ != "InputLayer"}
    assert expected_layers <= {part for layer in converted.layers for part in (layer, layer.split("/")[0])}


@pytest.mark.slow
def test_a_network_of_applications_from_h5_with_its_old_names(tmp_path: Path) -> None:
    keras.utils.clear_session()
    model = randomise(
        keras.applications.MobileNetV3Small(weights=None, input_shape=(64, 96, 3), classes=5, minimalistic=False)
    )
    model.save(tmp_path / "model.h5")
    image = np.random.default_rng(5).uniform(0, 255, (2, 64, 96, 3)).astype(np.float32)
    agree(outputs_of(model, [image])[0], next(iter(hub.load(tmp_path / "model.h5").run(image).values())))


# -- a real model ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_emotion_model_of_fer(fer_model: Path) -> None:
    model = keras.models.load_model(fer_model, compile=False)
    converted = hub.load(fer_model)
    image = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 1)).astype(np.float32)
    agree(outputs_of(model, [image])[0], next(iter(converted.run(image).values())))
    logits = model.layers[-1].input
    part = keras.Model(model.input, logits)
    name = model.layers[-2].name
    (got,) = hub.load(fer_model, outputs=[name]).run(image).values()
    agree(outputs_of(part, [image])[0], got)
    config = json.loads(model.to_json())["config"]["layers"]
    names = {entry["config"]["name"] for entry in config if entry["class_name"] != "InputLayer"}
    assert names == set(converted.layers)
    assert sum(node.op_type == "Transpose" for node in converted.ir.graph) <= 1
