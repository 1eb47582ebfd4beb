"""Walks a CNTK network in the order of its data and emits canonical ONNX."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hub.builder import GraphBuilder
from hub.errors import HubError, InvalidModel, Refusal, UnsupportedOps, UsageError
from hub.model import Model
from importers.cntk import ops  # noqa: F401  (registers the functions)
from importers.cntk.blocks import Form, Match, match
from importers.cntk.context import Context, Steps, Tensor
from importers.cntk.functions import BLOCK, COMBINE, Function, Network, Ref
from importers.cntk.inputs import Shapes, declare
from importers.cntk.loops import Loop
from importers.cntk.order import components, layers, uids
from importers.cntk.table import Said, bind, inputs_fit
from importers.cntk.weights import weight

__all__ = ["build"]


def build(network: Network, shapes: Shapes, outputs: Sequence[str], name: str) -> Model:
    """The canonical model of a network, or of what `outputs` need of it.

    Raises:
        UnsupportedOps: naming every function that is refused, all at once.
        InvalidModel: the network does not fit together.
        UsageError: one of `outputs` or `shapes` does not exist.
    """
    walker = Walker(network, name)
    chosen = {text: walker.find(text) for text in dict.fromkeys(outputs)} or walker.roots()
    walker.walk(list(chosen.values()), shapes)
    for text, ref in chosen.items():
        walker.output(text, ref)
    model = walker.builder.model()
    for node in reversed(list(model.graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            model.graph.remove(node, safe=True)
    unused = [key for key, value in model.graph.initializers.items() if not value.uses()]
    for key in unused:
        del model.graph.initializers[key]
    return Model(model, "cntk", walker.warnings)


class Walker:
    """One walk. `values`: what has been said so far; `weights`: the same of parameters and constants."""

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.forms: dict[str, tuple[Form, Match]] = {}
        self.builder = GraphBuilder(name)
        self.values: dict[Ref, Tensor | Steps] = {}
        self.weights: dict[Ref, Tensor] = {}
        self.warnings: list[str] = []
        self.refused: list[tuple[str, str, Refusal]] = []
        self.layers = layers(network)
        self.recognise()
        self.names = _names(network, self.layers)
        self.kinds = _kinds(network, self.layers)
        self.inside = False
        """Whether this is the body of a recurrence, where one step is said."""

    def recognise(self) -> None:
        """Find the blocks that one operator says; they are not looked through."""
        for function in self.network.functions.values():
            found = match(self.network, function) if function.op == BLOCK else None
            if found is not None:
                self.forms[function.uid] = found
        self.network.keep(self.forms)

    # -- what is wanted ------------------------------------------------------------------------------------

    def roots(self) -> dict[str, Ref]:
        """The outputs of the model by name: that of the function behind each, or else the output's unique one."""
        found: dict[str, Ref] = {}
        for value in (f"{self.network.root}_Output_{i}" for i in range(self.network.width(self._root()))):
            value = self._operand(value)
            owner, _ = self.network.output(value)
            name = value if owner is None else owner.name or owner.uid
            found[value if name in found else name] = self.network.source(value)
        if not found:
            raise InvalidModel("the model has no outputs")
        return found

    def _root(self) -> Function:
        return self.network.functions[self.network.root]

    def _operand(self, value: str) -> str:
        """A value itself, or the one that Combine passes on."""
        for _ in range(len(self.network.functions) + 1):
            owner, index = self.network.output(value)
            if owner is None or owner.op != COMBINE:
                return value
            value = owner.inputs[index]
        raise InvalidModel("the model's outputs wait for themselves")

    def find(self, name: str) -> Ref:
        """The output or function of that name.

        Raises:
            UsageError: there is none, or there are several.
        """
        roots = self.roots()
        if name in roots:
            return roots[name]
        named = [f for f in self.network.functions.values() if name in (f.name, f.uid)]
        if named or self.network.output(name)[0] is not None:
            refs = {self.network.source(f"{f.uid}_Output_0") for f in named} or {self.network.source(name)}
            if len(refs) == 1:
                return refs.pop()
            shown = ", ".join(f.uid for f in named[:5])
            raise UsageError(f"{len(named)} functions are called {name!r}; choose one by its unique name: {shown}")
        known = {f.name for f in self.network.functions.values() if f.name}
        near = difflib.get_close_matches(name, [*roots, *known], 5, 0.5)
        raise UsageError(f"there is no output or function {name!r}; near are {', '.join(near) or 'none'}")

    # -- the walk ------------------------------------------------------------------------------------------

    def walk(self, roots: Sequence[Ref], shapes: Shapes) -> None:
        """Declare the inputs, then say every function that is needed, after what it needs."""
        found = components(uids(roots), self.needs)
        needed = {uid for component in found for uid in component}
        refs = [ref for uid in needed for ref in self.sources(self.network.functions[uid])]
        self.values.update(declare(self.builder, self.network, {*refs, *roots}, shapes, self.warnings))
        for component in found:
            first = self.network.functions[component[0]]
            if len(component) > 1 or component[0] in self.needs(component[0]):
                self.loop([self.network.functions[uid] for uid in component], needed, roots)
            else:
                self.emit(first)
        if self.refused:
            raise UnsupportedOps.collect("The CNTK model cannot be converted:", self.refused)

    def needs(self, uid: str) -> list[str]:
        """The functions whose results a function takes."""
        return uids(self.sources(self.network.functions[uid]))

    def sources(self, function: Function) -> list[Ref]:
        """What the inputs of a function come from."""
        if function.uid in self.forms:
            return self.forms[function.uid][1].inputs
        return [self.network.source(value) for value in function.inputs]

    def value(self, ref: Ref) -> Tensor | Steps | None:
        """What is behind a value; None where that was refused."""
        if ref in self.values:
            return self.values[ref]
        if ref.index >= 0:
            return None
        if ref not in self.weights:
            self.weights[ref] = weight(self.builder, self.network.variables[ref.uid])
        return self.weights[ref]

    def emit(self, function: Function) -> None:
        """Say one function; what is refused, here or before it, is collected."""
        with self.blamed(function):
            said, attributes = self.bind(function)
            layer = self.layers.get(function.uid, function.uid)
            with self.builder.layer(layer, self.kinds.get(layer, function.kind)):
                inputs = [self.value(ref) for ref in self.sources(function)]
                if None in inputs:
                    return  # behind a refused function only its own attributes can be judged
                context = Context(self.builder, function, self.network, self.warnings, self.inside)
                context.check(inputs)
                context.require(inputs_fit(said, len(inputs)), f"{len(inputs)} inputs do not fit")
                result = said(context, *inputs, **attributes)
            results = list(result) if isinstance(result, list | tuple) else [result]
            context.check_results(results)
            self.keep(function, results)

    def bind(self, function: Function) -> tuple[Said, dict[str, Any]]:
        """The function that says it, and its attributes as keywords."""
        if function.uid not in self.forms:
            return bind(function)
        found, inside = self.forms[function.uid]
        return found.function, {"inside": inside}

    def keep(self, function: Function, results: Sequence[Tensor | Steps]) -> None:
        """Note what a function gives, and call it as the function, or the block around it, is called."""
        for index, tensor in enumerate(results):
            self.keep_at(Ref(function.uid, index), tensor)

    def keep_at(self, ref: Ref, tensor: Tensor | Steps) -> None:
        """Note one value, under its name; what is only one step of it leaves the name to the whole."""
        names = self.names.get(ref)
        if names and not self.inside and isinstance(tensor, Tensor) and tensor.value.producer() is not None:
            self.builder.rename(tensor.value, names[0])
        self.values[ref] = tensor

    @contextmanager
    def blamed(self, function: Function) -> Iterator[None]:
        """Refusals are collected, and errors name the function."""
        where = f"{function.label!r} ({function.kind})"
        try:
            yield
        except Refusal as refusal:
            layer = self.layers.get(function.uid, function.uid)
            self.refused.append((function.kind, layer[:200], refusal))
        except InvalidModel as error:
            raise error if where in str(error) else InvalidModel(f"{where}: {error}") from error
        except UsageError:
            raise
        except HubError as error:
            raise InvalidModel(f"{where}: {error}") from error
        except (ArithmeticError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise InvalidModel(f"{where}: its attributes are damaged: {error!r}"[:600]) from error

    def loop(self, functions: Sequence[Function], needed: set[str], roots: Sequence[Ref]) -> None:
        """Say functions that wait for each other: a recurrence over the steps of a sequence."""
        before = len(self.refused)
        for function in functions:
            with self.blamed(function):
                self.bind(function)
        if len(self.refused) > before:
            return
        own = {function.uid for function in functions}
        wanted = {ref for ref in roots if ref.uid in own}
        for uid in needed - own:
            wanted |= {ref for ref in self.sources(self.network.functions[uid]) if ref.uid in own and ref.index >= 0}
        head = next((f for f in functions if f.op in ("PastValue", "FutureValue")), functions[0])
        with self.blamed(head):
            Loop(self, functions).emit(sorted(wanted, key=lambda ref: (ref.uid, ref.index)))

    # -- the outputs ---------------------------------------------------------------------------------------

    def output(self, name: str, ref: Ref) -> None:
        """Make a value an output of the graph, under its name."""
        found = self.value(ref)
        if not isinstance(found, Tensor):
            raise UnsupportedOps.collect(
                "The CNTK model cannot be converted:",
                [(ref.uid, name, Refusal("it gives places of steps, not numbers", "give other outputs with outputs="))],
            )
        value = found.value
        taken = {other.name for other in self.builder.inputs} | set(self.builder.initializers)
        if name in taken:
            free = self.builder.unique(f"{name}/output")
            self.warnings.append(f"the output {name!r} is called {free!r}: an input or a weight has that name")
            name = free
        layer = self.layers.get(ref.uid, name)
        with self.builder.layer(layer, "Output"):
            result = self.builder.output(value, name)
        result.metadata_props.update(value.metadata_props)


def _kinds(network: Network, owners: Mapping[str, str]) -> dict[str, str]:
    """What each layer is: a kind of block, or a primitive function."""
    functions = sorted(network.functions.values(), key=lambda f: f.op == BLOCK)
    return {owners[f.uid]: f.kind for f in functions if owners.get(f.uid) in (f.name, f.uid)}


def _names(network: Network, owners: Mapping[str, str]) -> dict[Ref, list[str]]:
    """The names of functions and blocks by the value that each gives, its own first."""
    found: dict[Ref, list[str]] = {}
    functions = sorted(network.functions.values(), key=lambda f: f.op in (BLOCK, COMBINE))
    for function in functions:
        if function.name and function.uid in owners and owners[function.uid] == function.name:
            for index in range(network.width(function)):
                ref = network.source(f"{function.uid}_Output_{index}")
                name = function.name if index == 0 else f"{function.uid}_Output_{index}"
                found.setdefault(ref, []).append(name)
    return found
