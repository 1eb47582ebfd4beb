"""Files of PyTorch's: each kind by its content; nothing in them is run without trust."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need

import hub
from hub.errors import HubError, InvalidModel, MissingDependency, UnknownFormat, UsageError
from importers.torch import sources
from importers.torch.archive import Archive, opened
from parity.runners import LoadFailed, find

need("torch", "safetensors")

import torch  # noqa: E402
from torch import nn  # noqa: E402

SHAPES = {"image": ("N", 3, 8, 10), "scale": ("N", 6)}
SOURCE = '''
import torch
from torch import nn


class Small(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 5)

    def forward(self, image: torch.Tensor, scale: torch.Tensor):
        x = torch.relu(self.bn(self.conv(image))).mean([2, 3]) * scale
        return self.fc(x), x


def small() -> nn.Module:
    return Small()


def broken() -> nn.Module:
    raise RuntimeError("no luck")
'''


class Harm:
    """An object whose unpickling would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.path,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's module, and the small network in every kind of file."""
    made = tmp_path_factory.mktemp("files")
    (made / "user_networks.py").write_text(SOURCE)
    sys.path.insert(0, str(made))
    try:
        import user_networks  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(made))
    torch.manual_seed(1)
    net = user_networks.small()
    nn.init.uniform_(net.bn.running_var, 0.5, 1.5)
    nn.init.normal_(net.bn.running_mean)
    net.eval()
    weights = net.state_dict()
    torch.save(weights, made / "weights.pt")
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, made / "checkpoint.pth")
    torch.save(weights, made / "legacy.bin", _use_new_zipfile_serialization=False)
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in weights.items()}, made / "weights.safetensors")
    torch.save(net, made / "module.pt")
    torch.save(net, made / "module_legacy.pth", _use_new_zipfile_serialization=False)
    examples = (torch.randn(3, 3, 8, 10), torch.randn(3, 6))
    count = torch.export.Dim("batch")
    program = torch.export.export(net, examples, dynamic_shapes=({0: count}, {0: count}), strict=False)
    torch.export.save(program, made / "program.pt2")
    torch.jit.trace(net, examples).save(str(made / "traced.pt"))
    expected = [t.detach().numpy() for t in net(*examples)]
    np.savez(made / "golden.npz", *[t.numpy() for t in examples], *expected)
    return made


def right(model: hub.Model, folder: Path) -> None:
    """It gives what the network gave, and nothing was left unproved."""
    assert not [w for w in model.warnings if "not proved" in w]
    golden = list(np.load(folder / "golden.npz").values())
    got = model.run(golden[:2])
    assert list(got) == ["output_0", "output_1"]
    for array, expected in zip(got.values(), golden[2:], strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-6)
    assert {"conv.weight", "bn.weight", "bn.running_mean", "fc.weight", "fc.bias"} <= set(model.ir.graph.initializers)
    assert [info.name for info in model.inputs] == ["image", "scale"]


KINDS = {
    "weights.pt": ("pickle", False),
    "checkpoint.pth": ("pickle", False),
    "legacy.bin": ("pickle", False),
    "weights.safetensors": ("safetensors", False),
    "module.pt": ("pickle", True),
    "module_legacy.pth": ("pickle", True),
    "program.pt2": ("program", False),
    "traced.pt": ("script", False),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_is_read_from_the_content(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(folder / name, tmp_path / "whatever.pt")
    found = opened(tmp_path / "whatever.pt")
    kind, wants = KINDS[name]
    assert found.kind == kind
    assert ("user_networks.Small" in found.classes) == wants
    assert bool(found.classes) == wants


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights.pt", "checkpoint.pth", "legacy.bin", "weights.safetensors"])
def test_weights_with_a_module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(folder)
    model = hub.load(folder / name, inputs=SHAPES, module="user_networks:small")
    right(model, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["module.pt", "module_legacy.pth"])
def test_a_pickled_module_that_is_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(folder)
    right(hub.load(folder / name, inputs=list(SHAPES.values()), trust=True), folder)


def test_a_pickled_module_that_is_not_trusted(folder: Path) -> None:
    for name in ("module.pt", "module_legacy.pth"):
        with pytest.raises(InvalidModel, match=r"user_networks\.Small") as caught:
            hub.load(folder / name, inputs=SHAPES)
        assert "trust=True" in str(caught.value)
        assert "state_dict" in str(caught.value)


@pytest.mark.slow
def test_a_program(folder: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    made = hub.convert(folder / "program.pt2", tmp_path / "net.onnx", progress=stages.append)
    first = ["reading PyTorch", "opening it in PyTorch", "torch.onnx converts it"]
    assert stages == [*first, "writing ONNX", "checking the numbers"]
    assert made.report is not None
    assert made.report.ok
    assert not made.report.not_compared
    assert [info.shape for info in made.model.inputs] == [("N", 3, 8, 10), ("N", 6)]
    right(made.model, folder)
    assert hub.check(folder / "program.pt2", tmp_path / "net.onnx").ok
    with pytest.raises(UsageError, match="fixed when it was captured"):
        hub.load(folder / "program.pt2", inputs={"image": ("N", 3, "H", "W")})


@pytest.mark.slow
def test_torchscript(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "traced.pt", tmp_path / "net.jit")
    model = hub.load(tmp_path / "net.jit", inputs=SHAPES)
    right(model, folder)
    assert {"conv", "bn", "fc"} <= set(model.layers)
    assert any("traced" in warning for warning in model.warnings)
    assert hub.check(tmp_path / "net.jit", folder / "program.pt2").ok


@pytest.mark.slow
def test_on_the_command_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hub import cli

    monkeypatch.chdir(folder)
    sizes = ["--input", "image:Nx3x8x10", "--input", "scale:float32:Nx6"]
    net = str(tmp_path / "net.onnx")
    assert cli._run(["convert", "weights.pt", net, "-O", "module=user_networks:small", *sizes]) == 0, (
        capsys.readouterr()
    )
    said = capsys.readouterr().out
    assert "PASSED: 4 of 4" in said
    assert "image float32 2x3x8x10, 3x3x8x10" in said, "on two sizes of the batch"
    assert cli._run(["check", "program.pt2", net]) == 0
    assert cli._run(["convert", "module.pt", str(tmp_path / "other.onnx"), *sizes]) == 5
    assert "user_networks.Small" in capsys.readouterr().err


def test_what_is_missing_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match="module="):
        hub.load(folder / "weights.pt", inputs=SHAPES)
    with pytest.raises(UsageError, match="has its network in it"):
        hub.load(folder / "program.pt2", module="user_networks:small")
    with pytest.raises(UsageError, match="write it as"):
        hub.load(folder / "weights.pt", inputs=SHAPES, module="user_networks")
    with pytest.raises(UsageError, match=r"'torch.onnx'"):
        hub.load(folder / "program.pt2", engine="other")
    (tmp_path / "plain.pt").write_bytes(b"nothing of the sort")
    with pytest.raises(InvalidModel, match="no file of PyTorch"):
        hub.load(tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("data.txt", "x")
    with pytest.raises(UnknownFormat):
        hub.load(tmp_path / "other.zip")


@pytest.mark.slow
def test_wrong_weights_and_modules_are_said(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(folder)
    for module, error, words in (
        ("user_networks:nothing", UsageError, "nothing"),
        ("user_networks:broken", UsageError, "no luck"),
        ("no_such_module:net", UsageError, "no_such_module"),
        ("collections:OrderedDict", UsageError, "OrderedDict"),
    ):
        with pytest.raises(error, match=words):
            hub.load(folder / "weights.pt", inputs=SHAPES, module=module)
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "few.pt")
    with pytest.raises(HubError, match="are not those of this network"):
        hub.load(tmp_path / "few.pt", inputs=SHAPES, module="user_networks:small")
    with pytest.raises(UsageError, match="'image', 'scale' have"):
        hub.load(folder / "weights.pt", module="user_networks:small")
    (folder / "user_needs.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(MissingDependency, match="a_package_that_is_not_there"):
        hub.load(folder / "weights.pt", inputs=SHAPES, module="user_needs:net")


# -- hostile files ------------------------------------------------------------------------------------


def rezipped(source: Path, to: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """`source` with other members; stored, as PyTorch's are."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)
    return to


def harmful(path: Path, harm: Path, source: Path) -> Path:
    """A file at `path` of the kind of its name, with a pickle that would make the folder `harm`."""
    payload = io.BytesIO()
    torch.save({"w": Harm(harm)}, payload)
    kind = path.stem
    if kind == "zipped":
        path.write_bytes(payload.getvalue())
    elif kind == "legacy":
        torch.save({"w": Harm(harm)}, path, _use_new_zipfile_serialization=False)
    elif kind == "plain":
        path.write_bytes(pickle.dumps(Harm(harm)))
    elif kind == "samples":
        rezipped(source / "program.pt2", path, lambda n, b: payload.getvalue() if "sample_inputs" in n else b)
    elif kind == "weights":
        rezipped(source / "program.pt2", path, _pickled_weights(payload.getvalue()))
    elif kind == "script":
        rezipped(source / "traced.pt", path, lambda n, b: pickle.dumps(Harm(harm)) if n.endswith("/data.pkl") else b)
    return path


def _pickled_weights(payload: bytes) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        if name.endswith("model_weights_config.json"):
            config = json.loads(content)
            for entry in config["config"].values():
                entry["use_pickle"] = True
            return json.dumps(config).encode()
        return payload if "/weights/weight_" in name else content

    return change


HARMFUL = ["zipped.pt", "zipped.bin", "legacy.pt", "legacy.pth", "plain.bin", "samples.pt2", "weights.pt2", "script.pt"]


@pytest.mark.slow
@pytest.mark.parametrize("name", HARMFUL)
def test_a_pickle_that_would_run_code_does_not(folder: Path, tmp_path: Path, name: str) -> None:
    harm = tmp_path / "harm"
    path = harmful(tmp_path / name, harm, folder)
    options: dict[str, Any] = {} if path.stem in ("samples", "weights", "script") else {"module": "user_networks:small"}
    with pytest.raises(HubError) as caught:
        hub.load(path, inputs={} if path.suffix == ".pt2" else SHAPES, **options)
    assert not isinstance(caught.value, UsageError)
    with pytest.raises(LoadFailed):
        find("torch").open(path, **options)
    assert not harm.exists()


def test_weights_are_all_that_is_unpickled(folder: Path, tmp_path: Path) -> None:
    """Also where the names in a pickle were not seen."""
    path = harmful(tmp_path / "zipped.pt", tmp_path / "harm", folder)
    with pytest.raises(InvalidModel, match="cannot be unpickled"):
        sources._unpickled(Archive(path, "pickle"), trust=False)
    assert not (tmp_path / "harm").exists()


def test_the_payload_is_real(folder: Path, tmp_path: Path) -> None:
    """Were it unpickled, the file would be there."""
    path = harmful(tmp_path / "zipped.pt", tmp_path / "harm", folder)
    torch.load(path, weights_only=False)
    assert (tmp_path / "harm").is_dir()


def _with_model(source: Path, to: Path, change: Callable[[Any], None]) -> Path:
    def edit(name: str, content: bytes) -> bytes:
        if "/models/" not in name:
            return content
        model = json.loads(content)
        change(model)
        return json.dumps(model).encode()

    return rezipped(source / "program.pt2", to, edit)


@pytest.mark.parametrize("way", ["expression", "target", "attribute", "compiled", "object"])
def test_a_program_that_would_run_code_does_not(folder: Path, tmp_path: Path, way: str) -> None:
    harm = tmp_path / "harm"
    path = tmp_path / "net.pt2"
    code = f"__import__('os').mkdir({str(harm)!r})"

    def expression(model: Any) -> None:
        sizes = model["graph_module"]["graph"]["tensor_values"]["image"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = code

    def target(model: Any) -> None:
        model["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.mkdir"

    def attribute(model: Any) -> None:
        sizes = model["graph_module"]["graph"]["tensor_values"]["image"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = "Symbol('s0').__class__"

    if way == "compiled":
        shutil.copy(folder / "program.pt2", path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("program/data/aotinductor/model/x.so", b"\x7fELF")
    elif way == "object":
        shutil.copy(folder / "program.pt2", path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("program/data/constants/custom_obj_0", b"")
    else:
        _with_model(folder, path, {"expression": expression, "target": target, "attribute": attribute}[way])
    with pytest.raises(InvalidModel):
        hub.load(path)
    assert not harm.exists()


def test_torchscript_that_would_write_a_file_does_not(folder: Path, tmp_path: Path) -> None:
    harm = tmp_path / "harm.pt"
    source = f"def forward(self, x: Tensor) -> Tensor:\n    torch.save(x, {str(harm)!r})\n    return x\n"
    module = torch.jit.ScriptModule()
    module.define(source)
    torch.jit.save(module, str(tmp_path / "writer.pt"))
    with pytest.raises(InvalidModel, match="save"):
        hub.load(tmp_path / "writer.pt", inputs={"x": (2, 3)})
    with pytest.raises(LoadFailed, match="save"):
        find("torch").open(tmp_path / "writer.pt")
    assert not harm.exists()


@pytest.mark.slow
def test_truncated_files_are_said(folder: Path, tmp_path: Path) -> None:
    for name in ("weights.pt", "program.pt2", "traced.pt", "legacy.bin", "weights.safetensors"):
        content = (folder / name).read_bytes()
        for size in (0, 10, len(content) // 2):
            path = tmp_path / f"{size}_{name}"
            path.write_bytes(content[:size])
            with pytest.raises(HubError):
                hub.load(path, inputs=SHAPES)
