"""The text of `model.py`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from exporters.codegen.body import Text, function_body
from exporters.codegen.layout import WIDTH, lay_out
from exporters.codegen.names import Code, literal, prose
from exporters.codegen.program import (
    Argument,
    Block,
    Member,
    Op,
    Parameter,
    Scope,
    expressions,
)
from exporters.torch.helpers import HELPERS

__all__ = ["MODULE_ATTRIBUTES", "Program", "source"]

MODULE_ATTRIBUTES = frozenset(
    [
        "T",
        "T_destination",
        "add_module",
        "apply",
        "bfloat16",
        "buffers",
        "call_super_init",
        "children",
        "compile",
        "cpu",
        "cuda",
        "double",
        "dump_patches",
        "eval",
        "extra_repr",
        "float",
        "forward",
        "get_buffer",
        "get_extra_state",
        "get_parameter",
        "get_submodule",
        "half",
        "ipu",
        "load_state_dict",
        "modules",
        "mtia",
        "named_buffers",
        "named_children",
        "named_modules",
        "named_parameters",
        "parameters",
        "register_backward_hook",
        "register_buffer",
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_load_state_dict_post_hook",
        "register_load_state_dict_pre_hook",
        "register_module",
        "register_parameter",
        "register_state_dict_post_hook",
        "register_state_dict_pre_hook",
        "requires_grad_",
        "set_extra_state",
        "set_submodule",
        "share_memory",
        "state_dict",
        "to",
        "to_empty",
        "train",
        "training",
        "type",
        "xpu",
        "zero_grad",
        "self",
        "torch",
        "nn",
        "F",
        "math",
        "Tensor",
    ]
)
LOCALS = frozenset({"self", "torch", "nn", "F", "math", "Tensor", *HELPERS})


@dataclass
class Program:
    """Everything that the text is made of; all names are final."""

    name: str
    scope: Scope
    members: list[Member]
    blocks: list[Block]
    docstring: list[str]
    inputs: list[str]


def source(program: Program) -> str:
    """The whole file."""
    classes = [_block_class(block) for block in program.blocks]
    classes.append(_root_class(program))
    helpers = [HELPERS[name] for name in _helpers(program)]
    body = "\n\n\n".join([*(h.rstrip("\n") for h in helpers), *("\n".join(c) for c in classes)])
    load = _LOAD.replace("NAME", program.name)
    lines = [*_docstring(program.docstring, 0), "", *_imports(body), "", "", body, "", "", load]
    return "\n".join(lines)


_LOAD = '''def load(weights: str | Path | None = None, device: str = "cpu") -> NAME:
    """Build the network with its weights, ready for inference.

    `weights` is a .safetensors file; by default the one beside this file.
    """
    path = Path(weights) if weights else Path(__file__).with_suffix(".safetensors")
    model = NAME()
    model.load_state_dict(load_file(path), strict=True)
    return model.to(device).eval()
'''


def _imports(body: str) -> list[str]:
    standard = ["import math"] if re.search(r"\bmath\.", body) else []
    lines = ["from __future__ import annotations", "", *standard, "from pathlib import Path", ""]
    if re.search(r"\btorch\.", body):
        lines.append("import torch")
    if re.search(r"\bF\.", body):
        lines.append("import torch.nn.functional as F")
    return [*lines, "from safetensors.torch import load_file", "from torch import Tensor, nn"]


def _docstring(lines: Sequence[str], indent: int) -> list[str]:
    pad = " " * indent
    if len(lines) == 1:
        return [f'{pad}"""{lines[0]}"""']
    return [f'{pad}"""{lines[0]}', *((pad + line).rstrip() for line in lines[1:]), f'{pad}"""']


def _helpers(program: Program) -> list[str]:
    scopes = [program.scope, *(block.scope for block in program.blocks)]
    found = {
        e.helper
        for scope in scopes
        for step in scope.steps
        for e in expressions(step.expression)
        if isinstance(e, Op) and e.helper
    }
    return sorted(found)


# --- classes


def _block_class(block: Block) -> list[str]:
    names = _input_names(block.scope)
    used = _runtime_parameters(block.scope)
    stored = [p for p in block.parameters if p.name in used]
    return _class(block.name, [_where(block)], block.parameters, stored, block.slots, block.scope, names)


def _where(block: Block) -> str:
    """One line on where the block occurs."""
    names = list(dict.fromkeys(prose(i.hint, 60) for i in block.instances))
    count = len(block.instances)
    for shown in (3, 2, 1):
        text = ", ".join(names[:shown])
        if len(names) > shown:
            text += f" and {len(names) - shown} more"
        if len(text) < 80:
            return f"Used for {text}."
    return f"Used {count} times."


def _root_class(program: Program) -> list[str]:
    return _class(program.name, [], [], [], program.members, program.scope, program.inputs)


def _input_names(scope: Scope) -> list[str]:
    return ["x", *(f"x{k}" for k in range(2, len(scope.inputs) + 1))]


def _runtime_parameters(scope: Scope) -> set[str]:
    """Parameters of the constructor that `forward` reads."""
    everything = [e for s in scope.steps for e in expressions(s.expression)]
    return {e.value.name for e in everything if hasattr(e, "value") and isinstance(e.value, Parameter)}


def _class(
    name: str,
    docstring: Sequence[str],
    parameters: Sequence[Argument],
    stored: Sequence[Argument],
    members: Sequence[Member],
    scope: Scope,
    inputs: Sequence[str],
) -> list[str]:
    lines = [f"class {name}(nn.Module):"]
    if docstring:
        lines += [*_docstring(docstring, 4), ""]
    buffers = [m for m in members if m.kind == "buffer"]
    if buffers:
        lines += [*(f"    {m.name}: Tensor" for m in buffers), ""]
    if members or stored:
        signature = ", ".join(["self", *(_parameter(p) for p in parameters)])
        lines += lay_out(f"def __init__({signature}) -> None:", 4)
        lines.append("        super().__init__()")
        for argument in stored:
            lines.append(f"        self.{argument.name} = {argument.name}")
        for member in members:
            lines += _construction(member)
        lines.append("")
    arguments = ", ".join(["self", *(f"{i}: Tensor" for i in inputs)])
    count = len(scope.results)
    result = "Tensor" if count == 1 else "tuple[" + ", ".join(["Tensor"] * count) + "]"
    lines += lay_out(f"def forward({arguments}) -> {result}:", 4)
    text = Text("self.", dict(zip(scope.inputs, inputs, strict=True)))
    for line in function_body(scope, text, set(LOCALS)):
        lines += lay_out(line, 8)
    return lines


def _parameter(parameter: Argument) -> str:
    kind = _annotation(parameter)
    return f"{parameter.name}: {kind}" + ("" if parameter.required else f" = {literal(parameter.default)}")


def _annotation(parameter: Argument) -> str:
    values = parameter.value if isinstance(parameter.value, list) else [parameter.value]
    names = []
    for value in [*values, *([] if parameter.required else [parameter.default])]:
        names.append(_type_name(value))
    return " | ".join(sorted(set(names), key=lambda n: (len(n), n)))


def _type_name(value: object) -> str:
    if isinstance(value, Code):
        return "torch.dtype"
    if isinstance(value, tuple):
        kinds = sorted({type(item).__name__ for item in value})
        return f"tuple[{', '.join([kinds[0]] * len(value))}]" if len(kinds) == 1 else "tuple[float, ...]"
    return "None" if value is None else type(value).__name__


def _construction(member: Member) -> list[str]:
    """The lines of `__init__` that make a member."""
    if member.kind == "buffer":
        return lay_out(f"self.register_buffer({literal(member.name)}, {_zeros(member)})", 8)
    if member.kind == "parameter":
        return lay_out(f"self.{member.name} = nn.Parameter({_zeros(member)})", 8)
    return lay_out(f"self.{member.name} = {construct(member)}", 8)


def construct(member: Member) -> str:
    """The call of a constructor."""
    if member.kind == "sequence":
        return _sequence(member)
    arguments = []
    for argument in member.arguments:
        if not argument.required and _same(argument.value, argument.default):
            continue
        text = value_text(argument.value)
        arguments.append(text if argument.positional else f"{argument.name}={text}")
    return f"{member.block.name if member.block else member.type}({', '.join(arguments)})"


def _sequence(member: Member) -> str:
    """A generator where the arguments follow a rule, else one constructor after the other."""
    children = member.children
    count = len(children)
    varying: dict[str, str] = {}
    for position, argument in enumerate(children[0].arguments):
        values = [child.arguments[position].value for child in children]
        if all(_same(v, values[0]) for v in values):
            continue
        step = values[1] - values[0] if type(values[0]) is int and type(values[1]) is int else 0
        if not step or any(v != values[0] + k * step for k, v in enumerate(values)):
            break
        rule = "k" if step == 1 else f"{step} * k" if step > 0 else f"{-step} * k"
        varying[argument.name] = f"{values[0]} {'+' if step > 0 else '-'} {rule}"
    else:
        first = children[0]
        replaced = [
            Argument(a.name, Code(varying[a.name]), positional=a.positional) if a.name in varying else a
            for a in first.arguments
        ]
        element = construct(Member(first.kind, first.type, "", replaced, block=first.block))
        text = f"nn.Sequential(*({element} for {'k' if varying else '_'} in range({count})))"
        if len(text) + len(member.name) + 16 <= WIDTH:
            return text
    return f"nn.Sequential({', '.join(construct(child) for child in children)})"


def _same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b


def value_text(value: object) -> str:
    """A literal, or the name of the parameter that it is."""
    if isinstance(value, Parameter):
        return value.name if value.factor == 1 else f"{value.factor} * {value.name}"
    return literal(value)


def _zeros(member: Member) -> str:
    shape = member.arguments[0].value
    sizes = ", ".join(value_text(d) for d in shape) if shape else "()"
    dtype = "".join(f", dtype={value_text(a.value)}" for a in member.arguments[1:])
    return f"torch.zeros({sizes}{dtype})"
