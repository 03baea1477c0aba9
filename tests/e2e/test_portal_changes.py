"""The portal while things change: runs that go on, a server that is gone for a while, what people change."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser import Visit, visit
from tests.e2e.conftest import Site

pytestmark = pytest.mark.engine

_GOES_ON = """
import sys
from runstream import Experiment, Workspace

run = Experiment(Workspace.from_config(), "live").start_logging(display_name="swift-heron")
print(run.id, flush=True)
step = 0
for line in sys.stdin:
    for _ in range(int(line)):
        run.log("loss", float(step), step=step)
        step += 1
    run.flush()
    print(step, flush=True)
run.complete()
"""


@contextmanager
def going_on(site: Site) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A run that logs as many points as it is told, and ends when its input does."""
    with subprocess.Popen(
        [sys.executable, "-c", _GOES_ON],
        env=site.place.environment(),
        cwd=site.place.work,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def log(process: subprocess.Popen[str], points: int) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{points}\n")
    process.stdin.flush()
    process.stdout.readline()


def test_a_run_moves_by_itself_and_comes_to_rest(site: Site, visitor: Visit) -> None:
    with going_on(site) as (run, process):
        log(process, 10)
        page = visitor.open(f"/w/local/r/{run}/metrics", '[data-chart="loss"]')
        figure = page.locator('[data-chart="loss"] .chart-figure')
        expect(figure).to_have_text("9")
        expect(page.locator(".live")).to_have_text("live")
        log(process, 90)
        expect(figure).to_have_text("99")
        assert process.stdin is not None
        process.stdin.close()
        expect(page.locator(".run-head .status")).to_have_text("completed")
        expect(page.locator(".live")).to_have_count(0)
        expect(page.locator(".ledger")).to_contain_text("logged 100 = stored 100")
        calls: list[str] = []
        page.on("request", lambda request: calls.append(request.url))
        for _ in range(20):  # what was asked just now may be answered yet
            calls.clear()
            page.wait_for_timeout(2500)
            if not calls:
                break
        assert calls == []  # at rest


def test_a_page_that_is_opened_too_early_finds_its_run(site: Site, visitor: Visit) -> None:
    visitor.expected += ["404"]
    page = visitor.open("/w/local/r/early", "text=There is no such run.")
    done = site.place.script(
        "from runstream import Experiment, Workspace\n"
        "run = Experiment(Workspace.from_config(), 'early').start_logging(run_id='early')\n"
        "run.display_name = 'early-bird'; run.complete()"
    )
    assert done.returncode == 0, done.stderr
    expect(page.get_by_role("heading", name="early-bird")).to_be_visible()


_SWEEP = """
import sys
from runstream import Experiment, Workspace

run = Experiment(Workspace.from_config(), "sweep").start_logging(run_id="parent")
print("ready", flush=True)
for line in sys.stdin:
    with run.child_run(line.strip()) as child:
        child.log("mse", 1.0)
    run.flush()
run.complete()
"""


def test_children_come_by_themselves(site: Site, visitor: Visit) -> None:
    with site.place.popen(_SWEEP) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        page = visitor.open("/w/local/r/parent/children", "text=This run has no children.")
        for name in "one", "two":
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            expect(page.locator("[data-run]").filter(has_text=name)).to_be_visible()
        expect(page.locator("[data-run]")).to_have_count(2)
        process.stdin.close()
        process.wait()


_LOOKS_ON = """
import sys
from runstream import Experiment, Run, Workspace

run = Run(Experiment(Workspace.from_config(), "watched"), "watched")
run.log("seen from outside", 1.0)
run.flush()
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_run_is_whole_also_while_somebody_looks_on(site: Site, visitor: Visit) -> None:
    done = site.place.script(
        "from runstream import Experiment, Workspace\n"
        "run = Experiment(Workspace.from_config(), 'watched').start_logging(run_id='watched')\n"
        "run.log_list('loss', [3, 2, 1]); run.complete()"
    )
    assert done.returncode == 0, done.stderr
    with site.place.popen(_LOOKS_ON) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        page = visitor.open("/w/local/r/watched/ledger", ".ledger-verdict")
        expect(page.get_by_role("cell", name="attached")).to_be_visible()
        expect(page.locator(".run-head .ledger")).to_have_text("logged 3 = stored 3 ✓")
        expect(page.locator(".ledger-verdict")).to_contain_text(
            "Everything that was accepted is in the tables. 1 attached process goes on"
        )
        process.stdin.close()
        process.wait()


def test_tags_are_edited_and_a_run_is_renamed(site: Site, visitor: Visit) -> None:
    page = visitor.open(f"/w/local/r/{site.ids['sweep'][2]}", ".tag-list")
    page.get_by_role("button", name="+ tag").click()
    page.get_by_placeholder("key").fill("reviewed")
    page.get_by_placeholder("value (may be empty)").fill("yes <b>")
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".tag-list")).to_contain_text("reviewed: yes <b>")
    page.get_by_role("button", name="Remove the tag reviewed").click()
    expect(page.locator(".tag-list")).not_to_contain_text("reviewed")
    page.get_by_title("More for this run").click()
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="Name").fill("renamed")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="renamed")).to_be_visible()


def test_the_best_run_is_chosen_once_and_marked_everywhere(site: Site, visitor: Visit) -> None:
    page = visitor.open("/w/local/e/diabetes", "[data-run]")
    best = site.ids["sweep"][7]  # alpha 0.40: least of all, also of those that are logged to more digits
    page.get_by_label("best by").select_option("min mse")
    expect(page.locator(f'[data-run="{best}"] .best')).to_have_text("best")
    expect(page.locator("[data-run] .best")).to_have_count(1)
    page.reload()
    expect(page.locator(f'[data-run="{best}"] .best')).to_have_text("best")
    page.get_by_label("best by").select_option("max mse")
    expect(page.locator(f'[data-run="{site.ids["sweep"][0]}"] .best')).to_have_text("best")
    page.get_by_label("best by").select_option("min mse")
    expect(page.locator(f'[data-run="{best}"] .best')).to_have_text("best")
    page = visitor.open("/", "[data-row]")
    expect(page.locator(".best-of")).to_contain_text("calm-otter-8 mse 3,295.7")
    page.locator(".best-of a").click()
    expect(page.locator(".run-head h1")).to_have_text("calm-otter-8")


def test_a_shared_link_shows_one_run_until_it_is_revoked(
    site: Site, visitor: Visit, browser: Browser
) -> None:
    page = visitor.open(site.full, ".run-head")
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Make the link").click()
    link = page.locator("dialog code").inner_text()
    assert link.startswith(f"{site.server.http}/s/")
    with visit(browser, site.server.http, None) as guest:
        guest.expected += ["401", "403"]
        seen = guest.open(link.removeprefix(site.server.http), ".run-head")
        expect(seen.get_by_role("heading", name="brave-fern")).to_be_visible()
        expect(seen.get_by_role("button", name="Share")).to_have_count(0)
        expect(seen.get_by_role("button", name="+ tag")).to_have_count(0)
        seen.get_by_role("link", name=re.compile("^metrics")).click()
        expect(seen.locator('[data-chart="roc"] canvas').first).to_be_visible()
        other = guest.context.request.get(f"{link}/w/local/r/{site.ids['sweep'][1]}")
        assert b"calm-otter" not in other.body()
        page.get_by_role("button", name="Revoke").click()
        expect(page.get_by_text("shows nothing any more")).to_be_visible()
        seen.wait_for_timeout(1500)  # what other query services may remember for a second
        seen.reload()
        expect(seen.get_by_role("alert")).to_contain_text("expired, or was taken back")


def test_a_link_is_revoked_when_its_window_was_closed_long_ago(
    site: Site, visitor: Visit, browser: Browser
) -> None:
    page = visitor.open(f"/w/local/r/{site.ids['sweep'][2]}", ".run-head")
    links = []
    for _ in range(2):
        page.get_by_role("button", name="Share").click()
        page.get_by_role("button", name="Make the link").click()
        links.append(page.locator("dialog code").inner_text())
        page.get_by_role("button", name="Close").last.click()
    page.get_by_role("button", name="Share").click()
    earlier = page.get_by_role("region", name="Links made before").locator("li")
    expect(earlier).to_have_count(2)
    assert links[1] not in page.content()  # it was shown once
    earlier.first.get_by_role("button", name="Revoke").click()  # the newest
    expect(earlier).to_have_count(1)
    page.wait_for_timeout(1500)  # what other query services may remember for a second
    with visit(browser, site.server.http, None) as guest:
        assert [guest.context.request.get(link).status for link in links] == [200, 401]


_WITH_FILES = """
import numpy as np
from pathlib import Path
from runstream import Experiment, Workspace

run = Experiment(Workspace.from_config(), "files").start_logging(display_name="quiet-finch")
for n in range(2):
    run.log_image("sample", plot=np.full((3, 5, 3), 100 + n, np.uint8))
for name in "one", "two":
    Path(f"{name}.txt").write_text(f"what {name} says")
    run.upload_file(f"outputs/{name}.txt", f"{name}.txt")
run.complete()
print(run.id)
"""


def test_previews_work_through_a_shared_link_until_it_is_revoked(
    site: Site, visitor: Visit, browser: Browser
) -> None:
    done = site.place.script(_WITH_FILES, RUNSTREAM_DRAIN="1")
    assert done.returncode == 0, done.stderr
    page = visitor.open(f"/w/local/r/{done.stdout.split()[-1]}", ".run-head")
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Make the link").click()
    link = page.locator("dialog code").inner_text()
    with visit(browser, site.server.http, None) as guest:
        guest.expected += ["401", "403"]
        seen = guest.open(link.removeprefix(site.server.http), ".run-head")
        tabs = seen.get_by_role("navigation", name="Parts of the run")
        tabs.get_by_role("link", name="images").click()
        image = seen.locator('[data-images="sample"] img')
        width = "image => image.decode().then(() => image.naturalWidth)"
        assert image.evaluate(width) == 5
        seen.get_by_role("slider").focus()
        before = image.get_attribute("src")
        seen.keyboard.press("ArrowLeft")
        expect(image).not_to_have_attribute("src", str(before))
        assert image.evaluate(width) == 5
        address = f"{site.server.http}{image.get_attribute('src')}"
        assert address.startswith(link)  # below the link, so that it can be taken back
        tabs.get_by_role("link", name="files").click()
        seen.get_by_role("button", name="one.txt").click()
        expect(seen.locator(".file-text")).to_have_text("what one says")
        download = str(seen.get_by_role("link", name="Download").get_attribute("href"))
        assert guest.context.request.get(site.server.http + download).text() == "what one says"

        page.get_by_role("button", name="Revoke").click()
        expect(page.get_by_text("shows nothing any more")).to_be_visible()
        seen.wait_for_timeout(1500)  # what other query services may remember for a second
        seen.get_by_role("button", name="two.txt").click()
        expect(seen.locator(".problem")).to_be_visible()
        assert seen.get_by_text("what two says").count() == 0
        for gone in address, site.server.http + download:
            answer = guest.context.request.get(gone)
            assert (answer.status, b"what" in answer.body()) == (401, False)


def test_a_filter_is_completed_and_says_where_it_is_wrong(site: Site, visitor: Visit) -> None:
    visitor.expected += ["400"]
    page = visitor.open("/w/local/e/diabetes", "[data-run]")
    field = page.get_by_role("combobox", name="Filter runs")
    field.fill("metrics.ms")
    expect(page.get_by_role("option").first).to_contain_text("metrics.mse")
    page.keyboard.press("Tab")
    expect(field).to_have_value(re.compile("metrics.mse"))
    field.fill("metrics.alpha < 0.22 and tags.model == ridge")
    page.keyboard.press("Enter")
    expect(page.locator("[data-run]")).to_have_count(2)
    expect(page.get_by_role("status").filter(has_text="2 of 12")).to_be_visible()
    page.reload()  # the view is its address
    expect(page.locator("[data-run]")).to_have_count(2)
    field.fill("metrics.alpha <")
    page.keyboard.press("Enter")
    expect(page.locator(".filter-error")).to_contain_text("It ends too early. Expected: a number")
    field.fill("metrics.alpha < 0.22 nad tags.model == ridge")
    page.keyboard.press("Enter")
    expect(page.locator(".filter-error mark")).to_have_text("nad")


def test_the_order_is_the_stores(site: Site, visitor: Visit) -> None:
    page = visitor.open("/w/local/e/diabetes?sort=metrics.mse", "[data-run]")
    expect(page.locator("[data-run] .col-name").first).to_contain_text(re.compile("brave-fern|calm-otter-8"))
    page.goto(f"{visitor.base}/w/local/e/diabetes?sort=-metrics.mse")
    expect(page.locator("[data-run] .col-name").first).to_contain_text("calm-otter-1")


def test_the_page_comes_back_after_the_server(site: Site, visitor: Visit) -> None:
    """Last in this module: it starts the server anew."""
    visitor.expected += ["ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY", "503", "ERR_FAILED", "ERR_NETWORK"]
    with going_on(site) as (run, process):
        log(process, 5)
        page = visitor.open(f"/w/local/r/{run}/metrics", '[data-chart="loss"]')
        expect(page.locator(".live")).to_have_text("live")
        site.server.kill()
        expect(page.locator(".live-lost")).to_contain_text("no connection since")
        grpc, http = (address.rpartition(":")[2] for address in (site.server.grpc, site.server.http))
        site.server = site.place.up("--grpc-port", grpc, "--http-port", http)
        log(process, 5)
        expect(page.locator('[data-chart="loss"] .chart-figure')).to_have_text("9")
        expect(page.locator(".live-lost")).to_have_count(0)
