"""The parts of coremltools that the exporter uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from hub.secluded import COREMLTOOLS

__all__ = ["Library", "coremltools"]


class Library:
    """coremltools, imported where `hub.secluded` lets it be seen."""

    def __init__(self) -> None:
        import coremltools as ct
        from coremltools.converters.mil import Builder, converter, input_types
        from coremltools.converters.mil.backend.nn import op_mapping
        from coremltools.converters.mil.mil import Function, Program, types
        from coremltools.converters.mil.mil.passes import pass_pipeline, pass_registry
        from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
        from coremltools.converters.mil.mil.passes.graph_pass import PassOption
        from coremltools.optimize.coreml import _post_training_quantization as quantization
        from coremltools.optimize.coreml import _quantization_passes as passes

        self.ct: Any = ct
        self.builder: Any = Builder
        self.input_types: Any = input_types
        self.converter: Any = converter
        self.function: Any = Function
        self.program: Any = Program
        self.types: Any = types
        self.option: Any = PassOption
        self.passes: Any = pass_pipeline.PassPipelineManager
        self.pipeline: Any = pass_pipeline.PassPipeline
        bars = ((pass_pipeline, "tqdm"), (op_mapping, "_tqdm"), (quantization, "tqdm"), (passes, "tqdm"))
        self._replaced: list[tuple[Any, str, Any]] = [(module, name, _plainly) for module, name in bars]
        # A search of all weights, with indices of each number, for what `precision.Chosen` has looked for already.
        self._replaced.append((FP16ComputePrecision, "fp16_overflow", staticmethod(_chosen_already)))
        # Before and after each pass, the whole program is looked through and, for a log that nobody sees, written out.
        self._replaced += [(Program, "validate", _later), (Program, "__str__", object.__repr__)]
        # What is chosen for half precision stays in the pass, of which there is one, the user's too.
        self._replaced.append((pass_registry.PASS_REGISTRY["common::add_fp16_cast"], "op_selector", None))
        self.validate: Any = Program.validate

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Without bars of progress, and without what the exporter does itself."""
        before = [vars(owner)[name] for owner, name, _ in self._replaced]
        for owner, name, ours in self._replaced:
            setattr(owner, name, ours)
        try:
            yield
        finally:
            for (owner, name, _), theirs in zip(self._replaced, before, strict=True):
                setattr(owner, name, theirs)


def _plainly(items: Iterable[Any], *_: Any, **__: Any) -> Iterable[Any]:
    """In place of a bar of progress."""
    return items


def _later(*_: Any, **__: Any) -> None:
    """In place of looking for faults in a program: `Library.validate` does it once, at the end."""


def _chosen_already(_: Any) -> bool:
    """In place of whether an operation has a constant beyond float16."""
    return False


_library: Library | None = None


@contextmanager
def coremltools() -> Iterator[Library]:
    """Use coremltools inside of this.

    Raises:
        ImportError: it is not installed, or is broken.
    """
    global _library
    with COREMLTOOLS.use():
        if _library is None:
            _library = Library()
        with _library.quiet():
            yield _library
