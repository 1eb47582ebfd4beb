"""TFLite models in TensorFlow's own interpreter."""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hub.errors import Refusal, UnsupportedOps, UsageError, blaming
from importers.tensorflow.program import Array, Options, Port
from importers.tensorflow.session import damaged
from importers.tensorflow.sources import Source

__all__ = ["LiteProgram"]


class LiteProgram:
    """An interpreter, without delegates: each operator by TFLite's own kernel.

    Names are those of the signature, if there is one; else those of tensors, without ":0".
    """

    def __init__(self, source: Source, options: Options) -> None:
        self.title = source.title
        self.warnings: list[str] = []
        if options.tag is not None or options.signature is not None:
            raise UsageError("tag= and signature= are of SavedModels; this is a TFLite model")
        if options.values:
            raise UsageError(f"the input {next(iter(options.values))!r} of a TFLite model has no value, but a shape")
        self.path = source.path
        _refuse_custom(source)
        self._interpreter = self._open(source)
        signature = self._signature()
        ins, outs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs = [_port(d, signature.get(("inputs", d["name"]))) for d in ins]
        self.outputs = [_port(d, signature.get(("outputs", d["name"]))) for d in outs]
        ports = (*self.inputs, *self.outputs)
        self._index = {port.tensor: d["index"] for port, d in zip(ports, (*ins, *outs), strict=True)}
        self._shapes(options)
        self._select(options)

    @staticmethod
    def _open(source: Source) -> Any:
        with warnings.catch_warnings(), damaged(source):
            warnings.simplefilter("ignore")  # that the interpreter moves to another package
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
            import tensorflow as tf

            resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            # What the interpreter would map may change under it: it takes the bytes.
            interpreter = tf.lite.Interpreter(
                model_content=source.path.read_bytes(),
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=True,
            )
            interpreter.allocate_tensors()
            return interpreter

    def _signature(self) -> dict[tuple[str, str], str]:
        """Keys of the only signature by the names of tensors."""
        found = self._interpreter.get_signature_list()
        if len(found) != 1:
            return {}
        runner = self._interpreter.get_signature_runner(next(iter(found)))
        names = {("inputs", d["name"]): key for key, d in runner.get_input_details().items()}
        names |= {("outputs", d["name"]): key for key, d in runner.get_output_details().items()}
        kinds = (self._interpreter.get_input_details(), self._interpreter.get_output_details())
        return names if len(names) == len(kinds[0]) + len(kinds[1]) else {}

    def _shapes(self, options: Options) -> None:
        for name, shape in options.shapes.items():
            port = next((p for p in self.inputs if name in (p.name, p.tensor)), None)
            if port is None:
                raise UsageError(f"there is no input {name!r}; inputs are {', '.join(map(str, self.inputs))}")
            fits = port.shape is not None and len(shape) == len(port.shape)
            if not fits or any(
                a is not None and b is not None and a != b
                for a, b in zip(shape, port.shape or (), strict=False)
                if not isinstance(a, str)
            ):
                raise UsageError(f"the input {port} of a TFLite model cannot have the shape {list(shape)}")

    def _select(self, options: Options) -> None:
        if options.outputs:
            known = {key: port for port in self.outputs for key in (port.name, port.tensor)}
            for name in options.outputs:
                if name not in known:
                    raise UsageError(f"there is no output {name!r}; outputs are {', '.join(map(str, self.outputs))}")
            self.outputs = [known[name] for name in options.outputs]

    def run(self, feeds: Mapping[str, Array], tensors: Sequence[str] = ()) -> dict[str, Array]:
        """See `Program.run`.

        Raises:
            ValueError, RuntimeError: the interpreter's own.
        """
        details = {d["index"]: d for d in self._interpreter.get_input_details()}
        resized = False
        for port in self.inputs:
            index, array = self._index[port.tensor], feeds[port.name]
            if tuple(details[index]["shape"]) != array.shape:
                self._interpreter.resize_tensor_input(index, array.shape, strict=False)
                resized = True
        if resized:
            self._interpreter.allocate_tensors()
        for port in self.inputs:
            self._interpreter.set_tensor(self._index[port.tensor], np.ascontiguousarray(feeds[port.name]))
        self._interpreter.invoke()
        found = {port.name: self._interpreter.get_tensor(self._index[port.tensor]) for port in self.outputs}
        wanted = {d["name"]: d["index"] for d in self._interpreter.get_tensor_details() if d["name"] in tensors}
        for name, index in wanted.items():
            found[name] = self._interpreter.get_tensor(index)
        return found

    def operators(self) -> dict[str, str]:
        """The operators by the name of the tensor that they give first."""
        names = {d["index"]: d["name"] for d in self._interpreter.get_tensor_details()}
        return {
            names[op["outputs"][0]]: op["op_name"]
            for op in self._interpreter._get_ops_details()
            if len(op["outputs"]) and op["op_name"] != "DELEGATE"
        }

    @property
    def quantized(self) -> bool:
        """Whether it computes in integers."""
        return any(
            d["dtype"] in (np.int8, np.uint8, np.int16) and len(d["quantization_parameters"]["scales"])
            for d in self._interpreter.get_tensor_details()
        )

    def close(self) -> None:
        """See `Program.close`."""
        self._interpreter = None


def _port(detail: Mapping[str, Any], key: str | None) -> Port:
    sizes = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    name = detail["name"]
    shape = tuple(None if size < 0 else int(size) for size in sizes)
    return Port(key or name.removesuffix(":0"), name, np.dtype(detail["dtype"]).name, shape)


BUILT_IN = frozenset({"TFLite_Detection_PostProcess"})
"""Custom operators that the interpreter has, and tf2onnx too."""


def _refuse_custom(source: Source) -> None:
    """Refuse custom operators, which are code outside of the file, by name.

    Raises:
        UnsupportedOps: there are some.
        InvalidModel: the file is no TFLite model.
    """
    with blaming(str(source.path), struct.error):
        found = list(_custom(source.path.read_bytes()))
    refusals = []
    for name, label in found:
        if name == "DENSIFY":
            refusals.append((name, label, Refusal("its weights are sparse, which tf2onnx does not read")))
            continue
        hint = "convert the SavedModel that it was made of" if name.startswith("Flex") else ""
        refusals.append((name, label, Refusal("it is a custom operator, whose code is not in the file", hint)))
    if refusals:
        raise UnsupportedOps.collect(f"{source.path} has operators that cannot be converted:", refusals)


def _custom(content: bytes) -> Iterator[tuple[str, str]]:
    """The custom operators, and those of sparse weights, each with the tensor that it gives first."""
    from tf2onnx.tflite.BuiltinOperator import BuiltinOperator
    from tf2onnx.tflite.Model import Model

    if content[4:8] != b"TFL3":
        raise ValueError("it has not the mark TFL3")
    model = Model.GetRootAs(content, 0)
    for g in range(model.SubgraphsLength()):
        graph = model.Subgraphs(g)
        for i in range(graph.OperatorsLength()):
            operator = graph.Operators(i)
            code = model.OperatorCodes(operator.OpcodeIndex())
            kind = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
            if kind not in (BuiltinOperator.CUSTOM, BuiltinOperator.DENSIFY):
                continue
            name = (code.CustomCode() or b"").decode() if kind == BuiltinOperator.CUSTOM else "DENSIFY"
            if name not in BUILT_IN:
                yield name, graph.Tensors(operator.Outputs(0)).Name().decode()
