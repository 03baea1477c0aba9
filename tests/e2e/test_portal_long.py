"""What takes long: `make e2e-long`.

RUNSTREAM_LONG is the share of the full size: 1 means 100,000 runs and an hour.
"""

from __future__ import annotations

import os
import time

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import visit
from tests.e2e.conftest import Site
from tests.e2e.test_portal_changes import going_on, log

SHARE = float(os.environ.get("RUNSTREAM_LONG") or 0)
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not SHARE, reason="only with RUNSTREAM_LONG (make e2e-long)"),
]

_MANY = """
import sys
from runstream import Experiment, Workspace

experiment = Experiment(Workspace.from_config(), "many")
for number in range(int(sys.argv[1])):
    run = experiment.start_logging(outputs=False, display_name=f"run-{number}")
    run.log("score", number % 1000)
    run.log("number", number)
    run.complete()
"""
_HEAP = "() => { gc(); gc(); return performance.memory.usedJSHeapSize; }"


def test_the_table_of_100_000_runs(site: Site, browser: Browser) -> None:
    runs = max(1000, int(100_000 * SHARE))
    done = site.place.script(_MANY, str(runs), RUNSTREAM_DRAIN="1")
    assert done.returncode == 0, done.stderr
    with visit(browser, site.server.http, site.server.token) as visitor:
        page = visitor.open("/w/local/e/many", "[data-run]")
        expect(page.get_by_role("status").filter(has_text=f"{runs:,} runs")).to_be_visible(timeout=600_000)
        rows = page.locator("[data-run]")
        assert rows.count() < 200  # whatever there is, the page holds what is in sight
        page.goto(f"{visitor.base}/w/local/e/many?sort=-metrics.number&cols=metrics.number")
        expect(rows.first).to_contain_text(f"run-{runs - 1}")
        table = page.locator(".run-table")
        table.evaluate("table => { table.scrollTop = table.scrollHeight / 2; }")
        middle = page.locator(f'tr[aria-rowindex="{runs // 2 + 2}"]')
        expect(middle).to_contain_text(f"run-{runs - 1 - runs // 2}", timeout=300_000)
        page.goto(f"{visitor.base}/w/local/e/many?q=metrics.score == 7&cols=metrics.number")
        expect(page.get_by_role("status").filter(has_text=f"{runs // 1000:,} of")).to_be_visible()


def settled(page: Page) -> int:
    """Bytes that scripts hold, when nothing is about to be let go of."""
    page.wait_for_timeout(1500)
    return int(page.evaluate(_HEAP))


def test_an_hour_of_live_updates_leaves_nothing_behind(site: Site, browser: Browser) -> None:
    seconds = max(60.0, 3600 * SHARE)
    with going_on(site) as (run, process), visit(browser, site.server.http, site.server.token) as visitor:
        log(process, 50)
        page = visitor.open(f"/w/local/r/{run}/metrics", '[data-chart="loss"]')
        for _ in range(10):
            log(process, 10)
            time.sleep(1)
        before, elements = settled(page), page.locator("*").count()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            log(process, 10)
            time.sleep(0.5)
        assert page.locator("*").count() == elements
        grown = settled(page) - before
        assert grown < 8_000_000, f"{grown:,} bytes more after {seconds:.0f} s of updates"
