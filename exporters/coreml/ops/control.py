"""Branches and loops, whose bodies are blocks of the program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.coreml.emit import Emitter, Var


def _one(emit: Emitter, value: Any) -> Var:
    """A condition as a number without axes."""
    var = emit.var(value) if isinstance(value, ir.Value) else value
    return emit("squeeze", x=var) if len(var.shape) else var


@OPS("If", outputs=1 << 16)
def if_(emit: Emitter, condition: ir.Value, *, then_branch: ir.Graph, else_branch: ir.Graph) -> list[Var]:
    if (known := emit.array(condition)) is not None:
        return emit.body(then_branch if known.all() else else_branch, {})
    made = emit(
        "cond",
        pred=_one(emit, condition),
        _true_fn=lambda: tuple(emit.nested(then_branch, {})),
        _false_fn=lambda: tuple(emit.nested(else_branch, {})),
    )
    return list(made) if isinstance(made, tuple | list) else [made]


@OPS("Loop", since=11, outputs=1 << 16)
def loop(emit: Emitter, count: ir.Value | None, condition: ir.Value | None, *states: ir.Value, body: ir.Graph) -> Any:
    """While the number of the step is below the count and the condition holds; without what each step gives out."""
    if len(body.outputs) > 1 + len(states):
        raise Refusal("what each of an unknown number of steps gives out")
    if count is None and condition is None:
        raise Refusal("a loop without an end")
    last = np.int32(2**31 - 1) if count is None else _one(emit, count)
    holds = emit.var_of(np.asarray(True)) if condition is None else _one(emit, condition)

    def goes(step: Var, going: Var, *now: Var) -> Var:
        return emit("logical_and", x=emit("less", x=step, y=last), y=going)

    def once(step: Var, going: Var, *now: Var) -> tuple[Var, ...]:
        given = dict(zip(body.inputs, (step, going, *now), strict=True))
        after, *others = emit.nested(body, given)
        return emit("add", x=step, y=np.int32(1)), _one(emit, after), *others

    first = emit.var_of(np.asarray(0, np.int32))
    made = emit("while_loop", _cond=goes, _body=once, loop_vars=(first, holds, *(emit.var(s) for s in states)))
    return list(made)[2:]
