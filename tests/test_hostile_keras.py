"""Keras files that lie: archives, configurations, graphs, weights, tricks of HDF5."""

from __future__ import annotations

import copy
import io
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hostile import Config, bounded, refused

import hub

# -- archives ------------------------------------------------------------------------------------------------

INPUT = {
    "module": "keras.layers",
    "class_name": "InputLayer",
    "config": {"batch_shape": [None, 5], "dtype": "float32", "name": "x"},
    "registered_name": None,
    "name": "x",
    "inbound_nodes": [],
}


def tensor(layer: str, call: int = 0, index: int = 0) -> Config:
    config = {"shape": [None, 5], "dtype": "float32", "keras_history": [layer, call, index]}
    return {"class_name": "__keras_tensor__", "config": config}


def entry(class_name: str, name: str, *sources: str, **config: Any) -> Config:
    """One layer of a Keras 3 configuration."""
    args: list[Any] = [tensor(source) for source in sources]
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": {"name": name, "trainable": True, "dtype": "float32", **config},
        "registered_name": None,
        "name": name,
        "inbound_nodes": [{"args": [args] if len(args) > 1 else args, "kwargs": {}}],
    }


def network(*layers: Config, shape: Any = (None, 5), output: str | None = None) -> Config:
    first = copy.deepcopy(INPUT)
    first["config"]["batch_shape"] = list(shape) if isinstance(shape, tuple) else shape
    last = output or (layers[-1]["name"] if layers else "x")
    config = {
        "name": "net",
        "trainable": True,
        "layers": [first, *layers],
        "input_layers": [["x", 0, 0]],
        "output_layers": [[last, 0, 0]],
    }
    return {"module": "keras", "class_name": "Functional", "config": config, "registered_name": "Functional"}


DENSE = entry("Dense", "dense", "x", units=3, activation="linear", use_bias=True)
WEIGHTS = {"layers/dense/vars/0": np.ones((5, 3), np.float32), "layers/dense/vars/1": np.ones(3, np.float32)}


def hdf5(weights: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for path, value in weights.items():
            if callable(value):
                value(file, path)
            else:
                file[path] = value
    return buffer.getvalue()


def archive(
    path: Path,
    config: Any = None,
    weights: Any = None,
    *,
    drop: str = "",
    compress: int = zipfile.ZIP_STORED,
    **extra: Any,
) -> Path:
    """A `.keras` file of Keras 3, by hand."""
    members = {
        "config.json": config
        if isinstance(config, str | bytes)
        else json.dumps(network(DENSE) if config is None else config),
        "metadata.json": json.dumps({"keras_version": "3.15.1"}),
        "model.weights.h5": weights if isinstance(weights, bytes) else hdf5(WEIGHTS if weights is None else weights),
        **extra,
    }
    with zipfile.ZipFile(path, "w", compress) as file:
        for name, content in members.items():
            if name != drop:
                file.writestr(name, content)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "model.keras"


def test_the_archive_made_here_is_a_good_one(model: Path) -> None:
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    for compress in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        (got,) = hub.load(archive(model, compress=compress)).run(x).values()
        np.testing.assert_allclose(got, np.repeat(x.sum(1, keepdims=True) + 1, 3, 1))


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_a_zip_without_a_member(name: str, model: Path, tmp_path: Path) -> None:
    refused(archive(model, drop=name), tmp_path, name)


def test_other_zips_are_not_keras(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    refused(path, tmp_path, "not a .keras archive")
    with zipfile.ZipFile(path, "w"):
        pass
    refused(path, tmp_path)


def test_weights_in_another_store_say_so(model: Path, tmp_path: Path) -> None:
    path = archive(model, drop="model.weights.h5", **{"model.weights.json": "{}"})
    refused(path, tmp_path, "model.weights.json")


def test_zip_bombs(model: Path, tmp_path: Path) -> None:
    zeros = bytes(300 << 20)
    refused(archive(model, compress=zipfile.ZIP_DEFLATED, config=zeros), tmp_path, "config.json")
    refused(archive(model, compress=zipfile.ZIP_DEFLATED, weights=zeros), tmp_path, "model.weights.h5")


def test_a_member_that_lies_about_its_size(model: Path, tmp_path: Path) -> None:
    data = bytearray(archive(model, compress=zipfile.ZIP_DEFLATED).read_bytes())
    central = data.rindex(b"PK\x01\x02")
    data[central + 24 : central + 28] = (0xFFFFFF0).to_bytes(4, "little")
    model.write_bytes(bytes(data))
    refused(model, tmp_path)


# -- configurations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        [], [1, 2], "text", 5, {}, {"class_name": "Functional"}, {"class_name": "Functional", "config": None},
        {"class_name": "Functional", "config": []}, {"class_name": "Functional", "config": {"layers": 5}},
        {"class_name": "Sequential", "config": {"layers": []}}, {"class_name": "Sequential", "config": [None]},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense"}]}},
        {"class_name": ["Functional"], "config": {}}, {"class_name": "Graph", "config": {}},
    ],
    ids=lambda config: json.dumps(config)[:50],
)  # fmt: skip
def test_a_configuration_that_is_none(config: Any, model: Path, tmp_path: Path) -> None:
    refused(archive(model, json.dumps(config)), tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "nan", "[" * 100_000, '{"a":' * 100_000, "\ud800".encode("utf-8", "surrogatepass")]
)
def test_a_configuration_that_is_not_json(text: Any, model: Path, tmp_path: Path) -> None:
    refused(archive(model, text), tmp_path, "JSON" if text not in ("null",) else "")


def test_models_nested_a_thousand_deep(model: Path, tmp_path: Path) -> None:
    inner = network(DENSE)
    for depth in range(1000):
        name = f"level{depth}"
        inner["config"]["name"] = name
        inner.update(name=name, inbound_nodes=[{"args": [tensor("x")], "kwargs": {}}])
        inner = network(inner)
    text = None
    try:
        text = json.dumps(inner)
    except RecursionError:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(100_000)
        text = json.dumps(inner)
        sys.setrecursionlimit(limit)
    archive(model, text)
    bounded(model, tmp_path)


def keys(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from keys(item, (*path, key))


def test_every_key_missing_or_of_another_type(model: Path, tmp_path: Path) -> None:
    """Whatever is taken out or replaced, it is an error of the package, or does not matter."""
    whole = network(DENSE, entry("Activation", "act", "dense", activation="relu"))
    for path in keys(whole):
        for replacement in (..., None, -1, 10**30, "text", [], {}, [[["x", 0, 0]]], True, 1.5):
            config = copy.deepcopy(whole)
            holder = config
            for key in path[:-1]:
                holder = holder[key]
            if replacement is ...:
                del holder[path[-1]]
            else:
                holder[path[-1]] = replacement
            bounded(archive(model, config), tmp_path)


HUGE = 10**12
IMAGE = (None, 9, 7, 4)


def conv(**changes: Any) -> Config:
    config = {
        "filters": 2,
        "kernel_size": [3, 3],
        "strides": [1, 1],
        "padding": "valid",
        "data_format": "channels_last",
    }
    config |= {"dilation_rate": [1, 1], "groups": 1, "activation": "linear", "use_bias": True}
    return entry("Conv2D", "layer", "x", **{**config, **changes})


CONV_WEIGHTS = {
    "layers/conv2d/vars/0": np.ones((3, 3, 4, 2), np.float32),
    "layers/conv2d/vars/1": np.ones(2, np.float32),
}

SIZES: dict[str, Config] = {
    "filters": conv(filters=HUGE),
    "no filters": conv(filters=0),
    "negative filters": conv(filters=-2),
    "filters of text": conv(filters="many"),
    "a fraction of filters": conv(filters=2.5),
    "kernel": conv(kernel_size=[10**9, 10**9]),
    "kernel of one axis": conv(kernel_size=[3]),
    "negative kernel": conv(kernel_size=[-3, 3]),
    "strides": conv(strides=[0, 1]),
    "negative strides": conv(strides=[-1, 1]),
    "huge strides": conv(strides=[HUGE, 1], padding="strange"),
    "dilation": conv(dilation_rate=[0, 1]),
    "huge dilation": conv(dilation_rate=[HUGE, 1]),
    "groups": conv(groups=3),
    "no groups": conv(groups=0),
    "negative groups": conv(groups=-1),
    "padding": conv(padding="circular"),
    "padding of a number": conv(padding=5),
    "data format": conv(data_format="NHWC"),
    "activation": conv(activation="explode"),
    "activation of a list": conv(activation=["relu"]),
    "unknown argument": conv(surprise=1),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_cannot_be(name: str, model: Path, tmp_path: Path) -> None:
    archive(model, network(SIZES[name], shape=IMAGE), CONV_WEIGHTS)
    with pytest.raises(hub.HubError, match="layer"):
        hub.load(model)
    bounded(model, tmp_path)


def plain(class_name: str, **config: Any) -> Config:
    return entry(class_name, "layer", "x", **config)


WEIGHTLESS: dict[str, tuple[Config, Any]] = {
    "pool of nothing": (plain("MaxPooling2D", pool_size=[0, 0], strides=[1, 1], padding="valid"), IMAGE),
    "negative pool": (plain("MaxPooling2D", pool_size=[-1, 2], strides=[1, 1], padding="valid"), IMAGE),
    "pool larger than the image": (plain("MaxPooling2D", pool_size=[20, 2], strides=[1, 1], padding="valid"), IMAGE),
    "pool without strides": (plain("AveragePooling2D", pool_size=[2, 2], strides=[0, 0], padding="same"), IMAGE),
    "negative padding": (plain("ZeroPadding2D", padding=[[-20, 0], [0, 0]]), IMAGE),
    "cropping of everything": (plain("Cropping2D", cropping=[[5, 4], [0, 0]]), IMAGE),
    "negative cropping": (plain("Cropping2D", cropping=[[-5, 0], [0, 0]]), IMAGE),
    "cropping of text": (plain("Cropping2D", cropping="all"), IMAGE),
    "upsampling by nothing": (plain("UpSampling2D", size=[0, 1], interpolation="nearest"), IMAGE),
    "reshape": (plain("Reshape", target_shape=[5, 5]), IMAGE),
    "reshape with two open sizes": (plain("Reshape", target_shape=[-1, -1]), IMAGE),
    "permute": (plain("Permute", dims=[7, 1, 2]), IMAGE),
    "permute twice the same": (plain("Permute", dims=[1, 1, 2]), IMAGE),
    "softmax axis": (plain("Softmax", axis=9), IMAGE),
    "repeat": (plain("RepeatVector", n=-3), (None, 5)),
    "rank": (plain("GlobalAveragePooling2D", data_format="channels_last"), (None, 5)),
    "dropout of text": (plain("Dropout", rate="half"), IMAGE),
    "a scalar input": (plain("Flatten"), ()),
    "a negative input": (plain("Flatten"), (None, -5)),
    "an input of text": (plain("Flatten"), (None, {"a": 1})),
    "an input that is none": (plain("Flatten"), "shape"),
}


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_layers_that_do_not_fit_their_input(name: str, model: Path, tmp_path: Path) -> None:
    layer, shape = WEIGHTLESS[name]
    archive(model, network(layer, shape=shape), {})
    with pytest.raises(hub.HubError, match=r"layer|input"):
        hub.load(model)
    bounded(model, tmp_path)


@pytest.mark.parametrize(
    "layer",
    [
        plain("ZeroPadding2D", padding=[[HUGE, HUGE], [HUGE, HUGE]]),
        plain("UpSampling2D", size=[10**9, 10**9], interpolation="nearest"),
        plain("MaxPooling2D", pool_size=[10**9, 10**9], strides=[1, 1], padding="same"),
    ],
    ids=lambda layer: layer["class_name"],
)
def test_a_huge_result_costs_nothing_to_read(layer: Config, model: Path, tmp_path: Path) -> None:
    bounded(archive(model, network(layer, shape=IMAGE), {}), tmp_path)


# -- graphs -------------------------------------------------------------------------------------------------------


def act(name: str, *sources: str) -> Config:
    return entry("Activation", name, *sources, activation="relu")


def test_duplicate_names(model: Path, tmp_path: Path) -> None:
    refused(archive(model, network(act("a", "x"), act("a", "x")), {}), tmp_path, "two layers", "'a'")


def test_a_cycle(model: Path, tmp_path: Path) -> None:
    refused(archive(model, network(entry("Add", "a", "x", "b"), act("b", "a")), {}), tmp_path, "waits for")
    refused(archive(model, network(act("a", "a")), {}), tmp_path, "waits for")


def test_references_to_what_is_not_there(model: Path, tmp_path: Path) -> None:
    refused(archive(model, network(act("a", "nobody")), {}), tmp_path, "'nobody'")
    refused(archive(model, network(act("a", "x"), output="nobody"), {}), tmp_path, "'nobody'")
    late = act("a", "x")
    late["inbound_nodes"][0]["args"] = [tensor("x", call=7)]
    refused(archive(model, network(late), {}), tmp_path, "call 7")
    late["inbound_nodes"][0]["args"] = [tensor("x", index=3)]
    refused(archive(model, network(late), {}), tmp_path)


def test_a_model_of_no_layers(model: Path, tmp_path: Path) -> None:
    bounded(archive(model, network(), {}), tmp_path)


@pytest.mark.parametrize(
    "name", ['x"); import os #', "a\nb", "a/b/../c", "'", "\\", "é中", " ", "x" * 3000, "\x00", "None"]
)
def test_names_of_layers_may_be_anything(name: str, model: Path, tmp_path: Path) -> None:
    bounded(archive(model, network(act(name, "x"), act("end", name)), {}), tmp_path)
    converted = hub.load(model)
    assert name in converted.layers
    x = np.array([[-1.0, 0, 1, 2, 3]], np.float32)
    (got,) = converted.run(x).values()
    np.testing.assert_array_equal(got, np.maximum(x, 0))


# -- weights ---------------------------------------------------------------------------------------------------------


def test_too_few_too_many_and_other_shapes(model: Path, tmp_path: Path) -> None:
    kernel, bias = WEIGHTS.values()
    refused(archive(model, weights={"layers/dense/vars/0": kernel}), tmp_path, "'dense'", "2 weights")
    refused(archive(model, weights={**WEIGHTS, "layers/dense/vars/2": bias}), tmp_path, "'dense'", "file has 3")
    refused(archive(model, weights={}), tmp_path, "'dense'", "file has 0")
    swapped = dict(zip(WEIGHTS, (bias, kernel), strict=True))
    refused(archive(model, weights=swapped), tmp_path, "kernel has the shape (3,), not (5, 3)")
    turned = {**WEIGHTS, "layers/dense/vars/0": kernel.T}
    refused(archive(model, weights=turned), tmp_path, "kernel has the shape (3, 5), not (5, 3)")
    refused(archive(model, weights={**WEIGHTS, "layers/dense/vars/extra": bias}), tmp_path, "extra")


def test_weights_of_nobody(model: Path, tmp_path: Path) -> None:
    weights = {**WEIGHTS, "layers/dense_1/vars/0": np.ones((5, 3), np.float32)}
    refused(archive(model, weights=weights), tmp_path, "belong to no layer", "dense_1")
    archive(model, weights={**WEIGHTS, "optimizer/vars/0": np.ones(3, np.float32)})
    assert hub.load(model).layers == ["dense"]


def test_weights_under_the_name_of_another_layer(model: Path, tmp_path: Path) -> None:
    def named(file: h5py.File, path: str) -> None:
        file[path] = WEIGHTS[path]
        file["layers/dense/vars"].attrs["name"] = "other"

    refused(archive(model, weights={**WEIGHTS, "layers/dense/vars/0": named}), tmp_path, "'other'", "'dense'")


@pytest.mark.parametrize("dtype", ["f8", "i4", "S5", "f2", "bool", "c8"])
def test_weights_of_other_types(dtype: str, model: Path, tmp_path: Path) -> None:
    archive(model, weights={**WEIGHTS, "layers/dense/vars/0": np.ones((5, 3)).astype(dtype)})
    with pytest.raises(hub.HubError, match="dense"):
        hub.load(model)


def big_endian(file: h5py.File, path: str) -> None:
    file.create_dataset(path, data=np.arange(15).reshape(5, 3), dtype=">f4")


def test_weights_of_the_other_byte_order_are_read_rightly(model: Path) -> None:
    archive(model, weights={**WEIGHTS, "layers/dense/vars/0": big_endian})
    x = np.eye(5, dtype=np.float32)
    (got,) = hub.load(model).run(x).values()
    np.testing.assert_array_equal(got, np.arange(15).reshape(5, 3) + 1)


def test_compressed_and_chunked_weights_are_read_rightly(model: Path) -> None:
    def packed(file: h5py.File, path: str) -> None:
        file.create_dataset(path, data=np.arange(15.0).reshape(5, 3), dtype="f4", chunks=(2, 2), compression="gzip")

    archive(model, weights={**WEIGHTS, "layers/dense/vars/0": packed})
    (got,) = hub.load(model).run(np.eye(5, dtype=np.float32)).values()
    np.testing.assert_array_equal(got, np.arange(15).reshape(5, 3) + 1)


def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["kernel"] = np.full((5, 3), 42, np.float32)
    (tmp_path / "secret.bin").write_bytes(np.full((5, 3), 42, np.float32).tobytes())
    return path


def external_link(file: h5py.File, path: str, folder: Path) -> None:
    file[path] = h5py.ExternalLink(str(folder / "secret.h5"), "kernel")


def soft_link(file: h5py.File, path: str, folder: Path) -> None:
    file["elsewhere"] = np.ones((5, 3), np.float32)
    file[path] = h5py.SoftLink("/elsewhere")


def endless_link(file: h5py.File, path: str, folder: Path) -> None:
    file[path] = h5py.SoftLink("/" + path)


def external_data(file: h5py.File, path: str, folder: Path) -> None:
    file.create_dataset(path, (5, 3), "f4", external=[(str(folder / "secret.bin"), 0, 60)])


def virtual_data(file: h5py.File, path: str, folder: Path) -> None:
    layout = h5py.VirtualLayout((5, 3), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "kernel", (5, 3))
    file.create_virtual_dataset(path, layout)


def huge_contiguous(file: h5py.File, path: str, folder: Path) -> None:
    file.create_dataset(path, (1 << 40,), "f4")


def huge_chunked(file: h5py.File, path: str, folder: Path) -> None:
    file.create_dataset(path, (1 << 40,), "f4", chunks=(1 << 20,))


def huge_compressed(file: h5py.File, path: str, folder: Path) -> None:
    data = file.create_dataset(path, (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip")
    data[:10] = 1


def null_space(file: h5py.File, path: str, folder: Path) -> None:
    file[path] = h5py.Empty("f4")


def a_group(file: h5py.File, path: str, folder: Path) -> None:
    file.create_group(path)


def unwritten(file: h5py.File, path: str, folder: Path) -> None:
    file.create_dataset(path, (5, 3), "f4")


def compound(file: h5py.File, path: str, folder: Path) -> None:
    file[path] = np.zeros((5, 3), [("a", "f4"), ("b", "i4")])


def hub_loop(file: h5py.File, path: str, folder: Path) -> None:
    file[path] = WEIGHTS["layers/dense/vars/0"]
    file["layers/dense/loop"] = file["layers"]


TRICKS: dict[Callable[..., None], str] = {
    external_link: "external link", soft_link: "soft link", endless_link: "soft link", external_data: "another file",
    virtual_data: "another file", huge_contiguous: "holds no data", huge_chunked: "holds no data",
    huge_compressed: "claims", null_space: "empty", a_group: "no weight", unwritten: "holds no data",
    compound: "not numeric",
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
@pytest.mark.parametrize("where", ["archive", "deflated", "h5"])
def test_tricks_of_hdf5(trick: Callable[..., None], where: str, tmp_path: Path) -> None:
    secret(tmp_path)

    def make(file: h5py.File, path: str) -> None:
        trick(file, path, tmp_path)

    if where == "h5":
        path = tmp_path / "model.h5"
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(network(DENSE))
            file.attrs["keras_version"] = "3.15.1"
            group = file.create_group("model_weights")
            group.attrs["layer_names"] = ["dense"]
            dense = group.create_group("dense")
            dense.attrs["weight_names"] = ["dense/kernel", "dense/bias"]
            dense["dense/bias"] = WEIGHTS["layers/dense/vars/1"]
            make(dense, "dense/kernel") if trick is not endless_link else make(file, "model_weights/dense/dense/kernel")
    else:
        compress = zipfile.ZIP_STORED if where == "archive" else zipfile.ZIP_DEFLATED
        path = archive(tmp_path / "model.keras", weights={**WEIGHTS, "layers/dense/vars/0": make}, compress=compress)
    refused(path, tmp_path, TRICKS[trick])


def test_groups_that_hold_themselves(model: Path, tmp_path: Path) -> None:
    def make(file: h5py.File, path: str) -> None:
        hub_loop(file, path, tmp_path)

    bounded(archive(model, weights={**WEIGHTS, "layers/dense/vars/0": make}), tmp_path)
