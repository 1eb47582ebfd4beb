"""pytest: a fixture that checks two models, and one report of all that was checked.

    def test_the_exported_model(hub_check):
        hub_check("net.keras", "net.onnx", layers=True)

    pytest --hub-report report.html

Nothing of hub is imported before the fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from parity.report import Report

__all__ = ["hub_check", "pytest_addoption", "pytest_configure", "pytest_sessionfinish"]

REPORTS = pytest.StashKey["dict[str, Report]"]()
CHOSEN = pytest.StashKey["list[Path]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--hub-report FILE`, repeatable."""
    parser.getgroup("hub").addoption(
        "--hub-report",
        action="append",
        default=[],
        metavar="FILE",
        help="write what hub_check compared: .html, .md, .json, .xml",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a report of unknown form before any test runs."""
    config.stash[REPORTS] = {}
    config.stash[CHOSEN] = [Path(path) for path in config.getoption("--hub-report")]
    if config.stash[CHOSEN]:
        from hub.errors import UsageError
        from parity.rendering import known

        try:
            for path in config.stash[CHOSEN]:
                known(path)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error


@pytest.fixture
def hub_check(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """`hub.check` that fails the test where the two differ, or where nothing was compared; gives the report."""
    import hub

    reports = request.config.stash[REPORTS]

    def compare(a: Any, b: Any, **options: Any) -> Report:
        report = hub.check(a, b, **options)
        name = request.node.nodeid
        reports[name if name not in reports else f"{name} ({len(reports)})"] = report
        if not report.ok:
            pytest.fail(str(report), pytrace=False)
        return report

    return compare


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report of all checks."""
    chosen, reports = session.config.stash[CHOSEN], session.config.stash[REPORTS]
    if chosen and reports:
        from parity.report import combined

        whole = combined(reports, "hub checks")
        for path in chosen:
            whole.save(path)
