"""The static page of a run: hostile content is shown and never markup, and no value breaks a chart."""

import re
from html.parser import HTMLParser
from math import inf, nan
from typing import Any

import pytest

from runstream.core.artifact import uri
from runstream.widgets import charts, html
from runstream.widgets.data import as_lists

HOSTILE = '</pre></svg><script>alert(1)</script><img src=x onerror="alert(2)" \'>&'
PLAIN = {"div", "p", "b", "br", "small", "table", "tr", "th", "td", "a", "pre", "span"}
DRAWN = {"figure", "figcaption", "svg", "path", "text", "polyline", "circle"}


class Elements(HTMLParser):
    """The elements of a page, their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.text = ""
        self.links: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def data(**more: Any) -> dict[str, Any]:
    run = {
        "run_id": "r1", "experiment": "e", "run_number": 1, "name": "fern", "run_type": None,
        "status": "Running", "created_utc": "2026-01-01T00:00:00.000000Z", "end_time_utc": None,
        "tags": {}, "properties": {}, "parameters": {}, "target": "local", "script_name": None,
        "arguments": None, "error": None, "log_files": {}, "portal_url": "http://127.0.0.1:1/w/a/r/r1",
    }  # fmt: skip
    found: dict[str, Any] = {"run_properties": run, "run_metrics": {}, "child_runs": [], "run_logs": ""}
    run.update(more.pop("run", {}))
    return {**found, **more}


def test_hostile_texts_are_only_texts() -> None:
    pairs: dict[str, Any] = {HOSTILE: HOSTILE, "none": None}
    run = dict.fromkeys(("run_id", "experiment", "name", "status", "error", "script_name"), HOSTILE)
    child = {**data()["run_properties"], **run, "tags": pairs, "parameters": pairs}
    page = html.page(
        data(
            run={
                **run, "tags": pairs, "properties": pairs, "parameters": pairs, "arguments": [HOSTILE],
                "log_files": {HOSTILE: "javascript:alert(3)"},
            },
            run_metrics={
                HOSTILE: [1, 2],
                HOSTILE + "1": [HOSTILE],
                HOSTILE + "2": [HOSTILE, None],
                HOSTILE + "3": {HOSTILE: [1, 2], HOSTILE + "y": [3, 4]},
                HOSTILE + "4": {HOSTILE: [HOSTILE], "": [HOSTILE, HOSTILE]},
                HOSTILE + "5": [uri("r1", HOSTILE)],
            },
            child_runs=[child],
            run_logs=HOSTILE + "\n\x1b[31mred\x1b[0m\x00",
        ),
        HOSTILE,
    )  # fmt: skip
    found = Elements(page)
    assert found.tags <= PLAIN | DRAWN
    assert {"polyline", "pre", "table"} <= found.tags
    assert not {name for name in found.names if name.startswith("on")}
    assert found.links == ["http://127.0.0.1:1/w/a/r/r1"]
    assert found.text.count(HOSTILE) >= 25
    assert found.text.endswith("\nred")
    notice = Elements(html.notice_page(HOSTILE, "javascript:alert(1)", HOSTILE))
    assert (notice.tags, notice.links) == ({"div", "p", "b"}, [])


def test_an_address_that_is_none_of_the_webs_is_no_link() -> None:
    assert Elements(html.page(data(run={"portal_url": "javascript:alert(1)"}))).links == []


def test_a_log_is_shown_as_a_terminal_leaves_it() -> None:
    log = "".join(f"line {n}\r\n" for n in range(200)) + "10 %\r50 %\rdone\n"
    lines = Elements(html.page(data(run_logs=log))).text.split("Log")[1].split("\n")
    assert lines == [*(f"line {n}" for n in range(101, 200)), "done"]


def test_of_a_long_error_the_reason_is_shown() -> None:
    error = (
        "".join(f'  File "train.py", line {n}\n    step()\n' for n in range(300)) + "ValueError: the reason"
    )
    page = html.page(data(run={"status": "Failed", "error": error}))
    shown = Elements(page).text
    assert '  File "train.py", line 299\n    step()\nValueError: the reason' in shown
    assert "line 100" not in shown


def test_text_that_is_no_unicode() -> None:
    html.page(data(run_metrics={"x": ["\ud800"]}, run_logs="\ud800")).encode()


def corners(page: str) -> list[list[tuple[float, float]]]:
    """Of each line."""
    return [
        [(float(x), float(y)) for x, y in (corner.split(",") for corner in line.split())]
        for line in re.findall(r'points="([^"]*)"', page)
    ]


def test_a_line_fills_its_frame() -> None:
    assert corners(charts.line_chart("loss", [0, 5, 10])) == [[(66, 140), (189, 74), (312, 8)]]
    assert corners(charts.line_chart("flat", [3, 3])) == [[(66, 74), (312, 74)]]


def test_two_columns_are_a_line_of_the_second_over_the_first() -> None:
    page = html.page(data(run_metrics={"sine": {"angle": [0, 1, 4], "value": [0.0, 1.0, 0.5]}}))
    assert corners(page) == [[(66, 140), (127.5, 8), (312, 74)]]
    assert "value over angle, 3 values" in page


def test_what_is_not_finite_interrupts_the_line_and_is_counted() -> None:
    page = charts.line_chart("loss", [0, 1, nan, 2, inf, 3, 4, -inf, None])
    lines, dots = corners(page), re.findall(r"<circle", page)
    assert ([len(line) for line in lines], len(dots)) == ([2, 2], 1)
    assert "9 values, 4 of them missing or not finite" in page
    assert "nan" not in page
    assert "inf" not in re.sub("not finite", "", page)


@pytest.mark.parametrize(
    "values",
    [
        [nan, nan], [inf, -inf], [1.7e308, -1.7e308], [5e-324, 0.0], [2**63, -(2**63)], [10**400, 1],
        [True, False], [None, 1], [nan] * 5000, [nan, 1.0] * 5000, [1.0, *[nan] * 5000],
    ],
    ids=lambda values: f"{str(values[0])[:10]} and {len(values) - 1} more",
)  # fmt: skip
def test_no_value_breaks_a_chart(values: list[Any]) -> None:
    for page in (
        html.page(data(run_metrics={"x": values})),
        html.page(data(run_metrics={"x": {"a": values, "b": values[::-1]}})),
    ):
        drawn = "".join(re.findall(r'(?:points|cx|cy|x|y)="([^"]*)"', page))
        assert "nan" not in drawn
        assert "inf" not in drawn
        for line in corners(page):
            assert all(8 <= x <= 312 and 8 <= y <= 140 for x, y in line)


def test_a_peak_of_a_long_series_is_drawn() -> None:
    ys = [0.0] * 100_000
    ys[54_321], ys[77_777] = 9.0, -1.0
    (line,) = corners(charts.line_chart("loss", ys))
    assert len(line) <= 600
    assert {min(y for _, y in line), max(y for _, y in line)} == {8, 140}
    assert [x for x, _ in line] == sorted(x for x, _ in line)


def test_single_values_are_a_table_and_others_what_they_are() -> None:
    metrics = {
        "best": as_lists(0.25), "word": as_lists("abc"), "none": as_lists([]), "empty table": as_lists({}),
        "words": as_lists(["a", "b"]), "row": as_lists({"a": 1, "b": "x"}),
        "long": as_lists({"a": list(range(100)), "b": ["t"] * 100}), "file": [uri("r1", "outputs/a b.png")],
    }  # fmt: skip
    found = Elements(html.page(data(run_metrics=metrics)))
    assert "svg" not in found.tags
    for text in ("best0.25", "wordabc", "none empty", "empty table empty", "words ab", "row ab1x",
                 "long the first 50 of 100 rowsab0t1t", "filefile outputs/a b.png"):  # fmt: skip
        assert text in found.text
    assert "50t" not in found.text
