"""Tensors that are known at conversion, and the computation on them that is done once there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

import numpy as np
import onnx_ir as ir

from hub.optable import attribute_value
from hub.tensors import ViewTensor, blocks, release, view, write_tensor

__all__ = ["Array", "Constant", "attributes_of", "elements", "floats", "fold_constant"]

Array: TypeAlias = "np.ndarray[Any, Any]"

_LIMIT = 1 << 20
_NEVER = frozenset(
    {
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli"),
        *("Multinomial", "If", "Loop", "Scan", "Dropout", "SequenceEmpty", "Optional"),
    }
)


@dataclass(eq=False)
class Constant:
    """A tensor known at conversion. `load` gives its data, as a view where that is possible.

    `root` is the initializer behind it, if it is one (or a view of one): such a tensor is a weight.
    `view` tells apart the different views of one root.
    """

    shape: tuple[int, ...]
    dtype: ir.DataType
    load: Callable[[], Array]
    root: ir.Value | None = None
    view: str = ""
    tensor: ir.TensorProtocol | None = None

    @property
    def size(self) -> int:
        result = 1
        for dim in self.shape:
            result *= dim
        return result

    def numpy(self) -> Array:
        return self.load()

    def viewed(self, function: Callable[[Array], Array], shape: tuple[int, ...], name: str) -> Constant:
        """A view that is evaluated when the weights are written."""
        load = self.load
        return Constant(shape, self.dtype, lambda: function(load()), self.root, f"{self.view}.{name}")

    def transposed(self) -> Constant:
        """A matrix turned round, without a copy of it."""
        rows, columns = self.shape
        tensor = None if self.tensor is None else _turned(self.tensor, rows, columns)
        load = self.load
        return Constant((columns, rows), self.dtype, lambda: load().T, self.root, f"{self.view}.T", tensor)

    def write(self, file: IO[bytes]) -> None:
        """Write the elements in C order, little endian, block by block, then let their memory go."""
        if self.tensor is not None:
            write_tensor(self.tensor, file)
            return
        for block in blocks(self.numpy()):
            native = block.astype(block.dtype.newbyteorder("<")) if block.dtype.byteorder == ">" else block
            file.write(native.reshape(-1).view(np.uint8).data)
        root = None if self.root is None else self.root.const_value
        if root is not None:
            release(root)

    @classmethod
    def of(cls, array: Array, dtype: ir.DataType | None = None) -> Constant:
        array = np.asarray(array)
        return cls(tuple(array.shape), dtype or ir.DataType.from_numpy(array.dtype), lambda: array)


def elements(sizes: Sequence[int]) -> int:
    """The product of sizes."""
    return math.prod(sizes)


def floats(constant: Constant) -> Constant:
    """The constant in float32, converted when it is written."""
    if constant.dtype == ir.DataType.FLOAT:
        return constant
    load = constant.load
    return Constant(constant.shape, ir.DataType.FLOAT, lambda: load().astype(np.float32), constant.root, constant.view)


def _turned(tensor: ir.TensorProtocol, rows: int, columns: int) -> ir.TensorProtocol | None:
    """The transpose of a matrix as a view, also where the matrix is itself a view of more axes."""
    if not isinstance(tensor, ViewTensor):
        return view(tensor, (1, 0))
    array = tensor.array
    for split in range(array.ndim + 1):
        if math.prod(array.shape[:split]) == rows and math.prod(array.shape[split:]) == columns:
            order = (*range(split, array.ndim), *range(split))
            return tensor.transformed(array.transpose(order), (columns, rows))
    return None


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """The Python values of a node's attributes."""
    return {name: attribute_value(attribute) for name, attribute in node.attributes.items()}


def fold_constant(node: ir.Node, inputs: list[Constant | None], opset: int) -> list[Constant] | None:
    """The outputs of a node whose inputs are all constant, or None if it stays in the program."""
    view = _view(node, inputs)
    if view is not None:
        return [view]
    if node.op_type in _NEVER or node.domain not in ("", "ai.onnx"):
        return None
    if sum(c.size for c in inputs if c is not None) > _LIMIT or _output_size(node) > _LIMIT:
        return None
    arrays = [None if c is None else c.numpy() for c in inputs]
    results = _evaluate(node, arrays, opset)
    if results is None or any(not _fits(r, o.shape) for r, o in zip(results, node.outputs, strict=False)):
        return None
    return [Constant.of(np.asarray(r), o.dtype) for r, o in zip(results, node.outputs, strict=False)]


def _fits(array: Array, shape: ir.Shape | None) -> bool:
    """Whether a result has the shape that it should have; in some operators of the reference it has not."""
    return shape is None or (
        array.ndim == len(shape) and all(a == b for a, b in zip(array.shape, shape, strict=True) if isinstance(b, int))
    )


def _output_size(node: ir.Node) -> int:
    total = 0
    for output in node.outputs:
        size = 1
        for dim in output.shape or ():
            size *= dim if isinstance(dim, int) else 1
        total += size
    return total


def _view(node: ir.Node, inputs: list[Constant | None]) -> Constant | None:
    x = inputs[0] if inputs else None
    shape = node.outputs[0].shape
    if x is None or shape is None or not all(isinstance(d, int) for d in shape):
        return None
    dims = tuple(int(d) for d in shape if isinstance(d, int))
    if node.op_type == "Identity":
        return x
    if node.op_type == "Transpose":
        perm = tuple(attributes_of(node).get("perm") or reversed(range(len(dims))))
        return x.viewed(lambda a: a.transpose(perm), dims, f"transpose{perm}")
    if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return x.viewed(lambda a: a.reshape(dims), dims, f"reshape{dims}")
    return None


def _evaluate(node: ir.Node, arrays: list[Array | None], opset: int) -> list[Array] | None:
    """What the ONNX reference implementation computes."""
    if node.op_type == "Constant":
        return None
    import onnx
    from onnx.reference import ReferenceEvaluator

    names = ["" if a is None else f"i{k}" for k, a in enumerate(arrays)]
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
    proto.input.extend(names)
    proto.output.extend(f"o{k}" for k in range(len(node.outputs)))
    proto.attribute.extend(ir.to_proto(attribute) for attribute in node.attributes.values())
    graph = onnx.GraphProto(name="fold")
    graph.node.append(proto)
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in names if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in proto.output)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    feeds = {name: a for name, a in zip(names, arrays, strict=True) if name}
    try:
        results = ReferenceEvaluator(model).run(None, feeds)
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, AttributeError):
        return None  # it stays a computation of the program
    if not all(isinstance(r, (np.ndarray, np.generic)) for r in results):
        return None
    return [np.asarray(r) for r in results]
