"""Pad then Conv is Conv with larger pads; Pad then MaxPool is MaxPool with pads where nothing is negative.

Conv(Pad(x, p, 0), pads=q) = Conv(x, pads=p + q). A MaxPool ignores its own padding, so Pad by v is the same
where v never wins over what is there: v = -inf, or v = 0 and x >= 0, with pads smaller than the kernel so that
every window holds something. AveragePool with count_include_pad counts zeros in both forms.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporters.rules import Applied, each

__all__ = ["absorb_pads"]

_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "Softmax", "Softplus", "Abs", "HardSigmoid", "Exp"})
_PASSING = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Reshape", "Transpose", "Dropout"})


def absorb_pads(model: ir.Model) -> Applied:
    """Move the widths of Pad nodes into the only node that uses them, in place."""
    return each(model, {"Pad"}, _absorb)


def _absorb(node: ir.Node) -> str:
    """Absorb one Pad; returns why not, if not."""
    out, x = node.outputs[0], node.inputs[0]
    uses = list(out.uses())
    if out.is_graph_output() or len(uses) != 1 or uses[0][1] != 0 or x is None or x.shape is None:
        return "its result is used more than once"
    user = uses[0][0]
    mode = node.attributes.get_string("mode", "constant") if "mode" in node.attributes else "constant"
    if mode != "constant":
        return f"its mode is {mode}"
    widths = _widths(node, len(x.shape))
    if widths is None or any(width < 0 for width in widths):
        return "its widths are computed or negative"
    rank = len(x.shape)
    if any(widths[i] for i in (0, 1, rank, rank + 1)):
        return "it pads the batch or the channels"
    fill = _fill(node)
    same = {
        "Conv": fill == 0,
        "AveragePool": fill == 0 and bool(_int(user, "count_include_pad")),
        "MaxPool": fill == -np.inf or (fill == 0 and _nonnegative(x)),
    }
    if not same.get(user.op_type, False):
        return f"{user.op_type} after it does not mean the same with pads"
    if "auto_pad" in user.attributes and user.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "the padding of the next layer is not known"
    if _int(user, "ceil_mode") or len(user.outputs) > 1:
        return "the next layer rounds up"
    count = rank - 2
    own = list(user.attributes.get_ints("pads", [0] * (2 * count))) if "pads" in user.attributes else [0] * (2 * count)
    total = [a + b for a, b in zip([*widths[2:rank], *widths[rank + 2 :]], own, strict=True)]
    if user.op_type != "Conv":
        kernel = list(user.attributes.get_ints("kernel_shape"))
        if any(p >= k for p, k in zip(total, kernel * 2, strict=True)):
            return "its widths reach over a whole kernel"
    user.attributes.pop("auto_pad", None)
    user.attributes["pads"] = ir.AttrInt64s("pads", total)
    user.replace_input_with(0, x)
    return ""


def _int(node: ir.Node, name: str) -> int:
    return (node.attributes.get_int(name) or 0) if name in node.attributes else 0


def _widths(node: ir.Node, rank: int) -> list[int] | None:
    values = []
    for index in (1, 3):
        value = node.inputs[index] if len(node.inputs) > index else None
        tensor = None if value is None else ir.convenience.get_const_tensor(value)
        if value is not None and tensor is None:
            return None
        values.append(None if tensor is None else [int(i) for i in tensor.numpy().reshape(-1)])
    pads, axes = values
    if pads is None:
        return None
    which = [axis % rank for axis in axes] if axes is not None else list(range(rank))
    widths = [0] * (2 * rank)
    for axis, begin, end in zip(which, pads[: len(which)], pads[len(which) :], strict=True):
        widths[axis], widths[rank + axis] = begin, end
    return widths


def _fill(node: ir.Node) -> float | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return 0.0
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else float(tensor.numpy().reshape(-1)[0])


def _nonnegative(value: ir.Value) -> bool:
    """Whether a value is known to have no negative element."""
    node = value.producer()
    while node is not None:
        if node.op_type in _NEVER_NEGATIVE:
            return True
        if node.op_type == "Clip":
            low = node.inputs[1] if len(node.inputs) > 1 else None
            tensor = None if low is None else ir.convenience.get_const_tensor(low)
            return tensor is not None and float(tensor.numpy().reshape(-1)[0]) >= 0
        if node.op_type == "Concat":
            return all(v is not None and _nonnegative(v) for v in node.inputs)
        if node.op_type not in _PASSING or node.inputs[0] is None:
            return False
        node = node.inputs[0].producer()
    return False
