"""python -m tests.apple --suite mil|torch|nn [--sample N] [--seed S] [--per-function K] [--ids FILE] [--log FILE]
[--again] [--write docs/coreml-apple.md]

The page is written from the logs of all suites, `.suites/logs/<suite>.jsonl`, which the runs without --log write.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from tests.apple.suites import LOGS, SUITES, again, read, run
from tests.apple.table import outcome, table, unexplained


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.apple")
    parser.add_argument("--suite", action="append", choices=sorted(SUITES), help="run this suite; repeatable")
    parser.add_argument("--sample", type=int, help="only so many cases, by chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-function", type=int, help="at most so many cases of a test function, by chance")
    parser.add_argument("--ids", type=Path, help="a file with the ids of the cases, one a line")
    parser.add_argument("--again", action="store_true", help="run what failed in the log again, for new lines in it")
    parser.add_argument("--log", type=Path, help="write the log of the suite there")
    parser.add_argument("--write", type=Path, help="write the table of all logs there")
    parser.add_argument("--verbose", action="store_true", help="show what pytest writes")
    arguments = parser.parse_args()
    select = {"sample": arguments.sample, "seed": arguments.seed, "per_function": arguments.per_function}
    if arguments.ids:
        select["ids"] = [line.strip() for line in arguments.ids.read_text().splitlines() if line.strip()]
    bad = 0
    for suite in arguments.suite or []:
        log = arguments.log or LOGS / f"{suite}.jsonl"
        if arguments.again:
            result = again(suite, log)
        else:
            result = run(suite, log, select, quiet=not arguments.verbose)
        failures = unexplained(result)
        bad += len(failures)
        for case in failures:
            print(f"{suite}: {case.id}: {case.outcome}: {case.message.splitlines()[0] if case.message else ''}")
        counts = dict(Counter(outcome(suite, case) for case in result.cases))
        print(f"{suite}: {len(result.cases)} of {result.collected} cases, {result.predictions} predictions: {counts}")
    if arguments.write:
        runs = [read(suite, LOGS / f"{suite}.jsonl") for suite in SUITES if (LOGS / f"{suite}.jsonl").is_file()]
        arguments.write.write_text(table(runs), encoding="utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
