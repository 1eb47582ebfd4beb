"""TorchScript to ONNX by torch.onnx's exporter for it, in a child."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hub.errors import HubError, Refusal, UnsupportedOps
from importers.torch.given import Given, given, sizes
from importers.torch.outputs import named

__all__ = ["parameters", "translate"]

OPSET = 20
"""The last that this exporter knows."""


def parameters(module: Any) -> tuple[list[str], list[str]]:
    """The parameters of `forward`, and those of them without a default."""
    arguments = list(module.forward.schema.arguments)[1:]
    return [a.name for a in arguments], [a.name for a in arguments if not a.has_default_value()]


def translate(module: Any, to: Path, said: Any) -> dict[str, Any]:
    """Write `module` as ONNX to the path `to`.

    Raises:
        UsageError: an input has no shape.
        HubError: torch.onnx cannot convert it; its words.
    """
    from importers.torch.capture import example
    from importers.torch.child import _restored

    _refuse_state(module)
    names, required = parameters(module)
    inputs = given(_restored(said), names, required)
    tried = sizes(inputs)
    values = {one.name: example(one, tried) for one in inputs}
    try:
        results = module(**values)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise HubError(f"the module does not run on these inputs: {' '.join(lines[-2:])[:300]}") from error
    outputs = list(named(results))
    _export(module, inputs, values, outputs, to)
    layers = {name: getattr(part, "original_name", "") for name, part in module.named_modules() if name}
    return {
        "inputs": [one.to_json() for one in inputs],
        "outputs": outputs,
        "warnings": ["TorchScript that was traced has no branches: what depended on the numbers is as it was then"]
        if _traced(module)
        else [],
        "layers": layers,
    }


def _export(module: Any, inputs: list[Given], values: dict[str, Any], outputs: list[str], to: Path) -> None:
    import torch

    free = {
        one.name: {axis: n for axis, n in enumerate(one.shape) if isinstance(n, str)} for one in inputs if not one.fixed
    }
    try:
        torch.onnx.export(
            module,
            tuple(values[one.name] for one in inputs) if _leading(module, inputs) else ({**values},),
            str(to),
            dynamo=False,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.EVAL,
            keep_initializers_as_inputs=False,
            opset_version=OPSET,
            input_names=list(free),
            output_names=outputs,
            dynamic_axes={name: axes for name, axes in free.items() if axes},
        )
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise HubError(f"torch.onnx cannot convert this TorchScript: {' '.join(lines[:2])[:400]}") from error


def _leading(module: Any, inputs: list[Given]) -> bool:
    return [one.name for one in inputs] == parameters(module)[0][: len(inputs)]


def _refuse_state(module: Any) -> None:
    """Raise UnsupportedOps if `forward` keeps something from one call to the next: ONNX has no state."""
    kept = dict.fromkeys(re.findall(r'prim::SetAttr\[name="(\w+)"\]', module.inlined_graph.str()))
    kept.pop("num_batches_tracked", None)
    if kept:
        parts = [name for name, part in module.named_children() if hasattr(part, "forward")]
        hint = f"convert a part that does not: torch.jit.load(path).NAME, of {', '.join(parts)}" if parts else ""
        refusal = Refusal("forward() keeps it from one call to the next, and ONNX has no such state", hint)
        found = [(f"attribute {name}", module.original_name, refusal) for name in kept]
        raise UnsupportedOps.collect("TorchScript that cannot be ONNX:", found)


def _traced(module: Any) -> bool:
    """Whether it comes from torch.jit.trace, whose code is one straight line: no branch, no loop, in any module."""
    return not any(word in module.inlined_graph.str() for word in ("prim::If", "prim::Loop"))
