"""Options of the Core ML exporter: what a file says of shapes, images, labels, precision, compression, names."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from conftest import need

need("coremltools")

from coreml_nets import classifier, operations, specification  # noqa: E402
from out_nets import agrees, network  # noqa: E402

import hub  # noqa: E402
from hub.builder import GraphBuilder  # noqa: E402
from hub.model import Model  # noqa: E402
from parity.compare import COMPRESSED  # noqa: E402
from parity.runners import find  # noqa: E402

Array = np.ndarray[Any, Any]


def package(model: Model, folder: Path, **options: Any) -> Path:
    (path,) = hub.save(model, folder / "net.mlpackage", **options)
    return path


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def run(path: Path, **feeds: Array) -> dict[str, Array]:
    runner = find("coremlread").open(path)
    try:
        return dict(runner.run(feeds))
    finally:
        runner.close()


PIXELS = np.random.default_rng(3).integers(0, 256, (1, 3, 6, 8)).astype(np.float32)


# -- the file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"precision": "fp16"}, {"compress": "int8"}], ids=str)
def test_the_same_model_gives_the_same_bytes(options: dict[str, Any], tmp_path: Path) -> None:
    first = tree(package(classifier(), tmp_path, **options))
    assert first == tree(package(classifier(), tmp_path, **options))  # over the one that is there
    command = (
        "import sys; sys.path[:0] = ['tests']; from coreml_nets import classifier; import hub, json;"
        f"hub.save(classifier(), {str(tmp_path / 'other.mlpackage')!r}, **json.loads({json.dumps(options)!r}))"
    )
    subprocess.run([sys.executable, "-c", command], check=True, cwd=Path(__file__).parent.parent)
    assert first == tree(tmp_path / "other.mlpackage")
    assert not [name for name in first if "weights" in name and not name.endswith("weight.bin")]


def test_no_framework_is_imported_and_the_users_coremltools_is_whole(tmp_path: Path) -> None:
    command = f"""
import sys; sys.path[:0] = ["tests"]
from coreml_nets import classifier
import hub
hub.convert(classifier().ir, {str(tmp_path / "net.mlpackage")!r}, source="onnx")
print([name for name in ("torch", "tensorflow", "sklearn", "coremltools") if name in sys.modules])
import coremltools, importlib.util
print(all(name in sys.modules for name in ("torch", "tensorflow") if importlib.util.find_spec(name)))
hub.save(classifier(), {str(tmp_path / "again.mlpackage")!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", command], check=True, cwd=Path(__file__).parent.parent, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "True"]


def test_the_users_coremltools_chooses_for_itself(tmp_path: Path) -> None:
    """What stays in float32 in one conversion is forgotten after it, also where coremltools was there before."""
    command = f"""
import sys; sys.path[:0] = ["tests"]
import coremltools
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from coreml_nets import classifier
import hub
hub.save(classifier(), {str(tmp_path / "net.mlpackage")!r}, precision="fp16", keep_float32=["dense"])
print(PASS_REGISTRY["common::add_fp16_cast"].op_selector)
"""
    done = subprocess.run(
        [sys.executable, "-c", command], check=True, cwd=Path(__file__).parent.parent, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[0] == "None"


def test_names_are_kept_and_the_changed_ones_are_said(tmp_path: Path) -> None:
    graph = GraphBuilder("net")
    x = graph.input("in put:0", ir.DataType.FLOAT, ["N", 3])
    with graph.layer("a/b", "Relu"):
        value = graph.op("Relu", x)
    with graph.layer("2nd", "Exp"):
        value = graph.op("Exp", value)
    graph.output(value, "out:0")
    model = Model(graph.model())
    result = hub.convert(model.ir, tmp_path / "net.mlpackage", source="onnx")
    assert "the input 'in put:0' is called 'in_put_0' in Core ML" in result.warnings
    assert "the output 'out:0' is called 'out_0' in Core ML" in result.warnings
    assert result.names == {"in put:0": "in_put_0", "out:0": "out_0", "a/b": "a_b", "2nd": "out_0"}
    assert [op.outputs[0].name for op in operations(result.paths[0])] == ["a_b", "out_0"]
    report = hub.check(model, result.paths[0], layers=True)
    assert {row.name for row in report.rows if row.kind == "layer"} == {"a/b", "2nd"}
    assert report.ok


def test_metadata_is_what_xcode_shows(tmp_path: Path) -> None:
    said = {"author": "A", "license": "L", "description": "D", "version": "3"}
    path = package(classifier(), tmp_path, **said, feature_descriptions={"image": "a cat", "probs": "of cats"})
    description = specification(path).description
    found = description.metadata
    assert (found.author, found.license, found.shortDescription, found.versionString) == ("A", "L", "D", "3")
    assert [f.shortDescription for f in [*description.input, *description.output]] == ["a cat", "of cats"]
    with pytest.raises(hub.UsageError, match="there is no 'imag'"):
        package(classifier(), tmp_path, feature_descriptions={"imag": "x"})


# -- shapes --------------------------------------------------------------------------------------------------------


def shapes_of(path: Path) -> Any:
    return specification(path).description.input[0].type.multiArrayType


def test_an_open_batch_has_a_range_that_is_said(tmp_path: Path) -> None:
    result = hub.convert(classifier().ir, tmp_path / "net.mlpackage", source="onnx")
    assert any("the batch may be 1 to 64" in warning for warning in result.warnings)
    ranges = shapes_of(result.paths[0]).shapeRange.sizeRanges
    assert [(r.lowerBound, r.upperBound) for r in ranges] == [(1, 64), (3, 3), (6, 6), (8, 8)]


def test_shapes_are_fixed_bounded_or_enumerated(tmp_path: Path) -> None:
    assert list(shapes_of(package(classifier(), tmp_path, batch=2)).shape) == [2, 3, 6, 8]
    bounded = shapes_of(package(classifier(), tmp_path, batch=(2, 5)))
    assert (bounded.shapeRange.sizeRanges[0].lowerBound, bounded.shapeRange.sizeRanges[0].upperBound) == (2, 5)
    listed = shapes_of(package(classifier(), tmp_path, batch=[2, 4]))
    assert [list(s.shape) for s in listed.enumeratedShapes.shapes] == [[2, 3, 6, 8], [4, 3, 6, 8]]
    assert list(listed.shape) == [2, 3, 6, 8]
    image = np.random.default_rng(0).normal(0, 1, (4, 3, 6, 8)).astype(np.float32)
    agrees(classifier(), tmp_path, image, target="coremlread", shapes={"image": [(1, 9), 3, 6, 8]})


def test_a_size_that_nobody_bounds_is_refused(tmp_path: Path) -> None:
    model = network(lambda g, xs: g.op("Relu", xs[0]), ["N", "T", 4])
    with pytest.raises(hub.UsageError, match=r"the sizes T of x0 are open.*shapes="):
        package(model, tmp_path)
    feed = np.random.default_rng(0).normal(0, 1, (2, 7, 4)).astype(np.float32)
    agrees(model, tmp_path, feed, target="coremlread", shapes={"x0": [(1, 4), (2, 9), 4]})
    agrees(model, tmp_path, feed, target="coremlread", shapes={"x0": [[2, 7, 4], [1, 3, 4]]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": {"imag": [1, 3, 6, 8]}}, "there is no input 'imag'"),
        ({"shapes": {"image": [1, 3, 6]}}, "has 4 axes"),
        ({"shapes": {"image": [1, 3, 7, 8]}}, "the size 6 of 'image' is fixed"),
        ({"shapes": {"image": [(4, 2), 3, 6, 8]}}, "no range of sizes"),
        ({"shapes": {"image": ["N", 3, 6, 8]}}, "'N' is no size"),
        ({"batch": 0}, "0 is no size"),
        ({"shapes": {"image": 5}}, "a list of sizes"),
        ({"precision": "fp8"}, "precision='fp8'"),
        ({"keep_float32": ["dense"]}, "keep_float32"),
        ({"precision": "fp16", "keep_float32": 5}, "a list of layers"),
        ({"class_labels": 5}, "a list of texts"),
        ({"feature_descriptions": "abc"}, "by input or output"),
        ({"precision": "fp16", "keep_float32": ["dens"]}, "'dens' is neither a layer nor an operator"),
        ({"minimum_deployment_target": "iOS12"}, "minimum_deployment_target='iOS12'"),
        ({"minimum_deployment_target": "iOS13"}, "ML Programs begin with iOS15"),
        ({"image_input": "x"}, "name one of the inputs image"),
        ({"scale": 0.5}, "image_input="),
        ({"image_input": True, "color_layout": "CMYK"}, "RGB, BGR, GRAYSCALE"),
        ({"image_input": True, "color_layout": "GRAYSCALE"}, "1 channels"),
        ({"image_input": True, "bias": [1, 2]}, "bias="),
        ({"class_labels": ["a", "b"]}, "2 labels"),
        ({"class_labels": ["a", "b", "c", "a"]}, "'a' is there twice"),
        ({"class_labels": "/nowhere/labels.txt"}, "cannot be read"),
        ({"compress": "int3"}, "compress='int3'"),
        ({"compress": "int4"}, 'minimum_deployment_target="iOS18"'),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_one_clear_error(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(hub.UsageError, match=message):
        package(classifier(), tmp_path, **options)
    assert not list(tmp_path.iterdir())


# -- images and labels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [None, "NHWC"])
@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_an_image_is_pixels(layout: str | None, color: str, tmp_path: Path) -> None:
    model = classifier(layout)
    options: dict[str, Any] = {"image_input": "image", "scale": 1 / 127.5, "bias": [-1.0, -0.5, 0.25]}
    result = hub.convert(model.ir, tmp_path / "net.mlpackage", source="onnx", color_layout=color, **options)
    assert result.report is not None
    assert result.report.ok
    image = specification(result.paths[0]).description.input[0].type.imageType
    assert (image.height, image.width) == (6, 8)
    assert image.colorSpace == {"RGB": 20, "BGR": 30}[color]
    assert "transpose" not in [op.type for op in operations(result.paths[0])]

    source = PIXELS / np.float32(127.5) + np.array([-1.0, -0.5, 0.25], np.float32).reshape(3, 1, 1)
    expected = model.run(source if layout is None else source.transpose(0, 2, 3, 1))["probs"]
    read = hub.load(result.paths[0]).run(PIXELS)  # as the file has it: pixels
    np.testing.assert_allclose(next(iter(read.values())), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["net.mlpackage", "net.mlmodel"])
def test_a_classifier_has_labels(name: str, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\nbird\nünï\n", encoding="utf-8")
    result = hub.convert(classifier().ir, tmp_path / name, source="onnx", class_labels=str(labels), batch=1)
    assert result.report is not None
    assert result.report.ok
    description = specification(result.paths[0]).description
    assert description.predictedFeatureName == "classLabel"
    read = hub.load(result.paths[0])
    assert json.loads(read.ir.metadata_props["hub.coreml.labels"]) == ["cat", "dog", "bird", "ünï"]
    assert any("classifier" in warning for warning in read.warnings)


def test_names_that_coremltools_would_give_itself(tmp_path: Path) -> None:
    graph = GraphBuilder("net")
    x = graph.input("x", ir.DataType.BOOL, [4])
    equal = graph.op("Equal", x, graph.input("w", ir.DataType.BOOL, [4]), name="cast_1")
    graph.output(equal, "cast_2")
    path = package(Model(graph.model()), tmp_path)
    given = np.array([True, False, True, False])
    np.testing.assert_array_equal(run(path, x=given, w=given[::-1])["cast_2"], given == given[::-1])


def two(dtype: ir.DataType = ir.DataType.FLOAT) -> Model:
    return network(lambda g, xs: g.op("Add", *xs), ["N", 3], ["N", 3], dtype=dtype)


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (two(), {"batch": [1, 3]}, "x0, x1 have lists of shapes: before iOS18 one input has"),
        (two(ir.DataType.FLOAT16), {"batch": 1, "minimum_deployment_target": "iOS15"}, "'x0' is float16, which needs"),
        (classifier(), {"image_input": True, "scale": 0}, "the scale not 0"),
        (classifier(), {"image_input": True, "bias": float("nan")}, "finite numbers"),
        (classifier(), {"minimum_deployment_target": "__class__"}, "minimum_deployment_target='__class__'"),
    ],
    ids=lambda value: "" if isinstance(value, Model) else str(value),
)
def test_what_core_ml_would_not_load_is_refused(
    model: Model, options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(hub.UsageError, match=re.escape(reason)):
        package(model, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_lists_of_shapes_of_two_inputs(tmp_path: Path) -> None:
    path = package(two(), tmp_path, batch=[1, 3], minimum_deployment_target="iOS18")
    assert run(path, x0=np.ones((3, 3), np.float32), x1=np.ones((3, 3), np.float32))["y0"].shape == (3, 3)


@pytest.mark.parametrize("name", ["net.mlpackage", "net.mlmodel"])
@pytest.mark.parametrize("called", ["classLabel", "probs"])
def test_a_classifiers_own_names(called: str, name: str, tmp_path: Path) -> None:
    graph = GraphBuilder("net")
    x = graph.input("classLabel" if called == "probs" else "x", ir.DataType.FLOAT, [1, 2])
    graph.output(graph.op("Softmax", x, axis=-1), called)
    with pytest.raises(hub.UsageError, match="has a 'classLabel' of its own"):
        hub.save(Model(graph.model()), tmp_path / name, class_labels=["cat", "dog"])


def test_the_old_package_stays_where_the_new_one_cannot_be_put(tmp_path: Path, monkeypatch: Any) -> None:
    path = package(classifier(), tmp_path)
    before, replace = tree(path), os.replace

    def failing(source: Any, target: Any) -> None:
        if Path(target) == path and not Path(source).name.endswith(".old"):
            raise OSError("the disk is full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises((OSError, hub.errors.HubError), match="the disk is full"):
        package(classifier(), tmp_path, precision="fp16")
    assert tree(path) == before


# -- the process ---------------------------------------------------------------------------------------------------


def test_threads_wait_for_each_other(tmp_path: Path) -> None:
    def convert(number: int) -> dict[str, bytes]:
        folder = tmp_path / str(number)
        folder.mkdir()
        return tree(package(classifier(), folder, precision="fp16" if number % 2 else "fp32"))

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(convert, range(8)))
    assert all(made[i] == made[i % 2] for i in range(8))
    assert logging.root.manager.disable == 0


def test_compression_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    package(classifier(), tmp_path, compress="int8")
    assert not list((tmp_path / "temporary").glob("hub-*"))


# -- precision -----------------------------------------------------------------------------------------------------


def test_half_precision_is_of_everything_but_what_is_kept(tmp_path: Path) -> None:
    path = package(classifier(), tmp_path, precision="fp16", keep_float32=["Softmax", "dense"], batch=2)
    kinds = {op.type: op.outputs[0].type.tensorType.dataType for op in operations(path)}
    assert (kinds["conv"], kinds["relu"], kinds["linear"], kinds["softmax"]) == (10, 10, 11, 11)
    report = hub.check(classifier(), path)
    assert report.ok
    assert any("tolerance of float16" in note for note in report.notes)


def masked(number: float) -> Model:
    """A softmax of scores, some of which are masked, and a row whose all are."""
    mask = np.zeros((2, 3, 4), np.float32)
    mask[0, 0, 1] = mask[1, 2, :] = number
    return network(lambda g, xs: g.op("Softmax", g.op("Add", xs[0], g.constant(mask, "mask")), axis=-1), [2, 3, 4])


@pytest.mark.parametrize("number", [-1e9, float(np.finfo(np.float32).min)])
def test_a_mask_does_not_become_infinite(number: float, tmp_path: Path) -> None:
    result = hub.convert(masked(number).ir, tmp_path / "net.mlpackage", source="onnx", precision="fp16")
    assert any("-30000" in warning for warning in result.warnings)
    got = run(result.paths[0], x0=np.random.default_rng(0).normal(0, 5, (2, 3, 4)).astype(np.float32))["y0"]
    assert np.isfinite(got).all()


def test_constants_that_float16_does_not_have_stay_in_float32(tmp_path: Path) -> None:
    def build(g: GraphBuilder, xs: Any) -> Any:
        large = g.op("Mul", xs[0], g.constant(np.float32(1e6), "large"), name="large")
        small = g.op("Mul", large, g.constant(np.float32(1e-9), "small"), name="small")
        return g.op("Neg", small)

    model = network(build, [2, 4])
    result = hub.convert(model.ir, tmp_path / "net.mlpackage", source="onnx", precision="fp16")
    said = "\n".join(result.warnings)
    assert "a constant of 1e+06 is beyond float16" in said
    assert "a constant of 1e-09 vanishes" in said
    assert result.report is not None
    assert result.report.ok


def test_an_overflow_on_the_way_is_found_and_named(tmp_path: Path) -> None:
    def build(g: GraphBuilder, xs: Any) -> Any:
        with g.layer("grow", "Mul"):
            grown = g.op("Mul", g.op("Mul", xs[0], g.constant(np.float32(300), "a")), g.constant(np.float32(300), "b"))
        with g.layer("shrink", "Div"):
            return g.op("Div", grown, g.constant(np.float32(9e4 / 2), "c"))

    graph = GraphBuilder("net")
    graph.output(build(graph, [graph.input("x", ir.DataType.FLOAT, [2, 40])]), "y")
    model = Model(graph.model())
    with pytest.raises(hub.ParityError):
        hub.convert(model.ir, tmp_path / "net.mlpackage", source="onnx", precision="fp16")
    model.warnings.clear()
    package(model, tmp_path, precision="fp16")
    assert any("overflows, first in layer 'grow'" in warning for warning in model.warnings)
    result = hub.convert(
        model.ir, tmp_path / "net.mlpackage", source="onnx", precision="fp16", keep_float32=["grow", "shrink"]
    )
    assert result.report is not None
    assert result.report.ok


# -- compression, numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", COMPRESSED)
def test_weights_in_fewer_bits(compress: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.1, (64, 64)).astype(np.float32)
    model = network(lambda g, xs: g.op("MatMul", xs[0], g.constant(weights, "w", "weight")), ["N", 64])
    target = "iOS18" if compress == "int4" else "iOS16"
    plain = sum(map(len, tree(package(model, tmp_path)).values()))
    result = hub.convert(
        model.ir, tmp_path / "net.mlpackage", source="onnx", compress=compress, minimum_deployment_target=target
    )
    assert sum(map(len, tree(result.paths[0]).values())) < plain * (0.6 if compress in ("int8", "palette8") else 0.5)
    assert result.report is not None
    assert result.report.ok
    assert any(f"tolerance of {compress}" in note for note in result.report.notes)


def test_a_number_beyond_int32_is_an_error(tmp_path: Path) -> None:
    model = network(lambda g, xs: g.op("Add", xs[0], g.ints([2**40], "n")), [3], dtype=ir.DataType.INT64)
    with pytest.raises(hub.UnsupportedOps, match="the constant 1099511627776 does not fit into int32"):
        package(model, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17", "iOS18", "macOS14"])
def test_every_deployment_target(target: str, tmp_path: Path) -> None:
    path = package(classifier(), tmp_path, minimum_deployment_target=target)
    version = {"iOS15": 6, "iOS16": 7, "iOS17": 8, "macOS14": 8, "iOS18": 9}[target]
    assert specification(path).specificationVersion == version
    agrees(classifier(), tmp_path, PIXELS, target="coremlread", minimum_deployment_target=target)
