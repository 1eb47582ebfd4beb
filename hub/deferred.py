"""Imports onnx_ir without SymPy, until arithmetic on symbolic sizes asks for it.

SymPy takes 0.2 s and 25 MB to import, a third of what converting a ResNet50 costs, and onnx_ir
imports it at its top while few models need it. While onnx_ir is being imported (and only then) the
name `sympy` stands for a module that imports the real one when something of it is first used.
Nothing else in the process sees it; where onnx_ir or SymPy is loaded already, nothing happens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["defer_sympy"]

LIBRARY, DEFERRED = "onnx_ir", "sympy"


def defer_sympy() -> None:
    """Arrange for the next import of onnx_ir to leave SymPy for later."""
    if LIBRARY not in sys.modules and DEFERRED not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Later:
    """A function of SymPy that was named while onnx_ir was imported: looked up when it is called."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(DEFERRED), self._name)(*args, **kwargs)


class _Deferred(ModuleType):
    """Stands for SymPy in the modules of onnx_ir."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(name) if sys.modules.get(DEFERRED) is self else getattr(import_module(DEFERRED), name)


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._loader
        module.__loader__ = self._loader
        stand_in = None if DEFERRED in sys.modules else _Deferred(DEFERRED)
        if stand_in is not None:
            sys.modules[DEFERRED] = stand_in
        try:
            self._loader.exec_module(module)
        finally:
            if stand_in is not None and sys.modules.get(DEFERRED) is stand_in:
                del sys.modules[DEFERRED]


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != LIBRARY:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec
