"""Programs built with coremltools, saved, and read by hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hub
from hub.canonical import canonicalize, validate


def saved(
    build: Callable[..., Any],
    inputs: Mapping[str, tuple[Sequence[int | None], type]],
    path: Path,
    target: str = "iOS15",
    half: bool = False,
    **options: Any,
) -> Path:
    """Save the program `build(mb, **inputs)`; None in a shape is a size from 1 to 8."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Program, get_new_symbol, types

    version = getattr(ct.target, target)
    placeholders, features = {}, []
    for name, (shape, kind) in inputs.items():
        sizes = [get_new_symbol() if size is None else size for size in shape]
        placeholders[name] = mb.placeholder(shape=sizes, dtype=types.numpy_type_to_builtin_type(kind))
        if None in shape:
            ranges = [ct.RangeDim(1, 8) if size is None else size for size in shape]
            features.append(ct.TensorType(name=name, shape=ranges, dtype=kind))
    program = Program()
    with Function(placeholders, opset_version=version) as function:
        result = build(mb, **function.inputs)
        function.set_outputs(list(result) if isinstance(result, list | tuple) else [result])
        program.add_function("main", function)
    precision = ct.precision.FLOAT16 if half else ct.precision.FLOAT32
    if features:
        options["inputs"] = features
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=version,
        compute_precision=precision,
        skip_model_load=True,
        **options,
    )
    model.save(str(path))
    return path


def run(path: Path, arrays: Mapping[str, Any], **options: Any) -> list[np.ndarray]:
    """What hub's reading of a file gives; it is valid and canonical ONNX."""
    model = hub.load(path, **options)
    validate(model.ir)
    before = [node.op_type for node in model.ir.graph.all_nodes()]
    found = list(model.run(dict(arrays)).values())
    canonicalize(model.ir)
    assert [node.op_type for node in model.ir.graph.all_nodes()] == before
    return found
