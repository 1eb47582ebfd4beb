"""A CNTK model as its functions, blocks opened: which values have names, and a file in which they are outputs.

CNTK's interface for C gives the outputs of a model only. So a copy of the file is written whose outputs are all
values that may be asked for; its weights go from file to file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hub.dnn import BATCH, FREE, OPERATORS, Axis, Tree
from parity.runners import SQUASHING, LoadFailed

__all__ = ["Graph", "Input"]

_NOOP, _COMBINE, _BLOCK = 62, 44, 57
_VERSION = 24
_PASSING = frozenset("Reshape TransposeAxes Squeeze NoOp Pass StopGradient Dropout Flatten Squeeze Cast".split())
"""Functions that change no number, or only where it is."""
_SAME = {"stablesigmoid": "sigmoid", "logistic": "sigmoid"}
_ACTIVATIONS = SQUASHING | {"relu", "elu", "selu", "leakyrelu", "prelu", "hardmax", "clip", "stablesigmoid"}


@dataclass(frozen=True)
class Input:
    """An input variable: its sizes in C order without dynamic axes (None: free), and the names of its dynamic
    axes, the batch axis first."""

    uid: str
    name: str
    sizes: tuple[int | None, ...]
    axes: tuple[str, ...]
    data_type: int

    @property
    def batched(self) -> bool:
        """Whether it has a batch axis."""
        return bool(self.axes)


class Graph:
    """The functions of a model. A value is called by its uid: that of an input, or FUNCTION_Output_0.

    Raises:
        LoadFailed: the tree is not a model's, or has functions that are code of the user.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        try:
            self._functions: dict[str, Tree] = {f["uid"]: f for f in tree["primitive_functions"]}
            for function in self._functions.values():
                if function["type"] != "PrimitiveFunction":
                    raise LoadFailed(f"the function {_called(function)!r} is code of its author's; it is not run")
            self._inside = {f["uid"]: f["block_function_composite"]["root"] for f in self._blocks()}
            self._bound = {
                key: value
                for f in self._blocks()
                for key, value in zip(
                    f["block_function_composite_arguments_map_keys"],
                    f["block_function_composite_arguments_map_values"],
                    strict=True,
                )
            }
            self.inputs = [_input(v) for v in tree["inputs"] if v["kind"] == 0]
            self._ends = self._outputs(tree["root"])
            self.outputs = {name: self.resolve(value) for name, value in self._ends.items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise LoadFailed(f"it is not a model of CNTK: {type(error).__name__} {error}") from error
        self.values = self._named()
        self._holders: dict[str, list[str]] = {}
        for name, (_, value) in self.values.items():
            self._holders.setdefault(value, []).append(name)

    def _blocks(self) -> Iterable[Tree]:
        return (f for f in self._functions.values() if f["op"] == _BLOCK)

    # -- values ------------------------------------------------------------------------------------------

    def split(self, value: str) -> tuple[Tree | None, int]:
        """The function whose output a value is, and which of them; None if it is of none."""
        uid, _, index = value.rpartition("_Output_")
        return self._functions.get(uid), int(index) if uid and index.isdigit() else 0

    def resolve(self, value: str) -> str:
        """The value itself: of a placeholder what it stands for, of a block what its inside computes."""
        for _ in range(10_000):
            function, index = self.split(value)
            if function is None:
                if value not in self._bound:
                    return value
                value = self._bound[value]
            elif function["op"] == _COMBINE:
                value = function["inputs"][index]
            elif function["op"] == _BLOCK:
                value = f"{self._inside[function['uid']]}_Output_{index}"
            else:
                return value
        raise LoadFailed("its blocks run in a circle")

    def _outputs(self, root: str) -> dict[str, str]:
        """The values that the model gives, by name."""
        inner = root
        while inner in self._inside:
            inner = self._inside[inner]
        if self._functions[inner]["op"] == _COMBINE:
            values = [f"{root}_Output_{i}" for i in range(len(self._functions[inner]["inputs"]))]
        else:
            values = [f"{root}_Output_0"]
        found: dict[str, str] = {}
        for value in values:
            source, index = self.split(value)
            while source is not None and source["op"] == _COMBINE:  # its outputs are those of others
                value = source["inputs"][index]
                source, index = self.split(value)
            name = (source.get("name") or source["uid"]) if source else value
            found[name if name not in found else value] = value
        return found

    def _named(self) -> dict[str, tuple[str, str]]:
        """Layers: name to op and value. Of functions of one name it is the one that the others lead to."""
        candidates: dict[str, list[Tree]] = {}
        for function in self._functions.values():
            if function.get("name") and function["op"] != _COMBINE:
                candidates.setdefault(function["name"], []).append(function)
        named = {}
        for name, functions in candidates.items():
            values = {self.resolve(f"{f['uid']}_Output_0"): f for f in reversed(functions)}
            last = [v for v in values if self.split(v)[0] is not None]
            if len(last) > 1:
                last = [v for v in last if not any(v in self._before(other) for other in last if other != v)]
            if len(last) == 1:
                blocks = [f for f in functions if f["op"] == _BLOCK and self.resolve(f"{f['uid']}_Output_0") == last[0]]
                named[name] = (_op([*blocks[-1:], values[last[0]]][0]), last[0])
        return named

    def _before(self, value: str) -> set[str]:
        """All values that go into one."""
        seen: set[str] = set()
        waiting = [value]
        while waiting:
            function, _ = self.split(waiting.pop())
            for source in function["inputs"] if function else ():
                source = self.resolve(source)
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)
        return seen

    # -- what is asked for -------------------------------------------------------------------------------

    def op(self, output: str) -> str:
        """The op of the function that gives an output."""
        function, _ = self.split(self._ends[output])
        return _op(function) if function else ""

    @property
    def layers(self) -> dict[str, str]:
        """The layers that can be asked for, and their ops."""
        return {name: op for name, (op, _) in self.values.items()}

    def capture(self, tap: str) -> str | None:
        """The value that "layer:NAME", "exit:NAME" or "core:NAME" asks for.

        What leaves a layer has its name; what it is made of is called NAME.ROLE, or is not named. The core is what
        goes into a last activation, where that is of the same layer.
        """
        kind, _, name = tap.partition(":")
        if name not in self.values or kind not in ("layer", "exit", "core"):
            return None
        value = self.values[name][1]
        function, _ = self.split(value)
        if kind != "core" or function is None or _op(function).lower() not in _ACTIVATIONS:
            return value
        inner = self.resolve(function["inputs"][0])
        source, _ = self.split(inner)
        named = self._holders.get(inner, [])
        mine = source is not None and all(other.startswith(f"{name}.") for other in named)
        return inner if mine else value

    def squashed(self, output: str) -> tuple[str, str] | None:
        """What goes into the squashing function that an output comes from, if a function computes it, and the op.
        Between it and the output there may be functions that change no number."""
        value = self._ends[output]
        while True:
            function, index = self.split(value)
            if function is None:
                return None
            op = _SAME.get(_op(function).lower(), _op(function).lower())
            source = self._softmax(function) or (self.resolve(self._first(function)) if op in SQUASHING else None)
            if source is not None:
                return (source, _op(function)) if self.split(source)[0] is not None else None
            if function["op"] == _BLOCK:
                value = f"{self._inside[function['uid']]}_Output_{index}"
            elif _op(function) in _PASSING or function["op"] == _COMBINE:
                value = self._first(function, index if function["op"] == _COMBINE else 0)
            else:
                return None

    def _first(self, function: Tree, index: int = 0) -> str:
        """The first argument of a function; the inputs of a block begin with its parameters."""
        if function["op"] == _BLOCK:
            values: list[str] = function["block_function_composite_arguments_map_values"]
            return values[0]
        value: str = function["inputs"][index]
        while value in self._bound:
            value = self._bound[value]
        return value

    def _softmax(self, function: Tree) -> str | None:
        """The x of x - log(sum(exp(x))) and of exp of that, as Softmax over any axis is written."""
        if _op(function) == "Exp":
            function = self.split(self.resolve(function["inputs"][0]))[0] or {"op": -1}
        if _op(function) != "Minus":
            return None
        x, total = (self.resolve(value) for value in function["inputs"])
        reduced, _ = self.split(total)
        if reduced is None or reduced["attributes"].get("reductionOpName") != "LogSum":
            return None
        return x if self.resolve(reduced["inputs"][0]) == x else None

    def taps(self, more: Iterable[str]) -> dict[str, str]:
        """All values that may be asked for, by the names under which a copy gives them."""
        inner = (
            value for name in self.values for kind in ("layer", "core") if (value := self.capture(f"{kind}:{name}"))
        )
        values = dict.fromkeys([*self.outputs.values(), *more, *inner])
        return {f"hub value {i}": value for i, value in enumerate(values)}

    # -- the copy ----------------------------------------------------------------------------------------

    def tapped(self, taps: Mapping[str, str], names: Mapping[str, str]) -> Tree:
        """The model with the outputs `taps`, name to value, and inputs called `names`, by uid; without blocks."""
        # What is used before it is computed, as in a recurrence, is also among the inputs, as a placeholder.
        inputs = [
            {**v, "uid": self.resolve(v["uid"]), "name": names.get(v["uid"], v.get("name", ""))}
            for v in self.tree["inputs"]
            if v["uid"] not in self._bound
        ]
        functions = self._ordered({v["uid"] for v in inputs})
        functions += [_function(name, _NOOP, [value]) for name, value in taps.items()]
        functions.append(_function("hub values", _COMBINE, [f"{name}_Output_0" for name in taps]))
        return {**self.tree, "root": "hub values", "inputs": inputs, "primitive_functions": functions}

    def _ordered(self, known: set[str]) -> list[Tree]:
        """The functions without blocks, each behind those whose values it takes, except for what is `known`."""
        opened = {
            uid: {**function, "inputs": [self.resolve(value) for value in function["inputs"]]}
            for uid, function in self._functions.items()
            if function["op"] not in (_BLOCK, _COMBINE)
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


def _function(uid: str, op: int, inputs: list[str]) -> Tree:
    # Any other uid that begins so would have to be of a function of the same op.
    return {
        "type": "PrimitiveFunction",
        "version": _VERSION,
        "uid": uid,
        "op": op,
        "attributes": {},
        "inputs": inputs,
        "name": uid,
    }


def _op(function: Tree) -> str:
    if function["op"] == _BLOCK:
        return str(function.get("block_function_op_name") or "Block")
    return OPERATORS.get(function["op"], f"function {function['op']}")


def _called(function: Tree) -> str:
    return str(function.get("name") or function["uid"])


def _input(variable: Tree) -> Input:
    axes: list[Axis] = variable["dynamic_axis"]
    ordered = [axis.name for axis in axes if axis.name != BATCH.name]
    names = ("N", *("T" if name == "defaultDynamicAxis" else name for name in ordered)) if axes else ()
    sizes = tuple(None if size >= FREE else int(size) for size in reversed(variable["shape"]))
    return Input(variable["uid"], variable.get("name", ""), sizes, names, int(variable["data_type"]))
