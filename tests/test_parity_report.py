"""A report as a file: HTML, Markdown, JSON, JUnit."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from test_parity_divergence import residual
from typer.testing import CliRunner

from hub.cli import app
from hub.errors import HubError, UsageError
from hub.onnxfile import save
from parity.check import check
from parity.compare import Row
from parity.divergence import Divergence
from parity.report import NotCompared, Report

HOSTILE = '<script>alert(1)</script>"&\u202e]|`*\x1b[31m'


@pytest.fixture(scope="module")
def failed() -> Report:
    return check(residual(), residual("a1"), layers=True)


def hostile() -> Report:
    rows = [Row(f"{HOSTILE}{i}", "mismatch", HOSTILE, kind="layer", op=HOSTILE, between=HOSTILE) for i in range(3)]
    rows += [Row("other", "not compared", HOSTILE, between=HOSTILE)]
    report = Report(
        HOSTILE, rows, [NotCompared(HOSTILE, HOSTILE, "no runtime")], {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}
    )
    report.divergences = [Divergence(f"{HOSTILE}1", HOSTILE, HOSTILE)]
    report.flows = {HOSTILE: {f"{HOSTILE}1": [f"{HOSTILE}0"], f"{HOSTILE}2": [f"{HOSTILE}1"]}}
    return report


class Tags(HTMLParser):
    """Counts tags and sees that they are closed."""

    EMPTY = frozenset({"meta", "br", "path", "line", "rect", "circle", "polyline"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def test_html_needs_nothing_else_and_has_the_verdict_first(failed: Report, tmp_path: Path) -> None:
    text = failed.save(tmp_path / "report.html").read_text("utf-8")
    counts = Tags(text).counts
    assert counts["svg"] == 2, "the error by depth, and the layers around the first divergence"
    assert counts["circle"] == 6
    assert counts["rect"] == 3
    assert text.index("MISMATCH: 5 of 7") < text.index("a1 (Conv); its inputs agree") < text.index("<table>")
    assert "http" not in text.replace("http-equiv", "")
    assert "inputs (seed 0): x float32 2x4x10x8" in text
    assert "onnxruntime 1." in text


def test_junit_has_a_case_for_each_value(failed: Report, tmp_path: Path) -> None:
    root = ET.parse(failed.save(tmp_path / "report.xml")).getroot()
    (suite,) = root.findall("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("7", "5", "0")
    failures = {case.get("name") for case in suite if case.find("failure") is not None}
    assert failures == {"layer a1", "layer a2", "layer sum", "layer head", "output y"}


def test_json_is_the_whole_report(failed: Report, tmp_path: Path) -> None:
    data = json.loads(failed.save(tmp_path / "report.json").read_text("utf-8"))
    assert data["verdict"].startswith("MISMATCH")
    assert [item["layer"] for item in data["divergences"]] == ["a1"]
    assert len(data["rows"]) == 7


def test_markdown_fits_a_summary(failed: Report, tmp_path: Path) -> None:
    text = failed.save(tmp_path / "report.md").read_text("utf-8")
    assert text.startswith("### ❌ ")
    assert "| layer a1 | Conv | 2x4x10x8 |" in text
    many = Report("many", [Row(f"r{i}", "ok", between="a against b") for i in range(100)])
    assert "and 75 more" in many.save(tmp_path / "many.md").read_text("utf-8")


@pytest.mark.parametrize("suffix", [".html", ".md", ".xml", ".json"])
def test_names_of_a_hostile_model_are_text(suffix: str, tmp_path: Path) -> None:
    text = hostile().save(tmp_path / f"report{suffix}").read_text("utf-8")
    assert "\x1b" not in text
    assert "\u202e" not in text
    if suffix == ".html":
        assert "<script>alert" not in text
        assert Tags(text).counts["script"] == 1
    elif suffix == ".xml":
        ET.fromstring(text.split("\n", 1)[1])
    elif suffix == ".md":
        assert "<script>" not in text
        assert 'alert(1)&lt;/script&gt;"&amp;\\\\u202e\\]\\|\\`\\*' in text


def test_what_cannot_be_written_is_one_error(failed: Report, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a report is \.html"):
        failed.save(tmp_path / "report.pdf")
    with pytest.raises(UsageError, match="there is no folder"):
        failed.save(tmp_path / "no" / "report.html")
    (tmp_path / "taken.html").mkdir()
    with pytest.raises(HubError, match="cannot write the report"):
        failed.save(tmp_path / "taken.html")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.html"]


def test_the_command_line_writes_reports(tmp_path: Path) -> None:
    a, b = tmp_path / "a.onnx", tmp_path / "b.onnx"
    save(residual().ir, a)
    save(residual("a2").ir, b)
    wanted = [tmp_path / f"report{suffix}" for suffix in (".html", ".xml")]
    options = [text for path in wanted for text in ("--report", str(path))]
    done = CliRunner().invoke(app, ["check", str(a), str(b), "--layers", *options])
    assert done.exit_code == 1
    assert "first divergence" in done.output
    assert all(path.is_file() for path in wanted)
    done = CliRunner().invoke(app, ["check", str(a), str(b), "--report", str(tmp_path / "x.doc")])
    assert isinstance(done.exception, UsageError)
