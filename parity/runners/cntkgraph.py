"""The values within a CNTK model that can be asked for: what leaves its named functions, and what goes into the
activations of its outputs."""

from __future__ import annotations

from hub.dnn import Tree
from parity.runners import SQUASHING, LoadFailed
from parity.runners.cntktree import BLOCK, COMBINE, Functions, op_of

__all__ = ["Graph"]

_OWN = frozenset("_ELU _static_axes_subop _batch_axes_subop _sequence_axes_subop".split())
"""Names that CNTK itself gives to functions inside of its blocks."""

_PASSING = frozenset("Reshape TransposeAxes Squeeze Flatten NoOp Pass StopGradient Dropout".split())
"""Functions that change no number, or only where it is."""
_MOVING = frozenset("Reshape TransposeAxes Squeeze Flatten".split())
_SQUASHING = SQUASHING | {"stablesigmoid"}
_ACTIVATIONS = _SQUASHING | {"relu", "elu", "selu", "leakyrelu", "prelu", "hardmax", "clip"}


class Graph(Functions):
    """`layers` are the names of functions, and their ops. What leaves a layer has its name; what it is made of is
    called NAME.ROLE, or has no name. `before` is what goes into squashing functions: by "before:OUTPUT" the value,
    the op, and whether it has the output's shape.

    Raises:
        LoadFailed: the tree is not a model's, or has functions that are code of the user.
    """

    def __init__(self, tree: Tree) -> None:
        try:
            super().__init__(tree)
            self._layers = self._named()
            self._names: dict[str, list[str]] = {}
            for name, (_, value) in self._layers.items():
                self._names.setdefault(value, []).append(name)
            self.layers = {name: op for name, (op, _) in self._layers.items()}
            self.ops = {name: op_of(self.split(value)[0] or {"op": -1}) for name, value in self._ends.items()}
            self.before = {f"before:{name}": at for name in self.outputs if (at := self._squashed(name)) is not None}
            inner = [self.capture(f"{kind}:{name}") for name in self.layers for kind in ("layer", "core")]
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise LoadFailed(f"it is not a model of CNTK: {type(error).__name__} {error}") from error
        values = [*self.outputs.values(), *(value for value, _, _ in self.before.values()), *filter(None, inner)]
        self.taps = {f"hub value {i}": value for i, value in enumerate(dict.fromkeys(values))}
        """All values that may be asked for, by the names under which a copy gives them."""

    def capture(self, tap: str) -> str | None:
        """The value that "layer:NAME", "exit:NAME" or "core:NAME" asks for. The core is what goes into a last
        activation, where that is of the same layer."""
        kind, _, name = tap.partition(":")
        if name not in self._layers or kind not in ("layer", "exit", "core"):
            return None
        value = self._layers[name][1]
        function, _ = self.split(value)
        if kind != "core" or function is None or op_of(function).lower() not in _ACTIVATIONS:
            return value
        inner = self.resolve(function["inputs"][0])
        mine = all(other.startswith(f"{name}.") for other in self._names.get(inner, []))
        return inner if mine and self.split(inner)[0] is not None else value

    def _named(self) -> dict[str, tuple[str, str]]:
        """By name the op and the value. Of functions of one name it is the one that the others lead to."""
        candidates: dict[str, list[Tree]] = {}
        for function in self._functions.values():
            if function.get("name") and function["name"] not in _OWN and function["op"] != COMBINE:
                candidates.setdefault(function["name"], []).append(function)
        named = {}
        for name, functions in candidates.items():
            last: dict[str, Tree] = {}  # of those that give one value the outermost, which is a block
            for function in sorted(functions, key=lambda f: f["op"] == BLOCK):
                last[self.resolve(f"{function['uid']}_Output_0")] = function
            if len(last) > 1:
                inner = {value for other in last for value in self._sources(other) - {other}}
                last = {value: function for value, function in last.items() if value not in inner}
            if len(last) == 1:
                ((value, function),) = last.items()
                if self.split(value)[0] is not None:
                    named[name] = (op_of(function), value)
        return named

    def _sources(self, value: str) -> set[str]:
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

    # -- what is squashed --------------------------------------------------------------------------------

    def _squashed(self, output: str) -> tuple[str, str, bool] | None:
        """What goes into the squashing function that an output comes from, if a function computes it. Between it and
        the output there may be functions that change no number."""
        value, same = self._ends[output], True
        seen: set[str] = set()
        while value not in seen:
            seen.add(value)
            function, _ = self.split(value)
            op = op_of(function) if function else ""
            source = self._softmax(function) if function else None
            if source is None and function and op.lower() in _SQUASHING:
                source = self.resolve(_argument(function))
            if source is not None:
                return (source, op, same) if self.split(source)[0] is not None else None
            inner = _argument(function) if function and op in _PASSING else self.step(value)
            if inner is None:
                return None
            value, same = inner, same and op not in _MOVING
        return None

    def _softmax(self, function: Tree) -> str | None:
        """The x of x - log(sum(exp(x))) and of exp of that, as Softmax over any axis is written."""
        if op_of(function) == "Exp":
            function = self.split(self.resolve(function["inputs"][0]))[0] or {"op": -1}
        if op_of(function) != "Minus":
            return None
        x, total = (self.resolve(value) for value in function["inputs"])
        reduced, _ = self.split(total)
        if reduced is None or reduced["attributes"].get("reductionOpName") != "LogSum":
            return None
        return x if self.resolve(reduced["inputs"][0]) == x else None


def _argument(function: Tree) -> str:
    """The argument of a function of one; the inputs of a block begin with its parameters."""
    key = "block_function_composite_arguments_map_values" if function["op"] == BLOCK else "inputs"
    return str(function[key][0])
