"""A model as a `.mlpackage` (an ML Program) or a `.mlmodel` (a neural network)."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hub
from exporters.coreml.audit import audit
from exporters.coreml.compress import COMPRESSIONS, compressed, need_version
from exporters.coreml.labels import labels_of
from exporters.coreml.library import Library, coremltools
from exporters.coreml.package import write_model, write_package
from exporters.coreml.ports import Ports, image_of
from exporters.coreml.precision import Chosen, clamp_masks
from exporters.coreml.shapes import decide
from exporters.coreml.specify import build, specify
from exporters.coreml.target import legalize
from exporters.written import Written
from hub.errors import UsageError

if TYPE_CHECKING:
    from hub.model import Model

__all__ = ["write"]

PROBABILITIES = "classLabel_probs"
"""What coremltools calls the probabilities of a classifier that is an ML Program."""

RECORD = "hub"
"""The key of the metadata under which a file says what a check has to know of its source."""


PRECISIONS = {"fp32": "float32", "fp16": "float16"}


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
    keep = _kept(precision, keep_float32)
    if not program and (precision == "fp16" or compress):
        raise UsageError("precision= and compress= are of ML Programs: write an .mlpackage")
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
        half = precision == "fp16"
        clamped = clamp_masks(copied).changed if half else []
        if clamped:
            notes.append(f"masks of very negative numbers are -30000 here, first in layer {clamped[0]!r}")
        built = build(library, copied, ports, target, program)
        ports.check(target.value)
        chosen = Chosen(keep, built.layers, built.types) if half else None
        if chosen is not None:
            chosen.check(built.program)
        classifier = None
        if labels is not None:
            found = ports.classify(len(labels), PROBABILITIES if program else "")
            classifier = library.ct.ClassifierConfig(list(labels), predicted_probabilities_output=found)
        weights = Path(folder, "weights")
        weights.mkdir()
        specification = specify(library, built, ports, target.value, program, chosen, classifier, weights)
        built.program = None  # which holds all weights, and is written
        if half:
            gc.collect()  # its operations hold each other, and what follows needs memory of its own
        notes += ports.said() + built.said + (chosen.said() if chosen is not None else [])
        if half:
            notes += audit(copied, {*keep, *(chosen.layers_kept if chosen is not None else ())}, sizes.ranges)
        names = ports.changed() | built.changed
        record = ports.interface() | {"layers": {name: {"holds": layer} for name, layer in built.held.items()}}
        record |= {"before": False} if clamped else {}  # what goes into a Softmax has other masks
        record |= {"precision": compress or PRECISIONS[precision]}
        about = {"author": author, "license": license, "shortDescription": description, "versionString": version}
        source: Any = None  # of compressed weights, as long as they are used
        if compress:
            plain = Path(folder, "plain.mlpackage")
            write_package(plain, specification, weights)
            specification, weights, source = compressed(library, plain, compress)
            notes.append(f"weights are {COMPRESSIONS[compress][1]}")
        _describe(specification, about, feature_descriptions, record)
        if program:
            write_package(dst, specification, weights)
        else:
            write_model(dst, specification)
        del source
    return Written([dst], notes, names)


def _kept(precision: str, keep: Any) -> list[str]:
    """The layers and operators that stay in float32."""
    if precision not in PRECISIONS:
        raise UsageError(f'precision={precision!r}; it is "fp32" or "fp16"')
    names = [keep] if isinstance(keep, str) else list(keep) if isinstance(keep, Iterable) else [keep]
    if not all(isinstance(name, str) for name in names):
        raise UsageError(f"keep_float32={keep!r}: a list of layers and ONNX operator types")
    if names and precision != "fp16":
        raise UsageError('keep_float32= is for precision="fp16"')
    return names


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
    if not isinstance(features, Mapping | None):
        raise UsageError(f"feature_descriptions={features!r}: by input or output, what it is: {{'image': 'a photo'}}")
    for name, text in (features or {}).items():
        if name not in ports:
            raise UsageError(f"feature_descriptions: there is no {name!r}; inputs and outputs are {', '.join(ports)}")
        ports[name].shortDescription = str(text)
    description.metadata.userDefined["com.github.onnx-hub.version"] = hub.__version__
    description.metadata.userDefined[RECORD] = json.dumps(record, sort_keys=True)
