"""How fast the portal is, in the machine's Chromium, against a server with real points.

    python -m benchmarks.portal [--points 100000] [--rounds 5]

- first useful paint: from the start of a navigation until all charts of a run page that are on the screen are
  drawn; the run has 50 metrics
- compare: from the start of a navigation until the chart of one metric of 100 runs is drawn, and the part of
  it that the reads take
- panning: what the page's main thread works in a frame while a chart with 20 lines is dragged along
- bundle: scripts and styles, as they are sent
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.machine import describe
from tests.e2e.browser import FLAGS, ROOT
from tests.server import Place

_LOG = """
import sys
import numpy as np
from runstream import Experiment, Workspace

points, workspace = int(sys.argv[1]), Workspace.from_config()
chance = np.random.default_rng(3)
run = Experiment(workspace, "wide").start_logging(outputs=False)
for metric in range(50):
    name = f"group{metric // 10}/metric{metric:02}"
    for step, value in enumerate(np.cumsum(chance.normal(size=points)).tolist()):
        run.log(name, value, step=step)
run.complete()
print(run.id)
many = []
for number in range(100):
    run = Experiment(workspace, "many").start_logging(outputs=False)
    for step, value in enumerate(np.cumsum(chance.normal(size=5000)).tolist()):
        run.log("loss", value, step=step)
    run.complete()
    many.append(run.id)
print(",".join(many))
"""
_DRAWN = """() => {
    const seen = [...document.querySelectorAll('[data-chart]')].filter(
        chart => chart.getBoundingClientRect().top < innerHeight);
    const drawn = seen.filter(chart => chart.querySelector('canvas') && !chart.hasAttribute('aria-busy'));
    return seen.length >= %d && drawn.length === seen.length ? performance.now() : 0;
}"""


_COUNT_FRAMES = """() => {
    window.framesSeen = 0;
    const count = () => { window.framesSeen++; requestAnimationFrame(count); };
    count();
}"""


def until_drawn(page: Page, url: str, charts: int) -> float:
    """Milliseconds from the start of a navigation until the charts on the screen are drawn."""
    page.goto(url, wait_until="commit")
    return float(page.wait_for_function(_DRAWN % charts, polling=10, timeout=120_000).json_value())


def panned(page: Page) -> float:
    """Milliseconds of work of the page in a frame while a chart is dragged."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def worked() -> float:
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        return 1000 * float(metrics["TaskDuration"])  # all that the main thread does, painting too

    plot = page.locator("[data-testid=plot]").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + box["width"] * 0.7, middle)
    page.mouse.down()
    page.evaluate(_COUNT_FRAMES)
    before = worked()
    for step in range(120):
        page.mouse.move(box["x"] + box["width"] * (0.7 - step / 400), middle)
    frames = float(page.evaluate("() => window.framesSeen"))
    took = worked() - before
    page.mouse.up()
    page.keyboard.up("Shift")
    return took / max(1.0, min(frames, 120.0))


def bundle() -> int:
    """Bytes of the built portal, compressed."""
    folder = ROOT / "query" / "runstream_query" / "static" / "assets"
    return sum(len(gzip.compress(path.read_bytes(), 9)) for path in folder.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=100_000, help="of each of the 50 metrics")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(describe())
    place = Place(Path(tempfile.mkdtemp(prefix="runstream-bench-portal-")))
    try:
        server = place.up()
        done = place.script(_LOG, str(options.points), RUNSTREAM_DRAIN="1")
        assert done.returncode == 0, done.stderr
        wide, many = done.stdout.split()[:2]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            page.set_default_timeout(120_000)
            page.goto(f"{server.http}/login?token={server.token}")
            _settled(page, server.http, wide)
            _report(page, server.http, wide, many.split(","), options)
            browser.close()
    finally:
        place.close()


def _settled(page: Page, base: str, run: str) -> None:
    """Waits until all of a run is in the tables."""
    page.goto(f"{base}/w/local/r/{run}")
    page.wait_for_selector(".ledger.good", timeout=600_000)


def _report(page: Page, base: str, wide: str, many: list[str], options: Any) -> None:
    def rounds(url: str, charts: int) -> str:
        took = [until_drawn(page, url, charts) for _ in range(options.rounds)]
        return f"median {statistics.median(took):6.0f} ms, worst {max(took):6.0f} ms of {len(took)}"

    run = rounds(f"{base}/w/local/r/{wide}/metrics", 6)
    print(f"run page, 50 charts of {options.points:,} points, until what is on the screen is drawn: {run}")
    compared = f"{base}/w/local/compare?plot=none&runs={','.join(many)}"
    print(f"compare, 100 runs of one metric of 5,000 points, until its chart is drawn: {rounds(compared, 1)}")
    until_drawn(page, f"{base}/w/local/compare?plot=none&runs={','.join(many[:20])}", 1)
    print(f"panning 20 lines: {panned(page):.1f} ms of the main thread a frame")
    print(f"bundle: {bundle():,} bytes compressed")


if __name__ == "__main__":
    main()
