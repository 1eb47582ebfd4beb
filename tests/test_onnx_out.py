"""Writing ONNX: one file or two, the same bytes each time, and where it all came from. Opsets: test_opset.py."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import hub
from hub import onnxfile

FIXTURE = Path(__file__).parent / "fixtures" / "keras" / "keras2_graph.h5"
LAYERS = Path(__file__).parent / "fixtures" / "keras" / "keras2_layers.h5"


@pytest.fixture
def model() -> hub.Model:
    return hub.load(LAYERS)


def feeds(model: hub.Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {info.name: [d if isinstance(d, int) else 2 for d in info.shape] for info in model.inputs}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_one_file_that_the_checker_and_onnx_runtime_take(model: hub.Model, tmp_path: Path) -> None:
    (path,) = hub.save(model, tmp_path / "net.onnx")
    assert os.listdir(tmp_path) == ["net.onnx"]
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    arrays = feeds(model)
    (got,) = session.run(None, arrays)
    np.testing.assert_allclose(got, next(iter(model.run(arrays).values())), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("source", [FIXTURE, LAYERS], ids=lambda path: path.stem)
def test_the_same_input_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    files = []
    for number in range(2):
        (path,) = hub.save(hub.load(source), tmp_path / f"{number}.onnx")
        files.append(path.read_bytes())
    assert files[0] == files[1]
    (path,) = hub.save(hub.load(tmp_path / "0.onnx"), tmp_path / "again.onnx")
    (twice,) = hub.save(hub.load(path), tmp_path / "twice.onnx")
    assert path.read_bytes() == twice.read_bytes(), "a file that went through is not changed again"


def test_external_data_on_request(model: hub.Model, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    paths = hub.save(model, folder / "net.onnx", external_data=True)
    assert [path.name for path in paths] == ["net.onnx", "net.onnx.data"]
    onnx.checker.check_model(paths[0])
    arrays = feeds(model)
    expected = next(iter(model.run(arrays).values()))
    loaded = hub.load(paths[0])
    np.testing.assert_array_equal(next(iter(loaded.run(arrays).values())), expected)
    moved = tmp_path / "moved"
    folder.rename(moved)
    np.testing.assert_array_equal(next(iter(hub.load(moved / "net.onnx").run(arrays).values())), expected)
    proto = onnx.load(moved / "net.onnx", load_external_data=False)
    large = [t for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert large
    assert all(not t.raw_data for t in large)
    offsets = [int(e.value) for t in large for e in t.external_data if e.key == "offset"]
    assert all(offset % 4096 == 0 for offset in offsets), "pages can be mapped"


def test_external_data_is_read_back_into_one_file(model: hub.Model, tmp_path: Path) -> None:
    one = hub.save(model, tmp_path / "one.onnx")[0].read_bytes()
    two = hub.save(model, tmp_path / "two.onnx", external_data=True)[0]
    back = hub.save(hub.load(two), tmp_path / "back.onnx")[0]
    again = hub.save(hub.load(tmp_path / "one.onnx"), tmp_path / "again.onnx")[0]
    assert back.read_bytes() == again.read_bytes()
    assert len(back.read_bytes()) >= len(one) // 2


def test_where_it_came_from_is_written_down(model: hub.Model, tmp_path: Path) -> None:
    proto = onnx.load(hub.save(model, tmp_path / "net.onnx")[0])
    assert proto.producer_name == "hub"
    assert proto.producer_version == hub.__version__
    assert {p.key: p.value for p in proto.metadata_props}["hub.source"] == "keras"
    of = {node.name: {p.key: p.value for p in node.metadata_props} for node in proto.graph.node}
    assert all("hub.layer" in metadata for metadata in of.values())
    assert {metadata["hub.layer"] for metadata in of.values()} == set(model.layers)
    assert of["conv"]["hub.layer"] == "conv" or of["conv/Conv"]["hub.layer"] == "conv"


def test_layer_names_and_layouts_survive_a_round_trip(model: hub.Model, tmp_path: Path) -> None:
    loaded = hub.load(hub.save(model, tmp_path / "net.onnx")[0])
    assert loaded.layers == model.layers
    assert [info.layout for info in loaded.inputs] == [info.layout for info in model.inputs] == ["NHWC"]


def test_writing_leaves_the_model_as_it_was(model: hub.Model, tmp_path: Path) -> None:
    arrays = feeds(model)
    before = (model.summary(), next(iter(model.run(arrays).values())))
    for options in ({}, {"external_data": True}, {"opset": 17}):
        hub.save(model, tmp_path / "net.onnx", **options)
    assert model.summary() == before[0]
    np.testing.assert_array_equal(next(iter(model.run(arrays).values())), before[1])


def test_a_name_of_an_output_is_free_for_the_user(tmp_path: Path) -> None:
    paths = hub.save(hub.load(FIXTURE), tmp_path / "naïve name.onnx")
    assert [path.name for path in paths] == ["naïve name.onnx"]


@pytest.mark.parametrize("options", [{"opset": 7}, {"opset": 99}, {"externaldata": True}], ids=str)
def test_wrong_options_are_refused_and_write_nothing(options: dict, model: hub.Model, tmp_path: Path) -> None:
    with pytest.raises(hub.UsageError):
        hub.save(model, tmp_path / "net.onnx", **options)
    assert os.listdir(tmp_path) == []


def test_overwriting_is_whole_or_not_at_all(model: hub.Model, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"older")
    with pytest.raises(hub.HubError):
        hub.save(model, path, opset=99)
    assert path.read_bytes() == b"older"
    hub.save(model, path)
    assert hub.load(path).layers == model.layers
    with pytest.raises(hub.UsageError, match="source itself"):
        hub.convert(path, path, check=False)


def test_the_message_is_written_as_protobuf_would(model: hub.Model, tmp_path: Path) -> None:
    """The streamed file is, parsed, the model that onnx_ir serialises in one piece."""
    import onnx_ir as ir

    onnxfile.save(model.ir, tmp_path / "net.onnx", external_data=False)
    streamed = onnx.load(tmp_path / "net.onnx")
    whole = ir.serde.serialize_model(model.ir)
    assert [n.SerializeToString() for n in streamed.graph.node] == [n.SerializeToString() for n in whole.graph.node]
    for a, b in zip(streamed.graph.initializer, whole.graph.initializer, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(a), onnx.numpy_helper.to_array(b))
