"""The widget in a real JupyterLab: one notebook, from a run that goes on to one that is over."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat.reader import NotJSONError
from playwright.sync_api import Browser, Locator, Page, expect

from tests.desk import HEAD
from tests.e2e import browser as chromium
from tests.e2e import lab
from tests.e2e.browser import Visit
from tests.server import Place, wait_for

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"
CELLS = [
    HEAD
    + f"""
import math
import numpy as np
from runstream.widgets import RunDetails
evil = {EVIL!r}
run = experiment.start_logging(run_id="live", display_name="brave-fern", tags={{"model": evil}})
run.log("mse", 3295.7412)
run.log(evil, 1.0)
run.log(evil, 2.0)
for step in range(3000):
    run.log("loss", 9.5 if step == 1777 else 1 / (1 + step), step=step)
for v in (math.inf, 1.0, math.nan, 3.0):
    run.log("norm", v)
for k in range(20):
    run.log_row("wave", angle=k / 10, cos=math.cos(k / 10))
run.log("verdict", evil)
run.log_list("words", ["a", evil])
run.log_table("samples", {{"answer": ["yes", evil], "score": [0.25, 1e-9]}})
run.log_table("layers", {{"depth": [1, 2, 3], "loss": [0.3, 0.2, 0.1], "width": [64, 10, 3]}})
for n in range(3):
    run.log_image("sample " + evil, plot=np.full((4, 6, 3), (10 + 40 * n, 0, n), np.uint8))
run.log_image("glass", plot=np.zeros((4, 6, 4), np.uint8))
for alpha in (0.4, 0.1, 0.2):
    with run.child_run(f"alpha {{alpha}}") as child:
        child.log_params({{"alpha": alpha}})
        child.log("mse", 3000 + 100 * alpha)
for n in range(100):
    print("line", n)
print("said", evil)
print("\x1b[32mgreen\x1b[0m plain")
RunDetails(run).show()
""",
    """
for n in range(6):
    run.log("live", n * n, step=n)
deadline = time.monotonic() + 60
while not os.path.exists("seen") and time.monotonic() < deadline:
    time.sleep(0.1)  # the kernel is busy all the time
""",
    "run.complete()",
]


@pytest.fixture(scope="module")
def visitor(browser: Browser, lodger: Place) -> Iterator[tuple[Visit, str]]:
    """Somebody in a JupyterLab, and its token."""
    with lab.jupyter(lodger) as (base, token), chromium.visit(browser, base, None) as found:
        yield found, token


def run_cell(page: Page, number: int) -> None:
    """Runs a cell, and returns when it has begun."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    prompt = cell.locator(".jp-InputPrompt").first
    deadline = time.monotonic() + 60
    while prompt.inner_text().strip() == "[ ]:":  # right after the kernel's start it may not take
        assert time.monotonic() < deadline, f"cell {number} does not run"
        cell.locator(".jp-InputPrompt").first.click()
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(300)


def figure(page: Page, title: str) -> Locator:
    return page.locator("[data-runstream] figure.chart").filter(
        has=page.locator(".chart-title", has_text=re.compile(f"^{re.escape(title)}$"))
    )


def test_a_run_is_followed_rests_and_is_kept_in_the_file(visitor: tuple[Visit, str], lodger: Place) -> None:
    visit, token = visitor
    path = lodger.work / "run.ipynb"
    lab.notebook(path, CELLS)
    page = visit.open(f"/doc/tree/run.ipynb?token={token}", ".jp-Notebook .jp-CodeCell")
    page.locator("text=/Python 3.* \\| Idle/").wait_for()
    run_cell(page, 0)
    widget = page.locator("[data-runstream] section[data-status]")
    expect(widget).to_have_attribute("data-status", "Running")
    expect(widget.get_by_role("link", name="brave-fern")).to_be_visible()
    # Of many values the least and greatest are exact; what is not finite is told.
    canvas = '[role="img"]'
    expect(figure(page, "loss").locator(canvas)).to_have_attribute(
        "aria-label", f"loss: a line over step, from {1 / 3000} to 9.5"
    )
    expect(figure(page, "norm").locator(canvas)).to_have_attribute(
        "aria-label", "norm: a line over value, from 1 to 3"
    )
    expect(figure(page, "wave").locator(".chart-figure")).to_have_text("cos over angle")
    expect(figure(page, "layers").locator(canvas)).to_have_attribute(
        "aria-label", "layers: 2 lines over depth, from 0.1 to 64"
    )
    expect(widget.locator(".tile")).to_have_text(["mse3,295.74", f"verdict{EVIL}"])
    # What is no line is a table.
    expect(widget.locator('[data-cells="words"] td')).to_have_text(["a", EVIL])
    expect(widget.locator('[data-cells="samples"] th')).to_have_text(["answer", "score"])
    expect(widget.locator('[data-cells="samples"] td')).to_have_text(["yes", "0.25", EVIL, "1e-09"])
    # Names are text.
    expect(figure(page, EVIL)).to_be_visible()
    expect(widget.locator("dd")).to_have_text([EVIL])
    assert widget.locator("script, img[src=x]").count() == 0
    check_images(page, widget)

    # Of the children their summaries are shown, a moment later.
    children = widget.locator(".children")
    expect(children.locator("[data-child]")).to_have_count(3)
    expect(figure(page, "mse").get_by_role("combobox")).to_have_value("alpha")
    expect(figure(page, "mse").locator(canvas)).to_have_attribute(
        "aria-label", "mse: a line over alpha, from 3010 to 3040"
    )
    log = widget.get_by_label("The end of the log")
    expect(log).to_have_text(re.compile(rf"said {re.escape(EVIL)}\ngreen plain$"))
    expect(log.locator(".ansi-32")).to_have_text("green")
    children.scroll_into_view_if_needed()
    chromium.shot(page, "widget-children")

    assert chromium.violations(page, "[data-runstream]") == []

    # The notebook's kernel is busy, and the widget moves.
    run_cell(page, 1)
    expect(figure(page, "live").locator(canvas)).to_have_attribute(
        "aria-label", "live: a line over step, from 0 to 25"
    )
    assert page.locator(".jp-CodeCell").nth(1).locator(".jp-InputPrompt").inner_text().strip() == "[*]:"
    (lodger.work / "seen").touch()

    # A closer look is at the values themselves.
    chart = figure(page, "loss").locator(canvas)
    chart.focus()
    for _ in range(10):
        page.keyboard.press("+")
    expect(figure(page, "loss").locator(".badge")).to_have_text("raw")

    run_cell(page, 2)
    expect(widget).to_have_attribute("data-live", "false")
    expect(widget).to_have_attribute("data-status", "Completed")
    chromium.shot(page, "widget")

    # The file keeps what can be seen without a kernel.
    page.keyboard.press("Control+s")
    kept = wait_for(lambda: saved(path), "the notebook to be saved")
    html = HTMLExporter(embed_images=True).from_notebook_node(kept)[0]
    assert "widget-view+json" not in html
    assert "<b>Completed</b>" in html
    assert html.count("<figure") == 5
    assert "samples</b>" in html
    assert EVIL not in html
    page.close()
    page = visit.context.new_page()
    page.set_content(kept.cells[0].outputs[-1].data["text/html"])
    log = page.locator("pre")
    expect(log).to_contain_text("line 99")
    assert log.evaluate(END_IS_SEEN)  # without a script
    page.close()


END_IS_SEEN = """log => {
    const inner = log.getBoundingClientRect(), outer = log.parentElement.getBoundingClientRect();
    return inner.height > outer.height && Math.abs(inner.bottom - outer.bottom) < 2;
}"""
PIXEL = """async image => {
    await image.decode();
    const canvas = document.createElement('canvas');
    const c = canvas.getContext('2d');
    c.drawImage(image, 0, 0);
    return [image.naturalWidth, image.naturalHeight, ...c.getImageData(5, 3, 1, 1).data];
}"""


def check_images(page: Page, widget: Locator) -> None:
    """Each image at its place of the slider, pixel for pixel."""
    row = widget.locator(f'[data-images="sample {EVIL}"]')
    slider, image = row.get_by_role("slider"), row.locator("img")
    row.scroll_into_view_if_needed()
    seen = set()
    for number, key in (2, ""), (0, "Home"), (1, "ArrowRight"), (0, "ArrowLeft"):
        if key:
            slider.focus()
            page.keyboard.press(key)
        expect(row).to_contain_text(f"{number + 1} of 3")
        expect(image).to_have_attribute("alt", f"sample {EVIL}, {number + 1} of 3")
        wanted = [6, 4, 10 + 40 * number, 0, number, 255]
        assert image.evaluate(PIXEL) == wanted
        seen.add(image.get_attribute("data-path"))
    assert len(seen) == 3
    # What is transparent can be seen in a dark notebook: it lies on light squares.
    glass = widget.locator('[data-images="glass"] img')
    expect(glass).to_have_css("background-image", re.compile(r"rgb\(255, 255, 255\)"))
    chromium.shot(page, "widget-images")


def saved(path: Path) -> nbformat.NotebookNode | None:
    """The notebook, if its file has the run's end."""
    try:
        found = nbformat.read(path, as_version=4)
    except NotJSONError:  # it is being written
        return None
    outputs = [output for output in found.cells[0].outputs if output.output_type == "display_data"]
    return found if outputs and "<b>Completed</b>" in outputs[0].data["text/html"] else None


@pytest.mark.parametrize("choice", ["Restart Kernel…", "Shut Down Kernel"])
def test_a_kernel_that_is_gone_is_told(visitor: tuple[Visit, str], lodger: Place, choice: str) -> None:
    visit, token = visitor
    name = f"gone-{choice.split()[0]}"
    cell = f"""
from runstream.widgets import RunDetails
run = experiment.start_logging(run_id={name!r})
RunDetails(run).show()
"""
    lab.notebook(lodger.work / f"{name}.ipynb", [HEAD + cell])
    page = visit.open(f"/doc/tree/{name}.ipynb?token={token}", ".jp-Notebook .jp-CodeCell")
    page.clock.install()
    page.locator("text=/Python 3.* \\| Idle/").wait_for()
    run_cell(page, 0)
    widget = page.locator("[data-runstream] section[data-status]")
    expect(widget).to_have_attribute("data-live", "true")
    expect(widget.locator(".problem")).to_have_count(0)
    page.get_by_role("menuitem", name="Kernel").click()
    page.get_by_text(choice, exact=True).click()
    if choice.startswith("Restart"):
        page.locator(".jp-Dialog .jp-mod-accept").click()
    else:  # nobody tells the widget: that it hears nothing has to do
        page.locator("text=/No Kernel/").first.wait_for()
        page.clock.fast_forward("05:00")
    expect(widget.locator(".problem")).to_contain_text("The kernel no longer follows the run")
    expect(widget).to_have_attribute("data-live", "false")
    page.close()
