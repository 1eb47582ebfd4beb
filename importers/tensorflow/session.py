"""Graphs of TensorFlow in a session: SavedModels, checkpoints and frozen graphs, all in the same way.

A SavedModel of TensorFlow 2 is opened as one of TensorFlow 1 too, which is how TensorFlow Serving runs it: its
signatures are nodes of the graph. `tf.saved_model.load` would make Python objects of it, and fails on many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from hub.errors import HubError, InvalidModel, UnsupportedOps, UsageError
from importers.tensorflow import graphs, sources
from importers.tensorflow.graphs import Nodes, full, key_of, split
from importers.tensorflow.program import Array, Frozen, Options, Port
from importers.tensorflow.sources import Source

__all__ = ["SessionProgram", "blamed", "damaged", "gist", "type_name"]

LARGEST = (1 << 31) - (1 << 20)
"""Bytes in a frozen graph: one message of protobuf has less than 2 GiB."""


class SessionProgram:
    """A graph, its variables, and the tensors that are its inputs and outputs."""

    def __init__(self, source: Source, options: Options) -> None:
        import tensorflow as tf

        self._tf = tf
        self.title = source.title
        self.warnings: list[str] = []
        self.options = options
        graph, saver, signature = self._read(source)
        self._strip(graph)
        self.nodes = Nodes(graph)
        with damaged(source):
            self.graph = tf.Graph()
            with self.graph.as_default(), tf.device("/cpu:0"):
                tf.import_graph_def(graph, name="")
        self._given = {**dict.fromkeys(options.shapes), **dict.fromkeys(options.values)}
        self.outputs = self._outputs(signature)
        self.values: dict[str, Any] = {}
        self.inputs = self._inputs(signature)
        self._check()
        config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=0)
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self.session = tf.compat.v1.Session(graph=self.graph, config=config)
        if saver is not None:
            self._restore(source, saver)

    def _read(self, source: Source) -> tuple[Any, Any, Any]:
        """The graph, how its variables are restored, and its signature."""
        if source.kind == "graph":
            return sources.graph_def(source.path), None, self.options.ports
        if source.kind == "checkpoint":
            meta = sources.message(source.path / f"{source.name}.meta", "MetaGraphDef")
        else:
            meta = sources.meta_graph(source.path, self.options.tag)
        if not meta.graph_def.node:
            raise InvalidModel(f"{source.path} is damaged: its graph has no nodes")
        signature = None
        if source.kind == "saved":
            found = sources.signature_of(meta, self.options.signature, source.path)
            kinds = {"inputs": found[1].inputs, "outputs": found[1].outputs} if found is not None else {}
            signature = {kind: {key: info.name for key, info in sorted(kinds[kind].items())} for kind in kinds}
        return meta.graph_def, meta.saver_def if meta.HasField("saver_def") else None, signature

    @staticmethod
    def _strip(graph: Any) -> None:
        """Take away where things were computed, and what kept functions from being written out."""
        for node in (*graph.node, *(node for function in graph.library.function for node in function.node_def)):
            node.device = ""
            for name in ("_XlaMustCompile", "_noinline"):
                node.attr.pop(name, None)
        for function in graph.library.function:
            for name in ("_XlaMustCompile", "_noinline", "api_implements"):
                function.attr.pop(name, None)

    # -- inputs and outputs ---------------------------------------------------------------------

    def _outputs(self, signature: Any) -> list[Port]:
        known = dict((signature or {}).get("outputs", {}))
        if self.options.outputs:
            chosen = {key_of(name): known.get(name, name) for name in self.options.outputs}
        elif known:
            chosen = known
        else:
            chosen = {key_of(name): name for name in self._sinks()}
        tensors = graphs.wanted(self.nodes, list(chosen.values()), "output")
        return [self._port(name, tensor) for name, tensor in zip(chosen, tensors, strict=True)]

    def _sinks(self) -> list[str]:
        given = [name for name in self._given if split(name)[0] in self.nodes.by_name]
        scalars = {
            op.name
            for op in self.graph.get_operations()
            if op.outputs and all(output.shape.rank == 0 for output in op.outputs)
        }
        found = graphs.candidates(self.nodes, scalars, {full(name) for name in given})
        found = [name for name in found if self.graph.get_operation_by_name(name).outputs]
        if len(found) == 1:
            return [
                output.name
                for output in self.graph.get_operation_by_name(found[0]).outputs
                if output.dtype.name not in ("variant", "resource")
            ][:1]
        if not found:
            raise UsageError(
                "the graph does not say what its outputs are, and none can be told; name them with outputs="
            )
        listed = ", ".join(str(self._port(name, f"{name}:0")) for name in found[:30])
        more = f", ... ({len(found)} in all)" if len(found) > 30 else ""
        raise UsageError(
            f"the graph does not say which of these are its outputs; name them with outputs=: {listed}{more}"
        )

    def _inputs(self, signature: Any) -> list[Port]:
        known = dict((signature or {}).get("inputs", {}))
        named = {full(name): key for key, name in known.items()}
        chosen: dict[str, str] = {}
        for name in self._given:
            if name not in known:
                (tensor,) = graphs.wanted(self.nodes, [name], "input")
                named.setdefault(tensor, key_of(name))
        tensors = {key: tensor for tensor, key in named.items()}
        for name, value in self.options.values.items():
            self.values[tensors.get(name) or full(name)] = self._value(name, tensors.get(name) or full(name), value)
        given = {tensors.get(name) or full(name) for name in self.options.shapes}
        needed = self.nodes.needed([p.tensor for p in self.outputs], {*given, *self.values})
        for node in self.nodes.by_name.values():
            tensor = f"{node.name}:0"
            if node.name not in needed or node.op not in graphs.HOLDERS or tensor in given or tensor in self.values:
                continue
            if node.op == "PlaceholderWithDefault" and tensor not in named and self._constant(node):
                continue
            chosen[tensor] = named.get(tensor, node.name)
            if self.graph.get_tensor_by_name(tensor).dtype.name == "bool":
                hint = f"inputs={{{node.name!r}: False}} gives it a value, and takes it away"
                self.warnings.append(f"the input {node.name!r} chooses what is computed; {hint}")
        chosen |= {tensor: named[tensor] for tensor in given}
        order = {tensor: i for i, tensor in enumerate(named)}
        listed = sorted(chosen, key=lambda tensor: order.get(tensor, len(order)))
        users = {full(x) for node in needed.values() for x in node.input} | {p.tensor for p in self.outputs}
        for tensor in listed:
            if tensor in given and tensor not in users:
                raise UsageError(f"the outputs do not depend on the input {chosen[tensor]!r}")
        return [self._port(chosen[tensor], tensor, self._shape(chosen[tensor], tensor)) for tensor in listed]

    def _constant(self, node: Any) -> bool:
        """Whether a placeholder keeps its default: a number alone, such as is_training, that nobody named."""
        output = self.graph.get_tensor_by_name(f"{node.name}:0")
        default = self.nodes.by_name.get(split(node.input[0])[0])
        if output.shape.rank != 0 or default is None or default.op != "Const":
            return False
        value = self._tf.make_ndarray(default.attr["value"].tensor)
        self.values[f"{node.name}:0"] = default.attr["value"].tensor
        self.warnings.append(
            f"the input {node.name!r} keeps its default, {value}; inputs={{{node.name!r}: ...}} sets it"
        )
        return True

    def _value(self, name: str, tensor: str, value: Any) -> Any:
        found = self.graph.get_tensor_by_name(tensor)
        try:
            array = np.asarray(value)
            if (array.dtype.kind == "b") != (found.dtype.name == "bool"):
                raise ValueError(f"it is a {array.dtype.name}")
            array = array.astype(found.dtype.as_numpy_dtype)
            if not found.shape.is_compatible_with(array.shape):
                raise ValueError(f"its shape is {list(array.shape)}, not {found.shape}")
            return self._tf.make_tensor_proto(array, dtype=found.dtype)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"the value of the input {name!r} is not one of type {found.dtype.name}: {error}"
            ) from error

    def _shape(self, name: str, tensor: str) -> Sequence[int | str | None] | None:
        for key, shape in self.options.shapes.items():
            if key == name or full(key) == tensor:
                return shape
        return None

    def _port(self, name: str, tensor: str, shape: Sequence[int | str | None] | None = None) -> Port:
        try:
            found = self.graph.get_tensor_by_name(tensor)
        except (KeyError, ValueError) as error:
            raise UsageError(f"the graph has no tensor {tensor!r}: {str(error)[:200]}") from error
        known = None if found.shape.rank is None else tuple(found.shape.as_list())
        if shape is not None:
            sizes = tuple(size if isinstance(size, int) else None for size in shape)
            if not found.shape.is_compatible_with(sizes):
                raise UsageError(f"the input {name!r} has the shape {found.shape}, and cannot have {list(shape)}")
            old = known if known is not None else (None,) * len(sizes)
            known = tuple(b if a is None else a for a, b in zip(old, sizes, strict=True))
        return Port(name, tensor, type_name(found.dtype), known)

    # -- safety and variables -------------------------------------------------------------------

    def _known(self) -> set[str]:
        return {*(port.tensor for port in self.inputs), *self.values}

    def _check(self) -> None:
        """Refuse what runs code or opens files, before anything runs."""
        known = self._known()
        graphs.refuse_dangerous(self.nodes, self.nodes.needed([p.tensor for p in self.outputs], known), known)

    def _restore(self, source: Source, saver: Any) -> None:
        """Run the saver's own operator, which knows slices and averages, after a look at what it would run."""
        prefix = source.prefix if source.kind == "checkpoint" else str(source.path / "variables" / "variables")
        needed = self.nodes.needed([saver.restore_op_name])
        allowed = ("RestoreV2", "Restore", "RestoreSlice")
        graphs.refuse_dangerous(self.nodes, needed, (), allowed)
        if not any(node.op in allowed for node, _ in self.nodes.reached(needed.values())):
            return
        if source.kind == "saved" and not (source.path / "variables" / "variables.index").is_file():
            raise InvalidModel(f"{source.path}: its variables are missing, {prefix}.index does not exist")
        with damaged(source):
            self.session.run(saver.restore_op_name, {saver.filename_tensor_name: prefix})

    # -- running and freezing -------------------------------------------------------------------

    def run(self, feeds: Mapping[str, Array], tensors: Sequence[str] = ()) -> dict[str, Array]:
        """See `Program.run`."""
        tf = self._tf
        fed = {port.tensor: feeds[port.name] for port in self.inputs}
        fed |= {tensor: tf.make_ndarray(value) for tensor, value in self.values.items()}
        known = [t for t in tensors if split(t)[0] in self.nodes.by_name and self._reachable(t)]
        fetched = [*(port.tensor for port in self.outputs), *map(full, known)]
        found = self.session.run(fetched, fed)
        return dict(zip([*(port.name for port in self.outputs), *known], found, strict=True))

    def _reachable(self, tensor: str) -> bool:
        """Whether the inputs are enough for a tensor, and nothing dangerous is on the way to it."""
        try:
            known = self._known()
            needed = self.nodes.needed([full(tensor)], known)
            graphs.refuse_dangerous(self.nodes, needed, known)
            found = self.graph.get_tensor_by_name(full(tensor))
        except (HubError, KeyError, ValueError):
            return False
        names = {split(port.tensor)[0] for port in self.inputs}
        holders = [n.name for n in needed.values() if n.op in ("Placeholder", "PlaceholderV2") and n.name not in names]
        return not holders and found.dtype.name not in ("resource", "variant", "string")

    def operators(self) -> dict[str, str]:
        """See `Program.operators`."""
        needed = self.nodes.needed([p.tensor for p in self.outputs], self._known())
        return {name: node.op for name, node in self.nodes.by_name.items() if name in needed}

    def freeze(self) -> Frozen:
        """The graph of the outputs, with constants for its variables."""
        tf = self._tf
        inputs = {}
        for port in self.inputs:
            tensor = self.graph.get_tensor_by_name(port.tensor)
            shape = None if port.shape is None else tf.TensorShape(port.shape).as_proto()
            inputs[port.tensor] = (tensor.dtype.as_datatype_enum, shape)
        types = {p.tensor: self.graph.get_tensor_by_name(p.tensor).dtype.as_datatype_enum for p in self.outputs}
        graph = graphs.cut(self.nodes.graph, inputs, self.values, types)
        placed = [node.name for node in graph.node if node.op == "Placeholder"][: len(inputs)]
        order = {tensor: f"hub_output_{i}:0" for i, tensor in enumerate(types)}
        outputs = {order[p.tensor]: p.name for p in self.outputs}
        graph = self._inlined(graph, [*(f"{name}:0" for name in placed), *outputs])
        graph = self._without_variables(graph, [split(name)[0] for name in outputs])
        return Frozen(graph, {f"{n}:0": p.name for n, p in zip(placed, self.inputs, strict=True)}, outputs)

    def _inlined(self, graph: Any, kept: Sequence[str]) -> Any:
        """The graph with the functions that it calls written out, but for those of control flow."""
        from tensorflow.core.protobuf.config_pb2 import ConfigProto
        from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
        from tensorflow.python.framework.convert_to_constants import disable_lower_using_switch_merge
        from tensorflow.python.grappler import tf_optimizer

        if not graph.library.function:
            return graph
        tf = self._tf
        with tf.Graph().as_default(), blamed("its functions cannot be written out"):
            tf.import_graph_def(graph, name="")
            graph = disable_lower_using_switch_merge(graph)
            meta = tf.compat.v1.train.export_meta_graph(graph_def=graph)
            meta.collection_def["train_op"].node_list.value.extend(kept)
            config = ConfigProto()
            options = config.graph_options.rewrite_options
            options.min_graph_nodes = -1
            options.optimizers.append("function")
            options.function_optimization = RewriterConfig.AGGRESSIVE
            return tf_optimizer.OptimizeGraph(config, meta)

    def _without_variables(self, graph: Any, outputs: Sequence[str]) -> Any:
        from tensorflow.python.framework.errors_impl import OpError

        if not any(node.op in graphs.VARIABLES for node in graph.node):
            return graph
        sizes = [self._bytes(node) for node in graph.node if node.op in graphs.VARIABLES]
        if sum(sizes) + graph.ByteSize() > LARGEST:
            raise UnsupportedOps(
                f"its weights are {sum(sizes) / 2**30:.1f} GiB, and a frozen graph of TensorFlow has less than 2 GiB",
                [],
            )
        try:
            with self.graph.as_default():
                return self._tf.compat.v1.graph_util.convert_variables_to_constants(self.session, graph, list(outputs))
        except (OpError, ValueError, KeyError, TypeError) as error:
            raise InvalidModel(f"its variables cannot be read: {gist(error)}") from error

    def _bytes(self, node: Any) -> int:
        shape = self._tf.TensorShape(node.attr["shape"].shape)
        return (shape.num_elements() or 0) * int(self._tf.as_dtype(node.attr["dtype"].type).size)

    def close(self) -> None:
        """See `Program.close`."""
        self.session.close()


def damaged(source: Source) -> AbstractContextManager[None]:
    """What TensorFlow raises about a file is an `InvalidModel` that names it."""
    where = source.prefix if source.kind == "checkpoint" else str(source.path)
    return blamed(f"{where} is damaged, or TensorFlow cannot load it")


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """What TensorFlow raises is an `InvalidModel` that begins with `what`."""
    from google.protobuf.message import DecodeError
    from tensorflow.python.framework.errors_impl import OpError

    try:
        yield
    except HubError:
        raise
    except (OpError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, DecodeError) as error:
        raise InvalidModel(f"{what}: {gist(error)}") from error


def type_name(dtype: Any) -> str:
    """NumPy's name of a type of TensorFlow."""
    return "string" if dtype.name == "string" else str(dtype.as_numpy_dtype.__name__)


def gist(error: BaseException, limit: int = 300) -> str:
    """TensorFlow's message in one line, without the stack of where a node was made."""
    text = " ".join(str(getattr(error, "message", None) or error).split("\n\n")[0].split())
    return text if len(text) <= limit else text[: limit - 4] + " ..."
