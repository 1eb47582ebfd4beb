"""Core ML bundles that lie: manifests, weight files, programs; and damaged copies of good ones."""

from __future__ import annotations

import json
import os
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coreml_files import Program, manifest, small, type_of
from hostile import bounded, refused
from hostile_child import damaged

import hub

SPEC = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return small().save(tmp_path / "net.mlpackage")


def test_the_bundle_made_here_is_a_good_one(good: Path) -> None:
    x = np.random.default_rng(1).normal(size=(2, 3, 6, 8)).astype(np.float32)
    (y,) = hub.load(good).run(x).values()
    assert y.shape == (2, 4)
    np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)


# -- the bundle --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    ["../secret", "/etc/passwd", "com.apple.CoreML/../../../secret", "C:\\x", "C:/x", "a\\..\\b", "", "\0", "a" * 5000],
)
def test_a_manifest_that_leads_out_of_the_bundle(good: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "secret").write_bytes((good / SPEC).read_bytes())
    manifest(good, where)
    refused(good, tmp_path)


def test_links_out_of_the_bundle(good: Path, tmp_path: Path) -> None:
    for file in (SPEC, WEIGHTS):
        outside = tmp_path / f"outside-{file.name}"
        os.replace(good / file, outside)
        (good / file).symlink_to(outside)
        refused(good, tmp_path, "a link out of it")
        os.unlink(good / file)
        os.replace(outside, good / file)
    hub.load(good)
    (good / SPEC.parent).rename(tmp_path / "elsewhere")
    (good / SPEC.parent).symlink_to(tmp_path / "elsewhere")
    refused(good, tmp_path, "a link out of it")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "does not say"),
        ("{}", "does not say"),
        ('{"itemInfoEntries": [], "rootModelIdentifier": "A"}', "does not say"),
        ('{"itemInfoEntries": {}, "rootModelIdentifier": "A"}', "has no such item"),
        ('{"itemInfoEntries": {"A": {}}, "rootModelIdentifier": "A"}', "has no such item"),
        ('{"itemInfoEntries": {"A": {"path": 7}}, "rootModelIdentifier": "A"}', "has no such item"),
        ('{"itemInfoEntries": {"A": {"path": "b"}}, "rootModelIdentifier": "A"}', "is missing"),
        ('{"itemInfoEntries": {"A": {"path": "com.apple.CoreML"}}, "rootModelIdentifier": "A"}', "is missing"),
    ],
)
def test_manifests(good: Path, tmp_path: Path, content: str, says: str) -> None:
    (good / "Manifest.json").write_text(content)
    refused(good, tmp_path, says)


def test_missing_files(good: Path, tmp_path: Path) -> None:
    os.unlink(good / WEIGHTS)
    refused(good, tmp_path, "weight file 'weight.bin' is missing")
    os.unlink(good / SPEC)
    refused(good, tmp_path, "which Manifest.json names, is missing")
    os.unlink(good / "Manifest.json")
    refused(good, tmp_path, "without Manifest.json")


def test_files_that_are_something_else(tmp_path: Path) -> None:
    for number, content in enumerate([b"", b"\0" * 64, b"\xff" * 64, b"PK\x03\x04", b"<html>", b"\n\n\n"]):
        path = tmp_path / f"{number}.mlmodel"
        path.write_bytes(content)
        refused(path, tmp_path)
    (tmp_path / "file.mlpackage").write_bytes(b"\0\0")
    refused(tmp_path / "file.mlpackage", tmp_path)


def test_a_model_of_another_type_is_named(good: Path, tmp_path: Path) -> None:
    program = small()
    program.model.treeEnsembleRegressor = b"x"
    path = tmp_path / "tree.mlmodel"
    path.write_bytes(program.model.SerializeToString())
    refused(path, tmp_path, "treeEnsembleRegressor", kind=hub.UnsupportedOps)


# -- the weight file ---------------------------------------------------------------------------------------------------


def rewritten(good: Path, at: int, data: bytes) -> None:
    raw = bytearray((good / WEIGHTS).read_bytes())
    raw[at : at + len(data)] = data
    (good / WEIGHTS).write_bytes(raw)


@pytest.mark.parametrize(
    ("at", "data", "says"),
    [
        (4, struct.pack("<I", 7), "is of version 7"),
        (64, b"\0\0\0\0", "begins with 0x0"),
        (68, struct.pack("<I", 1), "is of type fp16, the program says fp32"),
        (68, struct.pack("<I", 99), "is of type 99"),
        (72, struct.pack("<Q", 4), "4 bytes, for 108 numbers"),
        (72, struct.pack("<Q", 1 << 62), "the file has"),
        (80, struct.pack("<Q", 1 << 40), "the file has"),
        (80, struct.pack("<Q", (1 << 64) - 64), "the file has"),
    ],
)
def test_metadata_of_a_blob(good: Path, tmp_path: Path, at: int, data: bytes, says: str) -> None:
    rewritten(good, at, data)
    refused(good, tmp_path, says)


@pytest.mark.parametrize("offset", [0, 1, 65, 1 << 20, (1 << 64) - 64])
def test_an_offset_past_the_end(tmp_path: Path, offset: int) -> None:
    program = small()
    program.block.operations[0].attributes["val"].blobFileValue.offset = offset
    refused(program.save(tmp_path / "net.mlpackage"), tmp_path, "is not inside of the file")


@pytest.mark.parametrize("name", ["weights/weight.bin", "@model_path/../weight.bin", "@model_path//etc/passwd", ""])
def test_weight_files_of_other_names(tmp_path: Path, name: str) -> None:
    program = small()
    program.block.operations[0].attributes["val"].blobFileValue.fileName = name
    refused(program.save(tmp_path / "net.mlpackage"), tmp_path)


@pytest.mark.parametrize("shape", [[1 << 40], [1 << 20, 1 << 20], [1 << 63, 2], [1 << 40, 0]])
def test_a_shape_that_is_too_large(tmp_path: Path, shape: list[int]) -> None:
    program = small()
    held = program.block.operations[0].attributes["val"]
    held.type.CopyFrom(type_of("fp32", shape))
    path = program.save(tmp_path / "net.mlpackage")
    refused(path, tmp_path)
    program = small()
    held = program.block.operations[0].attributes["val"]
    held.Clear()
    held.type.CopyFrom(type_of("fp32", shape))
    held.immediateValue.tensor.floats.values.append(1)
    refused(program.save(tmp_path / "inside.mlpackage"), tmp_path)


def test_an_input_that_is_too_large(tmp_path: Path) -> None:
    program = Program()
    program.input("x", [1 << 62, 2])
    program.op("relu", "y", [1 << 62, 2], x="x")
    program.output("y")
    refused(program.save(tmp_path / "net.mlpackage"), tmp_path, "a size of")


# -- the program -------------------------------------------------------------------------------------------------------


def changed(tmp_path: Path, change: Any, *says: str, kind: type[hub.HubError] = hub.InvalidModel) -> None:
    program = small()
    change(program)
    refused(program.save(tmp_path / "net.mlpackage"), tmp_path, *says, kind=kind)


def test_programs_that_do_not_fit(tmp_path: Path) -> None:
    def case(number: int, change: Any, *says: str, kind: type[hub.HubError] = hub.InvalidModel) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        changed(folder, change, *says, kind=kind)

    ops = lambda program: program.block.operations  # noqa: E731
    case(0, lambda p: ops(p)[3].inputs.pop("x"), "'r' (relu)", "its input 'x' is missing")
    case(1, lambda p: setattr(ops(p)[3].inputs["x"].arguments[0], "name", "nothing"), "there is no value 'nothing'")
    case(2, lambda p: setattr(ops(p)[3].inputs["x"].arguments[0], "name", "r"), "'r' (relu)")
    case(3, lambda p: p.block.outputs.append("nothing"), "there is no value 'nothing'")
    case(4, lambda p: p.block.outputs.__delitem__(0), "the program has no outputs")
    case(5, lambda p: p.program.functions.clear(), "has no functions")
    case(6, lambda p: p.function.block_specializations.clear(), "has no block")
    case(7, lambda p: ops(p)[2].inputs["strides"].arguments.pop(), "(conv)")
    case(8, lambda p: ops(p)[3].outputs[0].type.CopyFrom(type_of("fp32", [2, 4, 6, 9])), "the program says 2x4x6x9",
         kind=hub.UnsupportedOps)  # fmt: skip
    case(9, lambda p: setattr(ops(p)[3], "type", "a" * 10_000), "is not supported", kind=hub.UnsupportedOps)
    case(10, lambda p: setattr(p.program, "version", -1) or p.block.outputs.append("x" * 100_000), "there is no value")


def test_every_unsupported_operation_is_named_at_once(tmp_path: Path) -> None:
    program = small()
    program.op("frobnicate", "f", [2, 4], x="m")
    program.op("relu", "g", [2, 4], x="f", alpha=3.0)
    program.op("relu", "h", [2, 4], x="m", alpha=3.0)
    del program.block.outputs[:]
    program.output("g", "h")
    path = program.save(tmp_path / "net.mlpackage")
    refused(path, tmp_path, "frobnicate x1", "relu x1", "'alpha'", kind=hub.UnsupportedOps)
    assert hub.load(path, outputs=["m"]).outputs[0].shape == (2, 4)  # the way out


def test_blocks_that_are_too_deep(tmp_path: Path) -> None:
    program = small()
    operation = program.block.operations.add(type="cond")
    operation.outputs.add(name="deep").type.CopyFrom(type_of("fp32", [2, 4]))
    operation.inputs["pred"].arguments.add().value.CopyFrom(
        program.block.operations[2].inputs["strides"].arguments[0].value
    )
    for _ in range(60):
        inner = [operation.blocks.add(outputs=["deep"]) for _ in range(2)]
        operation = inner[0].operations.add(type="cond")
        operation.outputs.add(name="deep").type.CopyFrom(type_of("fp32", [2, 4]))
    del program.block.outputs[:]
    program.output("deep")
    bounded(program.save(tmp_path / "net.mlpackage"), tmp_path)


def test_every_truncation_of_the_model_is_an_error(good: Path, tmp_path: Path) -> None:
    data = (good / SPEC).read_bytes()
    for size in [*range(0, len(data), 37)]:
        (good / SPEC).write_bytes(data[:size])
        with pytest.raises(hub.HubError) as caught:
            hub.load(good)
        assert "net.mlpackage" in str(caught.value)


def test_every_truncation_of_the_weights_is_an_error(good: Path) -> None:
    data = (good / WEIGHTS).read_bytes()
    for size in range(0, len(data), 29):
        (good / WEIGHTS).write_bytes(data[:size])
        with pytest.raises(hub.InvalidModel, match=r"weight\.bin|net\.mlpackage"):
            hub.load(good)


@pytest.mark.parametrize("file", [SPEC, WEIGHTS, Path("Manifest.json")], ids=lambda path: path.name)
@pytest.mark.parametrize("seed", range(4))
def test_damaged_copies(good: Path, tmp_path: Path, file: Path, seed: int) -> None:
    data = (good / file).read_bytes()
    for number in range(seed * 60, seed * 60 + 60):
        (good / file).write_bytes(damaged(data, random.Random(number)))
        bounded(good, tmp_path)


def test_a_manifest_with_other_things_is_read(good: Path) -> None:
    content = json.loads((good / "Manifest.json").read_text())
    content["more"] = {"a": [1, 2]}
    (good / "Manifest.json").write_text(json.dumps(content))
    assert hub.load(good).source == "coreml"
