"""Model: a thin wrapper of `onnx_ir.Model` in the canonical dialect."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hub.canonical import COLUMNS, LAYER, LAYOUT, PERMUTATION, layer_of, tidy
from hub.errors import HubError, UsageError
from hub.opset import compatible, lower

__all__ = ["Model", "TensorInfo"]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: `shape` has an int, or the name of a dynamic size, per axis; `layout` such as NHWC."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str | None = None

    def __str__(self) -> str:
        layout = f" {self.layout}" if self.layout else ""
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]{layout}"


class Model:
    """A network in the canonical dialect.

    Attributes:
        ir: the `onnx_ir.Model`; weights are lazy or memory-mapped.
        source: name of the format that it was read from.
        warnings: what the reader wants the user to know.
        variant: what kind of that format it was, in a few words, such as "plain Caffe 1.0"; or nothing.
        opening: with which options its source is opened to be run, where there are several ways.
    """

    def __init__(
        self, model: ir.Model, source: str = "onnx", warnings: Sequence[str] = (), *, variant: str = ""
    ) -> None:
        self.ir = model
        self.source = source
        self.warnings = list(warnings)
        self.variant = variant
        self.opening: dict[str, Any] = {}
        self._session: Any = None

    @property
    def inputs(self) -> list[TensorInfo]:
        """The graph inputs, in order, without those that only name a weight."""
        return [_info(value) for value in self.ir.graph.inputs if value.name not in self.ir.graph.initializers]

    @property
    def outputs(self) -> list[TensorInfo]:
        """The graph outputs, in order."""
        return [_info(value) for value in self.ir.graph.outputs]

    @property
    def layers(self) -> list[str]:
        """The source's layer names, in the order of execution."""
        return list(dict.fromkeys(layer_of(node) for node in self.ir.graph))

    def run(self, inputs: Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike] | npt.ArrayLike) -> dict[str, Any]:
        """Run the network in ONNX Runtime on the CPU.

        `inputs`: arrays by input name, or in the order of `inputs`, or the one array.

        Returns:
            The outputs by name.

        Raises:
            UsageError: an input is missing, unknown, or of the wrong shape.
        """
        if self._session is None:
            self._session = session(self.ir)
        feeds = self._feeds(inputs)
        names = [value.name for value in self.outputs]
        return dict(zip(names, _run(self._session, feeds), strict=True))

    def _feeds(self, inputs: Any) -> dict[str, npt.NDArray[Any]]:
        infos = self.inputs
        if isinstance(inputs, Mapping):
            given = dict(inputs)
        else:
            arrays = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
            if len(arrays) != len(infos):
                raise UsageError(f"{len(arrays)} arrays for {len(infos)} inputs: {', '.join(map(str, infos))}")
            given = dict(zip((info.name for info in infos), arrays, strict=True))
        unknown = sorted(set(given) - {info.name for info in infos})
        missing = [info.name for info in infos if info.name not in given]
        if unknown or missing:
            raise UsageError(f"inputs are {', '.join(map(str, infos))}; unknown: {unknown}, missing: {missing}")
        feeds = {}
        for info in infos:
            array = np.asarray(given[info.name])
            if info.dtype != array.dtype.name and array.dtype.kind in "fiub" and info.dtype not in ("string", "object"):
                array = array.astype(np.dtype(info.dtype))
            expected = info.shape
            if len(expected) != array.ndim or any(
                isinstance(size, int) and size != got for size, got in zip(expected, array.shape, strict=True)
            ):
                raise UsageError(f"input {info} was given the shape {array.shape}")
            feeds[info.name] = array
        return feeds

    def summary(self) -> str:
        """Inputs, outputs, size and operator counts as text."""
        counts = Counter(node.op_type for node in self.ir.graph)
        weights = [v.const_value for v in self.ir.graph.initializers.values() if v.const_value is not None]
        origin = f"{self.source}, {self.variant}" if self.variant else self.source
        lines = [
            f"{self.ir.graph.name or 'model'} (from {origin}, ONNX opset {self.ir.opset_imports.get('')})",
            *(f"  input   {info}" for info in self.inputs),
            *(f"  output  {info}" for info in self.outputs),
            f"  {sum(counts.values())} nodes from {len(self.layers)} layers, "
            f"{sum(t.size for t in weights):,} parameters, {sum(t.nbytes for t in weights) / 1e6:.1f} MB",
            "  " + ", ".join(f"{op} {count}" for op, count in counts.most_common()),
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        inputs, outputs = ", ".join(map(str, self.inputs)), ", ".join(map(str, self.outputs))
        return f"<hub.Model from {self.source}: {inputs} -> {outputs}, {self.ir.graph.num_nodes()} nodes>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """Inputs, outputs and counts as JSON-ready data."""
        return {
            "source": self.source,
            "variant": self.variant or None,
            "inputs": [asdict(info) for info in self.inputs],
            "outputs": [asdict(info) for info in self.outputs],
            "nodes": dict(Counter(node.op_type for node in self.ir.graph)),
            "layers": len(self.layers),
        }


def _info(value: ir.Value) -> TensorInfo:
    dtype = value.dtype.numpy().name if value.dtype is not None else "unknown"
    if value.dtype == ir.DataType.STRING:
        dtype = "string"
    shape: tuple[int | str, ...] = ()
    if value.shape is not None:
        shape = tuple(d if isinstance(d, int) else str(d.value or f"dim{i}") for i, d in enumerate(value.shape))
    return TensorInfo(value.name or "", dtype, shape, value.metadata_props.get(LAYOUT))


def session(
    model: ir.Model, *, optimize: bool = False, taps: Sequence[str] = (), external_data: bool | None = None
) -> Any:
    """An ONNX Runtime session of a model; `taps` are values that become outputs as well.

    The file is written to a temporary folder, its weights beside it where it has to be (or `external_data` is True),
    and those are memory-mapped by the runtime, so that a model over 2 GB is an ordinary model.

    Raises:
        HubError: ONNX Runtime refuses the model.
    """
    import onnxruntime

    from hub import onnxfile

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it burns what others could use
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    outputs = list(model.graph.outputs)
    values = {value.name: value for node in model.graph for value in node.outputs}
    present = {value.name for value in outputs}
    with tempfile.TemporaryDirectory(prefix="hub-") as folder:
        path = Path(folder) / "model.onnx"
        try:
            model.graph.outputs.extend(
                values[tap] for tap in dict.fromkeys(taps) if tap in values and tap not in present
            )
            onnxfile.save(lower(model, compatible(model)), path, external_data=external_data)
        finally:
            model.graph.outputs[:] = outputs
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except _ort_errors() as error:
            raise HubError(f"ONNX Runtime refuses the model: {error}") from error


def _run(opened: Any, feeds: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
    try:
        outputs: list[Any] = opened.run(None, dict(feeds))
    except _ort_errors() as error:
        raise HubError(f"ONNX Runtime failed: {error}") from error
    return outputs


def _ort_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions, which have no public base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [e for e in vars(state).values() if isinstance(e, type) and issubclass(e, Exception)]
    return (*found, RuntimeError, ValueError)


def select_outputs(model: ir.Model, names: Sequence[str]) -> None:
    """Make the named values, or the results of the named source layers, the outputs of `model`, in place.

    A value that the layout pass has transposed is given back in the source's layout.

    Raises:
        UsageError: a name is neither; the message lists near ones.
    """
    import difflib

    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs}
    by_layer = {node.metadata_props[LAYER]: node.outputs[0] for node in graph if LAYER in node.metadata_props}
    chosen = []
    for name in names:
        value = values.get(name) or by_layer.get(name)
        if value is None:
            near = difflib.get_close_matches(name, [*by_layer, *(n for n in values if n)], 5, 0.5)
            raise UsageError(f"there is no output or layer {name!r}; near are {', '.join(near) or 'none'}")
        chosen.append((name, value))
    before = {value.name for value in graph.outputs}
    graph.outputs.clear()
    for name, value in chosen:
        graph.outputs.append(value if name == value.name and name in before else _as_in_source(graph, value, name))
        graph.outputs[-1].metadata_props.pop(PERMUTATION, None)
    tidy(model)


def _as_in_source(graph: ir.Graph, value: ir.Value, name: str) -> ir.Value:
    """`value` in the layout that it has in the source, by the nodes that this takes."""
    steps: list[tuple[str, list[int]]] = []
    if PERMUTATION in value.metadata_props:
        steps = [("Transpose", [int(i) for i in value.metadata_props[PERMUTATION].split(",")])]
    elif COLUMNS in value.metadata_props:
        sizes, perm = ([int(i) for i in part.split(",")] for part in value.metadata_props[COLUMNS].split(";"))
        steps = [("Reshape", [0, *sizes]), ("Transpose", perm), ("Reshape", [0, math.prod(sizes)])]
    for number, (op_type, argument) in enumerate(steps):
        label = f"{name}/output" if number == len(steps) - 1 else f"{name}/output_{number}"
        shape = list(value.shape) if value.shape is not None else None
        if op_type == "Transpose":
            node = ir.node("Transpose", [value], {"perm": argument}, name=label)
            shape = None if shape is None else [shape[i] for i in argument]
        else:
            target = ir.Value(
                name=f"{label}/shape",
                const_value=ir.tensor(np.array(argument, np.int64)),
                type=ir.TensorType(ir.DataType.INT64),
                shape=ir.Shape([len(argument)]),
            )
            graph.register_initializer(target)
            node = ir.node("Reshape", [value, target], name=label)
            shape = None if shape is None else [shape[0], *argument[1:]]
        out = node.outputs[0]
        out.name, out.type, out.shape = label, value.type, None if shape is None else ir.Shape(shape)
        graph.append(node)
        value = out
    if steps:
        holder = next((v for n in graph for v in n.outputs if v.name == name), None)
        if holder is not None:
            holder.name = f"{name}/inner"
        value.name = name
    return value
