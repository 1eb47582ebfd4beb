"""A specification and its weights as a file or a package, the same bytes for the same model."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from hub.errors import HubError

__all__ = ["write_model", "write_package"]

LARGEST = (1 << 31) - 1
"""Bytes of a message of Protocol Buffers."""

AUTHOR = "com.apple.CoreML"
SPECIFICATION = f"{AUTHOR}/model.mlmodel"
WEIGHTS = f"{AUTHOR}/weights"


def write_model(dst: Path, specification: Any) -> None:
    """A `.mlmodel`.

    Raises:
        HubError: it is larger than its format can be.
    """
    if specification.ByteSize() >= LARGEST:
        raise HubError("a neural network above 2 GB, which its format does not hold: write an .mlpackage")
    dst.write_bytes(specification.SerializeToString(deterministic=True))


def write_package(dst: Path, specification: Any, weights: Path) -> None:
    """A `.mlpackage`: a folder with a manifest, the specification and the folder of weights.

    The items of a manifest are called by UUIDs; here these come from what is in them.
    """
    data = dst / "Data"
    (data / AUTHOR).mkdir(parents=True)
    content = specification.SerializeToString(deterministic=True)
    (data / SPECIFICATION).write_bytes(content)
    shutil.move(str(weights), data / WEIGHTS)
    (data / WEIGHTS).chmod(0o755)  # of a temporary folder, only its owner could read it
    root = str(uuid.uuid5(uuid.NAMESPACE_OID, content.hex())).upper()
    beside = str(uuid.uuid5(uuid.UUID(root), WEIGHTS)).upper()
    entries = {
        root: {"author": AUTHOR, "description": "CoreML Model Specification", "name": "model.mlmodel"},
        beside: {"author": AUTHOR, "description": "CoreML Model Weights", "name": "weights"},
    }
    entries[root]["path"], entries[beside]["path"] = SPECIFICATION, WEIGHTS
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": root}
    (dst / "Manifest.json").write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", encoding="utf-8")
