"""The native model: a tree of functions and variables as `hub.dnn` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporters.cntk.dynamic import step_axis
from exporters.cntk.net import Function, Variable
from exporters.cntk.network import Network
from hub.dnn import BATCH, OPERATORS, Array, Axis, Shape, Tree, write
from hub.dnn.values import LIMIT

__all__ = ["tree", "write_native"]

NUMBERS = {name: number for number, name in OPERATORS.items()}
KINDS = {"input": 0, "parameter": 2, "constant": 3, "output": 4}
"""What is computed behind its use, in a recurrence, is declared as well: a placeholder."""


def write_native(path: Path, network: Network) -> None:
    """Write a model file, weight by weight."""
    write(path, tree(network), limit=LIMIT)


def tree(network: Network) -> Tree:
    """The dictionary of a model: what CNTK calls a composite function."""
    functions, inputs, outputs = network.emit.functions, network.emit.inputs, network.outputs
    uids: dict[Variable, str] = {}
    variables: list[Tree] = []
    names = {function: f"{function.op}{len(inputs) + number}" for number, function in enumerate(functions)}
    for function, name in names.items():
        uids.update((output, f"{name}_Output_{output.index}") for output in function.outputs)
    for variable in (*inputs, *(v for function in functions for v in function.inputs)):
        if variable not in uids:
            uids[variable] = f"{variable.kind.capitalize()}{len(variables)}"
            variables.append(_variable(variable, uids[variable]))
    variables += [_variable(variable, uids[variable]) for variable in _early(functions)]
    written = [_function(f.op, name, [uids[v] for v in f.inputs], f.attributes, f.name) for f, name in names.items()]
    root = uids[outputs[0]].partition("_Output_")[0]
    if len(outputs) > 1:
        root = "CombineOutputs"
        written.append(_function("Combine", root, [uids[v] for v in outputs], {}, ""))
    said = network.interface()
    return {
        "type": "CompositeFunction",
        "version": 3,
        "uid": "CompositeFunctionModel",
        "root": root,
        "inputs": variables,
        "primitive_functions": written,
        **({"hub": said} if said else {}),
    }


def _early(functions: Sequence[Function]) -> list[Variable]:
    """What a function takes that one behind it computes."""
    done: set[Function] = set()
    early: dict[Variable, None] = {}
    for function in functions:
        early.update((v, None) for v in function.inputs if v.function is not None and v.function not in done)
        done.add(function)
    return list(early)


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
        "dynamic_axis": _dynamic(variable),
        "is_sparse": False,
        "needs_gradient": variable.kind == "parameter",
        "shape": _shape(variable),
        "name": variable.key or variable.name,
    }
    if variable.data is not None:
        made["value"] = Array(1, _shape(variable), variable.data.write)
    return made


def _dynamic(variable: Variable) -> list[Axis]:
    if variable.kind not in ("input", "output") or not variable.batch:
        return []
    return [*([step_axis(variable.sequence)] if variable.sequence else []), BATCH]


def _shape(variable: Variable) -> Shape:
    return Shape(size for size in reversed(variable.shape) if isinstance(size, int))
