"""A live module captured as a program by torch.export, in the process that has it."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hub.errors import HubError, UsageError
from importers.torch.given import Given, sizes
from importers.torch.recurrent import kept_whole
from importers.torch.sources import evaluating

__all__ = ["capture", "example", "parameters"]

_TRIES = 6
_LARGE = 128
_ENDLESS = 1 << 30
_ADVICE = (
    "What depends on the numbers can be rewritten (torch.where in place of if), a size that is not free can be given "
    "as a number in inputs=, and a program that you capture yourself, torch.export.export(model, ...), is taken too"
)


def parameters(module: Any) -> tuple[list[str], list[str]]:
    """The parameters of `forward`, and those of them without a default.

    Raises:
        UsageError: it takes any number of them.
    """
    names, required = [], []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        names.append(parameter.name)
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    if not names:
        raise UsageError(
            f"forward() of {type(module).__name__} does not name its inputs; put it into an nn.Module whose does"
        )
    return names, required


def capture(module: Any, inputs: Sequence[Given]) -> tuple[Any, list[str]]:
    """The program of `module` in eval mode, and what the user should know.

    Raises:
        HubError: torch.export cannot capture it; the first line of its message, and the way out.
    """
    import torch

    said = []
    if module.training:
        said.append(f"{type(module).__name__} was in training mode; it was read as in eval mode")
    names = list(inspect.signature(module.forward).parameters)
    tried = sizes(inputs)
    first = next(module.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    values = {one.name: example(one, tried, device) for one in inputs}
    leading = [one.name for one, name in zip(inputs, names, strict=False) if one.name == name]
    leading = leading[: next((i for i, name in enumerate(names) if name not in values), len(names))]
    arguments = tuple(values[name] for name in leading)
    keywords = {name: value for name, value in values.items() if name not in leading}
    dims = {name: torch.export.Dim(name) for name in tried}
    shapes: Any = {
        one.name: None if one.fixed else {i: dims[n] for i, n in enumerate(one.shape) if isinstance(n, str)}
        for one in inputs
    }
    multiples: dict[str, str] = {}
    with evaluating(module), kept_whole(), _plain_attention(), _quiet():
        for _ in range(_TRIES):
            # What holds for multiples of a number only (UNet) is checked at run time, as such sizes cannot be saved.
            later: dict[str, Any] = {"prefer_deferred_runtime_asserts_over_guards": True} if multiples else {}
            try:
                program = torch.export.export(module, arguments, keywords, dynamic_shapes=shapes, strict=False, **later)
            except Exception as error:  # noqa: BLE001 (it runs the user's code)
                shapes = _refined(error, shapes, type(module).__name__, multiples)
            else:
                return program, said + _narrowed(shapes) + list(multiples.values())
    raise HubError(f"{type(module).__name__}: torch.export finds ever new conditions on the sizes. {_ADVICE}")


def example(one: Given, tried: dict[str, int], device: Any = "cpu") -> Any:
    """A tensor (or the value) to try an input with."""
    import torch

    if one.fixed:
        return one.value
    if one.example is not None:
        found = one.example if isinstance(one.example, torch.Tensor) else torch.from_numpy(_plain(one.example))
        return found.detach().to(device)
    shape = [tried[n] if isinstance(n, str) else n for n in one.shape]
    dtype = getattr(torch, one.dtype)
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype).to(device)
    return torch.ones(shape, dtype=dtype, device=device)  # an index that is there in most tables


def _plain(array: Any) -> Any:
    import numpy as np

    return np.ascontiguousarray(array)


def _refined(error: Exception, shapes: Any, name: str, multiples: dict[str, str]) -> Any:
    """The shapes with what torch.export found about them, if that still is what the user asked for."""
    from torch.export.dynamic_shapes import refine_dynamic_shapes_from_suggested_fixes

    text = str(error)
    fixes = text.partition("Suggested fixes:")[2]
    lines = [line.strip() for line in fixes.strip().splitlines() if " = " in line]
    constant = [line for line in lines if re.fullmatch(r"\w+ = \d+", line)]
    if constant:
        what = ", ".join(line.replace(" = ", " is always ") for line in constant)
        raise HubError(
            f"{name} does not leave these sizes free, torch.export says: {what}. "
            f"Give them as numbers in inputs=, or rewrite what depends on them"
        ) from error
    known = len(multiples)
    for derived in [line for line in lines if re.fullmatch(r"\w+ = .*\b_\w+\b.*", line) and "Dim(" not in line]:
        size, _, expression = derived.partition(" = ")
        words = re.sub(r"\b_\w+", "k", expression)
        multiples[size] = f"the size {size} has to be {words} for some number k"
    lines = [line for line in lines if line.partition(" ")[0] not in multiples and not line.startswith("_")]
    lines += [
        line for line in least(text) if line.partition(" ")[0] not in {known.partition(" ")[0] for known in lines}
    ]
    if not lines and len(multiples) > known:
        return shapes
    try:
        if lines:
            return refine_dynamic_shapes_from_suggested_fixes("\n".join(["Suggested fixes:", *lines]), shapes)
    except Exception as again:
        raise HubError(f"torch.export cannot capture {name}: {_gist(error)}. {_ADVICE}") from again
    raise HubError(f"torch.export cannot capture {name}: {_gist(error)}. {_ADVICE}") from error


_VIOLATED = re.compile(r"Not all values of (\w+) = .* satisfy the generated guard (.+?)\.?$", re.MULTILINE)
_SIZE = re.compile(r"L\['\w+'\](?:\[\w+\])*\.size\(\)\[\d+\]")


def least(text: str) -> list[str]:
    """What torch.export does not suggest itself: the sizes from which on its conditions hold, such as that no size
    in the middle of the network becomes 1."""
    found: dict[str, int] = {}
    for name, guard in _VIOLATED.findall(text.replace("IntInfinity()", str(_ENDLESS))):
        if len(set(_SIZE.findall(guard))) != 1:
            return []
        condition = _SIZE.sub("n", guard)
        holds = [_holds(condition, n) for n in range(_LARGE)]
        first = _LARGE - holds[::-1].index(False) if False in holds else 0
        if first > _LARGE // 2:
            return []
        found[name] = max(found.get(name, 2), first)
    return [f"{name} = Dim('{name}', min={first})" for name, first in found.items()]


def _holds(condition: str, n: int) -> bool:
    """A condition of torch.export's on one size."""
    allowed = (ast.Expression, ast.BoolOp, ast.boolop, ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop, ast.Compare,
               ast.cmpop, ast.Constant, ast.Load)  # fmt: skip
    try:
        tree = ast.parse(condition, mode="eval")
        if all(isinstance(p, allowed) or (isinstance(p, ast.Name) and p.id == "n") for p in ast.walk(tree)):
            return bool(eval(compile(tree, "condition", "eval"), {"__builtins__": {}}, {"n": n}))
    except (SyntaxError, ArithmeticError, ValueError, TypeError):
        pass
    return False


def _gist(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    return f"{type(error).__name__}: {text[:400]}".rstrip(":. ")


def _narrowed(shapes: Any) -> list[str]:
    """What holds for the sizes, in words."""
    said = {}
    for axes in shapes.values():
        for dim in (axes or {}).values():
            text = str(dim)
            low, high = getattr(dim, "min", 0), getattr(dim, "max", _ENDLESS)
            bounds = [f"{low} or more"] * bool(low > 2) + [f"{high} or less"] * bool(high < _ENDLESS)
            if bounds:
                said[text] = f"the size {dim.__name__} has to be {' and '.join(bounds)}"
    return list(said.values())


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Transformer layers as what they are made of, not as the one fused operator of PyTorch's fast path."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _quiet() -> Iterator[None]:
    import logging

    loggers = [logging.getLogger(name) for name in ("torch", "torch.export", "torch._dynamo", "torch.fx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
