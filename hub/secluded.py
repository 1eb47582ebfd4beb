"""A package imported as if others were not installed that it would import, and out of sight afterwards.

`import coremltools` imports PyTorch, TensorFlow, SciPy and scikit-learn where they are there, only to see whether they
are: that takes seconds. Imported here it does not see them; and since it is put out of sight after use, a user who
imports coremltools later gets all of it.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from types import ModuleType

__all__ = ["COREMLTOOLS", "Secluded"]


class Secluded:
    """The package `root`, imported without `unseen`. If the user has imported it already, it is used as it is."""

    def __init__(self, root: str, unseen: Sequence[str]) -> None:
        self.root = root
        self.unseen = tuple(unseen)
        self._ours: dict[str, ModuleType] = {}
        self._one = RLock()

    @contextmanager
    def use(self) -> Iterator[None]:
        """Inside of this, importing the package gives it; what it logs or warns is not shown. One thread at a time."""
        with self._one:
            level = logging.root.manager.disable
            logging.disable(logging.CRITICAL)
            try:
                with warnings.catch_warnings(), self._visible():
                    warnings.simplefilter("ignore")
                    yield
            finally:
                logging.disable(level)

    @contextmanager
    def _visible(self) -> Iterator[None]:
        if self.root in sys.modules and not self._ours:
            yield
            return
        theirs = self._taken()
        hidden = [name for name in self.unseen if name not in sys.modules]
        sys.modules.update(self._ours)
        for name in hidden:
            sys.modules[name] = None  # type: ignore[assignment]  # importing it fails
        try:
            yield
        finally:
            for name in hidden:
                if sys.modules.get(name) is None:
                    sys.modules.pop(name, None)
            self._ours.update(self._taken())
            sys.modules.update(theirs)

    def _taken(self) -> dict[str, ModuleType]:
        """Take all of the package out of the modules."""
        names = [name for name in sys.modules if name == self.root or name.startswith(self.root + ".")]
        return {name: sys.modules.pop(name) for name in names}


COREMLTOOLS = Secluded("coremltools", ("torch", "tensorflow", "sklearn", "scipy", "xgboost", "libsvm"))
