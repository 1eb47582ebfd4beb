"""The text of `net.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporters.cntk.helpers import HELPERS, NEEDS, TRAINED
from exporters.cntk.lower import Lowering
from exporters.cntk.net import Call, Group, Variable
from exporters.cntk.network import Network
from exporters.codegen.blocks import find_blocks
from exporters.codegen.body import Text, function_body
from exporters.codegen.layout import lay_out
from exporters.codegen.loops import COUNTER, loops
from exporters.codegen.names import Code, Name, identifier, literal, prose, unique
from exporters.codegen.naming import name_blocks
from exporters.codegen.program import (
    ADD,
    ATOM,
    MULTIPLY,
    Argument,
    Block,
    Expression,
    Literal,
    Member,
    NameSlot,
    Op,
    Parameter,
    Reference,
    Scope,
    Step,
    Use,
)
from exporters.codegen.program import (
    Variable as Local,
)
from exporters.codegen.source_names import Naming, Piece, name_slots

__all__ = ["source"]

RESERVED = frozenset({"C", "np", "os", "w", "build", "load_weights", "path", *HELPERS})
LOCALS = frozenset({"x", COUNTER})
"""What no function and no input but the only one may be called: values and loops take it."""
PRECEDENCE = {"{} + {}": ADD, "{} - {}": ADD, "{} * {}": MULTIPLY, "{} / {}": MULTIPLY}


def source(network: Network, title: str, origin: str) -> str:
    """The whole file, of a network that came from `origin`."""
    emit = network.emit
    program = _Program(emit)
    scope = program.scope(network.outputs)
    blocks = find_blocks(scope)
    taken = set(RESERVED)
    name_blocks(blocks, RESERVED | LOCALS, taken, title, functions=True)
    namings = name_slots(blocks, {*taken, "x", "x2", "x3"})
    inputs = _inputs(emit.inputs, taken)
    functions = [_block(block, namings, taken) for block in blocks]
    functions.append(_build(scope, emit, inputs, namings, taken))
    body = "\n\n\n".join("\n".join(lines) for lines in functions)
    helpers = [HELPERS[name].rstrip("\n") for name in _helpers(emit.calls)]
    said = network.interface()
    head = [*_docstring(network, title, origin), *([f"# hub: {said}"] if said else []), "", *_IMPORTS, "", "", _LOAD]
    return "\n".join([*head, *(f"\n\n{text}" for text in helpers), "", "", body, "", "", _MAIN])


_IMPORTS = ["import os", "", "import cntk as C", "import numpy as np"]
_LOAD = f'''def load_weights(path):
    """The weights by name: what training changes as parameters, all others as constants."""
    trained = {TRAINED!r}
    with np.load(path) as arrays:
        return {{
            name: C.parameter(init=arrays[name], name=name)
            if name.rpartition(".")[2].rstrip("0123456789") in trained
            else C.constant(arrays[name], name=name)
            for name in arrays.files
        }}'''.replace("'", '"')
_MAIN = """if __name__ == "__main__":
    build().save(os.path.splitext(os.path.abspath(__file__))[0] + ".dnn")
"""


# -- the program ----------------------------------------------------------------------------------------------


class _Program:
    """Calls as steps."""

    def __init__(self, emit: Lowering) -> None:
        self.emit = emit
        self.locals: dict[Variable, Local] = {v: Local(v.name) for v in emit.inputs}
        self.members: dict[Any, Member] = {}

    def scope(self, outputs: Sequence[Variable]) -> Scope:
        """All calls, and the network as the result."""
        inputs = list(self.locals.values())
        steps = [self.step(call) for call in self.emit.calls]
        results: list[Expression] = [Use(self.locals[v]) for v in outputs]
        if len(results) > 1:
            gaps = ", ".join(["{}"] * len(results))
            results = [Op(f"C.combine([{gaps}])", tuple(results))]
        scope = Scope(steps, inputs, results)
        scope.order()
        return scope

    def step(self, call: Call) -> Step:
        expression = self.expression(call)
        outputs = tuple(self.locals.setdefault(v, Local(call.layer)) for v in call.results)
        return Step(outputs, expression, call.layer)

    def expression(self, call: Call) -> Op:
        if call.group is not None:
            return self.layer(call, call.group)
        gaps: list[str] = []
        arguments: list[Expression] = []
        for argument in call.arguments:
            if call.function == "C.reshape" and isinstance(argument, tuple):  # sizes, which blocks may differ in
                gaps.append(f"({', '.join(['{}'] * len(argument))}{',' * (len(argument) == 1)})")
                arguments += [Literal(size, "size") for size in argument]
            else:
                gaps.append("{}")
                arguments.append(self.value(argument))
        if call.infix and not call.name:
            return Op(call.infix, tuple(arguments), PRECEDENCE[call.infix])
        for name, value in call.keywords.items():
            if name in call.defaults and call.defaults[name] == value:
                continue
            gaps.append(name + "={}")
            arguments.append(Literal(value, name))
        if call.name:
            gaps.append("name={}")
            arguments.append(Literal(Name(call.name), "name"))
        return Op(f"{call.function}({', '.join(gaps)})", tuple(arguments), ATOM)

    def layer(self, call: Call, group: Group) -> Op:
        """The call of a helper that takes its weights by the name of their group."""
        given = [Argument("key", Name(group.key), positional=True)]
        tensors = [a for a in call.arguments if isinstance(a, Variable)]
        for name, value in call.keywords.items():
            default = {"default": call.defaults[name]} if name in call.defaults else {}
            given.append(Argument(name, value, **default))
        if call.name != group.key:
            given.append(Argument("name", Name(call.name)))
        member = Member("module", call.function, call.layer, given)
        gaps = ", ".join(["{}"] * len(tensors))
        return Op("{}(" + gaps + ")", (Reference(member), *(self.value(t) for t in tensors)))

    def value(self, value: Any) -> Expression:
        if not isinstance(value, Variable):
            return Literal(value, "value")
        if value.kind in ("output", "input"):
            return Use(self.locals[value])
        if value.group is None:
            assert value.data is not None
            return Literal(float(str(value.data.numpy().reshape(-1)[0])), "value")
        if value not in self.members:
            argument = Argument("key", Name(value.key), positional=True)
            self.members[value] = Member("parameter", "parameter", value.group.layer, [argument])
        return Reference(self.members[value])


def _helpers(calls: Sequence[Call]) -> Iterator[str]:
    """The functions that the file defines, those first that others use."""
    used = {call.function for call in calls if call.helper}
    used |= {value for call in calls for value in call.keywords.values() if isinstance(value, Code)}
    used |= {inner for name in used for inner in NEEDS.get(name, ())}
    return (name for name in HELPERS if name in used)


# -- text -----------------------------------------------------------------------------------------------------


@dataclass
class _Text(Text):
    """Layers and blocks as calls of functions, weights by name."""

    naming: Naming | None = None
    namings: dict[Block, Naming] = field(default_factory=dict)

    def reference(self, reference: Reference) -> str:
        """A weight."""
        return f"w[{self.value(reference.member.arguments[0].value)}]"

    def value(self, value: object) -> str:
        """A literal; a name of a layer, or what is one in the code of a block."""
        if isinstance(value, NameSlot):
            assert self.naming is not None
            return self.pieces(self.naming.slots[value.index])
        if isinstance(value, Name):
            return literal(str(value))
        if isinstance(value, Parameter):
            return value.name if value.factor == 1 else f"{value.factor} * {value.name}"
        return literal(value).replace("math.inf", "np.inf").replace("math.nan", "np.nan")

    def pieces(self, pieces: Sequence[Piece], number: bool = False) -> str:
        """A name that is made of texts and of parameters, or where a `number` is asked for, that."""
        assert self.naming is not None
        names = self.naming.parameters
        parts = [
            literal(p)[1:-1] if isinstance(p, str) else names[p[0]] + (f" + {p[1]}" if p[1] else "") for p in pieces
        ]
        if len(pieces) == 1:
            (piece,) = pieces
            if isinstance(piece, str):
                return piece if number else literal(piece)
            if number or not self.naming.numbers[piece[0]]:
                return parts[0]
        texts = [t if isinstance(p, str) else f"{{{t}}}" for p, t in zip(pieces, parts, strict=True)]
        return f'f"{"".join(texts)}"'

    def fill(self, op: Op) -> str:
        """A call; that of a member with its tensors, the weights, and its arguments."""
        first = op.arguments[0] if op.arguments else None
        if not isinstance(first, Reference) or not op.template.startswith("{}("):
            return super().fill(op)
        member = first.member
        arguments = [*(self.of(a) for a in op.arguments[1:]), "w"]
        if member.block is not None:
            arguments += self.names(member, member.block)
        for argument in member.arguments:
            if not argument.required and argument.value == argument.default:
                continue
            text = self.value(argument.value)
            arguments.append(text if argument.positional else f"{argument.name}={text}")
        return f"{member.block.name if member.block else member.type}({', '.join(arguments)})"

    def names(self, member: Member, block: Block) -> list[str]:
        """What a block is told of the names of its layers."""
        if self.naming is not None:
            numbers = self.namings[block].numbers
            return [self.pieces(*given) for given in zip(self.naming.calls[member], numbers, strict=True)]
        return [literal(value) for value in self.namings[block].arguments([str(name) for name in member.names])]


def _block(block: Block, namings: dict[Block, Naming], functions: set[str]) -> list[str]:
    """The function of a repeated piece, which may call others of these `functions`."""
    inputs = ["x", *(f"x{k}" for k in range(2, len(block.scope.inputs) + 1))]
    naming = namings[block]
    plain = [p for p in block.parameters if p.required]
    others = [f"{p.name}={literal(p.default)}" for p in block.parameters if not p.required]
    parameters = [*inputs, "w", *naming.parameters, *(p.name for p in plain), *others]
    lines = lay_out(f"def {block.name}({', '.join(parameters)}):", 0)
    names = dict(zip(block.scope.inputs, inputs, strict=True))
    text = _Text("", names, naming=naming, namings=namings)
    taken = {*functions, *parameters, *naming.parameters, *(p.name for p in block.parameters)}
    for line in function_body(block.scope, text, taken):
        lines += lay_out(line, 4)
    return lines


def _inputs(variables: Sequence[Variable], taken: set[str]) -> list[str]:
    """Local names of the inputs."""
    if len(variables) == 1:
        return ["x"]
    taken = {*taken, COUNTER}
    return [unique(identifier(v.name, taken, "x"), taken) for v in variables]


def _build(
    scope: Scope, emit: Lowering, inputs: Sequence[str], namings: dict[Block, Naming], taken: set[str]
) -> list[str]:
    lines = [
        "def build(weights=None):",
        '    """The network as a CNTK function.',
        "",
        "    `weights` is a .npz file, by default the one beside this file.",
        '    """',
    ]
    if any(v.group is not None for f in emit.functions for v in f.inputs):
        lines.append('    w = load_weights(weights or os.path.splitext(os.path.abspath(__file__))[0] + ".npz")')
    for name, variable in zip(inputs, emit.inputs, strict=True):
        dynamic = "" if variable.batch else ", dynamic_axes=[]"
        shape = literal(tuple(variable.shape))
        lines += lay_out(f"{name} = C.input_variable({shape}{dynamic}, name={literal(variable.name)})", 4)
    text = _Text("", dict(zip(scope.inputs, inputs, strict=True)), namings=namings)
    for indent, line in loops(function_body(scope, text, {*taken, *inputs} - {"x"})):
        lines += lay_out(line, 4 + indent)
    return lines


def _docstring(network: Network, name: str, origin: str) -> list[str]:
    title = prose(name) or "A network"
    lines = [f'"""{title}, converted from {prose(origin)}.', "", "Inputs:"]
    lines += [f"    {prose(v.name)}: {_shape(v)}" for v in network.emit.inputs]
    lines.append("Outputs:")
    lines += [f"    {prose(v.function.name if v.function else v.name)}: {_shape(v)}" for v in network.outputs]
    lines += ["", *(change[0].upper() + change[1:] + "." for change in map(prose, network.changes()))]
    return [*(lines if lines[-1] else lines[:-1]), '"""']


def _shape(variable: Variable) -> str:
    return f"float32 ({', '.join(str(size) for size in variable.shape)})" + (" a sample" if variable.batch else "")
