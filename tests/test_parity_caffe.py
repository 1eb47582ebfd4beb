"""The real Caffe as a runtime, and OpenCV as the second witness."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe_nets import layer, source, write
from conftest import need, need_runtime
from parity_models import Weights, onnx_model, torch_module, weights

from hub import sidecar as sidecars
from parity.check import check
from parity.report import Report
from parity.runners import LoadFailed, RunFailed, caffe, opencv
from parity.runners.interface import Interface

need_runtime("caffe")

RNG = np.random.default_rng(7)
NORM = (
    source("image", 1, 3, 8, 7)
    + layer("conv", "Convolution", "image", "", "convolution_param { num_output: 4 kernel_size: 1 }")
    + layer("bn", "BatchNorm", "conv", "conv")
    + layer("bn/scale", "Scale", "conv", "conv", "scale_param { bias_term: true }")
    + layer("act", "ReLU", "conv", "conv")
    + layer("prob", "Softmax", "conv", "prob")
)
KERNEL, BIAS, MEAN, SCALE, SHIFT = (RNG.standard_normal(shape) for shape in ((4, 3, 1, 1), 4, 4, 4, 4))
VARIANCE = RNG.random(4) + 0.5
NORM_BLOBS = {"conv": [KERNEL, BIAS], "bn": [MEAN, VARIANCE, np.ones(1)], "bn/scale": [SCALE, SHIFT]}
IMAGE = RNG.standard_normal((2, 3, 8, 7)).astype(np.float32)


@pytest.fixture
def norm(tmp_path: Path) -> Path:
    return write(tmp_path, NORM, NORM_BLOBS)


def close_to(a: Any, b: Any) -> bool:
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-4, atol=1e-5)


# -- values --------------------------------------------------------------------------------------------


def test_in_place_layers_are_seen_one_by_one(norm: Path) -> None:
    runner = caffe.open(norm)
    assert (runner.name, runner.version) == ("caffe", "1.0.0 (kendryte-caffe 1.0.0.20210829)")
    assert [(p.name, p.dtype, p.shape) for p in runner.inputs] == [("image", "float32", (1, 3, 8, 7))]
    assert list(runner.layers) == ["conv", "bn", "bn/scale", "act", "prob"]
    assert runner.ops == {"prob": "Softmax", "before:prob": "Softmax"}
    taps = ["layer:act", "before:*", "layer:conv", "layer:bn", "layer:bn/scale", "exit:bn", "exit:conv", "layer:no"]
    values = runner.run({"image": IMAGE}, taps)
    assert set(values) == {*taps, "prob", "before:prob"} - {"layer:no", "before:*"}
    conv = np.einsum("oi,nihw->nohw", KERNEL[:, :, 0, 0], IMAGE) + BIAS[:, None, None]
    norm_ = (conv - MEAN[:, None, None]) / np.sqrt(VARIANCE + 1e-5)[:, None, None]
    scaled = norm_ * SCALE[:, None, None] + SHIFT[:, None, None]
    relu = np.maximum(scaled, 0)
    softmax = np.exp(relu) / np.exp(relu).sum(1, keepdims=True)
    assert close_to(values["layer:conv"], conv)
    assert close_to(values["exit:conv"], conv)
    assert close_to(values["layer:bn"], norm_)
    assert close_to(values["layer:bn/scale"], scaled)
    assert close_to(values["exit:bn"], scaled)
    assert close_to(values["layer:act"], relu)
    assert close_to(values["before:prob"], relu)
    assert close_to(values["prob"], softmax)
    assert list(runner.run({"image": IMAGE[:1]})) == ["prob"]
    runner.close()
    runner.close()
    with pytest.raises(RunFailed, match="closed"):
        runner.run({"image": IMAGE})


def test_what_goes_into_a_squashing_layer_in_place_and_through_others(tmp_path: Path) -> None:
    text = source("x", 1, 4) + layer("double", "Power", "x", "y", "power_param { scale: 2 }")
    text += layer("y/sigmoid", "Sigmoid", "y", "y") + layer("shape", "Reshape", "y", "z", SHAPE)
    text += layer("direct", "TanH", "x") + layer("plus", "BNLL", "z") + layer("end", "Dropout", "plus", "plus")
    runner = caffe.open(write(tmp_path, text))
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    values = runner.run({"x": x}, ["before:*", "exit:double", "core:double"])
    assert list(values) == ["direct", "plus", "exit:double", "core:double", "before:plus"]
    assert close_to(values["before:plus"], 1 / (1 + np.exp(-2 * x)).reshape(3, 2, 2))
    text = text.split(layer("direct", "TanH", "x"))[0]
    values = caffe.open(write(tmp_path, text)).run({"x": x}, ["before:*"])
    assert close_to(values["before:z"], 2 * x), "through the Reshape, before the layer wrote over its input"


SHAPE = "reshape_param { shape { dim: 0 dim: 2 dim: 2 } }"


def test_outputs_in_the_order_of_their_layers_and_several_inputs(tmp_path: Path) -> None:
    text = source("b", 1, 2) + source("a", 1, 2) + layer("z", "Eltwise", "a b") + layer("m", "AbsVal", "z")
    text += layer("halves", "Slice", "z", "right left", "slice_param { slice_point: 1 }")
    runner = caffe.open(write(tmp_path, text))
    assert [port.name for port in runner.inputs] == ["b", "a"]
    a, b = np.array([[1, -2], [3, 4]], np.float32), np.array([[5, 6], [7, 8]], np.float32)
    values = runner.run({"a": a, "b": b}, ["layer:halves", "layer:z", "exit:halves"])
    assert list(values) == ["m", "right", "left", "layer:z"], "a layer with two tops has no single value"
    assert close_to(values["left"], (a + b)[:, 1:])
    with pytest.raises(RunFailed, match="the input 'b' is not given"):
        runner.run({"a": a})


def test_other_sizes_and_no_inputs(norm: Path, tmp_path: Path) -> None:
    runner = caffe.open(norm)
    for shape in ((1, 3, 8, 7), (5, 3, 4, 9), (2, 3, 8, 7)):
        assert runner.run({"image": np.ones(shape, np.float32)})["prob"].shape == (shape[0], 4, *shape[2:])
    data = (
        'layer { name: "c" type: "DummyData" top: "c" dummy_data_param { shape { dim: 3 } data_filler { value: 2 } } }'
    )
    values = caffe.open(write(tmp_path, data + layer("square", "Power", "c", "", "power_param { power: 2 }"))).run({})
    assert close_to(values["square"], [4, 4, 4])


def test_the_old_ways_to_write_inputs_and_layers(tmp_path: Path) -> None:
    for text, shape in (
        ('input: "x" input_dim: 1 input_dim: 2 input_dim: 1 input_dim: 3 ' + layer("y", "AbsVal", "x"), (1, 2, 1, 3)),
        ('input: "x" input_shape { dim: 4 } layers { name: "y" type: ABSVAL bottom: "x" top: "y" }', (4,)),
    ):
        runner = caffe.open(write(tmp_path, text))
        assert runner.inputs[0].shape == shape
        assert close_to(runner.run({"x": -np.ones(shape)}, ["layer:y"])["layer:y"], np.ones(shape))


# -- sources -------------------------------------------------------------------------------------------


def test_sources(norm: Path, tmp_path: Path) -> None:
    model = norm.with_suffix(".caffemodel")
    first = caffe.open(norm).run({"image": IMAGE})["prob"]
    for given in (str(norm), model, (norm, model), (model, norm)):
        assert np.array_equal(caffe.open(given).run({"image": IMAGE})["prob"], first)
    moved = model.rename(tmp_path / "elsewhere.caffemodel")
    assert not np.array_equal(caffe.open(norm).run({"image": IMAGE})["prob"], first), "these are no weights at all"
    assert np.array_equal(caffe.open((norm, moved)).run({"image": IMAGE})["prob"], first)
    with pytest.raises(LoadFailed, match=r"elsewhere.caffemodel holds weights, and elsewhere.prototxt is not beside"):
        caffe.open(moved)
    with pytest.raises(LoadFailed, match=r"gone.caffemodel does not exist"):
        caffe.open((norm, tmp_path / "gone.caffemodel"))
    with pytest.raises(LoadFailed, match="expected, not"):
        caffe.open((norm, norm))


# -- failures ------------------------------------------------------------------------------------------

POOL = "pooling_param { kernel_size: 2 }"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (source("x", 1, 1, 3, 3, 3) + layer("p", "Pooling", "x", "", POOL), "4 == bottom[0]->num_axes() (4 vs. 5) Inp"),
        (
            source("x", 1) + layer("p", "ReLU", "x", "", "clip_param { min: 0 max: 6 }"),
            'has no field named "clip_param"',
        ),
        (source("x", 1) + layer("p", "ReLU", "y"), "Unknown bottom blob 'y' (layer 'p', bottom index 0)"),
        (source("x", 1) + layer("p", "Nonsense", "x"), "Unknown layer type: Nonsense"),
        (source("x", 1) + layer("p", "ReLU", "x", "x y"), "Check failed: "),
        ("what is this", "net.prototxt is not a prototxt"),
        ("layer { name: 'x' ", "net.prototxt is not a prototxt"),
    ],
)
def test_caffe_says_why_it_cannot_load(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed) as error:
        caffe.open(write(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not str(error.value).startswith("F2")


def test_wrong_weights(norm: Path, tmp_path: Path) -> None:
    write(tmp_path, NORM, {**NORM_BLOBS, "conv": [KERNEL[:3], BIAS]})
    with pytest.raises(LoadFailed, match="Cannot copy param 0 weights from layer 'conv'; shape mismatch"):
        caffe.open(norm)
    norm.with_suffix(".caffemodel").write_bytes(norm.with_suffix(".caffemodel").read_bytes()[:-9])
    with pytest.raises(LoadFailed, match="Check failed: ReadProtoFromBinaryFile"):
        caffe.open(norm)


def test_others_go_on_after_caffe_aborted(norm: Path, tmp_path: Path) -> None:
    runner = caffe.open(norm)
    (tmp_path / "other").mkdir()
    other = caffe.open(write(tmp_path / "other", NORM, NORM_BLOBS))
    expected = runner.run({"image": IMAGE})["prob"]
    norm.unlink()  # a model that is open does not need its prototxt any more
    with pytest.raises(RunFailed, match="Input size incompatible with convolution kernel"):
        other.run({"image": IMAGE[:, :2]})
    assert np.array_equal(runner.run({"image": IMAGE})["prob"], expected)
    assert np.array_equal(other.run({"image": IMAGE})["prob"], expected)
    kill(caffe._SERVER.process())
    assert np.array_equal(runner.run({"image": IMAGE})["prob"], expected)
    other.close()
    kill(caffe._SERVER.process())
    runner.close()


def kill(process: sidecars.Process) -> None:
    process._process.kill()
    process._process.wait()


def test_no_answer_in_time(norm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = caffe.open(norm)
    process = caffe._SERVER.process()._process
    process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(sidecars, "_TIMEOUT", 0.3)
    with pytest.raises(RunFailed, match="no answer came in 0 seconds"):
        runner.run({"image": IMAGE})
    monkeypatch.undo()
    assert "prob" in runner.run({"image": IMAGE})


def test_an_interrupted_request_is_not_answered_later(norm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = caffe.open(norm)
    expected = runner.run({"image": IMAGE})["prob"]

    def interrupt(text: str) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run({"image": IMAGE})
    monkeypatch.undo()
    assert np.array_equal(runner.run({"image": IMAGE})["prob"], expected)


def test_many_threads(norm: Path) -> None:
    expected = caffe.open(norm).run({"image": IMAGE})["prob"]
    same = []

    def work() -> None:
        for _ in range(10):
            runner = caffe.open(norm)
            same.append(np.array_equal(runner.run({"image": IMAGE})["prob"], expected))
            runner.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 40


def test_nets_are_freed_and_nothing_is_left(norm: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    code = (
        "import numpy, sys\nfrom parity.runners import caffe\n"
        f"open_ = caffe.open({str(norm)!r}); closed = caffe.open({str(norm)!r}); closed.close()\n"
        "open_.run({'image': numpy.zeros((1, 3, 8, 7))})\n"
        "print(caffe._SERVER.process()._process.pid)\n"
    )
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_fork_has_a_process_of_its_own(norm: Path) -> None:
    code = (
        "import gc, numpy, os, sys\nfrom parity.runners import caffe\n"
        f"runner = caffe.open({str(norm)!r}); x = {{'image': numpy.ones((1, 3, 8, 7))}}\n"
        "pid, first = caffe._SERVER.process()._process.pid, runner.run(x)['prob']\n"
        "child = os.fork()\n"
        "same = numpy.array_equal(runner.run(x)['prob'], first) and pid == caffe._SERVER.process()._process.pid\n"
        "if not child: gc.collect(); sys.exit(7 if same else 0)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert same and numpy.array_equal(runner.run(x)['prob'], first)\n"
    )
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_comments_in_any_encoding_and_names_in_any_language(tmp_path: Path) -> None:
    path = write(tmp_path, source("été", 1, 2) + layer("層/1", "AbsVal", "été", "出"))
    path.write_bytes("# 图像\n".encode("gbk") + path.read_bytes())
    values = caffe.open(path).run({"été": -np.ones((1, 2))}, ["layer:層/1"])
    assert list(values) == ["出", "layer:層/1"]


def test_the_process_ends_when_nobody_uses_it(monkeypatch: pytest.MonkeyPatch, norm: Path) -> None:
    monkeypatch.setattr(sidecars, "_IDLE", 0.2)
    server = sidecars.Server(caffe._start)
    monkeypatch.setattr(caffe, "_SERVER", server)
    runner = caffe.open(norm)
    time.sleep(0.4)
    assert server.running
    runner.close()
    again = caffe.open(norm)
    time.sleep(0.4)
    assert server.running
    again.close()
    time.sleep(0.4)
    assert not server.running
    server.stop()


def test_without_caffe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, norm: Path) -> None:
    monkeypatch.setenv("HUB_RUNTIMES_DIR", str(tmp_path))
    monkeypatch.setattr(opencv, "available", lambda: "OpenCV is not installed")
    assert caffe.available() == "Caffe is not installed: hub runtimes install caffe"
    report = check(norm, norm)
    assert not report.ok
    assert report.not_compared[0].why == "missing dependency"


# -- untrusted -----------------------------------------------------------------------------------------

PYTHON = "python_param { module: 'os' layer: 'abort' }"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (layer("evil", "Python", "", "x", PYTHON), "the layer 'evil' of type Python executes code"),
        (layer("d", "Data", "", "x", "data_param { source: '/etc' }"), "the layer 'd' of type Data reads a database"),
        (layer("d", "HDF5Output", "x"), "'d' of type HDF5Output writes a file"),
        (layer("d", "ImageData", "", "x", "include { phase: TEST }"), "'d' of type ImageData reads files"),
        (layer("d", "HDF5Data", "", "x", "exclude { phase: TEST }"), "'d' of type HDF5Data reads files"),
        (layer("d", "WindowData", "", "x", "include { phase: TRAIN } include { min_level: 0 }"), "type WindowData"),
        ('layer { name: "d" type: "Pyt" "hon" top: "x" }', "'d' of type Python executes code"),
        ('layers { name: "d" type: IMAGE_DATA top: "x" }', "'d' of type ImageData reads files"),
        ('layers { layer { name: "d" type: "data" source: "/etc" } top: "x" }', "Caffe's first format"),
    ],
)
def test_layers_that_read_files_or_execute_code_never_reach_caffe(text: str, message: str, tmp_path: Path) -> None:
    generation = caffe._SERVER.generation
    with pytest.raises(LoadFailed) as error:
        caffe.open(write(tmp_path, text))
    assert message in str(error.value)
    assert caffe._SERVER.generation == generation


def test_what_the_packaged_caffe_does_wrongly_is_refused(tmp_path: Path) -> None:
    rest = "batch_norm_param { use_global_stats: false }"
    with pytest.raises(LoadFailed, match="'y' normalises by the batch"):
        caffe.open(write(tmp_path, source("x", 1, 3) + layer("y", "BatchNorm", "x", "", rest)))


def test_layers_for_training_are_no_obstacle(tmp_path: Path) -> None:
    train = "include { phase: TRAIN } data_param { source: '/nowhere' }"
    text = layer("d", "Data", "", "x label", train) + source("x", 1, 2).replace(
        "type:", "include { phase: TEST } type:"
    )
    runner = caffe.open(write(tmp_path, text + layer("y", "AbsVal", "x")))
    assert close_to(runner.run({"x": -np.ones((2, 2))})["y"], np.ones((2, 2)))


# -- the interface of the source -----------------------------------------------------------------------


def headed(header: Any, text: str) -> str:
    return f"# made by a test\n#\n# hub: {header if isinstance(header, str) else json.dumps(header)}\n{text}"


IDENTITY = source("x", 1, 3, 2, 4) + layer("y", "Power", "x")


def test_an_input_as_the_source_has_it(tmp_path: Path) -> None:
    tensor = {"shape": ["N", 2, 4, 3], "dtype": "uint8", "perm": [0, 3, 1, 2], "reverse_channels": True}
    tensor |= {"scale": [1, 2, 4], "mean": [0.5, 0, -1]}
    runner = caffe.open(write(tmp_path, headed({"inputs": {"x": tensor}}, IDENTITY)))
    (port,) = runner.inputs
    assert (port.name, port.dtype, port.shape) == ("x", "uint8", ("N", 2, 4, 3))
    x = RNG.integers(0, 255, (5, 2, 4, 3)).astype(np.uint8)
    expected = x.transpose(0, 3, 1, 2)[:, ::-1] / np.reshape([1, 2, 4], (3, 1, 1)) + np.reshape([0.5, 0, -1], (3, 1, 1))
    assert close_to(runner.run({"x": x})["y"], expected)
    with pytest.raises(RunFailed, match="the input 'x' has 3 axes in place of 4"):
        runner.run({"x": x[0]})
    runner = caffe.open(write(tmp_path, headed({"inputs": {"x": {"scale": 0.5, "mean": 3}}}, IDENTITY)))
    assert close_to(runner.run({"x": np.ones((1, 3, 2, 4), bool)})["y"], np.full((1, 3, 2, 4), 5.0))


def test_an_output_as_the_source_has_it(tmp_path: Path) -> None:
    text = source("x", 1, 3, 2, 4) + layer("y", "Power", "x") + layer("p", "Sigmoid", "y")
    header = {"outputs": {"p": {"perm": [0, 2, 3, 1], "dtype": "float64", "shape": ["N", 2, 4, 3]}}}
    runner = caffe.open(write(tmp_path, headed(header, text)))
    x = RNG.standard_normal((2, 3, 2, 4)).astype(np.float32)
    values = runner.run({"x": x}, ["before:*", "layer:p"])
    assert values["p"].dtype == np.float64
    assert close_to(values["p"], 1 / (1 + np.exp(-x.transpose(0, 2, 3, 1))))
    assert close_to(values["before:p"], x.transpose(0, 2, 3, 1))
    assert runner.perms == {"before:p": (0, 1, 2, 3)}, "it comes in the source's layout"
    assert values["layer:p"].shape == x.shape
    folded = text + layer("f", "Reshape", "p", "", "reshape_param { shape { dim: 0 dim: 2 dim: 4 dim: 3 } }")
    runner = caffe.open(write(tmp_path, headed({"outputs": {"f": {"perm": [0, 2, 3, 1]}}}, folded)))
    values = runner.run({"x": x}, ["before:*"])
    assert values["f"].shape == (2, 4, 3, 2)
    assert close_to(values["before:f"], x), "it has another shape than the output, and stays as it is"
    assert runner.perms == {}
    index = layer("i", "ArgMax", "x", "", "argmax_param { axis: 1 }")
    runner = caffe.open(write(tmp_path, headed({"outputs": {"i": {"dtype": "int64"}}}, source("x", 1, 3) + index)))
    assert runner.run({"x": [[1, 3, 2]] * np.ones((2, 1))})["i"].tolist() == [[1], [1]]


@pytest.mark.parametrize(
    "header",
    [
        "{",
        "[]",
        '{"inputs": []}',
        {"inputs": {"x": 3}},
        {"inputs": {"x": {"color": "blue"}}},
        {"inputs": {"x": {"perm": [0, 2, 3]}}},
        {"inputs": {"x": {"perm": [0, 1, 2]}}},
        {"inputs": {"x": {"perm": 5}}},
        {"inputs": {"x": {"dtype": "object"}}},
        {"inputs": {"x": {"dtype": "int99"}}},
        {"inputs": {"x": {"shape": ["N", 2]}}},
        {"inputs": {"x": {"shape": [[1], 2, 3, 4]}}},
        {"inputs": {"x": {"scale": [1, 2]}}},
        {"inputs": {"x": {"mean": ["a"]}}},
        {"inputs": {"x": {"mean": "nan"}}},
        {"inputs": {"z": {}}},
        {"outputs": {"x": {}}},
        '{"inputs": ' + "[" * 100_000,
    ],
)
def test_a_malformed_header_is_said(header: Any, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"its line '# hub: \.\.\.'"):
        caffe.open(write(tmp_path, headed(header, IDENTITY)))


def test_only_the_comments_at_the_beginning_are_a_header() -> None:
    assert Interface.read(IDENTITY + '# hub: {"inputs": 3}') == Interface()
    assert Interface.read("# about hub: {\n\n# more\n" + IDENTITY) == Interface()


# -- whole checks --------------------------------------------------------------------------------------


def converted(w: Weights, folder: Path, *, wrong: float = 0) -> Path:
    """The network of `parity_models`, as a converter writes it."""
    header = {"inputs": {"image": {"perm": [0, 3, 1, 2], "shape": ["N", 9, 7, 3]}}, "outputs": {"probs": {}}}
    text = source("image", 1, 3, 9, 7)
    text += layer("conv", "Convolution", "image", "", "convolution_param { num_output: 4 kernel_size: 3 }")
    text += layer("conv/relu", "ReLU", "conv", "conv")
    text += layer("pool", "Pooling", "conv", "", "pooling_param { pool: AVE global_pooling: true }")
    text += layer("pool/flatten", "Flatten", "pool", "pool/flatten")
    text += layer("probs", "InnerProduct", "pool/flatten", "", "inner_product_param { num_output: 6 }")
    text += layer("probs/softmax", "Softmax", "probs", "probs/softmax").replace('"probs/softmax" }', '"probs" }')
    text = text.replace('top: "probs/softmax"', 'top: "probs"')
    conv = [w["conv/kernel"].transpose(3, 2, 0, 1), w["conv/bias"] + wrong]
    return write(folder, headed(header, text), {"conv": conv, "probs": [w["probs/kernel"].T, w["probs/bias"]]})


def verdicts(report: Report) -> dict[str, str]:
    return {f"{row.kind} {row.name}": row.verdict for row in report.rows}


ALL = {"output probs", "before activation probs", "layer conv", "layer pool", "layer probs"}


@pytest.mark.parametrize("order", ["onnx first", "caffe first"])
def test_layers_of_a_source_that_became_several(order: str, tmp_path: Path) -> None:
    w = weights()
    pair = [onnx_model(w), converted(w, tmp_path)]
    report = check(*(pair if order == "onnx first" else reversed(pair)), layers=True)
    assert report.ok, report
    assert verdicts(report) == dict.fromkeys(ALL, "ok")
    assert not any("only" in note for note in report.notes), "conv/relu is a part of conv"
    bad = check(onnx_model(w), converted(w, tmp_path, wrong=0.1), layers=True)
    assert {name for name, verdict in verdicts(bad).items() if verdict == "mismatch"} == ALL
    assert [found.layer for found in bad.divergences] == ["conv"]


def test_against_torch_without_the_activation(tmp_path: Path) -> None:
    need("torch")
    w = weights()
    report = check(torch_module(w), converted(w, tmp_path), layers=True)
    assert report.ok, report
    assert {"layer conv", "layer probs", "output output"} <= set(verdicts(report))


def test_two_caffe_files_layer_by_layer(tmp_path: Path) -> None:
    w = weights()
    (tmp_path / "b").mkdir()
    report = check(converted(w, tmp_path), converted(w, tmp_path / "b"), layers=True)
    assert report.ok, report
    assert {"layer conv/relu", "layer probs/softmax"} <= set(verdicts(report))
    (tmp_path / "c").mkdir()
    bad = check(converted(w, tmp_path), converted(w, tmp_path / "c", wrong=0.1), layers=True)
    (found,) = bad.divergences
    assert (found.layer, found.in_order) == ("conv", False), "Caffe says itself what feeds what"


# -- OpenCV --------------------------------------------------------------------------------------------


def test_opencv_in_the_place_of_caffe(norm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the real Caffe is not installed; what it cannot run is not compared, with both reasons."""
    need("cv2")
    monkeypatch.setenv("HUB_RUNTIMES_DIR", str(tmp_path / "none"))
    report = check(norm, norm)
    assert report.ok
    assert "opencv" in report.versions
    assert any("run by opencv" in note and "hub runtimes install caffe" in note for note in report.notes)
    other = write(tmp_path, source("x", 2, 3) + layer("t", "Tile", "x", "t", "tile_param { tiles: 2 }"), {})
    report = check(other, other)
    assert not report.ok
    assert "OpenCV" in report.skipped[0].reason
    assert "hub runtimes install caffe" in report.skipped[0].reason


def test_opencv_agrees(tmp_path: Path) -> None:
    need("cv2")
    from parity.runners import opencv

    assert opencv.available() is None
    path = converted(weights(), tmp_path)
    image = RNG.standard_normal((2, 9, 7, 3)).astype(np.float32)
    one, other = caffe.open(path), opencv.open(path)
    assert (one.layers, one.inputs, one.ops) == (other.layers, other.inputs, other.ops)
    taps = ["before:*", *(f"{kind}:{name}" for name in one.layers for kind in ("layer", "exit"))]
    ours, theirs = one.run({"image": image}, taps), other.run({"image": image}, taps)
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert close_to(value, theirs[name]), name
    other.close()


def test_opencv_with_its_own_names_and_several_outputs(tmp_path: Path) -> None:
    need("cv2")
    from parity.runners import opencv

    text = source("image", 1, 3, 8, 7) + source("offset", 1, 4, 8, 7)
    text += layer("first", "Convolution", "image", "second", "convolution_param { num_output: 4 kernel_size: 1 }")
    text += layer("sum", "Eltwise", "second offset") + layer("halves", "Slice", "sum", "l r", "slice_param { axis: 1 }")
    text += layer("end", "Silence", "l", "x").replace('top: "x"', "") + layer(
        "up", "Deconvolution", "r", "q", DECONVOLUTION
    )
    up = RNG.standard_normal((2, 3, 2, 2))
    path = write(tmp_path, text, {"first": [KERNEL, BIAS], "up": [up]})
    feeds = {"image": IMAGE, "offset": RNG.standard_normal((2, 4, 8, 7)).astype(np.float32)}
    ours = caffe.open(path).run(feeds, ["layer:first", "layer:sum"])
    theirs = opencv.open(path).run(feeds, ["layer:first", "layer:sum"])
    assert list(ours) == list(theirs) == ["q", "layer:first", "layer:sum"]
    assert all(close_to(ours[name], theirs[name]) for name in ours)


DECONVOLUTION = "convolution_param { num_output: 3 kernel_size: 2 stride: 2 bias_term: false }"


@pytest.mark.parametrize(
    ("kind", "rest", "message"),
    [
        ("LRN", "lrn_param { k: 2 }", "LRN 'y': k other than 1 is ignored"),
        ("InnerProduct", "inner_product_param { num_output: 2 transpose: true }", "transpose is ignored"),
        ("Log", "log_param { shift: 1 }", "base, scale and shift"),
        ("MVN", "", "MVN 'y': this type of layer"),
        ("BatchNorm", "batch_norm_param { use_global_stats: false }", "statistics of the batch"),
        ("Convolution", "convolution_param { num_output: 1 kernel_size: [1, 1, 1] }", "three spatial axes"),
        ("ReLU", "include { phase: TEST }", "rules of phases"),
    ],
)
def test_opencv_is_not_asked_where_it_is_wrong(kind: str, rest: str, message: str, tmp_path: Path) -> None:
    need("cv2")
    from parity.runners import opencv

    with pytest.raises(LoadFailed, match="OpenCV is known to be wrong or unable here: ") as error:
        opencv.open(write(tmp_path, source("x", 1, 3, 2, 4) + layer("y", kind, "x", "", rest)))
    assert message in str(error.value)
