"""ONNX's own operator cases: whatever is not refused is right, and the table in the docs is current."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import need, need_runtime

need("torch")
need_runtime("caffe")

from tests.conformance.suite import CRASH, WRONG, run, table  # noqa: E402

DOCUMENT = Path(__file__).parent.parent / "docs" / "conformance.md"


@pytest.mark.slow
def test_whatever_is_not_refused_is_right() -> None:
    results = run()
    assert len(results) > 2000
    bad = [f"{r.target}: {r.case}: {r.status}: {r.reason}" for r in results if r.status in (WRONG, CRASH)]
    assert not bad, "\n".join(bad)
    assert DOCUMENT.read_text(encoding="utf-8") == table(results), (
        "docs/conformance.md is not current: python -m tests.conformance --write docs/conformance.md"
    )
