"""Names, after the walk: of functions and of weights, those of the source's layers and outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from exporters.cntk.functions import alias
from exporters.cntk.helpers import TRAINED
from exporters.cntk.lower import Lowering
from exporters.cntk.names import plain
from exporters.cntk.net import Call, Function, Group, Variable
from exporters.codegen.names import Code, unique

__all__ = ["finish"]

ACTIVATIONS = frozenset(
    [
        *(f"C.{name}" for name in "relu tanh sigmoid softplus softsign softmax elu exp selu".split()),
        "swish",
        "hard_swish",
    ]
)
SUFFIXES = (*TRAINED, "mean", "variance")
LAYERS = frozenset({"convolution", "convolution_transpose", "dense", "batch_normalization"})


def finish(emit: Lowering, outputs: Sequence[tuple[str, Variable]]) -> list[Variable]:
    """Name everything, and drop what no output needs; returns the variables of the outputs."""
    taken: set[str] = {v.name for v in emit.inputs}
    ends: dict[Variable, str] = {}
    results = []
    nameless = {v for call in emit.calls for v in call.results[1:]}
    for name, variable in outputs:
        own = plain(name)
        layer = next((layer for layer, exit_ in emit.exits.items() if exit_ is variable), None)
        other = variable.kind != "output" or variable in ends or variable in nameless
        if other or (layer is not None and plain(layer) != own):
            variable = alias(emit, variable)
        ends[variable] = unique(own, taken)
        results.append(variable)
    emit.calls[:] = _needed(emit.calls, results)
    kept = {emit.exits[layer] for layer in emit.exits} | set(results)
    emit.calls[:] = _merged(_swishes(emit.calls, kept), kept)
    _name(emit, ends, taken)
    emit.functions[:] = _reached(emit.functions, results)
    return results


def _variables(call: Call) -> Iterator[Variable]:
    for argument in [*call.arguments, *call.keywords.values()]:
        if isinstance(argument, Variable):
            yield argument


def _needed(calls: Sequence[Call], results: Iterable[Variable]) -> list[Call]:
    wanted = set(results)
    kept = []
    for call in reversed(calls):
        if wanted.intersection(call.results):
            wanted.update(_variables(call))
            kept.append(call)
    return kept[::-1]


def _reached(functions: Sequence[Function], results: Iterable[Variable]) -> list[Function]:
    wanted: set[Function] = set()
    waiting = [v.function for v in results]
    while waiting:
        function = waiting.pop()
        if function is not None and function not in wanted:
            wanted.add(function)
            waiting += [v.function for v in function.inputs]
    return [function for function in functions if function in wanted]


def _swishes(calls: Sequence[Call], kept: set[Variable]) -> list[Call]:
    """x * sigmoid(x) in one layer, which ONNX says in two nodes, as one call."""
    uses = Counter(v for call in calls for v in _variables(call))
    sigmoid = {call.results[0]: call for call in calls if call.function == "C.sigmoid" and not call.keywords}
    gone: set[Call] = set()
    result = []
    for call in calls:
        inner = next((sigmoid[v] for v in _variables(call) if v in sigmoid), None)
        product = call.function == "C.element_times" and inner is not None and inner.layer == call.layer
        if product and inner is not None and uses[inner.results[0]] == 1 and inner.results[0] not in kept:
            if {*call.arguments} == {inner.arguments[0], inner.results[0]}:
                gone.add(inner)
                call = Call("swish", [inner.arguments[0]], {}, call.results, call.layer)
        result.append(call)
    return [call for call in result if call not in gone]


def _merged(calls: Sequence[Call], kept: set[Variable]) -> list[Call]:
    """The activation of a layer as an argument of the call that it follows."""
    uses = Counter(v for call in calls for v in _variables(call))
    maker = {v: call for call in calls for v in call.results}
    result = []
    for call in calls:
        source = call.arguments[0] if call.arguments else None
        before = maker.get(source) if isinstance(source, Variable) else None
        if (
            before is not None
            and call.function in ACTIVATIONS
            and len(call.arguments) == 1
            and not call.keywords
            and before.function in LAYERS
            and before.layer == call.layer
            and uses[before.results[0]] == 1
            and before.results[0] not in kept
            and "activation" not in before.keywords
        ):
            before.keywords["activation"] = Code(call.function)
            before.results = call.results
            continue
        result.append(call)
    return result


def _name(emit: Lowering, ends: dict[Variable, str], taken: set[str]) -> None:
    exits: dict[Variable, str] = dict(ends)
    maker = {variable: call for call in emit.calls for variable in call.results}
    for layer, variable in emit.exits.items():
        call = maker.get(variable)
        if variable not in exits and variable.kind == "output" and call is not None and call.layer == layer:
            exits[variable] = unique(plain(layer), taken)
            emit.named[variable] = layer
    keys: set[str] = set()
    named: set[Group] = set()
    for call in emit.calls:
        own = exits.get(call.results[0], "")
        group = call.group
        if group is not None and group not in named:
            base = own or (f"{plain(group.layer)}.{group.role}" if group.layer else group.role)
            group.key = unique(base, keys)
            named.add(group)
            own = own or unique(group.key, taken)
        call.name = own
        if (function := call.results[0].function) is not None:
            function.name = own
    _name_weights(emit, named, keys)


def _name_weights(emit: Lowering, named: set[Group], keys: set[str]) -> None:
    """Groups that no call is named after have the names of their layers, their weights numbers where needed."""
    full = {f"{key}.{suffix}" for key in keys for suffix in SUFFIXES}
    for function in emit.functions:
        for variable in function.inputs:
            group = variable.group
            if group is None or group in named:
                continue
            if not group.key:
                group.key = plain(group.layer) if group.layer else "network"
            if not variable.name:
                key = unique(f"{group.key}.{variable.suffix}", full)
                variable.suffix = key[len(group.key) + 1 :]
                variable.name = key
