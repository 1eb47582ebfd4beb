"""A report as JUnit XML: one test suite for each two sides, one test case for each compared value."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from hub.text import printable
from parity.report import title_of

if TYPE_CHECKING:
    from parity.compare import Row
    from parity.report import Report

__all__ = ["junit"]


def junit(report: Report) -> str:
    """What CI systems read. What was not compared is a skipped case, so that it is seen."""
    root = ET.Element("testsuites", name=printable(report.title))
    for between in dict.fromkeys(row.between for row in report.rows):
        rows = [row for row in report.rows if row.between == between]
        suite = _suite(root, printable(between), rows)
        for row in rows:
            _case(suite, row)
    if report.skipped:
        suite = ET.SubElement(root, "testsuite", name="not compared", tests=str(len(report.skipped)), failures="0")
        suite.set("skipped", str(len(report.skipped)))
        for item in report.skipped:
            case = ET.SubElement(suite, "testcase", classname="not compared", name=printable(item.what))
            ET.SubElement(case, "skipped", message=printable(item.reason))
    output = ET.SubElement(root, "system-out")
    output.text = "\n".join([report.verdict, *report.findings(), *report.footer()])
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, name: str, rows: list[Row]) -> ET.Element:
    suite = ET.SubElement(root, "testsuite", name=name, tests=str(len(rows)))
    suite.set("failures", str(sum(row.verdict == "mismatch" for row in rows)))
    suite.set("skipped", str(sum(row.verdict == "not compared" for row in rows)))
    return suite


def _case(suite: ET.Element, row: Row) -> None:
    case = ET.SubElement(suite, "testcase", classname=suite.get("name", ""), name=printable(title_of(row)))
    if row.verdict == "mismatch":
        ET.SubElement(case, "failure", message=printable(row.reason) or "it differs", type="mismatch")
    elif row.verdict == "not compared":
        ET.SubElement(case, "skipped", message=printable(row.reason))
