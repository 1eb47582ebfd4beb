"""Programs and TorchScript are looked through before PyTorch loads them.

Loading a `.pt2` evaluates expressions of sizes that stand in it as Python text, looks up the functions that it names
from `torch` on, and falls back to plain unpickling; TorchScript has operators that write files. What a network
does not need is refused here, by name.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hub.errors import InvalidModel, blaming

__all__ = ["program", "script"]

_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|prim|quantized|quantized_decomposed|torchvision|higher_order|onnx_hub)(\.\w+){1,2}|"
    r"_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_)|"
    r"math\.(trunc|ceil|floor|sqrt|log|exp)|"
    r"torch\.(sym_\w+|_sym_\w+)|torch\.fx\.experimental\.symbolic_shapes\.\w+"
)
_FUNCTIONS = frozenset(
    """Symbol Integer Float Rational Add Mul Pow Max Min Mod PythonMod FloorDiv CeilDiv CleanDiv ModularIndexing Where
    Eq Equality Ne Unequality Lt Le Gt Ge StrictLessThan LessThan StrictGreaterThan GreaterThan And Or Not Abs
    IntTrueDiv FloatTrueDiv ToFloat TruncToInt TruncToFloat FloorToInt CeilToInt RoundToInt RoundDecimal PowByNatural
    FloatPow Identity LShift RShift floor ceiling Piecewise OpaqueUnaryFn_sqrt OpaqueUnaryFn_log Infinity IntInfinity
    NegativeInfinity NegativeIntInfinity Half One Zero NegativeOne""".split()
)
_NAMES = _FUNCTIONS | {"oo", "int_oo", "true", "false", "True", "False"}
_SHAPES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_SYMBOL = re.compile(r"[A-Za-z_]\w{0,40}|[-+0-9.e]{1,60}")
_REACHES_OUT = re.compile(
    r"\b(?:torch|ops\s*\.\s*\w+)\s*\.\s*(save|load|_?load_\w+|from_file|_?pickle\w*|classes)\b|"
    r"\bops\s*\.\s*(?!aten\b|prim\b|prims\b|quantized\b|torchvision\b|torch\b)(\w+)"
)


def program(path: Path) -> None:
    """Look through a `.pt2`.

    Raises:
        InvalidModel: it names a function that is none of a network's, has an expression that is no size, carries
            compiled code or objects, or a pickle in place of plain weights.
    """
    with blaming(str(path)), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            inner = name.partition("/")[2]
            if inner.startswith("data/aotinductor/"):
                raise InvalidModel("it carries compiled code (data/aotinductor), which would be run; it is not")
            if "custom_obj" in inner:
                raise InvalidModel(f"it carries an object of its own ({inner}), which would be unpickled; it is not")
            if inner.startswith("models/") or (inner.startswith("data/") and inner.endswith("_config.json")):
                for where, value in _walk(json.loads(archive.read(name))):
                    _entry(where, value)


def _entry(where: str, value: Any) -> None:
    if where == "target" and isinstance(value, str) and not _TARGET.fullmatch(value):
        raise InvalidModel(f"it calls {value[:80]!r}, which is no operator of PyTorch's")
    if where == "expr_str" and isinstance(value, str):
        _expression(value)


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            for key, inner in part.items():
                yield key, inner
                waiting.append(inner)
        elif isinstance(part, list):
            waiting += part


def _expression(text: str) -> None:
    """Raise InvalidModel unless `text` is an expression of sizes: numbers, symbols, and functions of them."""
    if not text.strip() or len(text) > 10_000:
        raise InvalidModel("it has an expression of sizes that is none")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidModel(f"it has the expression {text[:80]!r}, which is no size") from error
    for node in ast.walk(tree):
        known = isinstance(node, _SHAPES)
        if isinstance(node, ast.Call):
            known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        elif isinstance(node, ast.Name):
            known = node.id in _NAMES or re.fullmatch(r"_?[suzf]\d{1,9}(_\w{1,20})?", node.id) is not None
        elif isinstance(node, ast.Constant):
            known = isinstance(node.value, (bool, int, float)) or (
                isinstance(node.value, str) and _SYMBOL.fullmatch(node.value) is not None
            )
        if not known:
            raise InvalidModel(f"it has the expression {text[:80]!r}, which is no size: it would be run as Python")


def script(path: Path) -> None:
    """Look through the code of a TorchScript archive.

    Raises:
        InvalidModel: it reads or writes files, or calls operators of other libraries.
    """
    with blaming(str(path)), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith(".py"):
                continue
            code = archive.read(name).decode("utf-8")
            if found := _REACHES_OUT.search(code):
                raise InvalidModel(f"its code calls {found.group(0)!r} ({name}), which no network needs; it is not run")
