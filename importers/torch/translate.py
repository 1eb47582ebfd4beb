"""A program (`ExportedProgram`) to ONNX by torch.onnx, in a child."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hub.errors import HubError, Refusal, UnsupportedOps, UsageError
from importers.torch.outputs import named
from importers.torch.recurrent import translations

__all__ = ["ports", "translate"]

OPSET = 20
"""What torch.onnx writes: from 20 on Gelu is an operator, and before 23 attention is made of products and Softmax,
which every target has."""


def translate(program: Any, to: Path, said: Any) -> dict[str, Any]:
    """Write `program` as ONNX to the path `to`; `said` are names for its free sizes, if the user gave some.

    Raises:
        UnsupportedOps: naming every operator without a form in ONNX.
        HubError: torch.onnx failed in another way.
    """
    import onnx_ir as ir
    import torch

    _refuse_projections(program)
    try:
        made = torch.onnx.export(
            program,
            (),
            dynamo=True,
            optimize=False,
            opset_version=OPSET,
            verbose=False,
            custom_translation_table=translations(),
        )
    except Exception as error:
        raise _explained(program, error) from error
    assert made is not None
    outputs = list(named(torch.utils._pytree.tree_unflatten(
        [f"{i}" for i in range(len(made.model.graph.outputs))], program.call_spec.out_spec)))  # fmt: skip
    inputs = [{**port, "value": None, "fixed": False} for port in ports(program)]
    _named_by_user(inputs, said)
    ir.save(made.model, to, external_data=f"{to.name}.data")
    return {"inputs": inputs, "outputs": outputs, "warnings": [], "script": False}


def _refuse_projections(program: Any) -> None:
    """torch.onnx leaves the projections of an LSTM out, without a word."""
    refusals = []
    for node in program.graph.nodes:
        if node.op == "call_function" and str(node.target) == "aten.lstm.input":
            _, _, weights, biased, layers, _, _, both, *_ = node.args
            if len(weights) != layers * (2 if both else 1) * (4 if biased else 2):
                refusals.append(("LSTM", _layer(node), Refusal("its states are projected (proj_size)")))
    if refusals:
        raise UnsupportedOps.collect("torch.onnx cannot convert:", refusals)


def _layer(node: Any) -> str:
    """The module that a node of a program is in."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack and stack[-1][0] else str(node.name)


def ports(program: Any) -> list[dict[str, Any]]:
    """The inputs of a program: name, type, and shape, in which a text is a free size."""
    import torch

    user = set(program.graph_signature.user_inputs)
    found = []
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in user:
            continue
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            shape = [n if isinstance(n, int) else str(n) for n in value.shape]
            found.append({"name": node.name, "dtype": str(value.dtype).removeprefix("torch."), "shape": shape})
    return found


def _named_by_user(inputs: list[dict[str, Any]], said: Any) -> None:
    """The user's names for the sizes that the program leaves free."""
    if not said:
        return
    by_name = said if isinstance(said, dict) else dict(zip([i["name"] for i in inputs], said, strict=False))
    unknown = [name for name in by_name if name not in [i["name"] for i in inputs]]
    if unknown:
        raise UsageError(f"the program has no input {', '.join(map(repr, unknown))}; it has "
                         f"{', '.join(repr(i['name']) for i in inputs)}")  # fmt: skip
    for one in inputs:
        wanted = by_name.get(one["name"])
        if wanted is None:
            continue
        sizes, have = wanted.get("shape"), one["shape"]
        if sizes is None or len(sizes) != len(have) or wanted["dtype"] not in (one["dtype"], "float32") or any(
            isinstance(h, int) and h != w for h, w in zip(have, sizes, strict=True)
        ):  # fmt: skip
            text = "x".join(map(str, have))
            raise UsageError(
                f"the input {one['name']!r} of the program is {one['dtype']} {text}, which was fixed when it was "
                f"captured; inputs= can only name the sizes that it leaves free"
            )
        if any(isinstance(w, int) and not isinstance(h, int) for h, w in zip(have, sizes, strict=True)):
            raise UsageError(
                f"the input {one['name']!r} of the program has free sizes, {'x'.join(map(str, have))}; give them names"
            )
        one["called"] = sizes


def _explained(program: Any, error: Exception) -> HubError:
    missing = _missing(program)
    if missing:
        return UnsupportedOps.collect("torch.onnx cannot convert:", missing)
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return HubError(f"torch.onnx cannot convert it: {type(cause).__name__}: {' '.join(lines[:2])[:400]}")


def _missing(program: Any) -> list[tuple[str, str, Refusal]]:
    """Every node for which torch.onnx has no form, after the decompositions that it makes."""
    import operator

    try:
        from torch.onnx._internal.exporter import _decomp, _dispatching, _registration

        registry = _registration.ONNXRegistry.from_torchlib(opset_version=OPSET)
        known = set(_decomp.get_onnx_implemented_overloads(registry))
        program = program.run_decompositions(_decomp.create_onnx_friendly_decomposition_table(known))
    except Exception:  # noqa: BLE001 (these are internals of torch.onnx: without them the first error has to do)
        return []
    found = []
    for node in program.graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        try:
            function, message = _dispatching.dispatch(node, registry)
        except Exception as error:  # noqa: BLE001
            function, message = None, str(error)
        if function is None:
            reason = "torch.onnx has no form of it in ONNX"
            if registry.is_registered(node.target):
                reason = f"torch.onnx has no form of it in ONNX for these types: {' '.join(message.split())[:160]}"
            found.append((str(node.target), _layer(node), Refusal(reason)))
    return found
