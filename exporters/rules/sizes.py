"""Lists of sizes that are computed from shapes, followed entry by entry."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["entries"]


def entries(value: ir.Value | None, depth: int = 8) -> list[int | ir.SymbolicDim] | None:
    """A list of sizes that is computed from shapes, entry by entry; None where that cannot be followed."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is not None:
        if tensor.dtype not in (ir.DataType.INT64, ir.DataType.INT32) or len(tensor.shape) > 1 or tensor.size > 64:
            return None
        return [int(i) for i in tensor.numpy().reshape(-1)]
    node = None if value is None else value.producer()
    if value is None or node is None or depth == 0 or node.domain != "":
        return None
    if value.shape is None or len(value.shape) > 1:  # a list of lists
        return None
    if node.op_type == "Shape":
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        ends = [node.attributes.get_int(name, None) for name in ("start", "end")]
        return None if shape is None else list(shape)[ends[0] : ends[1]]
    parts = [entries(x, depth - 1) for x in node.inputs]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if node.op_type == "Concat":
        return [size for part in known for size in part]
    if node.op_type in ("Cast", "Identity", "Unsqueeze", "Squeeze"):
        return known[0]
    numbers = [[i for i in part if isinstance(i, int)] for part in known[1:]]
    if any(len(part) < len(other) for part, other in zip(numbers, known[1:], strict=True)):
        return None
    if node.op_type == "Gather":
        return (
            [known[0][i] for i in numbers[0]] if all(-len(known[0]) <= i < len(known[0]) for i in numbers[0]) else None
        )
    if node.op_type == "Slice" and all(step == [1] for step in numbers[3:]):
        return known[0][numbers[0][0] : numbers[1][0]]
    return None
