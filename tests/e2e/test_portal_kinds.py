"""One of each in the portal: figures, images, files, logs, models, children, ranks; charts under the hand."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import ROOT, Visit, chart_csv, resize, shot, violations, visit
from tests.e2e.conftest import Site
from tests.e2e.kinds import LINES
from tests.e2e.seed import EVIL

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def kinds(site: Site) -> dict[str, str]:
    """Paths of the pages of the runs of `kinds.py`."""
    done = site.place.python(["-m", "tests.e2e.kinds"], {"PYTHONPATH": str(ROOT), "RUNSTREAM_DRAIN": "1"})
    assert done.returncode == 0, done.stderr
    return {name: f"/w/local/r/{run}" for name, run in json.loads(done.stdout.splitlines()[-1]).items()}


def test_figures_are_drawn_as_what_they_are(kinds: dict[str, str], visitor: Visit, tmp_path: Path) -> None:
    page = visitor.open(f"{kinds['vision']}/metrics", '[data-chart="confusion_matrix"]')
    matrix = page.locator('[data-chart="confusion_matrix"]')
    assert matrix.locator("td span").all_inner_texts() == ["50", "3", "4", "1,234"]
    assert matrix.locator("tbody th").all_inner_texts() == ["cat", EVIL]

    def drawn(title: str, x: str) -> list[tuple[float, float]]:
        return [(float(row[x]), float(row["value"])) for row in chart_csv(page, title, tmp_path)]

    roc = drawn("accuracy_table: ROC", "false positive rate")
    assert roc == [(0, 5 / 15), (1 / 32, 8 / 15), (2 / 32, 10 / 15)]
    recall = drawn("accuracy_table: precision and recall", "recall")
    assert recall == [(5 / 15, 1), (8 / 15, 8 / 9), (10 / 15, 10 / 12)]
    assert max(y for _, y in drawn("residuals", "residual")) == 20
    predicted = [row for row in chart_csv(page, "predictions", tmp_path) if row["line"] == "predicted"]
    assert [float(row["min"]) for row in predicted] == [0.1 - 0.02, 0.4 - 0.05]
    # The number beside a tab's name is that of what is under it; the machine's figures have a tab.
    tab = page.get_by_role("navigation", name="Parts of the run").get_by_role("link", name="metrics")
    expect(tab).to_have_text("metrics1")
    page.goto(f"{visitor.base}{kinds['vision']}/tables")
    # A value that is a file leads to it.
    page.locator('[data-table="residuals"]').get_by_role("link", name="residuals").click()
    expect(page.locator("figure.chart")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/files\?file=residuals"))


def test_the_machines_figures_stand_apart(kinds: dict[str, str], visitor: Visit) -> None:
    page = visitor.open(kinds["vision"], "text=Last values")
    last = page.locator(".latest")
    expect(last).to_contain_text("train/loss")
    assert "system/" not in last.inner_text()
    page.get_by_role("link", name="system").click()
    chart = page.locator('[data-chart="system/cpu_percent"] [role=img]')
    expect(chart).to_have_attribute("aria-label", re.compile("over the time since its start"))
    page.get_by_label(re.compile("^x")).select_option("step")
    expect(chart).to_have_attribute("aria-label", re.compile("over value"))


def test_ranks_are_together_apart_or_a_band(kinds: dict[str, str], visitor: Visit, tmp_path: Path) -> None:
    page = visitor.open(f"{kinds['ranks']}/metrics?ranks=band", '[data-chart="loss"] canvas')
    rows = chart_csv(page, "loss", tmp_path)
    assert [(float(row["min"]), float(row["value"]), float(row["max"])) for row in rows] == [
        (step, step + 5, step + 10) for step in range(50)
    ]
    page.get_by_label("ranks").select_option("each")
    expect(page.locator(".legend")).to_have_text("rank 0rank 1")
    rows = chart_csv(page, "loss", tmp_path)
    assert [float(row["value"]) for row in rows if row["line"] == "rank 1"] == [10.0 + n for n in range(50)]
    page.get_by_label("ranks").select_option("0")
    expect(page.locator(".legend")).to_have_count(0)
    rows = chart_csv(page, "loss", tmp_path)
    assert [float(row["value"]) for row in rows] == [float(step) for step in range(50)]


def test_what_scales_cannot_show_is_said(site: Site, visitor: Visit) -> None:
    page = visitor.open(f"{site.full}/metrics?logy=1", '[data-chart="Cosine Wave"] canvas')
    note = page.locator('[data-chart="Cosine Wave"] .chart-note')
    below = sum(math.cos(k / 10) <= 0 for k in range(63))
    expect(note).to_have_text(f"A log scale cannot show 0 and below: {below} points of y.")
    page.goto(f"{visitor.base}{site.full}/metrics?logx=1&zoom=7000..8000")
    note = page.locator('[data-chart="accuracies"] .chart-note')
    expect(note).to_contain_text("It has no value in what is shown.")
    expect(page.locator('[data-chart="accuracies"] .badge')).to_have_count(0)
    page.locator('[data-chart="train/loss"]').scroll_into_view_if_needed()
    expect(page.locator('[data-chart="train/loss"] .badge')).to_have_text("raw")


def test_smoothing_is_over_the_line(site: Site, visitor: Visit, tmp_path: Path) -> None:
    page = visitor.open(f"{site.full}/metrics?q=accuracies&smooth=0.9", '[data-chart="accuracies"] canvas')
    chart = page.locator('[data-chart="accuracies"]')
    expect(chart).not_to_have_attribute("aria-busy", "true")
    chart.get_by_title("Options of accuracies").click()
    with page.expect_download() as download:
        chart.get_by_text("Save as SVG").click()
    download.value.save_as(tmp_path / "chart.svg")
    paths = re.findall(r'<path[^>]* stroke-opacity="([^"]*)"', (tmp_path / "chart.svg").read_text())
    assert paths == ["0.5", "1"]  # as logged, and over it


def test_the_crosshair_moves_in_all_charts_and_keys_zoom(site: Site, visitor: Visit) -> None:
    page = visitor.open(f"{site.full}/metrics?q=train", '[data-chart="train/loss"] canvas')
    page.wait_for_load_state("networkidle")
    plots = [page.locator(f'[data-chart="train/{name}"] [data-testid=plot]') for name in ("loss", "accuracy")]
    box = plots[1].bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    for plot in plots:
        expect(plot.locator(".plot-tip-head")).to_have_text(re.compile(r"^step (9\d\d|1,0\d\d)"))
    plots[1].focus()
    page.keyboard.press("+")
    expect(page).to_have_url(re.compile("zoom="))
    zoomed = page.url
    page.keyboard.press("ArrowRight")
    page.wait_for_url(lambda url: "zoom=" in url and url != zoomed)
    page.keyboard.press("0")
    expect(page).not_to_have_url(re.compile("zoom="))
    page.mouse.wheel(0, -200)  # the chart has the focus
    expect(page).to_have_url(re.compile("zoom="))


def test_logs_have_colours_are_searched_and_let_go(kinds: dict[str, str], visitor: Visit) -> None:
    page = visitor.open(f"{kinds['vision']}/logs", ".log-line")
    log = page.get_by_test_id("log")
    expect(log.locator(".log-line").last).to_contain_text(f"line {LINES - 1} ERROR {EVIL}")
    expect(log.locator(".ansi-32").first).to_have_text("INFO")
    assert log.locator(".log-line").count() < LINES / 2
    follow = page.get_by_label("follow")
    expect(follow).to_be_checked()
    resize(page, 1000, 500)
    page.wait_for_timeout(300)  # nothing is to change
    expect(follow).to_be_checked()
    expect(log.locator(".log-line").last).to_be_in_viewport()
    page.keyboard.press("/")
    page.keyboard.type("error <img")
    expect(page.locator(".controls [role=status]")).to_have_text("4")
    page.keyboard.press("Enter")
    expect(page.locator(".controls [role=status]")).to_have_text("1 of 4")
    expect(log.locator(".log-hit")).to_contain_text("line 99 ")
    expect(log.locator(".log-hit mark").first).to_have_text("ERROR <img")
    expect(follow).not_to_be_checked()


def test_files_are_shown_as_what_they_are(kinds: dict[str, str], visitor: Visit) -> None:
    page = visitor.open(f"{kinds['vision']}/files", ".branch")
    view = page.locator(".file-view")
    page.get_by_role("button", name="README.md").click()
    expect(view.get_by_role("heading", name="Report")).to_be_visible()
    expect(view.locator(".markdown td")).to_have_text(["1", "2"])
    assert view.locator("script, img, a[href^=javascript]").count() == 0
    page.get_by_role("button", name="table.csv").click()
    expect(view.locator("td")).to_have_text(["a, b", "1.5", "=cmd()", "20"])
    page.get_by_role("button", name="broken.json").click()
    expect(view).to_contain_text("cannot be read as JSON")
    for name in "evil.svg", "evil.html":
        page.get_by_role("button", name=name).click()
        expect(view.locator(".file-text")).to_contain_text("<script>")
        answer = page.request.get(
            visitor.base + str(view.get_by_role("link", name="Download").get_attribute("href"))
        )
        assert answer.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["content-security-policy"]
    page.get_by_role("button", name="weights.bin").click()
    expect(view).to_contain_text("not shown here")


def test_another_run_stands_beside_by_its_name(kinds: dict[str, str], visitor: Visit) -> None:
    page = visitor.open(f"{kinds['vision']}/images", ".image-row img")
    offered = page.locator("datalist option").filter(has_text="fold 3")
    expect(offered).to_have_count(1)
    page.get_by_label("beside run").fill(str(offered.get_attribute("value")))
    page.keyboard.press("Enter")
    expect(page.get_by_text("The other run has no such image.")).to_be_visible()


def test_models_lead_to_their_run(kinds: dict[str, str], visitor: Visit) -> None:
    page = visitor.open("/", "text=Models")
    page.get_by_role("link", name="Models").click()
    page.get_by_role("link", name="resnet").click()
    expect(page.locator("tbody .badge")).to_have_text("stage: production")
    page.get_by_role("link", name="weights.bin").click()
    expect(page).to_have_url(re.compile(re.escape(kinds["vision"]) + "/files"))


def test_what_is_chosen_in_a_plot_filters_the_tables(kinds: dict[str, str], visitor: Visit) -> None:
    page = visitor.open(f"{kinds['vision']}/children", "[data-run]")
    for _ in range(4):
        page.keyboard.press("j")
        page.keyboard.press("x")
    page.keyboard.press("c")
    explore = page.locator(".explore-canvas")
    explore.scroll_into_view_if_needed()
    heads = page.locator(".differences thead th")
    expect(heads).to_have_count(2 + 4)
    page.wait_for_load_state("networkidle")
    box = explore.bounding_box()
    assert box is not None
    # The upper half of the first axis: the two greater of four values.
    page.mouse.move(box["x"] + 67, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 67, box["y"] + 90)
    page.mouse.move(box["x"] + 67, box["y"] + box["height"] / 2)
    page.mouse.up()
    expect(page.get_by_role("status").filter(has_text="2 of 4 runs kept")).to_be_visible()
    expect(heads).to_have_count(2 + 2)
    expect(page.locator(".compare-runs .faint")).to_have_count(2)
    moved = explore.bounding_box()
    assert moved is not None
    assert moved["y"] == box["y"]  # it stays under the hand
    page.get_by_role("button", name="Let go of all").click()
    expect(heads).to_have_count(2 + 4)
    page.get_by_label("plot").select_option("scatter")
    expect(page.get_by_role("img", name=re.compile("^Scatter of"))).to_be_visible()


@pytest.mark.parametrize("width", [1440, 1024, 380])
def test_windows_below_buttons_are_on_the_screen(site: Site, browser: Browser, width: int) -> None:
    size = {"width": width, "height": 800}
    with visit(browser, site.server.http, site.server.token, viewport=size) as guest:
        page = guest.open("/w/local/e/diabetes", "[data-run]")
        page.get_by_role("button", name="Choose the columns").click()
        check_inside(page, width)
        resize(page, width - 60, 800)
        check_inside(page, width - 60)
        resize(page, width, 800)
        page.keyboard.press("Escape")
        page.goto(f"{guest.base}{site.full}/metrics")
        page.get_by_title("Options of accuracies").click()
        check_inside(page, width)


def check_inside(page: Page, width: int) -> None:
    box = page.locator(".popover-box:not([hidden])").bounding_box()
    assert box is not None
    assert 0 <= box["x"] <= box["x"] + box["width"] <= width


PAGES = {
    "figures": ("vision", "/metrics", '[data-chart="confusion_matrix"]'),
    "system": ("vision", "/system", "canvas"),
    "images": ("vision", "/images", "img"),
    "logs": ("vision", "/logs?q=info", ".log-line mark"),
    "files": ("vision", "/files?file=README.md", ".markdown"),
    "csv": ("vision", "/files?file=data/table.csv", "td"),
    "children": ("vision", "/children", "[data-run]"),
    "ranks": ("ranks", "/metrics?ranks=band", "canvas"),
    "models": ("", "/w/local/models", "[data-row]"),
    "model": ("", "/w/local/models/resnet", ".badge"),
    "missing": ("", "/w/local/r/none", ".empty"),
    "nowhere": ("", "/nowhere", ".empty"),
    "columns": ("", "/w/local/e/diabetes", "[data-run]"),
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_each_kind_is_accessible_and_fits(
    site: Site, kinds: dict[str, str], browser: Browser, name: str, theme: str
) -> None:
    run, path, wait = PAGES[name]
    with visit(browser, site.server.http, site.server.token, color_scheme=theme) as guest:
        guest.expected += ["404"] if name in ("missing", "nowhere") else []
        page = guest.open(kinds.get(run, "") + path, wait)
        if name == "columns":
            page.get_by_role("button", name="Choose the columns").click()
        page.wait_for_load_state("networkidle")
        assert violations(page) == []
        for width, height in ((1440, 900), (1024, 900), (380, 800)):
            resize(page, width, height)
            wide = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{name} is {wide} px wider than {width}"
            shot(page, f"{name}-{width}-{theme}")
