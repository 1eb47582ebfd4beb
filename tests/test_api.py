"""The public functions on the sample: what they return, refuse and leave behind."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from conftest import need

import hub
from hub.demo import SAMPLES
from hub.formats import all_formats, detect, find

SAMPLE = SAMPLES / "digits.keras"

BROKEN_FORMAT = '''
"""A target whose writer spoils one weight: what a fault in an exporter looks like from outside."""
import numpy as np, onnx_ir as ir
from hub.formats import Format
from hub import onnxfile

def write(model, dst, *, factor=1.5):
    copy = model.ir.clone()
    value = next(v for v in copy.graph.initializers.values() if v.name.endswith("kernel"))
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(factor), name=value.name)
    return onnxfile.save(copy, dst)

SPOILED = Format("spoiled", "Spoiled ONNX", aliases=("rotten",), writes=(".spoiled",), writer="spoiled_format:write",
                 runner="parity.runners.onnxruntime")
'''


@pytest.fixture
def spoiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with an entry point in the group hub.formats, as pip would leave it."""
    site = tmp_path / "site"
    (site / "spoiled-1.0.dist-info").mkdir(parents=True)
    (site / "spoiled-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: spoiled\nVersion: 1.0\n")
    (site / "spoiled-1.0.dist-info" / "entry_points.txt").write_text(
        "[hub.formats]\nspoiled = spoiled_format:SPOILED\n"
    )
    (site / "spoiled_format.py").write_text(BROKEN_FORMAT)
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    all_formats.cache_clear()
    yield
    all_formats.cache_clear()
    sys.modules.pop("spoiled_format", None)


def test_a_format_of_another_distribution_is_found(spoiled: None) -> None:
    assert find("rotten").title == "Spoiled ONNX"
    assert "spoiled" in [row.name for row in hub.formats().rows]


def test_a_wrong_conversion_raises_and_writes_nothing(spoiled: None, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(hub.ParityError, match="does not agree") as caught:
        hub.convert(SAMPLE, folder / "digits.spoiled")
    assert not caught.value.report.ok
    assert any(row.verdict == "mismatch" for row in caught.value.report.rows)
    assert list(folder.iterdir()) == []


def test_a_wrong_conversion_is_kept_as_rejected_on_request(spoiled: None, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(hub.ParityError, match="rejected"):
        hub.convert(SAMPLE, folder / "digits.spoiled", keep_rejected=True)
    assert [path.name for path in folder.iterdir()] == ["digits.spoiled.rejected"]


def test_the_same_writer_without_the_fault_passes(spoiled: None, tmp_path: Path) -> None:
    assert hub.convert(SAMPLE, tmp_path / "digits.spoiled", factor=1.0).report.ok


@pytest.mark.parametrize("source", ["digits.keras", "digits.h5"])
def test_both_forms_of_the_sample_are_what_keras_recorded(source: str, tmp_path: Path) -> None:
    conversion = hub.convert(SAMPLES / source, tmp_path / "digits.onnx", check=False)
    assert conversion.paths == [tmp_path / "digits.onnx"]
    onnx.checker.check_model(conversion.paths[0], full_check=True)
    report = hub.check(SAMPLES / "digits.npz", conversion.paths[0])
    assert report.ok
    assert max(row.of_spread for row in report.rows) < 1e-5
    with np.load(SAMPLES / "digits.npz") as recorded:
        scores = hub.load(conversion.paths[0]).run(recorded["inputs/image"])["digit"]
    about = json.loads((SAMPLES / "digits.json").read_text())
    assert (scores.argmax(1) == np.array(about["recorded"])).mean() > 0.9
    assert about["test_accuracy"] > 0.95


def test_model_says_what_it_is() -> None:
    model = hub.load(SAMPLE)
    assert isinstance(model.ir, ir.Model)
    (image,), (digit,) = model.inputs, model.outputs
    assert (image.name, image.dtype, image.shape, image.layout) == ("image", "float32", ("N", 8, 8, 1), "NHWC")
    assert (digit.name, digit.dtype, digit.shape, digit.layout) == ("digit", "float32", ("N", 10), None)
    assert {"stem", "block1_conv1", "block2_add", "dropout"} <= set(model.layers)
    for text in (str(model), model.summary(), model._repr_html_()):
        assert "image" in text
        assert "digit" in text


def test_run_takes_arrays_in_every_form_and_says_what_is_wrong() -> None:
    model = hub.load(SAMPLE)
    x = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    results = [model.run(x), model.run([x]), model.run({"image": x}), model.run(x.astype(np.float64))]
    assert all(np.array_equal(r["digit"], results[0]["digit"]) for r in results)
    with pytest.raises(hub.UsageError, match="img"):
        model.run({"img": x})
    with pytest.raises(hub.UsageError, match=r"8, 8, 2"):
        model.run(np.zeros((1, 8, 8, 2), np.float32))
    with pytest.raises(hub.UsageError, match="2 arrays"):
        model.run([x, x])


def test_load_of_a_model_and_of_live_onnx_objects() -> None:
    model = hub.load(SAMPLE)
    assert hub.load(model) is model
    proto = ir.serde.serialize_model(model.ir)
    for live in (proto, model.ir):
        again = hub.load(live)
        x = np.ones((2, 8, 8, 1), np.float32)
        assert np.array_equal(again.run(x)["digit"], model.run(x)["digit"])


def test_live_objects_come_back_without_a_destination() -> None:
    conversion = hub.convert(SAMPLE, to="onnx", check=False)
    assert conversion.paths == []
    assert isinstance(conversion.object, ir.Model)


@pytest.mark.slow
def test_a_live_torch_module_comes_back() -> None:
    need("torch", "safetensors")
    import torch

    conversion = hub.convert(SAMPLE, to="pytorch")
    assert isinstance(conversion.object, torch.nn.Module)
    x = np.random.default_rng(1).random((2, 8, 8, 1), np.float32)
    got = conversion.object(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(got, conversion.model.run(x)["digit"], rtol=1e-4, atol=1e-6)


def test_conversion_has_all_its_forms(tmp_path: Path) -> None:
    conversion = hub.convert(SAMPLE, tmp_path / "digits.onnx")
    assert conversion.report is not None
    assert "digits.onnx" in str(conversion)
    assert "digits.onnx" in conversion._repr_html_()
    json.dumps(conversion.to_dict())
    unchecked = hub.convert(SAMPLE, tmp_path / "digits.onnx", check=False)
    assert "NOT CHECKED" in str(unchecked)
    assert "NOT CHECKED" in unchecked._repr_html_()


def test_save_returns_all_paths(tmp_path: Path) -> None:
    model = hub.load(SAMPLE)
    assert [p.name for p in hub.save(model, tmp_path / "net.py")] == ["net.py", "net.safetensors"]
    assert [p.name for p in hub.save(model, tmp_path / "net.onnx", external_data=True)] == ["net.onnx", "net.onnx.data"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data", "net.py", "net.safetensors"]


def test_cutting_at_a_layer_gives_it_in_the_layout_of_the_source() -> None:
    model = hub.load(SAMPLE, outputs=["block1_out", "pool"])
    assert [(o.name, o.shape) for o in model.outputs] == [("block1_out", ("N", 8, 8, 16)), ("pool", ("N", 32))]
    with pytest.raises(hub.UsageError, match="block1_out"):
        hub.load(SAMPLE, outputs=["block1_outt"])


def test_input_shapes_can_be_fixed() -> None:
    assert hub.load(SAMPLE, inputs={"image": (4, 8, 8, 1)}).inputs[0].shape == (4, 8, 8, 1)
    with pytest.raises(hub.UsageError, match="contradicts"):
        hub.load(SAMPLE, inputs={"image": (4, 9, 8, 1)})
    with pytest.raises(hub.UsageError, match="picture"):
        hub.load(SAMPLE, inputs={"picture": (4, 8, 8, 1)})


def test_inspect_says_what_a_target_would_refuse() -> None:
    inspection = hub.inspect(SAMPLE, to="torch")
    assert inspection.ok
    assert inspection.unsupported == []
    assert "every operator is supported" in str(inspection)
    json.dumps(inspection.to_dict())
    nodes = [onnx.helper.make_node("Bernoulli", ["x"], ["y"], name="coin")]
    info = [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("x", [2, 3, 3]), ("y", [2, 3, 3]))]
    graph = onnx.helper.make_graph(nodes, "g", info[:1], info[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)])
    refused = hub.inspect(model, to="torch")
    assert not refused.ok
    assert [(op.op, op.layers) for op in refused.unsupported] == [("Bernoulli", ["coin"])]
    assert "coin" in str(refused)


def test_formats_table() -> None:
    rows = {row.name: row for row in hub.formats().rows}
    expected = {"keras", "tensorflow", "torch", "onnx", "caffe", "cntk", "mxnet", "coreml", "darknet"}
    assert expected <= set(rows)
    assert rows["keras"].read == rows["onnx"].read == rows["onnx"].write == rows["torch"].write == "yes"
    assert rows["cntk"].read == "yes"
    assert rows["mxnet"].read == "not yet"
    assert find("pytorch") is find("torch")
    assert find("tf") is find("tensorflow")
    assert ".keras" in str(hub.formats())
    assert "<table>" in hub.formats()._repr_html_()


def test_content_decides_before_the_suffix(tmp_path: Path) -> None:
    odd = tmp_path / "weights.bin"
    odd.write_bytes(SAMPLE.read_bytes())
    assert detect(odd).name == "keras"
    odd.write_bytes((SAMPLES / "digits.h5").read_bytes())
    assert hub.load(odd).outputs[0].name == "digit"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"src": "digits.kears"}, hub.UsageError, "did you mean 'digits.keras'"),
        ({"dst": "out.xyz"}, hub.UnknownFormat, r"\.xyz"),
        ({"dst": "out"}, hub.UnknownFormat, "without a suffix"),
        ({"dst": "missing/out.onnx"}, hub.UsageError, "missing does not exist"),
        ({"dst": "."}, hub.HubError, "suffix|directory"),
        ({"to": "onxx"}, hub.UnknownFormat, "did you mean 'onnx'"),
        ({"to": "mxnet"}, hub.UnknownFormat, "cannot be written"),
        ({"source": "mxnet"}, hub.UnknownFormat, "cannot be read"),
        ({"opsett": 13}, hub.UsageError, "opsett.*opset"),
        ({"opset": 99}, hub.UsageError, "opset=99"),
        ({"dst": "digits.keras", "to": "onnx"}, hub.UsageError, "source itself"),
    ],
)
def test_wrong_arguments_are_one_clear_error(
    arguments: dict, error: type, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "digits.keras").write_bytes(SAMPLE.read_bytes())
    monkeypatch.chdir(tmp_path)
    call = {"src": "digits.keras", "dst": "out.onnx", "check": False, **arguments}
    with pytest.raises(error, match=message):
        hub.convert(call.pop("src"), call.pop("dst"), **call)
    assert [p.name for p in tmp_path.iterdir()] == ["digits.keras"]


def test_an_object_of_no_framework_is_an_unknown_format() -> None:
    with pytest.raises(hub.UnknownFormat, match="dict"):
        hub.load({})
    with pytest.raises(hub.UnknownFormat):
        hub.load(42)
