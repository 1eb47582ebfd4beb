"""Sequences through whole networks: Keras against hub and against Core ML's program, at several batches and lengths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import need

need("keras", "tensorflow", "coremltools")

import h5py  # noqa: E402
import numpy as np  # noqa: E402
from keras_nets import agree, outputs_of, randomise  # noqa: E402

import hub  # noqa: E402
from parity.runners import find  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

Array = np.ndarray[Any, Any]

WORDS, TOLERANCE = 20, 1e-5


def lstm_classifier(steps: int | None) -> Any:
    from keras import Input, Model, layers

    x = Input((steps,), dtype="int32", name="words")
    y = layers.Embedding(WORDS, 6, name="table")(x)
    y = layers.LSTM(8, dropout=0.2, return_sequences=True, name="first")(y)
    y = layers.LSTM(5, name="second")(y)
    return Model(x, layers.Dense(4, activation="softmax", name="classes")(y), name="classifier")


def gru(steps: int | None) -> Any:
    from keras import Input, Model, layers

    x = Input((steps, 3), name="series")
    y = layers.GRU(6, return_sequences=True, reset_after=False, name="first")(x)
    y = layers.GRU(5, go_backwards=True, name="second")(y)
    return Model(x, layers.Dense(2, name="next")(y), name="series_net")


def both_ways(steps: int | None) -> Any:
    from keras import Input, Model, layers

    x = Input((steps, 3), name="series")
    y = layers.Conv1D(6, 3, padding="same", activation="relu", name="conv")(x)
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="first")(y)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode="sum", name="second")(y)
    y = layers.TimeDistributed(layers.Dense(4, activation="tanh"), name="each")(y)
    y = layers.Concatenate(name="pools")([layers.GlobalAveragePooling1D()(y), layers.GlobalMaxPooling1D()(y)])
    return Model(x, layers.Dense(3, name="out")(y), name="both_ways")


def transformer(steps: int | None) -> Any:
    """An encoder of two blocks; positions are learned where the length is known."""
    import keras
    from keras import Input, Model, layers

    x = Input((steps,), dtype="int32", name="words")
    y = layers.Embedding(WORDS, 8, name="table")(x)
    if steps is not None:
        places = Input((steps,), dtype="int32", name="places")
        y = layers.Add(name="placed")([y, layers.Embedding(steps, 8, name="positions")(places)])
    for n in range(2):
        seen = layers.MultiHeadAttention(2, 4, dropout=0.1, name=f"attention_{n}")(y, y)
        y = layers.LayerNormalization(name=f"norm_{n}")(layers.Add()([y, layers.Dropout(0.1)(seen)]))
        wide = layers.Dense(8, name=f"back_{n}")(layers.Dense(16, activation="gelu", name=f"wide_{n}")(y))
        y = layers.LayerNormalization(name=f"out_norm_{n}")(keras.ops.add(y, layers.Dropout(0.1)(wide)))
    y = layers.GlobalAveragePooling1D(name="pool")(y)
    y = layers.Dense(3, activation="softmax", name="classes")(layers.Dropout(0.1)(y))
    return Model([x, places] if steps is not None else x, y, name="encoder")


NETS = [lstm_classifier, gru, both_ways, transformer]


def fed(model: Any, batch: int, steps: int) -> list[Array]:
    rng = np.random.default_rng(batch * steps)
    found: list[Array] = []
    for tensor in model.inputs:
        shape = [batch, steps, *tensor.shape[2:]]
        if tensor.name == "places":
            found.append(np.tile(np.arange(steps, dtype=np.int32), (batch, 1)))
        elif tensor.dtype == "int32":
            found.append(rng.integers(0, WORDS, shape).astype(np.int32))
        else:
            found.append(rng.uniform(-2, 2, shape).astype(np.float32))
    return found


def sizes(steps: int | None) -> list[tuple[int, int]]:
    return [(batch, n) for batch in (1, 3) for n in ([steps] if steps else [4, 9])]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("steps", [6, None], ids=["fixed", "open"])
@pytest.mark.parametrize("net", NETS)
def test_a_network_of_sequences(
    net: Callable[[int | None], Any], steps: int | None, suffix: str, tmp_path: Path
) -> None:
    model = randomise(net(steps))
    model.save(tmp_path / f"net{suffix}")
    converted = hub.load(tmp_path / f"net{suffix}")
    for batch, n in sizes(steps):
        arrays = fed(model, batch, n)
        for expected, got in zip(outputs_of(model, arrays), converted.run(arrays).values(), strict=True):
            agree(expected, got, TOLERANCE)


@pytest.mark.parametrize("steps", [6, None], ids=["fixed", "open"])
@pytest.mark.parametrize("net", NETS)
def test_a_network_of_sequences_in_core_ml(net: Callable[[int | None], Any], steps: int | None, tmp_path: Path) -> None:
    model = randomise(net(steps))
    model.save(tmp_path / "net.keras")
    converted = hub.load(tmp_path / "net.keras")
    names = [info.name for info in converted.inputs]
    for batch, n in sizes(steps):
        # Core ML's reshapes have one open size: the batch is fixed where the length is open.
        ranges = {name: (batch, (1, 12), *info.shape[2:]) for name, info in zip(names, converted.inputs, strict=True)}
        options: dict[str, Any] = (
            {"shapes": ranges, "minimum_deployment_target": "iOS18"} if steps is None else {"batch": (1, 4)}
        )
        (path,) = hub.save(converted, tmp_path / "net.mlpackage", **options)
        runner = find("coremlread").open(path)
        try:
            arrays = fed(model, batch, n)
            got = runner.run(dict(zip(names, arrays, strict=True)))
        finally:
            runner.close()
        for expected, info in zip(outputs_of(model, arrays), converted.outputs, strict=True):
            agree(expected, got[info.name], TOLERANCE)


# -- what a file of tf.keras 2 says ----------------------------------------------------------------------------------


def as_tf_keras(path: Path, **changes: Any) -> None:
    """Make an .h5 of Keras 3 one of tf.keras 2: calls as lists, no modules, what was said then."""

    def refs(value: Any) -> Any:
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            return list(value["config"]["keras_history"])
        if isinstance(value, dict):
            return {key: refs(item) for key, item in value.items()}
        return [refs(item) for item in value] if isinstance(value, list) else value

    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            nodes = []
            for node in layer["inbound_nodes"]:
                args, kwargs = refs(node["args"]), refs(node["kwargs"])
                flat = args[0] if args and isinstance(args[0][0], list) else args
                given = kwargs.pop("initial_state", None) or []
                if layer["class_name"] == "MultiHeadAttention":  # tf.keras names what is not the first argument
                    flat, kwargs["value"] = flat[:1], flat[1]
                nodes.append([[*ref, kwargs if i == 0 else {}] for i, ref in enumerate([*flat, *given])])
            layer["inbound_nodes"] = nodes
            if layer["class_name"] in ("LSTM", "GRU", "SimpleRNN"):
                layer["config"] |= {"time_major": False, "implementation": 2, "dtype": "float32"}
                layer["config"].pop("zero_output_for_mask", None)
            layer["config"].update(changes.get(layer["name"], {}))
        file.attrs["model_config"] = json.dumps(config)
        for group in (file, file["model_weights"]):
            group.attrs["keras_version"] = "2.11.0"


def test_calls_of_tf_keras_2(tmp_path: Path) -> None:
    """States are further inputs there, and values of attention are named."""
    from keras import Input, Model, layers

    x, h, c = Input((5, 3), name="x"), Input((4,), name="h"), Input((4,), name="c")
    y, last_h, last_c = layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(x, initial_state=[h, c])
    z = layers.MultiHeadAttention(2, 3, name="heads")(y, x)
    model = randomise(Model([x, h, c], [layers.GRU(3, name="gru")(z), last_h, last_c]))
    path = tmp_path / "net.h5"
    model.save(path)
    as_tf_keras(path)
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(-1, 1, (2, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    for expected, got in zip(outputs_of(model, arrays), hub.load(path).run(arrays).values(), strict=True):
        agree(expected, got, TOLERANCE)


def test_hard_sigmoid_in_a_recurrence_of_tf_keras_2(tmp_path: Path) -> None:
    """0.2 x + 0.5 there, which no Keras of today computes: by hand, one step."""
    from keras import Input, Model, layers

    x = Input((1, 3), name="x")
    model = randomise(Model(x, layers.LSTM(4, recurrent_activation="hard_sigmoid", name="lstm")(x)))
    path = tmp_path / "net.h5"
    model.save(path)
    as_tf_keras(path)
    array = np.random.default_rng(0).uniform(-2, 2, (2, 1, 3)).astype(np.float32)
    kernel, _, bias = model.get_weights()
    i, _, c, o = np.split(array[:, 0] @ kernel + bias, 4, axis=1)
    gate = lambda v: np.clip(0.2 * v + 0.5, 0, 1)  # noqa: E731
    (got,) = hub.load(path).run(array).values()
    agree((gate(o) * np.tanh(gate(i) * np.tanh(c))).astype(np.float32), got, TOLERANCE)


@pytest.mark.parametrize(
    ("change", "reason"), [({"time_major": True}, "time_major=True"), ({"stateful": True}, "stateful=True")]
)
def test_what_no_recurrence_of_onnx_is_is_refused(change: dict[str, bool], reason: str, tmp_path: Path) -> None:
    from keras import Input, Model, layers

    x = Input((5, 3), name="x")
    path = tmp_path / "net.h5"
    Model(x, layers.LSTM(4, name="lstm")(x)).save(path)
    as_tf_keras(path, lstm=change)
    with pytest.raises(hub.UnsupportedOps, match=f"(?s){reason}.*lstm"):
        hub.load(path)


# -- masks -----------------------------------------------------------------------------------------------------------


def masked(user: str) -> Callable[[Any], Any]:
    from keras import layers

    makers: dict[str, Callable[[Any], Any]] = {
        "lstm": lambda y: layers.LSTM(3, name="user")(y),
        "both": lambda y: layers.Bidirectional(layers.GRU(3), name="user")(y),
        "pool": lambda y: layers.GlobalAveragePooling1D(name="user")(layers.Dense(3)(y)),
        "heads": lambda y: layers.MultiHeadAttention(2, 3, name="user")(y, y),
        "attention": lambda y: layers.Attention(name="user")([y, layers.Dropout(0.1)(y)]),
        "steps": lambda y: layers.TimeDistributed(layers.Dense(3), name="user")(y),
    }
    return makers[user]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("user", ["lstm", "both", "pool", "heads", "attention", "steps"])
def test_a_mask_that_is_used_is_refused(user: str, suffix: str, tmp_path: Path) -> None:
    """Keras writes it into the call, or, of a Sequential model and in tf.keras, only carries it along."""
    from keras import Input, Model, Sequential, layers

    x = Input((5,), dtype="int32", name="x")
    y = layers.Embedding(WORDS, 4, mask_zero=True, name="table")(x)
    paths = [tmp_path / f"net{suffix}"]
    Model(x, masked(user)(y)).save(paths[0])
    if user == "lstm":
        paths.append(tmp_path / f"line{suffix}")
        table = layers.Embedding(WORDS, 4, mask_zero=True)
        Sequential([Input((5,), dtype="int32"), table, layers.Dropout(0.1), layers.LSTM(3, name="user")]).save(paths[1])
    for path in paths:
        with pytest.raises(hub.UnsupportedOps, match=r"(?s)hub does not follow masks.*user.*mask_zero"):
            hub.load(path)


def test_a_mask_that_nothing_uses(tmp_path: Path) -> None:
    from keras import Input, Model, layers

    x = Input((5,), dtype="int32", name="x")
    y = layers.Embedding(WORDS, 4, mask_zero=True, name="table")(x)
    model = randomise(Model(x, layers.Dense(3)(layers.Flatten()(layers.LayerNormalization()(y)))))
    model.save(tmp_path / "net.keras")
    array = np.random.default_rng(0).integers(0, 3, (2, 5)).astype(np.int32)
    (got,) = hub.load(tmp_path / "net.keras").run(array).values()
    agree(outputs_of(model, [array])[0], got, TOLERANCE)


# -- whose weights are whose -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_recurrences_and_attention_in_a_nested_model(suffix: str, tmp_path: Path) -> None:
    from keras import Input, Model, layers

    x = Input((5, 3))
    y = layers.MultiHeadAttention(2, 3, name="heads")(x, x)
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both")(y)
    nested = Model(x, layers.TimeDistributed(layers.Dense(2), name="each")(y), name="nested")
    z = Input((5, 3), name="z")
    model = randomise(Model(z, layers.GRU(3, name="gru")(nested(z))))
    model.save(tmp_path / f"net{suffix}")
    array = np.random.default_rng(0).uniform(-1, 1, (2, 5, 3)).astype(np.float32)
    (got,) = hub.load(tmp_path / f"net{suffix}").run(array).values()
    agree(outputs_of(model, [array])[0], got, TOLERANCE)


def test_a_layer_that_is_called_twice_has_its_weights_once(tmp_path: Path) -> None:
    from keras import Input, Model, layers

    a, b = Input((5, 3), name="a"), Input((None, 3), name="b")
    lstm, dense = layers.LSTM(4, name="lstm"), layers.TimeDistributed(layers.Dense(3, name="inner"), name="each")
    model = randomise(Model([a, b], layers.Subtract()([lstm(dense(a)), lstm(dense(b))])))
    model.save(tmp_path / "net.keras")
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(-1, 1, (2, n, 3)).astype(np.float32) for n in (5, 7)]
    converted = hub.load(tmp_path / "net.keras")
    (got,) = converted.run(arrays).values()
    agree(outputs_of(model, arrays)[0], got, TOLERANCE)
    assert len(converted.ir.graph.initializers) < 10


def test_queries_where_keys_should_be_are_found(tmp_path: Path) -> None:
    """An .h5 has the weights of attention in a row: those of queries and keys differ in nothing but their names."""
    from keras import Input, Model, layers

    x = Input((5, 3), name="x")
    path = tmp_path / "net.h5"
    randomise(Model(x, layers.MultiHeadAttention(2, 3, name="heads")(x, x))).save(path)
    with h5py.File(path, "r+") as file:
        group = file["model_weights/heads"]
        names = list(group.attrs["weight_names"])
        group.attrs["weight_names"] = [*names[2:4], *names[:2], *names[4:]]
    with pytest.raises(hub.InvalidModel, match="stands where one of 'query' should"):
        hub.load(path)


def test_a_wrapped_layer_of_somebody_s_own_is_not_taken_for_one_of_keras(tmp_path: Path) -> None:
    import keras
    from keras import Input, Model, layers

    @keras.saving.register_keras_serializable("mine", "Dense")
    class Own(layers.Dense):  # type: ignore[misc, name-defined]
        pass

    x = Input((5, 3), name="x")
    path = tmp_path / "net.keras"
    Model(x, layers.TimeDistributed(Own(4), name="each")(x)).save(path)
    with pytest.raises(hub.UnsupportedOps, match=r"(?s)mine>Dense.*each"):
        hub.load(path)
