"""ML Programs written by hand: constants of every kind, compressed weights, interfaces, precision; no coremltools."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from coreml_files import Program, packed, small, type_of

import hub
from hub.canonical import LAYER, SOURCE_OP
from hub.tensors import ViewTensor

RNG = np.random.default_rng(0)


def loaded(program: Program, tmp_path: Path, **options: Any) -> hub.Model:
    return hub.load(program.save(tmp_path / "net.mlpackage"), **options)


def ops(model: hub.Model) -> list[str]:
    return [node.op_type for node in model.ir.graph]


def test_names_layers_and_types(tmp_path: Path) -> None:
    model = loaded(small(), tmp_path)
    assert model.source == "coreml"
    assert model.variant == "ML Program, iOS15"
    assert ops(model) == ["Conv", "Relu", "ReduceMean", "Softmax"]
    assert [node.outputs[0].name for node in model.ir.graph] == ["c", "r", "m", "y"]
    assert [node.metadata_props[LAYER] for node in model.ir.graph] == ["c", "r", "m", "y"]
    assert [node.metadata_props[SOURCE_OP] for node in model.ir.graph] == ["conv", "relu", "reduce_mean", "softmax"]
    assert model.layers == ["c", "r", "m", "y"]
    assert [str(info) for info in model.inputs + model.outputs] == ["x: float32[2, 3, 6, 8]", "y: float32[2, 4]"]
    assert {"w", "b"} <= set(model.ir.graph.initializers)
    conv = model.ir.graph[0]
    assert conv.attributes["pads"].value == (1, 1, 1, 1)
    assert "auto_pad" not in conv.attributes


def test_weights_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    model = loaded(small(), tmp_path)
    tensor = model.ir.graph.initializers["w"].const_value
    assert isinstance(tensor, ViewTensor)
    assert tensor.mapping is not None
    assert not tensor.array.flags.owndata
    assert not tensor.array.flags.writeable


def test_a_model_file_with_its_weights_beside_it(tmp_path: Path) -> None:
    path = small().save(tmp_path / "net.mlpackage")
    folder = path / "Data" / "com.apple.CoreML"
    (folder / "model.mlmodel").rename(folder / "other.mlmodel")
    x = RNG.normal(size=(2, 3, 6, 8)).astype(np.float32)
    one = hub.load(folder / "other.mlmodel").run(x)
    np.testing.assert_array_equal(one["y"], loaded(small(), tmp_path / "again").run(x)["y"])


def test_a_layer_of_the_program_as_the_output(tmp_path: Path) -> None:
    model = loaded(small(), tmp_path, outputs=["r"])
    assert ops(model) == ["Conv", "Relu"]
    with pytest.raises(hub.UsageError, match="near are"):
        loaded(small(), tmp_path / "b", outputs=["rr"])


# -- constants ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blob", [True, False])
@pytest.mark.parametrize("kind", ["fp32", "fp16", "int32", "int8", "uint8", "int16", "bool"])
def test_constants_of_every_type(kind: str, blob: bool, tmp_path: Path) -> None:
    if blob and kind in ("bool", "int32"):
        pytest.skip("no blob of the format has this type")
    dtype = {"fp32": "float32", "fp16": "float16"}.get(kind, kind)
    array = (RNG.normal(size=(2, 3)) * 50).astype(dtype)
    program = Program()
    program.input("x", [2, 3], "fp32")
    program.const("k", array, blob=blob)
    program.op("cast", "f", [2, 3], x="k", dtype="fp32")
    program.op("add", "y", [2, 3], x="x", y="f")
    program.output("y")
    x = RNG.normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_allclose(loaded(program, tmp_path).run(x)["y"], x + array.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize(("kind", "bits"), [("uint1", 1), ("uint2", 2), ("uint3", 3), ("uint4", 4), ("uint6", 6)])
def test_palettes_of_few_bits(kind: str, bits: int, tmp_path: Path) -> None:
    places = RNG.integers(0, 1 << bits, (5, 7)).astype(np.uint8)
    table = RNG.normal(size=(1, 1, 1 << bits, 1)).astype(np.float32)
    program = Program("CoreML8")
    program.input("x", [5, 7])
    program.const("i", places, kind)
    program.const("t", table)
    program.op("constexpr_lut_to_dense", "w", [5, 7], indices="i", lut="t")
    program.op("mul", "y", [5, 7], x="x", y="w")
    program.output("y")
    x = RNG.normal(size=(5, 7)).astype(np.float32)
    model = loaded(program, tmp_path)
    np.testing.assert_array_equal(model.run(x)["y"], x * table.reshape(-1)[places])
    assert ops(model) == ["Mul"]


def test_the_palette_of_ios_16_packs_its_indices(tmp_path: Path) -> None:
    places = RNG.integers(0, 4, 11).astype(np.uint8)
    table = RNG.normal(size=4).astype(np.float32)
    program = Program("CoreML6")
    program.input("x", [11])
    raw = np.frombuffer(packed(places, 2), np.uint8)
    program.op("constexpr_lut_to_dense", "w", [11], indices=raw, lut=table, shape=np.array([11], np.int32))
    program.op("add", "y", [11], x="x", y="w")
    program.output("y")
    x = np.zeros(11, np.float32)
    np.testing.assert_array_equal(loaded(program, tmp_path).run(x)["y"], table[places])


@pytest.mark.parametrize("kind", ["int8", "uint8", "int4", "uint4"])
@pytest.mark.parametrize("shape", [(1, 1), (6, 1), (1, 8), (6, 2), (3, 8), (2, 2), (6, 8)])
def test_quantized_weights_stay_quantized_where_onnx_says_the_same(
    kind: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    low, high = {"int8": (-128, 128), "uint8": (0, 256), "int4": (-8, 8), "uint4": (0, 16)}[kind]
    dtype = "int8" if kind.startswith("int") else "uint8"
    data, offset = (RNG.integers(low, high, size).astype(dtype) for size in ((6, 8), shape))
    scale = RNG.uniform(0.1, 1, shape).astype(np.float32)
    program = Program("CoreML8")
    program.input("x", [6, 8])
    program.const("d", data, kind)
    program.const("o", offset, kind)
    program.const("s", scale)
    program.op("constexpr_blockwise_shift_scale", "w", [6, 8], data="d", scale="s", offset="o")
    program.op("add", "y", [6, 8], x="x", y="w")
    program.output("y")
    model = loaded(program, tmp_path)
    ratio = 6 // shape[0], 8 // shape[1]
    wide = np.ones(ratio)
    expected = (data.astype(np.float32) - np.kron(offset.astype(np.float32), wide)) * np.kron(scale, wide)
    np.testing.assert_allclose(model.run(np.zeros((6, 8), np.float32))["y"], expected.astype(np.float32), rtol=1e-6)
    kept = shape in ((1, 1), (6, 1), (1, 8), (6, 2), (3, 8))
    assert ops(model) == (["DequantizeLinear", "Add"] if kept else ["Add"])


@pytest.mark.parametrize("shapes", [((), ()), ((5,), ()), ((), (5,)), ((5,), (5,)), ((1,), (5,))])
def test_the_quantized_weights_of_ios_16(shapes: tuple[tuple[int, ...], tuple[int, ...]], tmp_path: Path) -> None:
    data = RNG.integers(0, 256, (3, 5)).astype(np.uint8)
    scale = RNG.uniform(0.1, 1, shapes[0]).astype(np.float32)
    zero = RNG.integers(0, 256, shapes[1]).astype(np.uint8)
    program = Program("CoreML6")
    program.input("x", [3, 5])
    program.op("constexpr_affine_dequantize", "w", [3, 5], quantized_data=data, zero_point=zero, scale=scale, axis=-1)
    program.op("add", "y", [3, 5], x="x", y="w")
    program.output("y")
    model = loaded(program, tmp_path)
    assert ops(model) == ["DequantizeLinear", "Add"]
    expected = (data.astype(np.float32) - zero.astype(np.float32)) * scale
    np.testing.assert_allclose(model.run(np.zeros((3, 5), np.float32))["y"], expected, rtol=1e-6)


def test_sparse_weights_are_expanded(tmp_path: Path) -> None:
    mask = RNG.integers(0, 2, (4, 6)).astype(np.uint8)
    numbers = RNG.normal(size=int(mask.sum())).astype(np.float32)
    program = Program("CoreML8")
    program.input("x", [4, 6])
    program.const("m", mask, "uint1")
    program.const("n", numbers)
    program.op("constexpr_sparse_to_dense", "w", [4, 6], nonzero_data="n", mask="m")
    program.op("add", "y", [4, 6], x="x", y="w")
    program.output("y")
    expected = np.zeros((4, 6), np.float32)
    expected[mask == 1] = numbers
    np.testing.assert_array_equal(loaded(program, tmp_path).run(np.zeros((4, 6), np.float32))["y"], expected)


# -- half precision ----------------------------------------------------------------------------------------------------


def half() -> Program:
    """x * 300 * 300 / 9e4, which overflows in half precision."""
    program = Program()
    program.input("x", [3], "fp16")
    large, small_ = np.float16(300), np.float16(1 / 300)
    program.op("mul", "a", [3], "fp16", x="x", y=large)
    program.op("mul", "b", [3], "fp16", x="a", y=large)
    program.op("mul", "c", [3], "fp16", x="b", y=small_)
    program.op("mul", "d", [3], "fp16", x="c", y=small_)
    program.op("cast", "y", [3], x="d", dtype="fp32")
    program.output("y")
    return program


def test_half_precision_as_it_is_upcast_and_emulated(tmp_path: Path) -> None:
    x = np.array([0.5, 1, -2], np.float16)
    keep = loaded(half(), tmp_path / "a")
    assert keep.inputs[0].dtype == "float16"
    assert ops(keep) == ["Mul", "Mul", "Mul", "Mul", "Cast"]
    upcast = loaded(half(), tmp_path / "b", fp16="upcast")
    assert upcast.inputs[0].dtype == "float32"
    np.testing.assert_allclose(upcast.run(x)["y"], x.astype(np.float32), rtol=2e-3)
    emulated = loaded(half(), tmp_path / "c", fp16="emulate")
    true = x
    with np.errstate(over="ignore"):
        for number in (300, 300, 1 / 300, 1 / 300):
            true = true * np.float16(number)
    assert np.isinf(true).tolist() == [False, True, True]
    np.testing.assert_array_equal(emulated.run(x)["y"], true.astype(np.float32))
    with pytest.raises(hub.UsageError, match="it is one of keep, upcast, emulate"):
        loaded(half(), tmp_path / "d", fp16="maybe")


# -- the interface -----------------------------------------------------------------------------------------------------


def open_sizes() -> Program:
    program = Program()
    program.input("x", [None, 4])
    program.const("w", RNG.normal(size=(3, 4)).astype(np.float32))
    program.op("linear", "y", [None, 3], x="x", weight="w")
    program.output("y")
    array = program.model.description.input[0].type.multiArrayType
    for low, high in ((1, 8), (4, 4)):
        array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
    return program


def test_ranges_of_sizes_are_open_sizes(tmp_path: Path) -> None:
    model = loaded(open_sizes(), tmp_path / "a")
    assert model.inputs[0].shape == ("x_0", 4)
    ranges = json.loads(model.ir.graph.inputs[0].metadata_props["hub.coreml.sizes"])
    assert ranges == {"ranges": [[1, 8], [4, 4]]}
    for batch in (1, 3):
        assert model.run(np.ones((batch, 4), np.float32))["y"].shape == (batch, 3)
    fixed = loaded(open_sizes(), tmp_path / "b", inputs={"x": ["N", 4]})
    assert fixed.inputs[0].shape == ("N", 4)
    assert loaded(open_sizes(), tmp_path / "c", inputs={"x": [5, None]}).outputs[0].shape == (5, 3)
    with pytest.raises(hub.UsageError, match="has the fixed size 4, not 5"):
        loaded(open_sizes(), tmp_path / "d", inputs={"x": [1, 5]})
    with pytest.raises(hub.UsageError, match="2 axes"):
        loaded(open_sizes(), tmp_path / "e", inputs={"x": [1]})
    with pytest.raises(hub.UsageError, match="there is no input 'z'"):
        loaded(open_sizes(), tmp_path / "f", inputs={"z": [1]})


def test_images_states_and_metadata(tmp_path: Path) -> None:
    program = small()
    image = program.model.description.input[0].type.imageType
    image.colorSpace, image.height, image.width = 20, 6, 8
    program.model.description.metadata.author = "somebody"
    program.model.description.metadata.userDefined["key"] = "value"
    model = loaded(program, tmp_path / "a")
    assert any("is a RGB image in Core ML" in text for text in model.warnings)
    assert model.ir.metadata_props["coreml.author"] == "somebody"
    assert model.ir.metadata_props["coreml.user.key"] == "value"
    program = small()
    state = program.function.inputs.add(name="memory")
    state.type.stateType.wrappedType.CopyFrom(type_of("fp16", [2]))
    with pytest.raises(hub.UnsupportedOps, match=r"state x1: .*\[memory\]"):
        loaded(program, tmp_path / "b")


def test_functions_by_name(tmp_path: Path) -> None:
    program = small()
    other = program.program.functions["other"]
    other.CopyFrom(program.function)
    del other.block_specializations["CoreML5"].outputs[:]
    other.block_specializations["CoreML5"].outputs.append("r")
    assert loaded(program, tmp_path / "a").outputs[0].name == "y"
    assert loaded(program, tmp_path / "b", function="other").outputs[0].name == "r"
    with pytest.raises(hub.UsageError, match="there is no function 'third'"):
        loaded(program, tmp_path / "c", function="third")
    program.program.functions["one"].CopyFrom(other)
    del program.program.functions["main"]
    with pytest.raises(hub.UsageError, match="choose one with function="):
        loaded(program, tmp_path / "d")
    program.model.description.defaultFunctionName = "other"
    assert loaded(program, tmp_path / "e").outputs[0].name == "r"


def test_it_is_written_and_converted(tmp_path: Path) -> None:
    path = small().save(tmp_path / "net.mlpackage")
    result = hub.convert(path, tmp_path / "net.onnx", check=False)
    assert result.paths == [tmp_path / "net.onnx"]
    values = {value.name: value for node in result.model.ir.graph for value in node.outputs}
    assert all(isinstance(value.type, ir.TensorType) and value.shape is not None for value in values.values())


def test_nothing_of_coremltools_is_imported(tmp_path: Path) -> None:
    path = small().save(tmp_path / "net.mlpackage")
    code = f"import sys, hub; hub.load({str(path)!r}); print([m for m in sys.modules if 'coremltools' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
