"""Cases of Apple's suites that fail for a reason which is not a wrong value of hub's, and the reason."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["EXPLAINED", "Explained", "reason"]


@dataclass(frozen=True)
class Explained:
    """Failures of a suite whose id and message match these patterns (`re.search`) have this reason."""

    suite: str
    case: str
    message: str
    reason: str


EXPLAINED: tuple[Explained, ...] = ()


def reason(suite: str, case: str, message: str) -> str:
    """Why this failure is none of hub's, or nothing."""
    for entry in EXPLAINED:
        if entry.suite == suite and re.search(entry.case, case) and re.search(entry.message, message):
            return entry.reason
    return ""
