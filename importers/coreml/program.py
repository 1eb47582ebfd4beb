"""Walks an ML Program, operation by operation, and emits canonical ONNX."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
from google.protobuf.message import DecodeError

from hub.builder import GraphBuilder
from hub.errors import HubError, InvalidModel, Refusal, UnsupportedOps, UsageError
from hub.model import Model, select_outputs
from hub.schemas import messages
from importers.coreml import ops  # noqa: F401  (registers them)
from importers.coreml.bundle import Bundle
from importers.coreml.constants import Const, constant
from importers.coreml.context import Mil
from importers.coreml.interface import Shapes, declare, describe, interface
from importers.coreml.table import HINT, OPS, REFUSED, bind
from importers.coreml.types import FP16, Declared, declared

__all__ = ["Walker", "build"]

SYSTEMS = {"CoreML3": "iOS13", "CoreML4": "iOS14", "CoreML5": "iOS15", "CoreML6": "iOS16", "CoreML7": "iOS17",
           "CoreML8": "iOS18", "CoreML9": "iOS26"}  # fmt: skip

MOST_DEPTH = 32
"""Blocks inside of blocks."""


def build(bundle: Bundle, shapes: Shapes, outputs: Sequence[str], function: str | None, fp16: str) -> Model:
    """The canonical model of one function of an ML Program, or of what `outputs` need of it.

    Raises:
        UnsupportedOps: naming every operation that is refused, all at once.
        InvalidModel: the program does not fit together.
        UsageError: there is no such function, input or output.
    """
    try:
        program = messages("mil").Program.FromString(bundle.model.mlProgram)
    except DecodeError as error:
        raise InvalidModel(f"the program in {bundle.file.name} is damaged: {error}") from error
    name = _function(program, bundle, function)
    found = program.functions[name]
    if found.opset not in found.block_specializations:
        raise InvalidModel(f"the function {name[:100]!r} has no block for its opset {found.opset[:40]!r}")
    walker = Walker(bundle, fp16, name if name != "main" else bundle.path.stem)
    features = interface(bundle.model.description, name)
    walker.function(found, features, shapes, outputs)
    model = walker.builder.model()
    for node in reversed(list(model.graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            model.graph.remove(node, safe=True)
    for key in [key for key, value in model.graph.initializers.items() if not value.uses()]:
        del model.graph.initializers[key]
    describe(model, bundle.model.description, features)
    model.metadata_props.update(walker.metadata)
    if outputs:
        select_outputs(model, outputs)
    system = SYSTEMS.get(found.opset, found.opset)
    return Model(model, "coreml", walker.warnings, variant=f"ML Program, {system}")


def _function(program: Any, bundle: Bundle, wanted: str | None) -> str:
    """The function to read."""
    names = sorted(program.functions)
    if wanted is not None:
        if wanted not in names:
            near = difflib.get_close_matches(wanted, names, 3, 0.3)
            raise UsageError(f"there is no function {wanted!r}; there are {', '.join(near or names[:5])}")
        return wanted
    default = bundle.model.description.defaultFunctionName or "main"
    if default in names:
        return str(default)
    if len(names) == 1:
        return str(names[0])
    if not names:
        raise InvalidModel("the program has no functions")
    raise UsageError(f"the program has the functions {', '.join(names[:8])}: choose one with function=")


class Walker:
    """One walk. `values`: what has been said so far, by its name in the program; None behind what is refused."""

    def __init__(self, bundle: Bundle, fp16: str, name: str) -> None:
        self.bundle = bundle
        self.upcast, self.emulate = fp16 != "keep", fp16 == "emulate"
        self.builder = GraphBuilder(name)
        self.values: dict[str, Any] = {}
        self.given: dict[tuple[Const, int], ir.Value] = {}
        """Constants that are in the graph; those that a node gives are in the graph, or body, of that number."""
        self.named: set[ir.Value] = set()
        """Results that have the names that they have in the program."""
        self.wanted: set[str] = set()
        """The outputs, whose names no constant takes."""
        self.warnings: list[str] = []
        self.metadata: dict[str, str] = {}
        self.refused: list[tuple[str, str, Refusal]] = []
        self.depth = 0

    # -- one function --------------------------------------------------------------------------------------

    def function(self, function: Any, features: Any, shapes: Shapes, outputs: Sequence[str]) -> None:
        """Declare the inputs, say all operations that are needed, and give the outputs out."""
        block = function.block_specializations[function.opset]
        self.values.update(declare(self, function.inputs, features, shapes))
        wanted = [*self.chosen(block, outputs)] if outputs else list(dict.fromkeys(block.outputs))
        self.wanted.update(wanted)
        for operation in needed(block.operations, wanted):
            self.operation(operation)
        if self.refused:
            raise UnsupportedOps.collect(f"{self.bundle.path}: the ML Program cannot be converted:", self.refused)
        if not wanted:
            raise InvalidModel("the program has no outputs")
        taken = {value.name for value in self.builder.inputs}
        for name in wanted:
            said = self.argument(name)
            if said is None:
                continue  # the label of a classifier
            found = self.value(said)
            with self.builder.layer(name, "output"):
                if name in taken:
                    found = self.builder.op("Identity", found, name="output")
                    self.warnings.append(f"the output {name!r} is called {found.name!r}: an input has that name")
                    name = found.name or name
                self.builder.output(found, name)

    def chosen(self, block: Any, outputs: Sequence[str]) -> Iterator[str]:
        """The values that `outputs` name, by their own names or those of their operations."""
        by_layer: dict[str, str] = {}
        for operation in block.operations:
            for out in operation.outputs:
                by_layer.setdefault(out.name, out.name)
            if operation.outputs:
                by_layer.setdefault(label(operation), operation.outputs[0].name)
        for name in outputs:
            if name not in by_layer:
                near = difflib.get_close_matches(name, by_layer, 5, 0.5)
                raise UsageError(f"there is no output or layer {name!r}; near are {', '.join(near) or 'none'}")
            yield by_layer[name]

    # -- one operation -------------------------------------------------------------------------------------

    def block(self, block: Any, given: Mapping[str, Any]) -> list[Any]:
        """Say a block inside of an operation, with these values for its inputs; what its outputs are."""
        if self.depth >= MOST_DEPTH:
            raise Refusal(f"there are more than {MOST_DEPTH} blocks in each other")
        outer, self.values = self.values, {**self.values, **given}
        self.depth += 1
        try:
            for operation in needed(block.operations, block.outputs):
                self.operation(operation)
            return [self.argument(name) for name in block.outputs]
        finally:
            self.values = outer
            self.depth -= 1

    def operation(self, operation: Any) -> None:
        """Say one operation; what is refused, here or before it, is collected."""
        name, kind = label(operation), operation.type
        if kind == "const":
            with self.blamed(name, kind):
                self.const(operation)
            return
        with self.blamed(name, kind):
            given = self.arguments(operation)
            self.announce(operation)
            types = [declared(out.type) for out in operation.outputs]
            mil = Mil(self, operation, kind, name, types)
            said = OPS.get(kind)
            if said is None:
                raise Refusal(REFUSED.get(kind, "this operation is not supported"), HINT)
            if any(one is None for arguments in given.values() for one in arguments):
                return  # behind a refused operation
            keywords = bind(said, given, self.value)
            with self.builder.layer(name, kind):
                result = said(mil, **keywords)
                results = list(result) if isinstance(result, list | tuple) else [result]
                mil.require(len(results) >= len(operation.outputs), f"{len(operation.outputs)} results")
                for out, one, declaration in zip(operation.outputs, results, types, strict=False):
                    self.values[out.name] = self.keep(mil, out.name, one, declaration)

    def announce(self, operation: Any) -> None:
        """Its results are refused, until they are said."""
        for out in operation.outputs:
            if out.name in self.values:
                raise InvalidModel(f"there are two values called {out.name[:100]!r}")
            self.values[out.name] = None

    def const(self, operation: Any) -> None:
        """Note a constant; it becomes part of the graph where it is used."""
        self.announce(operation)
        if len(operation.outputs) != 1 or "val" not in operation.attributes:
            raise InvalidModel("it has no value")
        out = operation.outputs[0]
        self.values[out.name] = constant(operation.attributes["val"], self.bundle, out.name)

    def arguments(self, operation: Any) -> dict[str, list[Any]]:
        """What the inputs and the attributes of an operation are."""
        found: dict[str, list[Any]] = {}
        for key, message in operation.attributes.items():
            if key != "name":
                found[key] = [constant(message, self.bundle, f"{label(operation)}_{key}")]
        for key, argument in operation.inputs.items():
            if key in found:
                raise InvalidModel(f"its {key[:60]!r} is given twice")
            found[key] = []
            for binding in argument.arguments:
                if binding.WhichOneof("binding") == "value":
                    found[key].append(constant(binding.value, self.bundle, f"{label(operation)}_{key}"))
                else:
                    found[key].append(self.argument(binding.name))
        return found

    def argument(self, name: str) -> Any:
        """What has been said under a name; None where that was refused."""
        if name not in self.values:
            raise InvalidModel(f"there is no value {name[:100]!r} at this place")
        return self.values[name]

    def value(self, found: Any) -> ir.Value:
        """A value of the graph: constants become one when they are first used."""
        if not isinstance(found, Const):
            assert isinstance(found, ir.Value)
            return found
        key = (found, 0 if found.emit is None else id(self.builder))
        if key not in self.given:
            made = found.emit(self.builder) if found.emit is not None else None
            name = f"{found.name}/value" if found.name in self.wanted else found.name
            self.given[key] = made or self.builder.constant(found.tensor(self.upcast), name)
        return self.given[key]

    def keep(self, mil: Mil, name: str, found: Any, declaration: Declared | None) -> Any:
        """Note a result under its name: of the type that the program says, of the shape that it says."""
        if isinstance(found, Const) or declaration is None or found is None:
            return found
        assert isinstance(found, ir.Value)
        found = mil.cast(found, mil.result_type(mil.types.index(declaration)))
        if self.emulate and declaration.dtype == FP16:
            found = mil.op("Cast", mil.op("Cast", found, to=int(ir.DataType.FLOAT16)), to=int(ir.DataType.FLOAT))
        if found.producer() is None or found in self.named:
            found = mil.op("Identity", found)
        self.named.add(found)
        _agree(found, declaration)
        self.builder.rename(found, name)
        return found

    @contextmanager
    def blamed(self, name: str, kind: str) -> Iterator[None]:
        """Refusals are collected, and errors name the operation."""
        where = f"{name[:100]!r} ({kind[:60]})"
        try:
            yield
        except Refusal as refusal:
            self.refused.append((kind[:60], name[:100], refusal))
        except InvalidModel as error:
            raise error if where in str(error) else InvalidModel(f"{where}: {error}") from error
        except UsageError:
            raise
        except HubError as error:
            raise InvalidModel(f"{where}: {str(error)[:600]}") from error
        except (ArithmeticError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError) as error:
            raise InvalidModel(f"{where}: its arguments are damaged: {error!r}"[:600]) from error


def _agree(value: ir.Value, declaration: Declared) -> None:
    """Give a value the sizes that the program says; where ONNX finds others, one of them is wrong."""
    if declaration.shape is None:
        return
    if value.shape is None:
        value.shape = ir.Shape([size or None for size in declaration.shape])
        return
    found = [size if isinstance(size, int) else None for size in value.shape]
    # A size of 0 is what coremltools writes where a reshape keeps an open one.
    shape = [size or None for size in declaration.shape]
    if len(found) != len(shape) or any(None not in (a, b) and a != b for a, b in zip(found, shape, strict=True)):
        raise Refusal(f"its result would have the shape {_shown(found)}, the program says {_shown(declaration.shape)}")
    merged = [size if said is None else said for size, said in zip(value.shape, shape, strict=True)]
    value.shape = ir.Shape(merged)


def _shown(shape: Iterable[int | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "of a scalar"


def label(operation: Any) -> str:
    """The name of an operation: its own, or that of its first result."""
    if "name" in operation.attributes:
        strings = operation.attributes["name"].immediateValue.tensor.strings.values
        if len(strings) == 1 and strings[0]:
            return str(strings[0])
    return str(operation.outputs[0].name) if operation.outputs else str(operation.type)


def needed(operations: Sequence[Any], outputs: Iterable[str]) -> list[Any]:
    """The operations that these values are computed with, in their order; only states have side effects in MIL."""
    wanted, found = set(outputs), []
    for operation in reversed(operations):
        if any(out.name in wanted for out in operation.outputs) or not operation.outputs:
            found.append(operation)
            wanted |= _taken(operation)
    return found[::-1]


def _taken(operation: Any) -> set[str]:
    """The names that an operation, and the blocks inside of it, use."""
    names, waiting = set(), [operation]
    while waiting:
        one = waiting.pop()
        names |= {b.name for a in one.inputs.values() for b in a.arguments if b.WhichOneof("binding") == "name"}
        for block in one.blocks:
            names |= set(block.outputs)
            waiting += block.operations
    return names
