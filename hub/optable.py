"""OpTable: op name -> plain function, bound by the ONNX schema.

An exporter's op is one plain named function. Its first parameter is the target's emitter, the
positional ones after it are the inputs of the ONNX schema (as `onnx_ir.Value` or None where an
optional input is absent; `*inputs` for a variadic one), the keyword-only ones its attributes, as
Python values. The binder fills in the schema's defaults and refuses what the function does not
name, so an attribute, an input or an output can be unsupported but never silently dropped:

    ops = OpTable("torch")

    @ops("Relu")
    def relu(emit, x): ...

    @ops("Softmax", since=13)
    def softmax(emit, x, *, axis): ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
import onnx_ir as ir

from hub.errors import InvalidModel, Refusal

__all__ = ["Bound", "OpTable", "attribute_value", "bind_attributes", "defaults", "parameters_of", "type_string"]

_ABSENT = object()

SWITCHES = frozenset(
    """allowzero ceil_mode count_include_pad detect_negative detect_positive exclusive fmod keepdims
    noop_with_empty_axes reverse saturate select_last_index training_mode transA transB upper""".split()
)
"""Attributes of operators that are 0 or 1; runtimes differ on what other numbers mean."""


@dataclass(frozen=True)
class Entry:
    """One registered function: it holds from `since` on, and produces the first `outputs` outputs."""

    op: str
    domain: str
    since: int
    outputs: int
    function: Callable[..., Any]


@dataclass(frozen=True)
class Bound:
    """A node bound to its function: `function(emitter, *inputs, **attributes)`."""

    function: Callable[..., Any]
    inputs: list[ir.Value | None]
    attributes: dict[str, Any]

    def __call__(self, emitter: Any) -> Any:
        return self.function(emitter, *self.inputs, **self.attributes)


class OpTable:
    """The ops that one target can say. Lookup is by floor of the since-version, never exact.

    `reasons`: why there is none of an op, where more can be said than that there is no form of it yet.
    """

    def __init__(self, target: str, reasons: Mapping[str, str] | None = None) -> None:
        self.target = target
        self.reasons = dict(reasons or {})
        self._entries: dict[tuple[str, str], list[Entry]] = {}

    def __call__(
        self, *names: str, since: int = 1, domain: str = "", outputs: int = 1
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a function for one or several ops; a second registration is an error."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            for name in names:
                entries = self._entries.setdefault((domain, name), [])
                if any(entry.since == since for entry in entries):
                    raise ValueError(f"{self.target}: {name} since {since} is registered twice")
                entries.append(Entry(name, domain, since, outputs, function))
                entries.sort(key=lambda entry: entry.since)
            return function

        return register

    def __iter__(self) -> Iterator[Entry]:
        for key in sorted(self._entries):
            yield from self._entries[key]

    def find(self, domain: str, name: str, version: int) -> Entry | None:
        """The entry with the highest `since` not above `version`."""
        entries = self._entries.get(("" if domain == "ai.onnx" else domain, name), [])
        return max((e for e in entries if e.since <= version), key=lambda e: e.since, default=None)

    def bind(self, node: ir.Node, opset: int) -> Bound:
        """Bind a node of a model whose opset for the node's domain is `opset`.

        Raises:
            Refusal: there is no function for the op, or the function does not name an attribute
                that is set, an input that is given or an output that is used.
            InvalidModel: the op, or one of its attributes, is not in the ONNX schema.
        """
        schema = _schema(node.op_type, node.domain, opset)
        entry = self.find(node.domain, node.op_type, schema.since_version)
        if entry is None:
            raise Refusal(self.reasons.get(node.op_type, f"{self.target} has no form of it yet"))
        given = {name: attribute_value(attribute) for name, attribute in node.attributes.items()}
        for name in SWITCHES & given.keys():
            if given[name] not in (0, 1):
                raise Refusal(f"attribute {name}={_short(given[name])} is neither 0 nor 1")
        return Bound(
            entry.function,
            _bind_inputs(entry, schema, node),
            bind_attributes(entry.function, given, defaults(node.op_type, node.domain, opset)),
        )


def _bind_inputs(entry: Entry, schema: onnx.defs.OpSchema, node: ir.Node) -> list[ir.Value | None]:
    used = [
        i for i, value in enumerate(node.outputs) if i >= entry.outputs and (value.uses() or value.is_graph_output())
    ]
    if used:
        # A variadic output repeats the last name of the schema.
        names = [schema.outputs[min(i, len(schema.outputs) - 1)].name for i in used]
        raise Refusal(f"its output {', '.join(names)} is used")
    inputs = list(node.inputs)
    parameters = parameters_of(entry.function)[1:]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return inputs
    extra = [i for i, value in enumerate(inputs) if i >= len(positional) and value is not None]
    if extra:
        raise Refusal(f"its input {', '.join(schema.inputs[i].name for i in extra)} is given")
    return (inputs + [None] * len(positional))[: len(positional)]


@cache
def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a function, in order; kept, since each is asked for once a node."""
    return list(inspect.signature(function).parameters.values())


def bind_attributes(
    function: Callable[..., Any],
    given: dict[str, Any],
    defaults: dict[str, Any],
    ignorable: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The keyword arguments for `function`: every given attribute that it names, defaults filled in.

    An attribute that the function does not name is legal only when it is `ignorable` or equal to
    its default. A keyword without a default that is neither given nor in `defaults` is refused.

    Raises:
        Refusal: naming the first attribute that would have been dropped.
    """
    named = {p.name: p for p in parameters_of(function) if p.kind is p.KEYWORD_ONLY}
    for name, value in given.items():
        if name in named or name in ignorable:
            continue
        default = defaults.get(name, _ABSENT)
        if default is _ABSENT or default != value:
            raise Refusal(f"attribute {name}={_short(value)} is not supported")
    bound = {}
    for name, parameter in named.items():
        if name in given:
            bound[name] = given[name]
        elif name in defaults:
            bound[name] = defaults[name]
        elif parameter.default is parameter.empty:
            raise Refusal(f"attribute {name} is missing")
    return bound


def attribute_value(attribute: ir.Attr) -> Any:
    """The Python value of an ONNX attribute: int, float, str, list of them, tensor or graph."""
    value = attribute.value
    return list(value) if isinstance(value, tuple) else value


@cache
def _schema(name: str, domain: str, opset: int) -> onnx.defs.OpSchema:
    try:
        return onnx.defs.get_schema(name, opset, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        if domain in ("", "ai.onnx"):
            raise InvalidModel(f"{name} is not an operator of ONNX opset {opset}") from None
        raise Refusal(f"custom operator of the domain {domain!r}") from None


@cache
def defaults(name: str, domain: str, opset: int) -> dict[str, Any]:
    """The default values of an operator's optional attributes; None where the schema leaves them open."""
    defaults: dict[str, Any] = {}
    for key, attribute in _schema(name, domain, opset).attributes.items():
        proto = attribute.default_value
        if proto.type:
            value = onnx.helper.get_attribute_value(proto)
            value = [v.decode() if isinstance(v, bytes) else v for v in value] if isinstance(value, list) else value
            defaults[key] = value.decode() if isinstance(value, bytes) else value
        elif not attribute.required:
            defaults[key] = None
    return defaults


def type_string(value: ir.Value) -> str:
    """The type of a value as schemas write it: `tensor(float)`, `seq(tensor(int64))`, ..."""
    if value.type is None:
        return ""
    names = {"FLOAT": "float", "DOUBLE": "double", "COMPLEX64": "complex64", "COMPLEX128": "complex128"}
    text = f"tensor({names.get(value.type.dtype.name, value.type.dtype.name.lower())})"
    kind = value.type
    while isinstance(kind, ir.SequenceType | ir.OptionalType):
        text = f"{'seq' if isinstance(kind, ir.SequenceType) else 'optional'}({text})"
        kind = kind.elem_type
    return text


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
