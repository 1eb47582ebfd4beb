"""Several sets of inputs: seeded, from a function, from a folder of images; and what classifiers choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from conftest import need
from test_parity_divergence import residual
from typer.testing import CliRunner

from hub.builder import GraphBuilder
from hub.cli import app
from hub.errors import UsageError
from hub.model import Model
from hub.onnxfile import save
from parity.check import check
from parity.compare import Row, worst
from parity.images import Images
from parity.inputs import drawn
from parity.ranks import Ranks
from parity.runners import Port

need("PIL")


def test_draws_differ_in_seed_batch_and_sizes() -> None:
    port = Port("x", "float32", ("N", None, "W", 3))
    tries = [feeds["x"] for feeds in drawn([port], 0, (2,), 4)]
    assert [array.shape for array in tries] == [(2, 96, 128, 3), (1, 128, 64, 3), (3, 96, 128, 3), (2, 128, 64, 3)]
    assert not np.array_equal(tries[0].ravel()[:9], tries[1].ravel()[:9])
    fixed = Port("x", "float32", (1, 4))
    assert len(drawn([fixed], 0, (2, 3), 1)) == 1
    assert len(drawn([fixed], 0, (2,), 5)) == 5


def test_a_value_has_one_row_the_worst() -> None:
    rows = [Row("y", "ok", max_abs=1.0, tolerance=4.0), Row("y", "ok", max_abs=3.0, tolerance=4.0)]
    rows += [Row("y", "not compared"), Row("z", "not compared"), Row("z", "mismatch", max_abs=9.0, tolerance=4.0)]
    assert [(row.name, row.verdict, row.max_abs) for row in worst(rows)] == [("y", "ok", 3.0), ("z", "mismatch", 9.0)]
    report = check(residual(), residual("a2"), layers=True, draws=4)
    assert sum(row.kind == "output" for row in report.rows) == 1
    assert [found.layer for found in report.divergences] == ["a2"]
    assert report.inputs == {"x": "float32 2x4x10x8, 1x4x10x8, 3x4x10x8 (4 sets)"}
    assert report.seed == 0


def test_a_fault_of_few_inputs_is_found_by_many() -> None:
    """The second model differs only where an input is beyond 3.5, which few are."""

    def clipped(limit: float) -> Model:
        g = GraphBuilder("net")
        x = g.input("x", ir.DataType.FLOAT, ["N", 40])
        bounds = [g.constant(np.float32(value), name) for value, name in ((-9.0, "low"), (limit, "high"))]
        g.output(g.op("Clip", x, *bounds), "y")
        return Model(g.model())

    assert check(clipped(9.0), clipped(3.5)).ok
    assert not check(clipped(9.0), clipped(3.5), draws=200).ok


def test_a_function_gives_inputs() -> None:
    asked: list[int] = []

    def numbers(i: int) -> Any:
        asked.append(i)
        return {"x": np.full((1, 4, 10, 8), i, np.float32) + np.arange(8, dtype=np.float32)}

    report = check(residual(), residual(), inputs=numbers, draws=3)
    assert report.ok
    assert asked == [0, 1, 2]
    assert report.seed is None
    with pytest.raises(UsageError, match="has shape 3"):
        check(residual(), residual(), inputs=lambda i: np.zeros(3, np.float32))


def test_classifiers_are_judged_by_what_they_choose() -> None:
    ranks, rng = Ranks(), np.random.default_rng(0)
    scores = rng.random((40, 10)).astype(np.float32)
    other = scores.copy()
    other[:4, :] = other[:4, ::-1]
    ranks.saw("probs", scores, other)
    ranks.saw("image", scores.reshape(5, 8, 10), other.reshape(5, 8, 10))
    (said,) = ranks.said("b against a")
    assert said.startswith(
        "b against a, probs: the first class is the same for 36 of 40 examples, the first five for 3"
    )
    report = check(classifier(), classifier(), draws=6)
    assert any("the first class is the same for 12 of 12 examples" in note for note in report.notes)
    assert not any("first class" in note for note in check(classifier(), classifier()).notes)


def classifier(layout: str = "NHWC", height: int | str = 8) -> Model:
    rng = np.random.default_rng(0)
    g = GraphBuilder("net")
    shape = ["N", height, 12, 3] if layout == "NHWC" else ["N", 3, height, 12]
    x = g.input("image", ir.DataType.FLOAT, shape)
    channels = g.op("Transpose", x, perm=[0, 3, 1, 2]) if layout == "NHWC" else x
    means = g.op("Flatten", g.op("GlobalAveragePool", channels))
    g.output(g.op("MatMul", means, g.constant(rng.normal(size=(3, 7)).astype(np.float32), "w")), "scores")
    return Model(g.model())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    from PIL import Image

    for i in range(3):
        pixels = np.full((20, 30, 3), [10 + i, 100, 200], np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photo{i}.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_of_images_is_a_batch(photos: Path) -> None:
    report = check(classifier(), classifier(), inputs=photos)
    assert report.inputs == {"image": "float32 3x8x12x3"}
    port = Port("image", "float32", ("N", 3, 8, 12))
    (feeds,) = Images(photos, scale=1 / 255, mean=[0.1, 0.2, 0.3], std=0.5, color="BGR").feeds([port])
    assert feeds["image"].shape == (3, 3, 8, 12)
    expected = (np.array([200, 100, 12]) / 255 - [0.1, 0.2, 0.3]) / 0.5
    np.testing.assert_allclose(feeds["image"][2, :, 4, 5], expected, rtol=1e-5)
    one = Port("image", "float32", (1, 8, 12, 3))
    assert [feeds["image"].shape for feeds in Images(photos).feeds([one])] == [(1, 8, 12, 3)] * 3
    own = Images(photos, prepare=lambda pixels: pixels[:8, :12] / 2)
    np.testing.assert_allclose(own.feeds([one])[1]["image"][0, 0, 0], [5.5, 50, 100])


def test_what_images_cannot_be_is_said(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(UsageError, match="no images"):
        check(classifier(), classifier(), inputs=tmp_path_factory.mktemp("empty"))
    with pytest.raises(UsageError, match="no batch of images"):
        check(residual(), residual(), inputs=photos)
    with pytest.raises(UsageError, match="leaves the size of images open"):
        check(classifier(height="H"), classifier(height="H"), inputs=photos)
    assert check(classifier(height="H"), classifier(height="H"), inputs=Images(photos, size=(16, 12))).rows
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(UsageError, match="cannot be read as an image"):
        check(classifier(), classifier(), inputs=photos)


def test_the_command_line_takes_images_and_draws(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("models")
    a, b, golden = folder / "a.onnx", folder / "b.onnx", folder / "golden.npz"
    for path in (a, b):
        save(classifier("NCHW").ir, path)
    run = CliRunner().invoke
    pixels = ["--inputs", str(photos), "--pixels", "scale=0.5,mean=1:2:3,std=2,color=BGR"]
    done = run(app, ["check", str(a), str(b), *pixels])
    assert done.exit_code == 0, done.output
    assert "3x3x8x12" in done.output
    done = run(app, ["check", str(a), str(b), "--draws", "6"])
    assert "the first class is the same for 12 of 12 examples" in done.output
    for wrong, message in (("scale=x", "scale=x"), ("colour=RGB", "colour"), ("size=5", "size=5")):
        done = run(app, ["check", str(a), str(b), "--inputs", str(photos), "--pixels", wrong])
        assert isinstance(done.exception, UsageError)
        assert message in str(done.exception)

    assert run(app, ["check", str(a), "--save", str(golden), *pixels]).exit_code == 0
    done = run(app, ["check", str(b), "--against", str(golden)])
    assert done.exit_code == 0, done.output
    assert "recorded onnxruntime" in done.output
    assert isinstance(run(app, ["check", str(a)]).exception, UsageError)
    assert isinstance(run(app, ["check", str(a), str(b), "--against", str(golden)]).exception, UsageError)
