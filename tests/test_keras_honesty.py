"""Every key of every Keras layer's configuration, changed one at a time: followed as Keras does, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import need

need("keras", "tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras_nets import agree, feeds, outputs_of, randomise  # noqa: E402

import hub  # noqa: E402
from importers.keras.layers import LAYERS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

IMAGE, SEQUENCE, VOLUME, VECTOR = (6, 8, 4), (9, 4), (4, 5, 6, 2), (6,)

ALL = ((1, SEQUENCE), (2, IMAGE), (3, VOLUME))

BASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    **{f"Conv{n}D": (s, {"filters": 4, "kernel_size": 2}) for n, s in ALL},
    **{f"Conv{n}DTranspose": (s, {"filters": 7, "kernel_size": 2}) for n, s in ALL},
    **{f"DepthwiseConv{n}D": (s, {"kernel_size": 2}) for n, s in ((1, SEQUENCE), (2, IMAGE))},
    **{f"SeparableConv{n}D": (s, {"filters": 5, "kernel_size": 2}) for n, s in ((1, SEQUENCE), (2, IMAGE))},
    **{f"{k}Pooling{n}D": (s, {"pool_size": 2}) for k in ("Max", "Average") for n, s in ALL},
    **{
        f"Global{k}Pooling{n}D": (s, {})
        for k in ("Max", "Average")
        for n, s in ALL
    },
    **{f"ZeroPadding{n}D": (s, {}) for n, s in ALL},
    "Cropping1D": (SEQUENCE, {}),
    "Cropping2D": (IMAGE, {"cropping": 1}),
    "Cropping3D": (VOLUME, {}),
    **{f"UpSampling{n}D": (s, {}) for n, s in ALL},
    "Dense": (IMAGE, {"units": 3}),
    "Flatten": (IMAGE, {}),
    "Reshape": (IMAGE, {"target_shape": (8, 24)}),
    "Permute": (IMAGE, {"dims": (2, 1, 3)}),
    "RepeatVector": (VECTOR, {"n": 2}),
    "Activation": (IMAGE, {"activation": "relu"}),
    "ReLU": (IMAGE, {}),
    "LeakyReLU": (IMAGE, {}),
    "ELU": (IMAGE, {}),
    "PReLU": (IMAGE, {}),
    "Softmax": (IMAGE, {}),
    "BatchNormalization": (IMAGE, {}),
    "LayerNormalization": (IMAGE, {}),
    "GroupNormalization": (IMAGE, {"groups": 2}),
    "UnitNormalization": (IMAGE, {}),
    "Rescaling": (IMAGE, {"scale": 0.5}),
    "Normalization": (IMAGE, {"mean": 0.5, "variance": 2.0}),
    "Identity": (IMAGE, {}),
    "ActivityRegularization": (IMAGE, {}),
    "Dropout": (IMAGE, {"rate": 0.3}),
    "AlphaDropout": (IMAGE, {"rate": 0.3}),
    "GaussianDropout": (IMAGE, {"rate": 0.3}),
    "GaussianNoise": (IMAGE, {"stddev": 0.3}),
    "SpatialDropout1D": (SEQUENCE, {"rate": 0.3}),
    "SpatialDropout2D": (IMAGE, {"rate": 0.3}),
    "SpatialDropout3D": (VOLUME, {"rate": 0.3}),
    "Concatenate": (IMAGE, {}),
    **{name: (IMAGE, {}) for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")},
    "Dot": (SEQUENCE, {"axes": 2}),
    **{name: (SEQUENCE, {"units": 3}) for name in ("LSTM", "GRU", "SimpleRNN")},
    "RNN": (SEQUENCE, {"cell": lambda: keras.layers.LSTMCell(3)}),
    "Bidirectional": (SEQUENCE, {"layer": lambda: keras.layers.LSTM(3)}),
    "TimeDistributed": (IMAGE, {"layer": lambda: keras.layers.Conv1D(3, 2)}),
    "Embedding": (VECTOR, {"input_dim": 9, "output_dim": 4}),
    "MultiHeadAttention": (SEQUENCE, {"num_heads": 2, "key_dim": 4}),
    "GroupQueryAttention": (SEQUENCE, {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}),
    "Attention": (SEQUENCE, {}),
    "AdditiveAttention": (SEQUENCE, {}),
    "RMSNormalization": (IMAGE, {}),
}  # fmt: skip
"""A layer by its class: the shape of its input, and the arguments that it needs.

Keras adds the bias of channels-first layers along an axis that is as long as there are filters: none is here.
"""

OTHERS: dict[str, list[Any]] = {
    "filters": [2, 6],
    "units": [2],
    "kernel_size": [1, 3],
    "strides": [1, 2, 3],
    "padding": ["same", "valid", "causal", 2, (1, 2), ((1, 0), (0, 2)), ((1, 0), (0, 2), (2, 1))],
    "data_format": ["channels_first", "channels_last"],
    "dilation_rate": [2],
    "groups": [2, 4, -1, 1],
    "activation": [
        "linear",
        "tanh",
        "softmax",
        "relu6",
        "gelu",
        "leaky_relu",
        "hard_sigmoid",
        "sparsemax",
        {"class_name": "LeakyReLU", "config": {"negative_slope": 0.4}},
        {"class_name": "ReLU", "config": {"max_value": 0.5, "threshold": 0.1, "negative_slope": 0.2}},
        {"class_name": "Softmax", "config": {"axis": 1}},
        {"class_name": "Softmax", "config": {"axis": [1, 2]}},
        {"class_name": "ELU", "config": {"alpha": 0.3}},
        {"class_name": "PReLU", "config": {}},
    ],
    "use_bias": [False],
    "depth_multiplier": [2, 3],
    "output_padding": [0, 1],
    "pool_size": [1, 3],
    "keepdims": [True],
    "cropping": [(1, 2), 2, ((1, 0), (0, 2)), ((1, 0), (0, 2), (2, 1))],
    "size": [1, 3, (2, 3)],
    "interpolation": ["bilinear", "bicubic", "lanczos3"],
    "target_shape": [(-1, 3), (4, 6, 8), (192,)],
    "dims": [(3, 1, 2), (2, 3, 1), (1, 2, 3)],
    "n": [3],
    "max_value": [0.5, 6.0],
    "negative_slope": [0.0, 0.1, 1.0],
    "threshold": [0.25, -0.5],
    "alpha": [0.2],
    "alpha_initializer": ["ones"],
    "shared_axes": [[1], [1, 2], [3], [1, 2, 3]],
    "axis": [1, 2, -2, [1, 2], [1, 2, 3], [2, 1], None],
    "axes": [1, (1, 2)],
    "normalize": [True],
    "epsilon": [1e-7, 0.1],
    "momentum": [0.5],
    "center": [False],
    "scale": [False, 2.0, [0.5, 1.0, 2.0, 3.0]],
    "offset": [0.5, [0.5, 1.0, 2.0, 3.0]],
    "renorm": [True],
    "synchronized": [True],
    "rms_scaling": [True],
    "mean": [2.0, [0.5, 1.0, 2.0, 3.0]],
    "variance": [0.5, [0.5, 1.0, 2.0, 3.0]],
    "invert": [True],
    "rate": [0.0, 0.9],
    "stddev": [0.9],
    "noise_shape": [(None, 1, 1, 1)],
    "seed": [3],
    "l1": [0.1],
    "l2": [0.1],
    "trainable": [False],
    "autocast": [False],
    "dtype": ["float64", "float16", "mixed_float16", "mixed_bfloat16"],
    "kernel_regularizer": ["l2"],
    "bias_regularizer": ["l2"],
    "activity_regularizer": ["l2"],
    "kernel_constraint": ["non_neg"],
    "kernel_initializer": ["zeros"],
    "lora_rank": [2],
    "beta_initializer": ["ones"],
    "recurrent_activation": ["tanh", "hard_sigmoid", "softsign", "softmax"],
    "return_sequences": [True],
    "return_state": [True],
    "go_backwards": [True],
    "stateful": [True],
    "unroll": [True],
    "zero_output_for_mask": [True],
    "dropout": [0.5],
    "recurrent_dropout": [0.5],
    "unit_forget_bias": [False],
    "reset_after": [False],
    "recurrent_initializer": ["zeros"],
    "merge_mode": ["sum", "mul", "ave", None],
    "cell": [
        {"class_name": "GRUCell", "config": {"units": 3}},
        {"class_name": "GRUCell", "config": {"units": 3, "reset_after": False, "activation": "relu"}},
        {"class_name": "SimpleRNNCell", "config": {"units": 3, "use_bias": False, "dropout": 0.4}},
        {"class_name": "LSTMCell", "config": {"units": 2, "recurrent_activation": "hard_sigmoid"}},
        {"class_name": "LSTMCell", "config": {"units": 2, "activation": "gelu"}},
        {"class_name": "LSTMCell", "config": {"units": 2, "dtype": "float64"}},
    ],
    "layer": [
        {"class_name": "LSTM", "config": {"units": 2, "return_sequences": True, "unroll": True}},
        {"class_name": "LSTM", "config": {"units": 2, "activation": "gelu"}},
        {"class_name": "LSTM", "config": {"units": 2, "go_backwards": True}},
        {"class_name": "GRU", "config": {"units": 2, "reset_after": False, "return_state": True}},
        {"class_name": "SimpleRNN", "config": {"units": 2, "activation": "relu", "use_bias": False}},
        {"class_name": "SimpleRNN", "config": {"units": 2, "dtype": "float64"}},
        {"class_name": "ConvLSTM1D", "config": {"filters": 2, "kernel_size": 2}},
        {"class_name": "Dense", "config": {"units": 3, "activation": "softmax"}},
        {"class_name": "Dense", "config": {"units": 3, "activation": "sparsemax"}},
        {"class_name": "Conv1D", "config": {"filters": 3, "kernel_size": 2, "padding": "same", "strides": 2}},
        {"class_name": "Dropout", "config": {"rate": 0.5}},
        {"class_name": "Softmax", "config": {"axis": 1}},
        {"class_name": "LayerNormalization", "config": {"epsilon": 0.1}},
        {"class_name": "UnitNormalization", "config": {}},
    ],
    "backward_layer": [
        {"class_name": "LSTM", "config": {"units": 3, "go_backwards": True, "activation": "relu"}},
        {"class_name": "GRU", "config": {"units": 2, "go_backwards": True}},
    ],
    "output_dim": [2],
    "mask_zero": [True],
    "num_heads": [1, 3],
    "key_dim": [3],
    "value_dim": [5],
    "output_shape": [3, (2, 3)],
    "attention_axes": [1, (1,)],
    "use_gate": [True],
    "sliding_window": [2],
    "flash_attention": [True],
    "head_dim": [2],
    "num_query_heads": [2],
    "num_key_value_heads": [1, 4],
    "use_scale": [True, False],
    "score_mode": ["concat"],
}
"""Other values of a key, of which Keras takes those that it likes."""


TWO = (
    "Add",
    "Subtract",
    "Multiply",
    "Average",
    "Maximum",
    "Minimum",
    "Concatenate",
    "Dot",
    "Attention",
    "AdditiveAttention",
)
"""Layers of a list of inputs."""

HEADS = ("MultiHeadAttention", "GroupQueryAttention")
"""Layers of queries and values."""


def arguments(base: dict[str, Any]) -> dict[str, Any]:
    return {key: value() if callable(value) else value for key, value in base.items()}


def variants(class_name: str) -> Iterator[tuple[str, Any]]:
    base = arguments(BASES[class_name][1])
    layer = getattr(keras.layers, class_name)(**base)
    yield "", None
    for key in layer.get_config():
        for value in OTHERS.get(key, []):
            yield key, value


def made(class_name: str, key: str, value: Any, path: Path) -> Any:
    """The model with that one key changed as its file says it, and its outputs; None if Keras refuses it."""
    shape, base = BASES[class_name]
    config = {**arguments(base), key: value} if key else arguments(base)
    count = 2 if class_name in TWO + HEADS else 1
    dtype = "int32" if class_name == "Embedding" else None
    try:
        if isinstance(value, dict):
            config[key] = getattr(keras.layers, value["class_name"])(**value["config"])
        layer = getattr(keras.layers, class_name)(**config)
        inputs = [keras.Input(shape, name=f"input_{k}", dtype=dtype) for k in range(count)]
        outputs = layer(*inputs) if class_name not in TWO else layer(inputs)
        model = keras.Model(inputs if count > 1 else inputs[0], outputs)
        randomise(model).save(path)
        model = keras.models.load_model(path)
        return model, outputs_of(model, feeds(model))
    except Exception:  # noqa: BLE001  (Keras and TensorFlow have no class for what they do not take)
        return None


@pytest.mark.parametrize("class_name", sorted(BASES))
def test_a_changed_key_is_followed_or_refused(class_name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    seen = 0
    for key, value in variants(class_name):
        found = made(class_name, key, value, path)
        if found is None:
            continue
        seen += 1
        model, expected = found
        try:
            results = list(hub.load(path).run(feeds(model)).values())
        except hub.UnsupportedOps as error:
            named = model.layers[-1].name in str(error)
            assert named, f"{key}={value!r}: the refusal does not name the layer"
            continue
        try:
            for one, got in zip(expected, results, strict=True):
                assert np.ptp(one) > 0 or (got == one).all()
                if np.ptp(one) > 0:
                    agree(one, got)
        except AssertionError as error:
            raise AssertionError(f"{class_name} with {key}={value!r}: {error}") from error
    assert seen, "Keras refused all of it"


def test_every_layer_is_changed() -> None:
    old = {
        "Convolution",
        "Deconvolution",
        "MaxPool1",
        "MaxPool2",
        "MaxPool3",
        "AvgPool",
        "Thresholded",
        "SeparableConvo",
        "GroupedQueryAttention",
    }
    rest = {name for name in LAYERS if name not in BASES and not any(part in name for part in (*old, "GlobalMaxPool"))}
    assert rest == {"CustomScaleLayer", "LayerScale", "StochasticDepth"}, "layers of keras.applications have no options"
