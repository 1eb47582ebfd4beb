"""A CNTK model as its functions, blocks opened, and a copy of it whose outputs are any of its values.

CNTK's interface for C gives the outputs of a model only. So a copy of the file is written in which the values that
are asked for are outputs; its weights go from file to file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hub.dnn import BATCH, FREE, OPERATORS, Axis, Tree
from parity.runners import LoadFailed

__all__ = ["BLOCK", "COMBINE", "Functions", "Input", "op_of"]

NOOP, COMBINE, BLOCK, TOPK, UNPACK = 62, 44, 57, 87, 72
_VERSION = 24


@dataclass(frozen=True)
class Input:
    """An input variable: its sizes in C order without dynamic axes (None: free), and the names of its dynamic
    axes, the batch axis first."""

    uid: str
    name: str
    sizes: tuple[int | None, ...]
    axes: tuple[str, ...]
    data_type: int
    sparse: bool

    @property
    def batched(self) -> bool:
        """Whether it has a batch axis."""
        return bool(self.axes)


class Functions:
    """The functions of a model. A value is called by its uid: that of an input, or FUNCTION_Output_0.

    A tree that is not a model's raises a KeyError, TypeError, AttributeError, IndexError or ValueError.

    Raises:
        LoadFailed: it has functions that are code of the user, or that run in a circle.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._functions: dict[str, Tree] = {str(f["uid"]): f for f in tree["primitive_functions"]}
        self._inside: dict[str, str] = {}
        self._bound: dict[str, str] = {}
        for uid, function in self._functions.items():
            if function["type"] != "PrimitiveFunction":
                name = function.get("name") or uid
                raise LoadFailed(f"the function {name!r} is code of its author's; it is not run")
            if function["op"] == BLOCK:
                self._inside[uid] = str(function["block_function_composite"]["root"])
                keys = function["block_function_composite_arguments_map_keys"]
                values = function["block_function_composite_arguments_map_values"]
                self._bound.update(zip(keys, values, strict=True))
        self.inputs = [_input(v) for v in tree["inputs"] if v["kind"] == 0]
        self._ends = self._outputs(tree["root"])
        self.outputs = {name: self.resolve(value) for name, value in self._ends.items()}

    @property
    def ascii(self) -> bool:
        """Whether all names are of ASCII characters."""
        named = [self.tree, *self.tree["inputs"], *self._functions.values()]
        return all(str(part.get("name", "")).isascii() for part in named)

    def split(self, value: str) -> tuple[Tree | None, int]:
        """The function whose output a value is, and which of them; None if it is of none."""
        uid, _, index = value.rpartition("_Output_")
        return self._functions.get(uid), int(index) if uid and index.isdigit() else 0

    def step(self, value: str) -> str | None:
        """What a value is another name of: a placeholder, an output of a block or of a Combine; or None."""
        function, index = self.split(value)
        if function is None:
            return self._bound.get(value)
        if function["op"] == COMBINE:
            return str(function["inputs"][index])
        if function["op"] == BLOCK:
            return f"{self._inside[function['uid']]}_Output_{index}"
        return None

    def steps(self, value: str) -> list[str]:
        """A value with all its other names, of which the last is its own."""
        names = {value: None}
        while (inner := self.step(value)) is not None:
            if inner in names:
                raise LoadFailed(f"its blocks run in a circle at {inner!r}")
            value = inner
            names[value] = None
        return list(names)

    def resolve(self, value: str) -> str:
        """The value itself: of a placeholder what it stands for, of a block what its inside computes."""
        return self.steps(value)[-1]

    def _outputs(self, root: str) -> dict[str, str]:
        """The values that the model gives, by name."""
        inner = [self._functions[root]]
        while inner[-1]["op"] == BLOCK and len(inner) <= len(self._functions):
            inner.append(self._functions[self._inside[inner[-1]["uid"]]])
        function = inner[-1]
        count = len(function["inputs"]) if function["op"] == COMBINE else 1
        if function["op"] == TOPK or (
            function["op"] == UNPACK and not function["attributes"]["sequenceUnpackSuppressMaskOutput"]
        ):
            count = 2
        found: dict[str, str] = {}
        for i in range(count):
            # The outputs of a Combine are those of other functions, with their names.
            for value in self.steps(f"{root}_Output_{i}"):
                source, _ = self.split(value)
                if source is None or source["op"] != COMBINE:
                    break
            name = (source.get("name") or source["uid"]) if source else value
            found[name if name not in found else value] = value
        return found

    # -- the copy ----------------------------------------------------------------------------------------

    def with_outputs(self, outputs: Mapping[str, str], names: Mapping[str, str]) -> Tree:
        """The model with the `outputs`, name to value, and the inputs called `names`, by uid. It has no blocks, no
        other names and no sparse inputs."""
        # What is used before it is computed, as in a recurrence, is also among the inputs, as a placeholder.
        inputs = [
            {**v, "uid": self.resolve(v["uid"]), "name": names.get(v["uid"], ""), "is_sparse": False}
            for v in self.tree["inputs"]
            if v["uid"] not in self._bound
        ]
        functions = self._ordered({v["uid"] for v in inputs})
        by_uid = {function["uid"]: function for function in functions}
        values = []
        for name, value in outputs.items():
            source, _ = self.split(value)
            if source is not None and source["op"] not in (TOPK, UNPACK):
                by_uid[source["uid"]]["name"] = name
                values.append(value)
            else:  # not so for all values: now and then CNTK fails on a recurrence with a NoOp behind it
                functions.append(_function(name, NOOP, [value]))
                values.append(f"{name}_Output_0")
        functions.append(_function("hub values", COMBINE, values))
        return {**self.tree, "name": "", "root": "hub values", "inputs": inputs, "primitive_functions": functions}

    def _ordered(self, known: set[str]) -> list[Tree]:
        """The functions without blocks, each behind those whose values it takes, except for what is `known`."""
        opened = {
            uid: {**function, "name": "", "inputs": [self.resolve(value) for value in function["inputs"]]}
            for uid, function in self._functions.items()
            if function["op"] not in (BLOCK, COMBINE)
        }
        ordered: dict[str, Tree] = {}
        seen: set[str] = set()
        waiting = list(reversed(opened))
        while waiting:
            uid = waiting[-1]
            if uid in seen:
                ordered.setdefault(waiting.pop(), opened[uid])
            else:
                seen.add(uid)
                sources = [v.rpartition("_Output_")[0] for v in opened[uid]["inputs"] if v not in known]
                waiting += [source for source in reversed(sources) if source in opened and source not in seen]
        return list(ordered.values())


def op_of(function: Tree) -> str:
    """The name of what a function computes; of a block the name that its author gave to that."""
    if function["op"] == BLOCK:
        return str(function.get("block_function_op_name") or "Block")
    return OPERATORS.get(function["op"], f"function {function['op']}")


def _function(uid: str, op: int, inputs: Iterable[str]) -> Tree:
    return {
        "type": "PrimitiveFunction",
        "version": _VERSION,
        "uid": uid,
        "op": op,
        "attributes": {},
        "inputs": [*inputs],
        "name": uid,
    }


def _input(variable: Tree) -> Input:
    axes: list[Axis] = variable["dynamic_axis"]
    ordered = [axis.name for axis in axes if axis.name != BATCH.name]
    names = ("N", *("T" if name == "defaultDynamicAxis" else name for name in ordered)) if axes else ()
    sizes = tuple(None if size >= FREE else int(size) for size in reversed(variable["shape"]))
    kind, sparse = int(variable["data_type"]), bool(variable["is_sparse"])
    return Input(variable["uid"], variable.get("name", ""), sizes, names, kind, sparse)
