"""coremltools, without the frameworks that it would load.

`import coremltools` imports PyTorch, TensorFlow and scikit-learn where they are installed, which takes seconds, and an
exporter needs none of them. Here it is imported as if they were not there, and put out of sight after use, so that a
user who imports coremltools later gets all of it.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["Library", "coremltools"]

ROOT = "coremltools"
HEAVY = ("torch", "tensorflow", "sklearn", "xgboost", "libsvm")
"""What coremltools would import only to see whether it is there."""

_ours: dict[str, ModuleType] = {}


class Library:
    """The parts of coremltools that the exporter uses."""

    def __init__(self) -> None:
        import coremltools as ct
        from coremltools.converters.mil import Builder, converter, input_types
        from coremltools.converters.mil.backend.nn import op_mapping
        from coremltools.converters.mil.mil import Function, Program, types
        from coremltools.converters.mil.mil.passes import pass_pipeline
        from coremltools.converters.mil.mil.passes.graph_pass import PassOption

        self.ct: Any = ct
        self.builder: Any = Builder
        self.input_types: Any = input_types
        self.converter: Any = converter
        self.function: Any = Function
        self.program: Any = Program
        self.types: Any = types
        self.option: Any = PassOption
        self.pipeline: Any = pass_pipeline.PassPipeline
        self._bars = ((pass_pipeline, "tqdm"), (op_mapping, "_tqdm"))

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Without bars of progress."""
        before = [getattr(module, name) for module, name in self._bars]
        for module, name in self._bars:
            setattr(module, name, _plainly)
        try:
            yield
        finally:
            for (module, name), bar in zip(self._bars, before, strict=True):
                setattr(module, name, bar)


def _plainly(items: Iterable[Any], *_: Any, **__: Any) -> Iterable[Any]:
    """In place of a bar of progress."""
    return items


_library: Library | None = None


@contextmanager
def coremltools() -> Iterator[Library]:
    """Use coremltools inside of this; whatever it logs or warns is not shown.

    Raises:
        ImportError: it is not installed, or is broken.
    """
    global _library
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), _visible():
            warnings.simplefilter("ignore")
            if _library is None:
                _library = Library()
            with _library.quiet():
                yield _library
    finally:
        logging.disable(level)


@contextmanager
def _visible() -> Iterator[None]:
    """Our coremltools among the modules; the user's own, if it is loaded, is used as it is."""
    if ROOT in sys.modules and not _ours:
        yield
        return
    theirs = _taken()
    hidden = [name for name in HEAVY if name not in sys.modules]
    sys.modules.update(_ours)
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)
        _ours.update(_taken())
        sys.modules.update(theirs)


def _taken() -> dict[str, ModuleType]:
    """Take all of coremltools out of the modules."""
    names = [name for name in sys.modules if name == ROOT or name.startswith(ROOT + ".")]
    return {name: sys.modules.pop(name) for name in names}
