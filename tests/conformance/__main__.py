"""python -m tests.conformance [--filter TEXT] [--write docs/conformance.md]"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from tests.conformance.suite import CRASH, WRONG, run, table
from tests.conformance.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance")
    parser.add_argument("--filter", default="", help="only cases whose name contains this text")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this target; repeatable")
    parser.add_argument("--write", type=Path, help="write the table there")
    arguments = parser.parse_args()
    results = run(arguments.filter, arguments.target or TARGETS)
    bad = [r for r in results if r.status in (WRONG, CRASH)]
    for result in bad:
        print(f"{result.target}: {result.case}: {result.status}: {result.reason}")
    print(dict(Counter((r.target, r.status) for r in results)))
    if arguments.write:
        arguments.write.write_text(table(results), encoding="utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
