"""A model as a `.mlpackage` (an ML Program) or a `.mlmodel` (a neural network)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.coreml.library import coremltools
from exporters.coreml.lower import Lowering
from exporters.coreml.package import write_model, write_package
from exporters.coreml.ports import Ports
from exporters.coreml.target import legalize
from exporters.written import Written

if TYPE_CHECKING:
    from hub.model import Model

__all__ = ["write"]


def write(model: Model, dst: Path) -> Written:
    copied = model.ir.clone()
    program = dst.suffix.lower() != ".mlmodel"
    with coremltools() as library, tempfile.TemporaryDirectory(prefix="hub-") as folder:
        ports = Ports(copied, library)
        legalize(copied)
        target = library.ct.target.iOS16 if program else library.ct.target.iOS13
        prog = library.program()
        with library.function(ports.placeholders, opset_version=target) as function:
            emitter = Lowering(copied, library, target.value, ports.enter(function.inputs), program=program)
            tensors = emitter.run()
            outputs = ports.leave([tensor.var for tensor in tensors])
            emitter.finish(outputs)
            function.set_outputs(list(outputs.values()))
        prog.add_function("main", function)
        function.set_input_types(tuple(ports.types))
        pipeline = library.pipeline()
        pipeline.remove_passes({"common::add_fp16_cast", "common::add_int16_cast"})
        specification, _ = library.to_proto(
            prog,
            "milinternal",
            "mlprogram" if program else "neuralnetwork",
            library.registry,
            main_pipeline=pipeline,
            weights_dir=folder,
            specification_version=target.value,
            inputs=ports.types,
        )
        if program:
            write_package(dst, specification, Path(folder))
        else:
            write_model(dst, specification)
    return Written([dst], [])
