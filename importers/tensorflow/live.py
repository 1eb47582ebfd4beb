"""Live functions of TensorFlow: run and frozen in the process that they live in, converted in a child."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.errors import InvalidModel, UsageError
from importers.tensorflow.program import Array, Port
from importers.tensorflow.session import blamed, type_name

__all__ = ["LiveProgram", "write_frozen"]


class LiveProgram:
    """A `tf.function` with one signature, a concrete function, or a module that is called.

    Inputs have the names of the arguments; outputs those of the dictionary that the function returns, or `output_0`,
    `output_1`, ..., or `output` where there is one.
    """

    def __init__(self, source: Any, inputs: Any = None, outputs: Sequence[str] = ()) -> None:
        self.title = "function"
        self.warnings: list[str] = []
        self.function = _concrete(source, inputs)
        count = len(self.function.inputs) - len(self.function.captured_inputs)
        tensors = list(self.function.inputs)[:count]
        self.inputs = [_port(_argument(t), t) for t in tensors]
        if len({port.name for port in self.inputs}) < len(self.inputs):
            self.inputs = [Port(f"{p.name}_{i}", p.tensor, p.dtype, p.shape) for i, p in enumerate(self.inputs)]
        self._names = _named(self.function.structured_outputs)
        self.outputs = [_port(n, t) for n, t in zip(self._names, self.function.outputs, strict=True)]
        if outputs:
            known = {port.name: port for port in self.outputs}
            for name in outputs:
                if name not in known:
                    raise UsageError(f"the function has no output {name!r}; outputs are {', '.join(known)}")
            self.outputs = [known[name] for name in outputs]

    def run(self, feeds: Mapping[str, Array], tensors: Sequence[str] = ()) -> dict[str, Array]:
        """See `Program.run`."""
        import tensorflow as tf

        given = [tf.constant(feeds[port.name], dtype=port.dtype) for port in self.inputs]
        results = self.function._call_flat(given, self.function.captured_inputs)
        results = tf.nest.flatten(results, expand_composites=True)
        found = dict(zip(self._names, results, strict=True))
        return {port.name: found[port.name].numpy() for port in self.outputs}

    def operators(self) -> dict[str, str]:
        """See `Program.operators`."""
        return {op.name: op.type for op in self.function.graph.get_operations()}

    def close(self) -> None:
        """Nothing to do: the function is the user's."""


def write_frozen(source: Any, inputs: Any, outputs: Sequence[str] | None, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Freeze a live function into a file; returns it, and how it is opened."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    program = LiveProgram(source, inputs, outputs or ())
    with blamed("the function cannot be frozen"):
        frozen = convert_variables_to_constants_v2(program.function, lower_control_flow=False, aggressive_inlining=True)
        graph = frozen.graph.as_graph_def()
    if graph.ByteSize() >= (1 << 31) - 1:
        raise InvalidModel("the frozen function has 2 GiB or more, which no message of protobuf can have")
    path = folder / "function.pb"
    path.write_bytes(graph.SerializeToString())
    places = {name: tensor.name for name, tensor in zip(program._names, frozen.outputs, strict=True)}
    ports = {
        "inputs": {port.name: port.tensor for port in program.inputs},
        "outputs": {port.name: places[port.name] for port in program.outputs},
    }
    shapes = {port.tensor: list(port.shape) for port in program.inputs if port.shape is not None}
    return path, {"shapes": shapes, "values": {}, "outputs": [], "tag": None, "signature": None, "ports": ports}


def _concrete(source: Any, inputs: Any) -> Any:
    """The concrete function of a source.

    Raises:
        UsageError: it has none or several, and `inputs` do not say which.
    """
    import tensorflow as tf

    if hasattr(source, "structured_input_signature") and hasattr(source, "graph"):
        return source
    if not hasattr(source, "get_concrete_function"):
        if not callable(source):
            raise UsageError(f"a {type(source).__name__} is not a function of TensorFlow")
        source = tf.function(source)
    if inputs:
        items = list(inputs.items()) if isinstance(inputs, Mapping) else [(None, given) for given in inputs]
        specs = [(name, _spec(name, given)) for name, given in items]
        with blamed("the function cannot be traced"):
            if isinstance(inputs, Mapping):
                return source.get_concrete_function(**{str(name): spec for name, spec in specs})
            return source.get_concrete_function(*(spec for _, spec in specs))
    if getattr(source, "input_signature", None) is not None:
        return source.get_concrete_function()
    known = source._list_all_concrete_functions() if hasattr(source, "_list_all_concrete_functions") else []
    if len(known) == 1:
        return known[0]
    raise UsageError(
        f"the function has {len(known) or 'no'} signature{'s' if len(known) > 1 else ''}; say which with "
        'inputs={"x": tf.TensorSpec([None, 8])}, or give a concrete function'
    )


def _spec(name: str | None, given: Any) -> Any:
    import tensorflow as tf

    if isinstance(given, list | tuple):
        return tf.TensorSpec([size if isinstance(size, int) else None for size in given], tf.float32, name=name)
    if isinstance(given, tf.TensorSpec):
        return tf.TensorSpec(given.shape, given.dtype, name=name or given.name)
    return given


def _named(structure: Any) -> list[str]:
    """Names of the tensors that a function returns, in the order in which TensorFlow flattens them."""
    import tensorflow as tf

    if isinstance(structure, Mapping) and all(not isinstance(v, Mapping | list | tuple) for v in structure.values()):
        return [str(key) for key in sorted(structure)]
    flat = tf.nest.flatten(structure, expand_composites=True)
    return ["output"] if len(flat) == 1 else [f"output_{i}" for i in range(len(flat))]


def _argument(tensor: Any) -> str:
    given: str = tensor.op.node_def.attr["_user_specified_name"].s.decode()
    return given or str(tensor.op.name)


def _port(name: str, tensor: Any) -> Port:
    shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return Port(name, tensor.name, type_name(tensor.dtype), shape)
