"""A model as a `.mlpackage` (an ML Program) or a `.mlmodel` (a neural network)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

import hub
from exporters.coreml.audit import audit
from exporters.coreml.compress import COMPRESSIONS, compressed, need_version
from exporters.coreml.labels import labels_of
from exporters.coreml.library import Library, coremltools
from exporters.coreml.lower import BUILDER_ERRORS, Lowering
from exporters.coreml.package import write_model, write_package
from exporters.coreml.ports import CLASS, Ports, image_of
from exporters.coreml.precision import Chosen, clamp_masks
from exporters.coreml.shapes import decide
from exporters.coreml.target import HALF, PASSES, PROGRAM_ONLY, legalize
from exporters.written import Written
from hub.errors import HubError, UsageError

if TYPE_CHECKING:
    from hub.model import Model

__all__ = ["write"]

HALF_NAME = "_cast_fp16"
"""What coremltools puts behind the names of what computes in half precision."""

PROBABILITIES = "classLabel_probs"
"""What coremltools calls the probabilities of a classifier that is an ML Program."""

RECORD = "hub"
"""The key of the metadata under which a file says what a check has to know of its source."""


def write(
    model: Model,
    dst: Path,
    *,
    precision: str = "fp32",
    keep_float32: Sequence[str] = (),
    minimum_deployment_target: str | None = None,
    shapes: Mapping[str, Any] | None = None,
    batch: Any = None,
    image_input: str | bool | None = None,
    scale: float = 1.0,
    bias: float | Sequence[float] | None = None,
    color_layout: str = "RGB",
    class_labels: str | Sequence[str] | Sequence[int] | None = None,
    compress: str | None = None,
    author: str | None = None,
    license: str | None = None,
    description: str | None = None,
    version: str | None = None,
    feature_descriptions: Mapping[str, str] | None = None,
) -> Written:
    """Write an ML Program to `dst` or, if that ends in `.mlmodel`, a neural network.

    Args:
        model: float32, or with float16 in it.
        dst: `.mlpackage` or `.mlmodel`.
        precision: "fp32", or "fp16": everything but `keep_float32`, and what float16 cannot hold, in half precision.
        keep_float32: layers and ONNX operator types that stay in float32 with "fp16".
        minimum_deployment_target: "iOS16" and so on, as in `coremltools.target`; "iOS16", for `.mlmodel` "iOS13".
        shapes: by input, a list of sizes: numbers, or pairs (smallest, largest); or a list of such lists of numbers,
            the usual one first, of which each is a shape that the model takes.
        batch: the first size of every input that leaves it open, in the same way: N, (smallest, largest), [N, M].
        image_input: the input that is an image (True: the only one).
        scale, bias: of the pixels p of the image, 0 to 255, the network gets p * scale + bias; one bias, or one for
            each channel.
        color_layout: "RGB", "BGR" or "GRAYSCALE".
        class_labels: labels, or the path of a text file with one a line: the model is a classifier.
        compress: how to keep weights in fewer bits: "int8", "int4", "palette8", ... "palette1".
        author, license, description, version: what Xcode shows of the model.
        feature_descriptions: by input or output, what it is.

    Raises:
        UnsupportedOps: listing everything that Core ML cannot say exactly.
        UsageError: an option has a value that it cannot have.
    """
    program = dst.suffix.lower() != ".mlmodel"
    if precision not in ("fp32", "fp16"):
        raise UsageError(f'precision={precision!r}; it is "fp32" or "fp16"')
    if not program and (precision == "fp16" or compress):
        raise UsageError("precision= and compress= are of ML Programs: write an .mlpackage")
    if keep_float32 and precision != "fp16":
        raise UsageError('keep_float32= is for precision="fp16"')
    copied = model.ir.clone()
    image = image_of(copied, image_input, scale, bias, color_layout)
    sizes = decide(copied, shapes, 1 if image is not None and batch is None else batch)
    labels = labels_of(class_labels)
    notes = list(sizes.notes)
    with coremltools() as library, tempfile.TemporaryDirectory(prefix="hub-") as folder:
        target = _target(library, minimum_deployment_target, program)
        if compress:
            need_version(compress, target.value)
        ports = Ports(copied, library, sizes, image, program=program)
        legalize(copied)
        half, before = precision == "fp16", True
        if half:
            clamped = clamp_masks(copied).changed
            before = not clamped
            notes += (
                [f"masks of very negative numbers are -30000 here, first in layer {clamped[0]!r}"] if clamped else []
            )
        built = _build(library, copied, ports, target, program)
        ports.check(target.value)
        chosen = Chosen(keep_float32, built.layers, built.types) if half else None
        if chosen is not None:
            chosen.check(built.program)
        classifier = None
        if labels is not None:
            found = ports.classify(len(labels), PROBABILITIES if program else "")
            classifier = library.ct.ClassifierConfig(list(labels), predicted_probabilities_output=found)
        weights = Path(folder, "weights")
        weights.mkdir()
        specification = _specify(library, built, ports, target.value, program, chosen, classifier, weights)
        notes += ports.said() + built.said + (chosen.said() if chosen is not None else [])
        if half:
            notes += audit(copied, {*keep_float32, *(chosen.layers_kept if chosen is not None else ())}, sizes.ranges)
        names = ports.changed() | {layer: n for n, layer in built.held.items() if not layer.endswith(f"/{n}")}
        record = ports.interface() | {"layers": {name: {"holds": layer} for name, layer in built.held.items()}}
        record |= {} if before else {"before": False}  # what goes into a Softmax has other masks
        record |= {"precision": compress or {"fp32": "float32", "fp16": "float16"}[precision]}
        about = {"author": author, "license": license, "shortDescription": description, "versionString": version}
        if not program:
            _describe(specification, about, feature_descriptions, record)
            write_model(dst, specification)
            return Written([dst], notes, names)
        held: Any = None
        if compress:
            plain = Path(folder, "plain.mlpackage")
            write_package(plain, specification, weights)
            specification, weights, held = compressed(library, plain, compress)
            notes.append(f"weights are {COMPRESSIONS[compress][1]}")
        _describe(specification, about, feature_descriptions, record)
        write_package(dst, specification, weights)
        del held
    return Written([dst], notes, names)


@dataclass
class Built:
    """A program of MIL; `layers` and `types` are the source's layer and the operator of its operations by name, `held`
    the layers that leave under another name."""

    program: Any
    layers: dict[str, str]
    types: dict[str, str]
    said: list[str]
    held: dict[str, str]


def _target(library: Library, name: str | None, program: bool) -> Any:
    """The deployment target called so."""
    usual = "iOS16" if program else "iOS13"
    found = library.ct.target.__members__.get(name or usual)
    if found is None:
        raise UsageError(
            f"minimum_deployment_target={name!r}; it is iOS15, iOS16, ... or macOS12, ... as in coremltools"
        )
    if program and found.value < 6:
        raise UsageError(f"minimum_deployment_target={name!r}: ML Programs begin with iOS15; write an .mlmodel")
    return found


def _build(library: Library, model: ir.Model, ports: Ports, target: Any, program: bool) -> Built:
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


def _specify(
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
    built.program.functions["main"].set_input_types(tuple(ports.types))  # of which one may be an image
    left = {*([HALF] if chosen is None else []), *([] if program else PROGRAM_ONLY)}
    pipeline = library.pipeline([name for name in PASSES if name not in left], "hub")
    if chosen is not None:
        pipeline._pass_options[HALF] = [library.option(option_name="op_selector", option_val=chosen)]
    try:
        library.passes.apply_pipeline(built.program, pipeline)
        if chosen is not None:
            _keep_names(built.program)
        specification, _ = library.converter.mil_convert_to_proto(
            built.program,
            "milinternal",
            "mlprogram" if program else "neuralnetwork",
            library.converter.ConverterRegistry,
            main_pipeline=library.pipeline([], "done"),
            weights_dir=str(folder),
            specification_version=version,
            classifier_config=classifier,
        )
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


def _describe(
    specification: Any,
    about: Mapping[str, str | None],
    features: Mapping[str, str] | None,
    record: Mapping[str, Any],
) -> None:
    """Put in what people, and a check, read of a model."""
    description = specification.description
    for field, text in about.items():
        if text is not None:
            setattr(description.metadata, field, str(text))
    ports = {feature.name: feature for feature in [*description.input, *description.output]}
    for name, text in (features or {}).items():
        if name not in ports:
            raise UsageError(f"feature_descriptions: there is no {name!r}; inputs and outputs are {', '.join(ports)}")
        ports[name].shortDescription = str(text)
    description.metadata.userDefined["com.github.onnx-hub.version"] = hub.__version__
    description.metadata.userDefined[RECORD] = json.dumps(record, sort_keys=True)
