"""Paths, suffixes, truncated and damaged files of every format.

Damaged copies at random are loaded in a process of their own, because HDF5 is C and may abort.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import FIXTURES, bounded, refused

import hub

# -- paths and files -----------------------------------------------------------------------------------


@pytest.fixture
def good(tmp_path: Path) -> dict[str, Path]:
    """A valid file of each kind."""
    paths = {suffix: tmp_path / f"resnet50{suffix}" for suffix in (".keras", ".h5", ".onnx")}
    paths[".keras"].write_bytes((FIXTURES / "tf_keras_nested.keras").read_bytes())
    paths[".h5"].write_bytes((FIXTURES / "keras2_graph.h5").read_bytes())
    hub.save(hub.load(paths[".h5"]), paths[".onnx"])
    return paths


SUFFIXES = (".keras", ".h5", ".onnx")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_misspelt_path_suggests_the_right_one(suffix: str, good: dict[str, Path], tmp_path: Path) -> None:
    refused(tmp_path / f"resnet5O{suffix}", tmp_path, f"did you mean 'resnet50{suffix}'", kind=hub.UsageError)
    refused(tmp_path / "nowhere" / f"resnet50{suffix}", tmp_path, "nowhere does not exist", kind=hub.UsageError)


def test_a_wrong_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "model.kears").write_bytes(b"some bytes")
    refused(tmp_path / "model.kears", tmp_path, "'.kears'", ".keras", kind=hub.UnknownFormat)
    (tmp_path / "model").write_bytes(b"some bytes")
    refused(tmp_path / "model", tmp_path, "no suffix", "source=", kind=hub.UnknownFormat)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_content_decides_not_the_suffix(suffix: str, good: dict[str, Path], tmp_path: Path) -> None:
    """A Keras file under another name is read as what it is, an ONNX file under Keras's name refused."""
    for other in SUFFIXES:
        path = tmp_path / f"renamed{other}"
        path.write_bytes(good[suffix].read_bytes())
        bounded(path, tmp_path)
    if suffix != ".onnx":
        (tmp_path / "renamed.bin").write_bytes(good[suffix].read_bytes())
        assert hub.load(tmp_path / "renamed.bin").layers


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_directory(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"model{suffix}").mkdir()
    refused(tmp_path / f"model{suffix}", tmp_path, "directory")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".json", ".hdf5"])
def test_an_empty_file(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"model{suffix}").touch()
    refused(tmp_path / f"model{suffix}", tmp_path, "empty")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".json"])
def test_five_gigabytes_of_nothing(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.touch()
    os.truncate(path, 5 << 30)
    refused(path, tmp_path)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".json"])
@pytest.mark.parametrize(
    "content", [b"hello\n", bytes(4096), b"\xff" * 4096, b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"{}"]
)
def test_a_file_of_something_else(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    refused(path, tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_at_every_twentieth(suffix: str, good: dict[str, Path], tmp_path: Path) -> None:
    data = good[suffix].read_bytes()
    for twentieth in range(1, 20):
        path = tmp_path / f"cut{twentieth}{suffix}"
        path.write_bytes(data[: len(data) * twentieth // 20])
        refused(path, tmp_path)
    path.write_bytes(data[:-1])
    bounded(path, tmp_path)


def test_a_path_with_a_null_byte(tmp_path: Path) -> None:
    for name in ("model\0.keras", "m" * 5000 + ".keras"):
        with pytest.raises(hub.UsageError, match=r"cannot be read|does not exist"):
            hub.load(name)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_may_not_be_read(suffix: str, good: dict[str, Path], tmp_path: Path) -> None:
    good[suffix].chmod(0)
    refused(good[suffix], tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_named_pipe_is_not_waited_for(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"model{suffix}")
    refused(tmp_path / f"model{suffix}", tmp_path)


@pytest.mark.parametrize("half", [0, 1])
def test_a_bad_half_of_a_pair(half: int, tmp_path: Path) -> None:
    pair = [FIXTURES / "keras2_pair.json", FIXTURES / "keras2_pair.weights.h5"]
    bad = tmp_path / f"bad{pair[half].suffix}"
    for content in (b"", b"[1, 2]", b"\x89HDF\r\n\x1a\n" + bytes(100)):
        bad.write_bytes(content)
        pair[half] = bad
        with pytest.raises(hub.InvalidModel, match="bad"):
            hub.load(tuple(pair))
    with pytest.raises(hub.UsageError, match="pair"):
        hub.load((pair[0], pair[1], bad), source="keras")


# -- damaged at random ----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="limits of memory and time are those of POSIX")
@pytest.mark.parametrize("name", ["nested.keras", "graph.h5", "keras1.h5", "weights.onnx"])
def test_three_hundred_damaged_copies(name: str, tmp_path: Path) -> None:
    sources = {
        "nested.keras": "tf_keras_nested.keras",
        "graph.h5": "keras2_graph.h5",
        "keras1.h5": "keras1_tensorflow_graph.h5",
        "weights.onnx": "keras2_pair.h5",
    }
    source = FIXTURES / sources[name]
    if name.endswith(".onnx"):
        hub.save(hub.load(source), tmp_path / name)
        source = tmp_path / name
    folder = tmp_path / "copies"
    folder.mkdir()
    child = Path(__file__).parent / "hostile_child.py"
    command = [sys.executable, str(child), str(source), "0", "300", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(hub.__file__).parent.parent)])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, f"it died at {done.stderr[-300:]}"
    result = json.loads(done.stdout)
    assert result["faults"] == []
    assert result["left"] == []
    assert sum(result["outcomes"].values()) == 300
    assert result["outcomes"]["InvalidModel"] > 100, "the damage is real"
