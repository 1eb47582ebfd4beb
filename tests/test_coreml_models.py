"""Networks of keras.applications to Core ML, both kinds of file and both precisions, every layer compared by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import need

need("keras", "tensorflow", "coremltools")

from keras_nets import application, images  # noqa: E402

import hub  # noqa: E402
from parity.runners import find  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

NETWORKS = """VGG16 VGG19 InceptionV3 ResNet50 DenseNet121 Xception MobileNet MobileNetV2 NASNetMobile
InceptionResNetV2 EfficientNetB0 ConvNeXtTiny""".split()
EXACT, HALF = 1e-5, 1e-2
"""Of the spread, before the softmax: float32 and half precision."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_an_application_layer_by_layer(name: str, tmp_path: Path) -> None:
    network = application(name)
    network.save(tmp_path / "net.keras")
    model = hub.load(tmp_path / "net.keras")
    (path,) = hub.save(model, tmp_path / "net.mlpackage", batch=(1, 4))
    report = hub.check(model, path, layers=True, inputs=images(network))
    assert not report.mismatches
    layers = [row for row in report.rows if row.kind == "layer" and row.verdict == "ok"]
    assert len(layers) >= len(network.layers) // 3  # normalizations are in their convolutions

    (before,) = [row for row in report.rows if row.kind == "before activation"]
    assert before.of_spread is not None
    assert before.of_spread <= EXACT
    for batch in (1, 3):
        assert hub.check(model, path, inputs=images(network, batch=batch)).ok

    (half,) = hub.save(model, tmp_path / "half.mlpackage", batch=(1, 4), precision="fp16")
    (before,) = [row for row in hub.check(model, half, inputs=images(network)).rows if row.kind == "before activation"]
    assert before.of_spread is not None
    assert before.of_spread <= HALF


@pytest.mark.parametrize("name", ["net.mlpackage", "net.mlmodel"])
def test_a_conversion_is_proved_and_says_how(name: str, tmp_path: Path) -> None:
    import keras

    x = keras.Input((17, 14, 3), name="image")
    y = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")(x)
    y = keras.layers.Dense(5, activation="softmax", name="probs")(keras.layers.GlobalAveragePooling2D(name="mean")(y))
    network = keras.Model(x, y)
    result = hub.convert(network, tmp_path / name)
    assert result.report is not None
    assert len([row for row in result.report.rows if row.verdict == "ok"]) == 4
    said = "\n".join(result.report.notes)
    assert "Not executed by Core ML" in said
    assert "(1) file" in said
    assert "(2) saved file through hub's reader" in said

    golden = tmp_path / "proof.npz"
    hub.check(network, result.paths[0], golden=golden)
    report = hub.check(golden, result.paths[0])
    assert report.ok
    assert len(report.rows) == 2


def test_a_file_with_other_numbers_is_found(tmp_path: Path) -> None:
    """One weight is changed in the file: the check sees it."""
    from coreml_nets import classifier

    (path,) = hub.save(classifier(), tmp_path / "net.mlpackage")
    assert hub.check(classifier(), path).ok
    weights = next(path.rglob("weight.bin"))
    data = bytearray(weights.read_bytes())
    data[-8:-4] = np.float32(9).tobytes()
    weights.write_bytes(bytes(data))
    assert hub.check(classifier(), path).mismatches


def test_a_file_that_is_damaged_proves_nothing(tmp_path: Path) -> None:
    from coreml_nets import classifier

    (path,) = hub.save(classifier(), tmp_path / "net.mlpackage")
    weights = next(path.rglob("weight.bin"))
    weights.write_bytes(weights.read_bytes()[:200])
    report = hub.check(classifier(), path)
    assert not report.ok
    assert "coremltools cannot read it again" in str(report.not_compared[0])


def test_what_apple_runs_is_not_available_elsewhere() -> None:
    import sys

    reason = find("coreml").available()
    assert (reason is None) == (sys.platform == "darwin")


def test_a_package_is_replaced_and_other_folders_are_not(tmp_path: Path) -> None:
    from coreml_nets import classifier

    (path,) = hub.save(classifier(), tmp_path / "net.mlpackage")
    (path / "old").write_text("of the one before")
    hub.save(classifier(), path)
    assert not (path / "old").exists()
    (tmp_path / "mine.mlpackage").mkdir()
    (tmp_path / "mine.mlpackage" / "letter").write_text("dear")
    with pytest.raises(hub.UsageError, match="is a directory"):
        hub.save(classifier(), tmp_path / "mine.mlpackage")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".hub-")] == []
