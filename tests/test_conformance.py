"""ONNX's own operator cases: whatever is not refused is right, and the table in the docs is current."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import need, need_runtime

need("torch", "coremltools")
need_runtime("caffe")

from tests.conformance.suite import CRASH, WRONG, run, section, total  # noqa: E402
from tests.conformance.targets import TARGETS  # noqa: E402

DOCUMENT = Path(__file__).parent.parent / "docs" / "conformance.md"
CURRENT = "docs/conformance.md is not current: python -m tests.conformance --write docs/conformance.md"


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_whatever_is_not_refused_is_right(target: str) -> None:
    results = run(targets=[target])
    assert len(results) > 3000
    bad = [f"{r.case}: {r.status}: {r.reason}" for r in results if r.status in (WRONG, CRASH)]
    assert not bad, "\n".join(bad)
    page = DOCUMENT.read_text(encoding="utf-8")
    assert total(results) in page, CURRENT
    assert section(results) + "\n" in page, CURRENT
