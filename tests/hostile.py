"""Bad input is one clear error of the package, which names the file, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import hub

FIXTURES = Path(__file__).parent / "fixtures" / "keras"
Config = dict[str, Any]


def refused(src: Any, tmp_path: Path, *says: str, kind: type[hub.HubError] = hub.InvalidModel, **options: Any) -> str:
    """Converting `src` is this error, says all this, names the file, and leaves nothing beside the destination."""
    out = tmp_path / "destination"
    out.mkdir(exist_ok=True)
    with pytest.raises(hub.HubError) as caught:
        hub.convert(src, out / "model.onnx", check=False, **options)
    message = str(caught.value)
    assert type(caught.value) is kind, f"{type(caught.value).__name__}: {message}"
    path = src if isinstance(src, Path) else src[0]
    assert path.name in message or kind is hub.UnsupportedOps
    assert len(message) < 1500
    for text in says:
        assert text in message, message
    assert list(out.iterdir()) == []
    return message


def bounded(src: Path, tmp_path: Path) -> None:
    """Loading is an error of the package or succeeds; nothing else, and nothing is left behind."""
    out = tmp_path / "destination"
    out.mkdir(exist_ok=True)
    try:
        hub.save(hub.load(src), out / "model.onnx")
    except hub.HubError as error:
        message = str(error)
    else:
        message = ""
        (out / "model.onnx").unlink()
    assert len(message) < 1500
    assert list(out.iterdir()) == []
