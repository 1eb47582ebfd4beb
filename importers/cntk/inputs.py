"""The inputs of a network: dynamic axes first, in the names N and T, then the static ones in NumPy's order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.dnn import FREE, INFERRED
from hub.errors import InvalidModel, UsageError
from importers.cntk.context import Tensor
from importers.cntk.functions import INPUT, PLACEHOLDER, Network, Ref, Variable

__all__ = ["DTYPES", "Shapes", "declare"]

Shapes = Mapping[str, Sequence[int | str | None]]

DTYPES = {1: ir.DataType.FLOAT, 2: ir.DataType.DOUBLE, 4: ir.DataType.FLOAT16}

BATCH, SEQUENCE = "defaultBatchAxis", "defaultDynamicAxis"

DENSE = "sequences are dense: all of a batch have one length; CNTK's own may differ in length"


def declare(
    builder: GraphBuilder, network: Network, refs: Iterable[Ref], shapes: Shapes, warnings: list[str]
) -> dict[Ref, Tensor]:
    """The inputs among `refs`, in the order of the file, which is that of CNTK's arguments reversed."""
    wanted = {ref.uid for ref in refs if ref.index < 0}
    found = [v for v in network.variables.values() if v.uid in wanted and v.kind in (INPUT, PLACEHOLDER)]
    unknown = sorted(set(shapes) - {variable.name or variable.uid for variable in found})
    if unknown:
        names = ", ".join(variable.name or variable.uid for variable in found)
        raise UsageError(f"there is no input {unknown[0]!r}; inputs are {names or 'none'}")
    return {Ref(variable.uid): _input(builder, variable, shapes, warnings) for variable in found}


def _input(builder: GraphBuilder, variable: Variable, shapes: Shapes, warnings: list[str]) -> Tensor:
    name = variable.name or variable.uid
    where = f"the input {name[:80]!r}"
    if variable.kind == PLACEHOLDER:
        raise InvalidModel(f"the placeholder {name[:80]!r} stands for nothing; the model is not complete")
    if variable.data_type not in DTYPES:
        raise InvalidModel(f"{where} is of type {variable.data_type}, which no numbers have")
    ordered = [axis.name for axis in variable.axes if axis.ordered]
    batches = [axis.name for axis in variable.axes if not axis.ordered]
    if len(ordered) > 1 or len(batches) > 1 or (ordered and not batches) or "UnknownAxes" in ordered:
        raise InvalidModel(f"{where} has the dynamic axes {', '.join(a.name for a in variable.axes)[:80]}")
    sizes: list[int | str] = ["N"] * len(batches)
    sizes += ["T" if axis == SEQUENCE else axis for axis in ordered]
    sizes += [_size(size, name, axis, where) for axis, size in enumerate(reversed(variable.shape))]
    value = builder.input(name, DTYPES[variable.data_type], _given(name, sizes, shapes.get(name)))
    if ordered and DENSE not in warnings:
        warnings.append(DENSE)
    if variable.sparse:
        warnings.append(f"{where} is sparse in CNTK; here it takes dense numbers")
    return Tensor(value, bool(batches), ordered[0] if ordered else None)


def _size(size: int, name: str, axis: int, where: str) -> int | str:
    if size in (FREE, INFERRED):
        return f"{name}_dim{axis}"
    if not 0 < size < 1 << 31:
        raise InvalidModel(f"{where} has a size of {size}")
    return size


def _given(name: str, sizes: Sequence[int | str], given: Sequence[int | str | None] | None) -> list[int | str]:
    """The shape as the caller says it, where the model leaves it open."""
    if given is None:
        return list(sizes)
    if len(given) != len(sizes):
        raise UsageError(f"input {name!r} has the shape {tuple(sizes)}, which {tuple(given)} contradicts")
    final: list[int | str] = []
    for ours, theirs in zip(sizes, given, strict=True):
        if isinstance(theirs, int) and (theirs <= 0 or (isinstance(ours, int) and ours != theirs)):
            raise UsageError(f"input {name!r} has the shape {tuple(sizes)}, which {tuple(given)} contradicts")
        final.append(ours if theirs is None or isinstance(ours, int) else theirs)
    return final
