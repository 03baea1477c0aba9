"""The table of what the fault tests found, at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.line import Outcome

_OUTCOMES: list[str] = []


@pytest.fixture
def outcomes(request: pytest.FixtureRequest) -> Iterator[list[Outcome]]:
    """Where a test puts what it found."""
    found: list[Outcome] = []
    yield found
    request.node.user_properties += [("outcome", str(one)) for one in found]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collects them, also from other processes."""
    if report.when == "teardown":
        _OUTCOMES.extend(str(value) for name, value in report.user_properties if name == "outcome")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints them."""
    if _OUTCOMES:
        terminalreporter.section("faults")
        for line in _OUTCOMES:
            terminalreporter.write_line(line)
