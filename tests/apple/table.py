"""The table of what came of Apple's suites."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.apple.explained import reason
from tests.apple.suites import Case, Run

__all__ = ["outcome", "table", "unexplained"]

TITLES = {
    "mil": "Operators of ML Programs (Apple's MIL suite, `mlprogram`, single precision)",
    "nn": "Layers of neural networks (Apple's NeuralNetwork suites)",
    "torch": "PyTorch operators, converted by coremltools (Apple's PyTorch suite; PyTorch is the oracle)",
}

HEAD = """# Apple's own test suites

coremltools ships its test suites; off the Mac they skip every numeric check. Here the predictions that they compare
come from hub: the model is saved, `hub.load` reads the file, and ONNX Runtime runs it. The expected values, the
tolerances and the comparison are Apple's. Nothing here was executed by Core ML itself.

"right": Apple's checks pass, with at least one prediction. "no prediction": the case passes, but it never asks for
one, so it proves nothing. "refused": hub names what it does not convert. "explained": it fails, for a reason below.
"""


def outcome(suite: str, case: Case) -> str:
    """The outcome, with "explained" for failures that have a reason."""
    if case.outcome in ("failed", "error") and reason(suite, case.id, case.message):
        return "explained"
    return case.outcome


def unexplained(run: Run) -> list[Case]:
    """The failures without a reason."""
    return [case for case in run.cases if outcome(run.suite, case) in ("failed", "error")]


def table(runs: Sequence[Run]) -> str:
    """The page."""
    parts = [HEAD, _overview(runs)]
    for run in runs:
        parts += [f"## {TITLES[run.suite]}\n", _groups(run), _reasons(run, "refused"), _reasons(run, "explained")]
    return "\n".join(part for part in parts if part) + "\n"


COLUMNS = ("right", "refused", "explained", "failed", "error", "no prediction", "skipped by Apple")


def _overview(runs: Sequence[Run]) -> str:
    lines = [
        f"| suite | cases there are | run | predictions | {' | '.join(COLUMNS)} |",
        "|---" * (len(COLUMNS) + 4) + "|",
    ]
    for run in runs:
        count = Counter(outcome(run.suite, case) for case in run.cases)
        numbers = " | ".join(f"{count[name]:,}" for name in COLUMNS)
        lines.append(f"| {run.suite} | {run.collected:,} | {len(run.cases):,} | {run.predictions:,} | {numbers} |")
    return "\n".join(lines) + "\n"


def group(case: Case) -> str:
    """The class of the case, or its function where its class tests all kinds of things."""
    names = case.function.split("::")
    if len(names) == 1 or case.file.startswith("test/"):
        return names[-1].removeprefix("test_")
    return names[0].removeprefix("Test")


def _groups(run: Run) -> str:
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for case in run.cases:
        groups[group(case)][outcome(run.suite, case)] += 1
    lines = [f"| | cases | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name in sorted(groups, key=str.lower):
        count = groups[name]
        numbers = " | ".join(str(count[column] or "") for column in COLUMNS)
        lines.append(f"| {name} | {sum(count.values())} | {numbers} |")
    return "\n".join(lines) + "\n"


def _reasons(run: Run, kind: str) -> str:
    found: dict[str, list[str]] = defaultdict(list)
    for case in run.cases:
        if outcome(run.suite, case) == kind:
            why = case.message if kind == "refused" else reason(run.suite, case.id, case.message)
            found[why.replace("|", "\\|").replace("\n", " ")].append(group(case))
    if not found:
        return ""
    lines = [f"| {kind} because | cases | in |", "|---|---|---|"]
    for why, names in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
        where = list(dict.fromkeys(names))
        lines.append(f"| {why} | {len(names)} | {', '.join(where[:4])}{', ...' if len(where) > 4 else ''} |")
    return "\n".join(lines) + "\n"
