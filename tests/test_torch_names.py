"""Names in a model never become code."""

from __future__ import annotations

import ast
import keyword
from pathlib import Path

import numpy as np
import pytest
from torch_nets import check, net, node, text, weight

from exporters.codegen.names import class_name, identifier, literal, prose
from exporters.torch.source import MODULE_ATTRIBUTES

HOSTILE = [
    'x"); import os #',
    'a"""\nimport os\nos.abort()\n"""',
    "b'''\\",
    "line\nbreak",
    "forward",
    "train",
    "class",
    "print",
    "T",
    "self",
    "0",
    "1_conv",
    "ünïcödé",
    "层",
    "__class__",
    "a.b/c:d",
    "{0}",
    "{}",
    "%s",
    "x" * 500,
    "\u202enoc",
]


@pytest.mark.parametrize("name", [*HOSTILE, ""])
def test_identifiers_are_identifiers(name: str) -> None:
    for made in (identifier(name, MODULE_ATTRIBUTES), class_name(name)):
        assert made.isidentifier()
        assert made.isascii()
        assert not keyword.iskeyword(made)
        assert len(made) < 80
    assert identifier(name, MODULE_ATTRIBUTES) not in MODULE_ATTRIBUTES


@pytest.mark.parametrize("name", HOSTILE)
def test_literals_read_back(name: str) -> None:
    assert ast.literal_eval(literal(name)) == name
    assert literal(name).isascii()
    clean = prose(name)
    assert clean.isprintable()
    assert not set(clean) & set("\"'\\\n`")


def test_module_attributes_are_known() -> None:
    from torch import nn

    present = {name for name in dir(nn.Module) if not name.startswith("_")}
    assert present <= MODULE_ATTRIBUTES


def test_hostile_names_everywhere(tmp_path: Path) -> None:
    """Layers, inputs, outputs, weights and the model itself carry hostile names; twice, so that they form blocks."""
    import onnx.helper as oh

    nodes, weights = [], {}
    value = HOSTILE[0]
    for k, name in enumerate([*HOSTILE, *HOSTILE]):
        weights[f"w{k}{name}"] = weight(4, 4)
        weights[f"c{k}{name}"] = weight(4)
        nodes.append(oh.make_node("MatMul", [value, f"w{k}{name}"], [f"m{k}{name}"], name=f"{name}{k}"))
        nodes.append(oh.make_node("Mul", [f"m{k}{name}", f"c{k}{name}"], [f"o{k}{name}"], name=f"{name}{k}mul"))
        nodes.append(oh.make_node("Relu", [f"o{k}{name}"], [f"r{k}{name}"], name=f"{name}{k}r"))
        value = f"r{k}{name}"
    model = net(nodes, {HOSTILE[0]: ["N", 4]}, [value], weights, name=HOSTILE[1])
    written = text(model, tmp_path)
    tree = ast.parse(written)
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert imported <= {"__future__", "pathlib", "torch", "torch.nn.functional", "safetensors.torch", "math"}
    assert written.isascii()
    check(model, tmp_path, np.ones((2, 4), np.float32))


def test_hostile_inputs(tmp_path: Path) -> None:
    names = ["self", "torch", "nn", "F", 'x"); import os #', "forward", "a\nb", "load"]
    nodes = [node("Identity", "self", "start")]
    import onnx.helper as oh

    value = "self"
    for k, name in enumerate(names[1:]):
        nodes.append(oh.make_node("Add", [value, name], [f"sum{k}"], name=f"n{k}"))
        value = f"sum{k}"
    model = net(nodes[1:], {name: ["N", 2] for name in names}, [value])
    check(model, tmp_path, *(np.ones((2, 2), np.float32) for _ in names))
