"""The table of MIL's operations, and how one is bound to its arguments.

An operation is one plain function here, whose parameters have the names, and the defaults, that MIL gives its
inputs. What may be computed is positional, and handed over as a value of the graph (`Values` for several). What MIL
demands to be constant is keyword-only, and handed over as its annotation says: a number or a string, `Ints`, `Array`,
or the `Const` itself:

    @op("conv")
    def conv(mil: Mil, x: ir.Value, weight: ir.Value, bias: ir.Value | None = None, *, pad_type: str = "valid", ...)

An input, or an attribute in the file, that the function does not name is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from hub.errors import InvalidModel, Refusal
from hub.optable import parameters_of
from importers.coreml.constants import Const

__all__ = ["HINT", "OPS", "REFUSED", "Bools", "Ints", "Said", "Unread", "Values", "bind", "op"]

Said = Callable[..., Any]
Ints: TypeAlias = Sequence[int]
Bools: TypeAlias = Sequence[bool]
Values: TypeAlias = Sequence[ir.Value]
Unread: TypeAlias = Any
"""What says nothing beyond the types in the file."""

OPS: dict[str, Said] = {}
"""Operation -> function."""

REFUSED = {
    "conv_quantized": "quantized weights inside of a convolution have no form here",
    "read_state": "it keeps numbers from one prediction to the next, which ONNX has no form for",
    "coreml_update_state": "it keeps numbers from one prediction to the next, which ONNX has no form for",
    "custom_layer": "it runs code that is not in the model",
    "_const_symbolic": "it is no operation of a file",
}
"""Operation -> why there is none."""

HINT = "give what comes before it with outputs=, or register a function with importers.coreml.table.op"

MOST_LISTED = 1 << 16
"""Numbers in what is handed over as a list."""


def op(*names: str) -> Callable[[Said], Said]:
    """Register a function for operations; a second registration is an error."""

    def register(said: Said) -> Said:
        for name in names:
            if name in OPS:
                raise ValueError(f"the MIL operation {name} is registered twice")
            OPS[name] = said
        return said

    return register


def bind(said: Said, given: Mapping[str, Sequence[Any]], value: Callable[[Any], ir.Value]) -> dict[str, Any]:
    """The keywords for a function: what it names of `given`, constants as it asks for them.

    `given`: for each input its arguments, a `Const` or anything else that has been computed; `value` makes a value of
    the graph of one.

    Raises:
        Refusal: it does not name an input, or an input that has to be constant is computed.
        InvalidModel: one is missing, or of another type.
    """
    bound: dict[str, Any] = {}
    named = {p.name: p for p in parameters_of(said)[1:]}
    for name in given:
        if name not in named:
            raise Refusal(f"its input {name[:60]!r} is not supported", HINT)
    for name, parameter in named.items():
        if name not in given:
            if parameter.default is parameter.empty:
                raise InvalidModel(f"its input {name!r} is missing")
            continue
        kind = str(parameter.annotation).removesuffix(" | None")
        arguments = given[name]
        if kind == "Unread":
            continue
        if parameter.kind is not parameter.KEYWORD_ONLY:
            if kind != "Values" and len(arguments) != 1:
                raise InvalidModel(f"its input {name!r} has {len(arguments)} values")
            bound[name] = [value(one) for one in arguments] if kind == "Values" else value(arguments[0])
            continue
        if not all(isinstance(one, Const) for one in arguments):
            raise Refusal(f"its input {name!r} is computed, and has to be constant")
        bound[name] = _python(kind, arguments, name)
    return bound


def _python(kind: str, arguments: Sequence[Const], name: str) -> Any:
    """Constants as an annotation asks for them."""
    if kind in ("Ints", "Bools"):
        if sum(_size(one) for one in arguments) > MOST_LISTED:
            raise InvalidModel(f"its input {name!r} has too many numbers")
        found = [item for one in arguments for item in one.numpy().reshape(-1).tolist()]
        if not all(isinstance(item, bool) == (kind == "Bools") and isinstance(item, int) for item in found):
            raise InvalidModel(f"its input {name!r} is of another type")
        return found
    if len(arguments) != 1:
        raise InvalidModel(f"its input {name!r} has {len(arguments)} values")
    (one,) = arguments
    if kind == "Const":
        return one
    if kind == "Array":
        return one.numpy()
    if _size(one) != 1:
        raise InvalidModel(f"its input {name!r} has {_size(one)} numbers")
    found = one.numpy().reshape(()).item()
    fits = {
        "int": isinstance(found, int) and not isinstance(found, bool),
        "float": isinstance(found, int | float) and not isinstance(found, bool),
        "bool": isinstance(found, bool),
        "str": isinstance(found, str),
        "Any": True,
    }
    if not fits[kind]:
        raise InvalidModel(f"its input {name!r} is of another type, {type(found).__name__}")
    return float(found) if kind == "float" else found


def _size(one: Const) -> int:
    return int(np.prod(one.shape, dtype=np.float64))
