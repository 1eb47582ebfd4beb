"""How a small Keras model with a name is written down: `one`, `many`, `chain`, `case`; the cases are in `keras_cases`.

`built(case)` gives the model with seeded weights in which every weight, bias and statistic matters.
Keras is imported when a case is built, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from keras_nets import randomise

__all__ = ["CASES", "EVEN", "IMAGE", "STEPS", "Case", "built", "case", "chain", "layers", "many", "one"]

IMAGE = (9, 7, 4)
EVEN = (8, 10, 4)
STEPS = (7, 5)


@dataclass(frozen=True)
class Case:
    """A model by name. `refused` is a part of the message of the `UnsupportedOps` it meets, `why` the reason."""

    name: str
    build: Callable[[], Any]
    refused: str | None = None
    sizes: tuple[tuple[int, ...], ...] = ()
    """Shapes (without the batch) of the inputs to run with, where the model leaves sizes open."""

    def __str__(self) -> str:
        return self.name


CASES: dict[str, Case] = {}


def case(
    name: str, build: Callable[[], Any], *, refused: str | None = None, sizes: Sequence[tuple[int, ...]] = ()
) -> None:
    """Add a case; a name is used once."""
    assert name not in CASES, name
    CASES[name] = Case(name, build, refused, tuple(sizes))


def layers() -> Any:
    """`keras.layers`, imported when it is first needed."""
    import keras

    return keras.layers


def one(
    name: str,
    shape: Sequence[int | None],
    make: Callable[[Any], Any],
    *,
    refused: str | None = None,
    size: tuple[int, ...] | None = None,
) -> None:
    """A case of one layer, `make(keras.layers)`, on one input."""

    def build() -> Any:
        import keras

        x = keras.Input(tuple(shape), name="image")
        return keras.Model(x, make(keras.layers)(x), name="net")

    case(name, build, refused=refused, sizes=[size] if size else ())


def many(name: str, shapes: Sequence[Sequence[int]], make: Callable[[Any], Any], *, refused: str | None = None) -> None:
    """A case of one layer on several inputs."""

    def build() -> Any:
        import keras

        xs = [keras.Input(tuple(shape), name=f"input_{i}") for i, shape in enumerate(shapes)]
        return keras.Model(xs, make(keras.layers)(xs), name="net")

    case(name, build, refused=refused)


def chain(name: str, shape: Sequence[int | None], *makes: Callable[[Any], Any], **options: Any) -> None:
    """A case of layers one after the other."""

    def build() -> Any:
        import keras

        x = y = keras.Input(tuple(shape), name="image")
        for make in makes:
            y = make(keras.layers)(y)
        return keras.Model(x, y, name="net")

    case(name, build, **options)


@lru_cache(maxsize=8)
def built(case: Case) -> Any:
    """The model of a case, with its weights."""
    import keras

    keras.utils.clear_session(free_memory=False)
    return randomise(case.build())
