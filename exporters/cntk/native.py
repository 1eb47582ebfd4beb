"""The native model: a tree of functions and variables as `hub.dnn` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporters.cntk.net import Function, Variable
from hub.dnn import BATCH, OPERATORS, Array, Shape, Tree, write

__all__ = ["tree", "write_native"]

NUMBERS = {name: number for number, name in OPERATORS.items()}
KINDS = {"input": 0, "parameter": 2, "constant": 3}


def write_native(
    path: Path, functions: Sequence[Function], inputs: Sequence[Variable], outputs: Sequence[Variable]
) -> None:
    """Write a model file, weight by weight."""
    write(path, tree(functions, inputs, outputs))


def tree(functions: Sequence[Function], inputs: Sequence[Variable], outputs: Sequence[Variable]) -> Tree:
    """The dictionary of a model: what CNTK calls a composite function."""
    uids: dict[Variable, str] = {}
    variables: list[Tree] = []
    written: list[Tree] = []

    def uid(variable: Variable) -> str:
        if variable not in uids:
            uids[variable] = f"{variable.kind.capitalize()}{len(uids)}"
            variables.append(_variable(variable, uids[variable]))
        return uids[variable]

    for variable in inputs:
        uid(variable)
    for number, function in enumerate(functions):
        name = f"{function.op}{len(inputs) + number}"
        written.append(
            _function(function.op, name, [uid(v) for v in function.inputs], function.attributes, function.name)
        )
        for output in function.outputs:
            uids[output] = f"{name}_Output_{output.index}"
    root = uids[outputs[0]].partition("_Output_")[0]
    if len(outputs) > 1:
        root = "CombineOutputs"
        written.append(_function("Combine", root, [uids[v] for v in outputs], {}, ""))
    return {
        "type": "CompositeFunction",
        "version": 3,
        "uid": "CompositeFunctionModel",
        "root": root,
        "inputs": variables,
        "primitive_functions": written,
    }


def _function(op: str, uid: str, inputs: list[str], attributes: Any, name: str) -> Tree:
    return {
        "type": "PrimitiveFunction",
        "version": 24,
        "uid": uid,
        "op": NUMBERS[op],
        "name": name,
        "inputs": inputs,
        "attributes": dict(attributes),
    }


def _variable(variable: Variable, uid: str) -> Tree:
    made: Tree = {
        "type": "Variable",
        "version": 1,
        "uid": uid,
        "kind": KINDS[variable.kind],
        "data_type": 1,
        "dynamic_axis": [BATCH] if variable.kind == "input" and variable.batch else [],
        "is_sparse": False,
        "needs_gradient": variable.kind == "parameter",
        "shape": _shape(variable),
        "name": variable.key if variable.group is not None else variable.name,
    }
    if variable.data is not None:
        made["value"] = Array(1, _shape(variable), variable.data.write)
    return made


def _shape(variable: Variable) -> Shape:
    return Shape(size for size in reversed(variable.shape) if isinstance(size, int))
