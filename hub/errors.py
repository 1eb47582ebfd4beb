"""Every error that reaches a user is a `HubError`: it says what, where and what to do next."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parity.report import Report

__all__ = [
    "HubError",
    "InvalidModel",
    "MissingDependency",
    "ParityError",
    "Refusal",
    "UnknownFormat",
    "UnsupportedOp",
    "UnsupportedOps",
    "UsageError",
    "blaming",
]


class HubError(Exception):
    """Base of all errors of this package.

    `exit_code` is the status with which the command line ends.
    """

    exit_code = 1


class UsageError(HubError):
    """The arguments contradict each other or name something that is not there."""

    exit_code = 2


class UnknownFormat(HubError):
    """The format of a source or of a destination cannot be told, or has no reader or writer."""

    exit_code = 2


class InvalidModel(HubError):
    """The input is not a valid model: truncated, inconsistent, hostile or missing."""

    exit_code = 5


class MissingDependency(HubError):
    """An optional package is needed and not installed; the message has the command to install it."""

    exit_code = 4


class ParityError(HubError):
    """The conversion ran, and its numbers are wrong. `report` says where."""

    exit_code = 1

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


class Refusal(Exception):
    """Raised by one op or layer function: this one cannot be said exactly, and why.

    It never reaches a user: the stage that called the function collects all refusals and raises
    one `UnsupportedOps`.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass
class UnsupportedOp:
    """One kind of op (or layer) that is refused for one reason, wherever it occurs in a model."""

    op: str
    reason: str
    hint: str = ""
    layers: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shown = ", ".join(self.layers[:4]) + (f", ... ({len(self.layers)} in all)" if len(self.layers) > 4 else "")
        text = f"{self.op} x{len(self.layers)}: {self.reason} [{shown}]"
        return f"{text}\n    {self.hint}" if self.hint else text


class UnsupportedOps(HubError):
    """Everything in a model that cannot be converted, at once. `ops` lists it."""

    exit_code = 3

    def __init__(self, message: str, ops: Sequence[UnsupportedOp]) -> None:
        self.ops = list(ops)
        super().__init__("\n".join([message, *(f"  - {op}" for op in self.ops)]))

    @classmethod
    def collect(cls, message: str, refusals: Iterable[tuple[str, str, Refusal]]) -> UnsupportedOps:
        """Group (op, source layer, refusal) triples by op and reason."""
        groups: dict[tuple[str, str], UnsupportedOp] = {}
        for op, layer, refusal in refusals:
            entry = groups.setdefault((op, refusal.reason), UnsupportedOp(op, refusal.reason, refusal.hint))
            entry.layers.append(layer)
        return cls(message, list(groups.values()))


DAMAGE: tuple[type[Exception], ...] = (
    RuntimeError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError, MemoryError,
    AssertionError, zipfile.BadZipFile, EOFError,
)  # fmt: skip
"""What libraries raise, and C code behind them, about a damaged file."""


@contextmanager
def blaming(where: str, *more: type[Exception]) -> Iterator[None]:
    """Errors about the content of a file name the file; what else a damaged one raises becomes `InvalidModel`."""
    try:
        yield
    except InvalidModel as error:
        if where in str(error):
            raise
        raise InvalidModel(f"{where}: {error}") from error
    except HubError:
        raise
    except (*DAMAGE, *more) as error:
        raise InvalidModel(f"{where} is damaged: {type(error).__name__}: {str(error)[:200]}") from error
