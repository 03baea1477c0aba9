"""The portal in a real browser, on a real server with real runs."""

from __future__ import annotations

import math
import re
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser import Visit, chart_csv, shot, violations, visit
from tests.e2e.conftest import Site
from tests.e2e.seed import EVIL, LONG, NAN_STEP, SPIKE_STEP, loss

pytestmark = pytest.mark.engine


def test_experiments_and_their_runs_by_keyboard(site: Site, visitor: Visit) -> None:
    page = visitor.open("/", "text=diabetes")
    expect(page.locator("[data-row]")).to_have_count(2)
    page.keyboard.press("/")
    page.keyboard.type("diab")
    expect(page.locator("[data-row]")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/w/local/e/diabetes"))
    expect(page.locator("[data-run]")).to_have_count(12)
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_text("2 runs selected")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Shift+X")
    expect(page.get_by_text("4 runs selected")).to_be_visible()
    page.keyboard.press("x")
    page.keyboard.press("k")
    page.keyboard.press("x")
    expect(page.get_by_text("2 runs selected")).to_be_visible()
    page.keyboard.press("c")
    expect(page).to_have_url(re.compile(r"/w/local/compare\?runs="))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("e")
    expect(page.get_by_role("heading", name="Experiments")).to_be_visible()


def test_the_first_paint_has_content(site: Site, visitor: Visit) -> None:
    """The page asks nothing before it shows a run: the shell carried the answer."""
    page = visitor.context.new_page()
    calls: list[str] = []
    page.on("request", lambda request: calls.append(request.url))
    page.route("**/runstream.v1.*/**", lambda route: route.abort())
    page.goto(visitor.base + site.full)
    expect(page.get_by_role("heading", name="brave-fern")).to_be_visible()
    expect(page.get_by_text("3,295.7")).to_be_visible()
    page.goto(visitor.base + compared(site))
    expect(page.get_by_role("heading", name="Compare 6 runs")).to_be_visible()
    asked = ("GetRun", "ListSeries", "SearchRuns")
    assert not [url for url in calls if url.endswith(asked)]


def test_every_kind_of_metric_is_drawn_as_what_it_is(site: Site, visitor: Visit, tmp_path: Path) -> None:
    page = visitor.open(f"{site.full}/metrics", '[data-chart="train/loss"]')
    for title in ("train/loss", "train/accuracy", "grad/norm", "accuracies", "Cosine Wave", "roc", "layers"):
        expect(page.locator(f'[data-chart="{title}"]')).to_have_count(1)
    for tile in ("alpha", "mse", "best epoch"):
        expect(page.locator(".tile").filter(has_text=tile)).to_have_count(1)
    wave = chart_csv(page, "Cosine Wave", tmp_path)
    assert [(float(row["angle"]), float(row["value"])) for row in wave] == [
        (k / 10, math.cos(k / 10)) for k in range(63)
    ]
    values = chart_csv(page, "accuracies", tmp_path)
    assert [float(row["value"]) for row in values] == [0.6, 0.7, 0.9, 0.85]
    norm = chart_csv(page, "grad/norm", tmp_path)
    assert [row["not_finite"] for row in norm] == ["inf", "", "-inf", "", "nan", ""]
    layers = chart_csv(page, "layers", tmp_path)
    assert {row["line"] for row in layers} == {"loss", "width"}


def test_a_long_line_is_exact_at_every_zoom_down_to_what_was_logged(
    site: Site, visitor: Visit, tmp_path: Path
) -> None:
    page = visitor.open(f"{site.full}/metrics?q=train/loss", '[data-chart="train/loss"] canvas')
    rows = chart_csv(page, "train/loss", tmp_path)
    assert 100 < len(rows) < 2000
    assert max(float(row["max"]) for row in rows) == 9.5  # the spike, in whatever bucket it is
    finite = [loss(step) for step in range(LONG) if step != NAN_STEP]
    assert min(float(row["min"]) for row in rows) == min(finite)
    assert [row for row in rows if row["not_finite"]] != []
    low, high = SPIKE_STEP - 200, SPIKE_STEP + 200
    page.goto(f"{visitor.base}{site.full}/metrics?q=train/loss&zoom={low}..{high}")
    expect(page.locator('[data-chart="train/loss"] .badge')).to_have_text("raw")
    rows = chart_csv(page, "train/loss", tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(low, high + 1))
    assert [float(row["value"]) for row in rows] == [loss(step) for step in range(low, high + 1)]


def test_dragging_zooms_all_charts_and_double_click_resets(site: Site, visitor: Visit) -> None:
    page = visitor.open(f"{site.full}/metrics?q=train", '[data-chart="train/loss"] canvas')
    expect(page.locator('[data-chart="train/loss"]')).not_to_have_attribute("aria-busy", "true")
    plot = page.locator('[data-chart="train/loss"] [data-testid=plot]')
    box = plot.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile("zoom="))
    expect(page.get_by_title("Show all (double-click)")).to_have_count(2)
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    expect(page.locator('[data-chart="train/loss"] .plot-tip')).to_contain_text("step")
    page.mouse.dblclick(box["x"] + box["width"] * 0.5, middle)
    expect(page).not_to_have_url(re.compile("zoom="))


def test_pictures_of_charts(site: Site, visitor: Visit, tmp_path: Path) -> None:
    page = visitor.open(f"{site.full}/metrics?q=roc", '[data-chart="roc"] canvas')
    chart = page.locator('[data-chart="roc"]')
    expect(chart).not_to_have_attribute("aria-busy", "true")
    for kind, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        chart.get_by_title("Options of roc").click()
        with page.expect_download() as download:
            chart.get_by_text(f"Save as {kind}").click()
        path = tmp_path / kind
        download.value.save_as(path)
        assert path.read_bytes().startswith(begins)


def test_tables_show_texts_and_rows(site: Site, visitor: Visit) -> None:
    page = visitor.open(f"{site.full}/tables", '[data-table="note"] td')
    expect(page.locator('[data-table="note"]')).to_contain_text("learning rate halved")
    expect(page.locator('[data-table="note"]')).to_contain_text("<script>alert(2)</script>")
    expect(page.locator('[data-table="nothing"]')).to_contain_text("empty")
    page.locator('[data-table="roc"]').scroll_into_view_if_needed()
    expect(page.locator('[data-table="roc"] tbody tr')).to_have_count(21)


def test_the_source_is_browsed_compared_and_saved(site: Site, visitor: Visit, tmp_path: Path) -> None:
    page = visitor.open(f"{site.full}/source", "text=train.py")
    expect(page.locator(".source-head")).to_contain_text("4 files")
    page.get_by_role("button", name="train.py").click()
    expect(page.locator(".source-lines")).to_contain_text("learning_rate = 0.1\n# step 13")
    expect(page.locator(".source-numbers")).to_have_text("\n".join(map(str, range(1, 31))))
    page.get_by_role("button", name="weights.bin").click()
    expect(page.locator(".file-view")).to_contain_text("No text")
    with page.expect_download() as download:
        page.get_by_text("Download zip").click()
    path = tmp_path / "source.zip"
    download.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("NOTES") == b"try less\n"
        assert archive.namelist() == ["NOTES", "train.py", "weights.bin", "src/model.py"]
    page.get_by_label("Compare with").select_option(site.ids["sweep"][0])
    expect(page.locator(".file-tree")).to_contain_text("3 files differ")
    assert page.locator(".change").all_inner_texts() == ["A", "D", "M"]
    page.get_by_role("button", name="train.py").click()
    expect(page.locator(".diff-removed")).to_have_text(re.compile("12.*learning_rate = 0.01"))
    expect(page.locator(".diff-added")).to_have_text(re.compile("12.*learning_rate = 0.1"))
    expect(page.locator(".diff-same")).to_have_count(6)
    page.reload()
    expect(page.locator(".diff-added")).to_have_count(1)
    page = visitor.open(f"/w/local/r/{site.ids['sweep'][1]}/source", ".empty")
    expect(page.locator(".empty")).to_contain_text("snapshot_directory")


def test_the_ledger_is_on_the_page(site: Site, visitor: Visit) -> None:
    page = visitor.open(site.full, ".run-head")
    expect(page.locator(".ledger")).to_contain_text(re.compile(r"logged ([\d,]+) = stored \1"))
    page.locator("a.ledger").click()
    expect(page.locator(".ledger-verdict")).to_contain_text("Everything that was accepted is in the tables.")
    page.get_by_role("button", name="Compare with what is stored").click()
    expect(page.locator(".ledger-verdict")).to_contain_text("compared one by one")
    table = page.get_by_role("region", name="Ledger of the writers")
    heads = table.locator("thead th").all_inner_texts()
    row = dict(zip(heads, table.locator("tbody tr").first.locator("td").all_inner_texts(), strict=True))
    assert row["verdict"] == "proven"
    assert row["logged"] == row["stored"]
    assert int(row["logged"].replace(",", "")) > LONG


_ATTEMPT = """
import sys
from runstream import Experiment, Workspace

sign, first, last = map(int, sys.argv[1:])
run = Experiment(Workspace.from_config(), "again").start_logging(run_id="relaunched")
for step in range(first, last):
    run.log("loss", float(sign * step), step=step)
run.complete()
"""


def test_what_an_older_attempt_logged_can_be_seen(site: Site, visitor: Visit, tmp_path: Path) -> None:
    logged = {1: (-1, 0, 50), 2: (1, 20, 40), 3: (1000, 30, 60)}
    for arguments in logged.values():
        done = site.place.script(_ATTEMPT, *map(str, arguments), RUNSTREAM_DRAIN="1")
        assert done.returncode == 0, done.stderr
    page = visitor.open("/w/local/r/relaunched", ".run-head")
    page.get_by_role("link", name="3 attempts").click()
    expect(page.locator("[data-attempt]")).to_have_count(3)
    expect(page.locator("[data-attempt] input:checked")).to_have_count(1)
    expect(page.get_by_role("heading", name="What attempt 3 logged")).to_be_visible()
    for attempt, (sign, first, last) in logged.items():
        page.locator(f'[data-attempt="{attempt}"] input').check()
        expect(page.get_by_role("heading", name=f"What attempt {attempt} logged")).to_be_visible()
        expect(page).to_have_url(re.compile(f"attempt={attempt}"))
        expect(page.locator('[data-chart="loss"] .chart-figure')).to_contain_text(re.compile(r"\d"))
        rows = chart_csv(page, "loss", tmp_path)
        assert [(int(row["step"]), float(row["value"])) for row in rows] == [
            (step, float(sign * step)) for step in range(first, last)
        ]
    assert violations(page) == []
    shot(page, "attempts")
    page.get_by_role("link", name=re.compile("^metrics")).click()
    expect(page.locator("[data-attempt]")).to_have_count(0)
    expect(page.locator('[data-chart="loss"] .chart-figure')).to_be_visible()
    rows = chart_csv(page, "loss", tmp_path)
    counts = [(-1, 0, 20), (1, 20, 30), (1000, 30, 60)]
    assert [(int(row["step"]), float(row["value"])) for row in rows] == [
        (step, float(sign * step)) for sign, first, last in counts for step in range(first, last)
    ]


def test_what_others_wrote_does_nothing(site: Site, visitor: Visit) -> None:
    run = f"/w/local/r/{site.ids['hostile']}"
    evil = quote(EVIL.partition("</")[0])
    sources = [f"{run}/source?file={name}" for name in (evil, "a.html", "b%E2%80%AEtxt")]
    for path in ("/w/local/e/hostile", run, f"{run}/metrics", f"{run}/tables", *sources):
        page = visitor.open(path, "main h1")
        if path in sources:
            expect(page.locator(".source-lines")).to_contain_text(EVIL)
        page.wait_for_timeout(300)
        assert page.locator("main script, main iframe, main img[src=x]").count() == 0
        page.close()
    answer = visitor.context.request.get(
        f"{visitor.base}/login?token={site.server.token}&next=//evil.example", max_redirects=0
    )
    assert answer.headers["location"] == "/"


def test_signing_in(site: Site, browser: Browser) -> None:
    with visit(browser, site.server.http, None) as stranger:
        stranger.expected += ["401", "403"]
        page = stranger.open(f"{site.full}/metrics?q=roc", "text=Sign in")
        page.get_by_label("API key or token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not known")
        page.get_by_label("API key or token").fill(site.server.token)
        page.keyboard.press("Enter")
        expect(page.locator('[data-chart="roc"]')).to_be_visible()


def test_below_a_path_of_a_proxy(site: Site, browser: Browser) -> None:
    headers = {"x-forwarded-prefix": "/team/runs"}
    with visit(browser, site.server.http, None, extra_http_headers=headers) as guest:
        guest.expected += ["401"]
        page = guest.open("/team/runs/w/local/e/diabetes", "text=Sign in")
        page.get_by_label("API key or token").fill(site.server.token)
        page.keyboard.press("Enter")
        page.locator("[data-run] a").first.click()
        expect(page).to_have_url(re.compile(r"/team/runs/w/local/r/"))
        expect(page.locator(".run-head")).to_be_visible()


def test_what_is_not_there_says_so(site: Site, visitor: Visit) -> None:
    visitor.expected += ["404"]
    page = visitor.open("/w/local/r/none", ".empty")
    expect(page.locator(".empty")).to_contain_text("There is no run 'none' in workspace 'local'")
    page.get_by_role("link", name="All experiments of local").click()
    expect(page.get_by_role("heading", name="Experiments")).to_be_visible()
    page = visitor.open("/w/local/e/none", ".empty")
    expect(page.locator(".empty code")).to_contain_text("start_logging")
    page = visitor.open("/nowhere", ".empty")
    page = visitor.open(f"{compared(site)},none", ".compare")
    expect(page.get_by_text("1 run of the address cannot be found.")).to_be_visible()


def test_runs_are_grouped_and_their_lines_drawn_beside_the_table(
    site: Site, visitor: Visit, tmp_path: Path
) -> None:
    page = visitor.open("/w/local/e/diabetes", "[data-run]")
    page.get_by_label("group by").select_option("tags.model")
    expect(page.locator("tr.begins")).to_have_count(2)
    assert page.locator("tr.begins .col-group").all_inner_texts() == ["lasso", "ridge"]
    expect(page.locator("[data-run]")).to_have_count(12)
    page.get_by_label("plot").check()
    page.get_by_label("metric").select_option("train/loss")
    expect(page.locator("aside")).to_contain_text("the first 12")
    for run in site.ids["sweep"][:2]:
        page.locator(f'[data-run="{run}"] input').check()
    expect(page.locator("aside")).to_contain_text("2 selected")
    rows = chart_csv(page, "train/loss", tmp_path)
    for _ in range(60):  # the lines are read after the words have changed
        if len({row["line"] for row in rows}) == 2:
            break
        page.wait_for_timeout(500)
        rows = chart_csv(page, "train/loss", tmp_path)
    assert {row["line"] for row in rows} == {"calm-otter-1", "calm-otter-2"}
    page.reload()
    expect(page.locator("tr.begins")).to_have_count(2)
    expect(page.locator("aside")).to_contain_text("2 selected")


def test_how_the_server_is(site: Site, visitor: Visit) -> None:
    page = visitor.open("/", "text=Health")
    page.get_by_role("link", name="Health").click()
    expect(page.get_by_role("heading", name="Storage and health")).to_be_visible()
    expect(page.locator(".health-verdict")).to_have_text("All is well.")
    engines = page.get_by_role("region", name="Engines")
    expect(engines.locator("tbody tr")).to_have_count(4)
    expect(engines.get_by_text("answers")).to_have_count(4)
    way = page.get_by_role("region", name="On the way")
    assert way.locator("tbody tr td:first-child").all_inner_texts() == ["spools", "event log", "tables"]
    tables = page.get_by_role("region", name="Tables")
    expect(tables.locator("tr", has_text="points")).to_contain_text(re.compile(r"points\s*[1-9][\d,]*"))


PAGES = {
    "health": ("/health", ".health-verdict"),
    "experiments": ("/", "[data-row]"),
    "runs": ("/w/local/e/diabetes", "[data-run]"),
    "groups": ("/w/local/e/diabetes?group=tags.model&plot=1", "aside canvas"),
    "overview": ("FULL", ".pairs"),
    "metrics": ("FULL/metrics", ".tiles"),
    "tables": ("FULL/tables", '[data-table="note"] td'),
    "source": ("FULL/source?with=OTHER&file=train.py", ".diff-added"),
    "ledger": ("FULL/ledger?compare=1", "text=compared one by one"),
    "compare": ("COMPARE", ".differences"),
    "sweep": ("SWEEP", ".differences"),
}


MADE_OF_THE_SAME_PARTS = ("health", "source", "ledger", "groups", "sweep")
"""Seen in both themes and both widths, but not in every pair of them."""


@pytest.mark.parametrize("name", PAGES)
def test_each_page_is_accessible_and_fits_a_phone(site: Site, browser: Browser, name: str) -> None:
    path, wait = PAGES[name]
    path = path.replace("FULL", site.full).replace("COMPARE", compared(site))
    path = path.replace("OTHER", site.ids["sweep"][0])
    path = path.replace("SWEEP", f"/w/local/compare?runs={','.join(site.ids['sweep'][:4])}")
    wide_light, small_dark = ("light", 1440), ("dark", 380)
    for theme, width, height in (
        ("light", 1440, 900),
        ("dark", 1440, 900),
        ("light", 380, 800),
        ("dark", 380, 800),
    ):
        if name not in MADE_OF_THE_SAME_PARTS or (theme, width) in (wide_light, small_dark):
            size = {"width": width, "height": height}
            with visit(
                browser, site.server.http, site.server.token, viewport=size, color_scheme=theme
            ) as guest:
                page = guest.open(path, wait)
                page.wait_for_load_state("networkidle")
                assert violations(page) == []
                for narrower in (width, 1024) if width == 1440 else (width,):
                    page.set_viewport_size({"width": narrower, "height": height})
                    wide = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
                    assert wide <= 0, f"{name} is {wide} px wider than {narrower}"
                    shot(page, f"{name}-{narrower}-{theme}")


def compared(site: Site) -> str:
    return f"/w/local/compare?runs={','.join([site.ids['full'], *site.ids['sweep'][:5]])}"
