"""A CNTK model as its file says it, checked: variables, functions, and what stands for what.

A file lists all functions of a model side by side, those inside of blocks too. A block (a layer of CNTK's library,
a composite operator) says which of them gives its result, and what each of its placeholders stands for. So blocks
can be looked through: `Network.source` leads from any name of a value to the function or variable behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.dnn import OPERATORS, Axis, MappedArray, Shape
from hub.errors import InvalidModel

__all__ = ["Function", "Network", "Ref", "Variable", "parse"]

INPUT, OUTPUT, PARAMETER, CONSTANT, PLACEHOLDER = range(5)
"""The kinds of variables (CNTKLibrary.h)."""

BLOCK, COMBINE = "Block", "Combine"


@dataclass(frozen=True, eq=False)
class Variable:
    """An input, a weight, a constant or a placeholder; shapes as CNTK has them, the fastest axis first."""

    uid: str
    kind: int
    data_type: int
    shape: Shape
    axes: tuple[Axis, ...]
    name: str = ""
    sparse: bool = False
    value: MappedArray | None = None


@dataclass(frozen=True, eq=False)
class Function:
    """A primitive function, or a block, whose `root` gives its result inside of it.

    Attributes:
        op: the name of the primitive function, or "Block"; `block` is then the name of its kind.
        version: of its form in the file.
    """

    uid: str
    op: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    name: str = ""
    version: int = 0
    block: str = ""
    root: str = ""
    arguments: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> str:
        """What errors call it."""
        return self.block or self.op

    @property
    def label(self) -> str:
        """Its name, or else its unique one."""
        return (self.name or self.uid)[:200]


@dataclass(frozen=True)
class Ref:
    """An output of a function that is no block, or a variable (`index` -1)."""

    uid: str
    index: int = -1


@dataclass
class Network:
    """The parts of a model by their unique names. `bound`: what each placeholder of a block stands for."""

    root: str
    variables: dict[str, Variable]
    functions: dict[str, Function]
    bound: dict[str, str] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    """Blocks that are not looked through, since one operator says each of them."""
    known: dict[str, Ref] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)

    def keep(self, blocks: Iterable[str]) -> None:
        """Look through these blocks no more."""
        self.kept |= set(blocks)
        self.known.clear()

    def source(self, name: str) -> Ref:
        """The function, or variable, behind the name of a value.

        Raises:
            InvalidModel: there is nothing behind it.
        """
        passed: dict[str, None] = {}
        while name not in self.known:
            if name in passed:
                raise InvalidModel(f"the value {name[:80]!r} stands for itself")
            passed[name] = None
            following = self._behind(name)
            if isinstance(following, Ref):
                self.known[name] = following
            else:
                name = following
        found = self.known[name]
        self.known.update(dict.fromkeys(passed, found))
        return found

    def _behind(self, name: str) -> str | Ref:
        """What a value is, or the name of another one that it is."""
        if name in self.bound:
            return self.bound[name]
        owner, index = self.output(name)
        if owner is None:
            if name not in self.variables:
                raise InvalidModel(f"there is no value {name[:80]!r} in the model")
            return Ref(name)
        if owner.op == BLOCK and owner.uid not in self.kept:
            return self.result(owner, index)
        return owner.inputs[index] if owner.op == COMBINE else Ref(owner.uid, index)

    def output(self, name: str) -> tuple[Function | None, int]:
        """The function that gives a value, and the number of the output; (None, -1) for a variable."""
        uid, mark, number = name.rpartition("_Output_")
        owner = self.functions.get(uid) if mark else None
        if owner is None:
            return None, -1
        count = self.width(owner)
        if not number.isdecimal() or len(number) > 6 or int(number) >= count:
            raise InvalidModel(f"{owner.label!r} ({owner.kind}) has {count} outputs, {name[:80]!r} is none of them")
        return owner, int(number)

    def result(self, block: Function, index: int = 0) -> str:
        """The name of the value inside of a block that it gives."""
        return f"{self._inside(block).uid}_Output_{index}"

    def _inside(self, block: Function) -> Function:
        inner = self.functions.get(block.root)
        if inner is None:
            raise InvalidModel(f"the block {block.label!r} has no function {block.root[:80]!r} inside")
        return inner

    def width(self, function: Function) -> int:
        """How many values a function gives; a block those of what is inside."""
        passed: dict[str, None] = {}
        while function.op == BLOCK and function.uid not in self.widths:
            if function.uid in passed:
                raise InvalidModel(f"the block {function.label!r} is inside of itself")
            passed[function.uid] = None
            function = self._inside(function)
        count = self.widths.get(function.uid)
        if count is None:
            masked = function.attributes.get("sequenceUnpackSuppressMaskOutput") is True
            count = {"TopK": 2, "UnpackSequence": 2 - masked, COMBINE: len(function.inputs)}.get(function.op, 1)
        self.widths.update(dict.fromkeys([*passed, function.uid], count))
        return count


def parse(tree: Mapping[str, Any]) -> Network:
    """The network of a model's dictionary.

    Raises:
        InvalidModel: keys are missing, values have other types, or something is there twice.
    """
    if "primitive_functions" not in tree and "root" not in tree:
        raise InvalidModel("this is a dictionary of CNTK, but no model: it has no functions")
    kind = _get(tree, "type", str, "the model")
    if kind != "CompositeFunction":
        raise InvalidModel(f"this is a {kind[:40]!r} of CNTK, no model")
    version = _get(tree, "version", int, "the model")
    if version > 3:
        raise InvalidModel(f"the model is of version {version} of CNTK's format; CNTK 2.7 writes 3")
    network = Network(_get(tree, "root", str, "the model"), {}, {})
    for entry in _entries(tree, "inputs"):
        _put(network.variables, _variable(entry))
    for entry in _entries(tree, "primitive_functions"):
        _put(network.functions, _function(entry))
    for function in network.functions.values():
        for placeholder, value in function.arguments:
            if network.bound.setdefault(placeholder, value) != value:
                raise InvalidModel(f"the placeholder {placeholder[:80]!r} stands for several values")
    if network.root not in network.functions:
        raise InvalidModel(f"the model's root {network.root[:80]!r} is none of its functions")
    return network


def _put(table: dict[str, Any], item: Any) -> None:
    if table.setdefault(item.uid, item) is not item:
        raise InvalidModel(f"there are two {type(item).__name__.lower()}s {item.uid[:80]!r}")


def _get(entry: Mapping[str, Any], key: str, kind: type, where: str, default: Any = None) -> Any:
    """The value of a key, checked."""
    value = entry.get(key, default)
    if value is None:
        raise InvalidModel(f"{where} has no {key!r}")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidModel(f"{where}: its {key!r} is of type {type(value).__name__}, not {kind.__name__}")
    return value


def _entries(tree: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = _get(tree, key, list, "the model", [])
    if not all(isinstance(entry, dict) for entry in entries):
        raise InvalidModel(f"the model: its {key!r} are not dictionaries")
    return list(entries)


def _texts(entry: Mapping[str, Any], key: str, where: str) -> list[str]:
    values = _get(entry, key, list, where, [])
    if not all(isinstance(value, str) for value in values):
        raise InvalidModel(f"{where}: its {key!r} are not names")
    return list(values)


VARIABLE = frozenset(
    """type version uid kind data_type dynamic_axis is_sparse needs_gradient shape name value initializer""".split()
)
FUNCTION = frozenset(
    """type version uid op attributes inputs name state block_function_op_name block_function_composite
    block_function_composite_arguments_map_keys block_function_composite_arguments_map_values""".split()
)


def _known(entry: Mapping[str, Any], keys: frozenset[str], where: str) -> None:
    unknown = sorted(set(entry) - keys)
    if unknown:
        raise InvalidModel(f"{where} has a key {unknown[0][:40]!r}, which is unknown here")


def _variable(entry: Mapping[str, Any]) -> Variable:
    uid = _get(entry, "uid", str, "a variable")
    where = f"the variable {uid[:80]!r}"
    _known(entry, VARIABLE, where)
    kind = _get(entry, "kind", int, where)
    if not INPUT <= kind <= PLACEHOLDER:
        raise InvalidModel(f"{where} is of kind {kind}, which is none")
    axes = _get(entry, "dynamic_axis", list, where, [])
    if not all(isinstance(axis, Axis) for axis in axes):
        raise InvalidModel(f"{where}: its dynamic axes are none")
    shape, value = _get(entry, "shape", Shape, where), entry.get("value")
    if value is not None and not isinstance(value, MappedArray):
        raise InvalidModel(f"{where}: its value is of type {type(value).__name__}")
    if kind in (PARAMETER, CONSTANT):
        if value is None:
            raise InvalidModel(f"{where} ({entry.get('name') or 'without a name'}) has no value")
        shape = value.shape
    name = _get(entry, "name", str, where, "")
    sparse = _get(entry, "is_sparse", bool, where, False)
    return Variable(uid, kind, _get(entry, "data_type", int, where), shape, tuple(axes), name, sparse, value)


def _function(entry: Mapping[str, Any]) -> Function:
    uid = _get(entry, "uid", str, "a function")
    where = f"the function {uid[:80]!r}"
    number = entry.get("op")
    op = OPERATORS.get(number, f"operator {number}") if type(number) is int else str(entry.get("type"))[:40]
    if type(number) is int:
        _known(entry, FUNCTION, where)
    name, version = _get(entry, "name", str, where, ""), _get(entry, "version", int, where, 0)
    attributes = _get(entry, "attributes", dict, where, {}) if type(number) is int else {}
    inputs = tuple(_texts(entry, "inputs", where))
    if op != BLOCK:
        return Function(uid, op, attributes, inputs, name, version)
    composite = _get(entry, "block_function_composite", dict, where)
    keys = _texts(entry, "block_function_composite_arguments_map_keys", where)
    values = _texts(entry, "block_function_composite_arguments_map_values", where)
    if len(keys) != len(values) or len(set(keys)) != len(keys):
        raise InvalidModel(f"{where}: {len(keys)} placeholders stand for {len(values)} values")
    kind = _get(entry, "block_function_op_name", str, where)
    root = _get(composite, "root", str, where)
    return Function(uid, op, attributes, inputs, name, version, kind[:80], root, tuple(zip(keys, values, strict=True)))
