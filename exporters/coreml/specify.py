"""A graph as a program of MIL, and the program as a specification, by the passes of coremltools."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from exporters.coreml.library import Library
from exporters.coreml.lower import BUILDER_ERRORS, Lowering
from exporters.coreml.ports import Ports
from exporters.coreml.precision import Chosen
from exporters.coreml.target import HALF, PASSES, PROGRAM_ONLY
from hub.errors import HubError

__all__ = ["Built", "build", "specify"]

HALF_NAME = "_cast_fp16"
"""What coremltools puts behind the names of what computes in half precision."""

CLASS = "classLabel"
"""What it calls the label that a classifier gives."""


@dataclass
class Built:
    """A program of MIL; `layers` and `types` are the source's layer and the operator of its operations by name, `held`
    the layers that leave under another name."""

    program: Any
    layers: dict[str, str]
    types: dict[str, str]
    said: list[str]
    held: dict[str, str]

    @property
    def changed(self) -> dict[str, str]:
        """The names of layers that leave under another one, by those of the source."""
        return {layer: name for name, layer in self.held.items() if not layer.endswith(f"/{name}")}


def build(library: Library, model: ir.Model, ports: Ports, target: Any, program: bool) -> Built:
    """The walk over the graph, inside of a function of MIL."""
    library.converter._reset_conversion_state()  # names count from the beginning
    prog = library.program()
    with library.function(ports.placeholders, opset_version=target) as function:
        emitter = Lowering(model, library, target.value, ports.enter(function.inputs), program=program)
        outputs = ports.leave(emitter.run())
        held = emitter.finish(outputs)
        function.set_outputs(list(outputs.values()))
    _count_on(library.builder.name_count, emitter.taken)
    prog.add_function("main", function)
    return Built(prog, emitter.layers, emitter.types, emitter.said(), held)


def _count_on(counts: dict[str, int], names: Iterable[str]) -> None:
    """What coremltools names by itself, such as cast_1, gets numbers beyond those in use."""
    for name in names:
        kind, _, number = name.rpartition("_")
        if number.isdecimal() and len(number) < 10:
            counts[kind] = max(counts[kind], int(number) + 1)


def specify(
    library: Library,
    built: Built,
    ports: Ports,
    version: int,
    program: bool,
    chosen: Chosen | None,
    classifier: Any,
    folder: Path,
) -> Any:
    """The specification of a program; weights are written into `folder`."""
    if not program and not ports.inputs:
        raise HubError("a neural network of Core ML takes one input at least, and this model none: write an .mlpackage")
    built.program.functions["main"].set_input_types(tuple(ports.types))  # of which one may be an image
    left = {*([HALF] if chosen is None else []), *([] if program else PROGRAM_ONLY)}
    pipeline = library.pipeline([name for name in PASSES if name not in left], "hub")
    if chosen is not None:
        pipeline._pass_options[HALF] = [library.option(option_name="op_selector", option_val=chosen)]
    try:
        library.passes.apply_pipeline(built.program, pipeline)
        if chosen is not None:
            _keep_names(built.program)
        specification, written = library.converter.mil_convert_to_proto(
            built.program,
            "milinternal",
            "mlprogram" if program else "neuralnetwork",
            library.converter.ConverterRegistry,
            main_pipeline=library.pipeline([], "done"),
            weights_dir=str(folder),
            specification_version=version,
            classifier_config=classifier,
        )
        library.validate(written)
        _same_shapes(built.program, ports)
    except BUILDER_ERRORS as error:
        text = " ".join(str(error).split())[:400]
        what = "an ML Program" if program else "a neural network"
        raise HubError(f"coremltools cannot write this model as {what}: {type(error).__name__}: {text}") from error
    made = [feature.name for feature in specification.description.output if feature.name != CLASS]
    if set(made) != set(ports.outputs):
        raise HubError(f"coremltools calls the outputs {', '.join(made)} in place of {', '.join(ports.outputs)}")
    return specification


def _keep_names(program: Any) -> None:
    """Take from names what half precision puts behind them, where nothing else has the name."""
    operations = program.functions["main"].operations
    taken = {var.name for op in operations for var in op.outputs}
    for op in operations:
        for var in op.outputs:
            name = var.name.removesuffix(HALF_NAME)
            if name not in taken:
                taken.add(name)
                var.name = name
                if len(op.outputs) == 1:
                    op.name = name


def _same_shapes(program: Any, ports: Ports) -> None:
    """Raise HubError if the passes of coremltools changed the number of axes, or a known size, of an output."""
    given = program.functions["main"].outputs
    if len(given) != len(ports.outputs):
        return  # a classifier: what it gives is made of them
    for var, (name, value) in zip(given, ports.outputs.items(), strict=True):
        shape = list(value.shape) if value.shape is not None else None
        if shape is None:
            continue
        sizes = [int(size) if str(size).isdigit() else None for size in var.shape]
        clash = any(isinstance(a, int) and b is not None and a != b for a, b in zip(shape, sizes, strict=False))
        if len(sizes) != len(shape) or clash:
            raise HubError(f"the passes of coremltools made the output {name!r} {list(var.shape)} in place of {shape}")
