"""The streamed .safetensors writer."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from safetensors.numpy import load_file

from exporters.constants import Constant
from exporters.torch.weights import write_safetensors
from hub.tensors import MappedFile, ViewTensor


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.int32, np.int8, np.uint8, bool])
def test_types_and_shapes(tmp_path: Path, dtype: type) -> None:
    arrays = {f"a{k}": np.ones(shape, dtype) for k, shape in enumerate([(), (3,), (2, 0), (2, 3, 4)])}
    write_safetensors(tmp_path / "w.safetensors", {k: Constant.of(v) for k, v in arrays.items()})
    read = load_file(tmp_path / "w.safetensors")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_big_endian_and_views(tmp_path: Path) -> None:
    array = np.arange(24, dtype=">f4").reshape(2, 3, 4)
    big = Constant((4, 3, 2), ir.DataType.FLOAT, lambda: array.transpose(2, 1, 0))
    wide = np.random.default_rng(0).normal(size=(3, 1 << 21)).astype(np.float32)
    turned = Constant.of(wide).viewed(lambda a: a.T, (1 << 21, 3), "T")
    write_safetensors(tmp_path / "w.safetensors", {"big": big, "wide": Constant.of(wide), "turned": turned})
    read = load_file(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(read["big"], array.transpose(2, 1, 0).astype("<f4"))
    np.testing.assert_array_equal(read["wide"], wide)
    np.testing.assert_array_equal(read["turned"], wide.T)


@pytest.mark.parametrize("turned", [False, True])
def test_memory_does_not_grow_with_the_weights(tmp_path: Path, turned: bool) -> None:
    with (tmp_path / "source").open("wb") as file:
        file.truncate(256 << 20)
    mapping = MappedFile(tmp_path / "source")
    tensor = ViewTensor(mapping.array(0, np.float32, (8192, 8192)), mapping=mapping)
    kernel = Constant((8192, 8192), ir.DataType.FLOAT, tensor.numpy, tensor=tensor)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_safetensors(tmp_path / "w.safetensors", {"w": kernel.transposed() if turned else kernel})
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert (tmp_path / "w.safetensors").stat().st_size > 256 << 20
    assert grown < 120


def test_a_permuted_kernel_is_turned_without_a_copy(tmp_path: Path) -> None:
    array = np.arange(3 * 4 * 5 * 6, dtype=np.float32).reshape(3, 4, 5, 6).transpose(2, 0, 1, 3)
    tensor = ViewTensor(array, (60, 6))
    kernel = Constant((60, 6), ir.DataType.FLOAT, tensor.numpy, tensor=tensor).transposed()
    assert isinstance(kernel.tensor, ViewTensor)
    assert np.shares_memory(kernel.tensor.array, array)
    write_safetensors(tmp_path / "w.safetensors", {"w": kernel})
    np.testing.assert_array_equal(load_file(tmp_path / "w.safetensors")["w"], tensor.numpy().T)
