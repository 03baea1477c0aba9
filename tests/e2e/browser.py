"""Chromium for tests: the machine's own, driven by Playwright, with nothing going out."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Response,
    expect,
    sync_playwright,
)

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / ".cache" / "screenshots"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-precise-memory-info",
    "--js-flags=--expose-gc",
]


@contextmanager
def running() -> Iterator[Browser]:
    """A browser; where there is none the test is skipped, if it may be."""
    program = shutil.which("chromium")
    built = (ROOT / "query" / "runstream_query" / "static" / "manifest.json").exists()
    if program is None or not built:
        message = "needs chromium, and the portal (make portal)"
        if os.environ.get("RUNSTREAM_REQUIRE_ENGINES"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """One visitor: a browser context of its own, and what went wrong in it."""

    context: BrowserContext
    base: str
    wrong: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Parts of messages that the test brings about."""

    def open(self, path: str = "/", wait: str | None = None) -> Page:
        """A page; `wait` is a selector that must be there."""
        page = self.context.new_page()
        page.set_default_timeout(60_000)  # the machine may be busy
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self._dialog(dialog))
        page.on("response", self._response)
        page.goto(self.base + path)
        if wait is not None:
            page.wait_for_selector(wait)
        return page

    def check(self) -> None:
        """Nothing went wrong that the test did not expect."""
        found = [text for text in self.wrong if not any(part in text for part in self.expected)]
        assert not found, "\n".join(found)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog: Any) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _response(self, response: Response) -> None:
        if not response.url.startswith((self.base, "data:", "blob:")):
            self.wrong.append(f"request to elsewhere: {response.url}")


@contextmanager
def visit(browser: Browser, base: str, token: str | None, **options: Any) -> Iterator[Visit]:
    """A signed-in visitor; without a token one that is not."""
    options.setdefault("viewport", {"width": 1440, "height": 900})
    context = browser.new_context(accept_downloads=True, **options)
    try:
        if token is not None:
            answer = context.request.get(f"{base}/login?token={token}", max_redirects=0)
            assert answer.status == 303
        visitor = Visit(context, base)
        yield visitor
        visitor.check()
    finally:
        context.close()


def chart_csv(page: Page, title: str, tmp_path: Path) -> list[dict[str, str]]:
    """What a chart draws, as it is exported."""
    chart = page.locator(f'[data-chart="{title}"]')
    chart.scroll_into_view_if_needed()
    expect(chart).not_to_have_attribute("aria-busy", "true")
    chart.get_by_title(f"Options of {title}").click()
    with page.expect_download() as download:
        chart.get_by_text("Save as CSV").click()
    path = tmp_path / "chart.csv"
    download.value.save_as(path)
    return list(csv.DictReader(io.StringIO(path.read_text())))


def violations(page: Page, within: str = "") -> list[str]:
    """What axe finds on a page, or in the elements of a selector."""
    source = (ROOT / "query" / "portal" / "node_modules" / "axe-core" / "axe.min.js").read_text()
    page.evaluate(f"{source}; undefined")
    found = page.evaluate(
        """async within => {
            const { violations } = await axe.run(within || document, { resultTypes: ['violations'] });
            const where = node => node.html.slice(0, 160) + ' ' + node.failureSummary.slice(0, 200);
            return violations.map(one => `${one.id}: ${one.nodes.slice(0, 3).map(where).join(' | ')}`);
        }""",
        within,
    )
    return list(found)


def shot(page: Page, name: str, *, full: bool = False) -> None:
    """Keeps a picture beside the tests' results."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SCREENSHOTS / f"{name}.png"), full_page=full, animations="disabled")


def resize(page: Page, width: int, height: int) -> None:
    """Gives the window a size, and the page the frames in which it notices."""
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
