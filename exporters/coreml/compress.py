"""Weights in fewer bits, by coremltools.optimize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporters.coreml.library import Library
from hub.errors import UsageError

__all__ = ["COMPRESSIONS", "compressed", "need_version"]

COMPRESSIONS = {
    "int8": (7, "int8, one scale for each channel"),
    "int4": (9, "int4, one scale for each block of 32"),
    "palette8": (7, "a palette of 256 numbers"),
    "palette6": (7, "a palette of 64 numbers"),
    "palette4": (7, "a palette of 16 numbers"),
    "palette2": (7, "a palette of 4 numbers"),
    "palette1": (7, "a palette of 2 numbers"),
}
"""By name: the first specification version that has it, and what it is."""


def need_version(compress: str, version: int) -> None:
    """Raise UsageError unless there is such a compression for a deployment target."""
    if compress not in COMPRESSIONS:
        raise UsageError(f"compress={compress!r}; it is one of {', '.join(COMPRESSIONS)}")
    first = COMPRESSIONS[compress][0]
    if version < first:
        name = {7: "iOS16", 9: "iOS18"}[first]
        raise UsageError(f'compress={compress!r} needs minimum_deployment_target="{name}" or later')


def compressed(library: Library, package: Path, compress: str) -> tuple[Any, Path, Any]:
    """The specification and the folder of weights of a package with compressed weights.

    Returns:
        Both, and what has to be kept as long as they are used.
    """
    kit = library.ct.optimize.coreml
    model = library.ct.models.MLModel(str(package), skip_model_load=True)
    if compress.startswith("palette"):
        config = kit.OpPalettizerConfig(mode="uniform", nbits=int(compress.removeprefix("palette")))
        made = kit.palettize_weights(model, kit.OptimizationConfig(global_config=config))
    else:
        more = {"granularity": "per_block", "block_size": 32} if compress == "int4" else {}
        config = kit.OpLinearQuantizerConfig(mode="linear_symmetric", dtype=compress, **more)
        made = kit.linear_quantize_weights(model, kit.OptimizationConfig(global_config=config))
    return made.get_spec(), Path(made.weights_dir), made
