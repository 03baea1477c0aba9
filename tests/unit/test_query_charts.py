"""Charts: whatever the numbers, what is drawn lies inside the frame."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_query.charts import HEIGHT, WIDTH, Chart, Point, line_chart, number_text


def numbers(chart: Chart) -> list[tuple[float, float]]:
    pairs = re.findall(r"(-?[\d.]+|nan|inf),(-?[\d.]+|nan|inf)", " ".join([*chart.lines, *chart.bands]))
    drawn = [(float(x), float(y)) for x, y in pairs]
    return drawn + list(chart.dots) + [(x, y) for x, y, _ in chart.marks]


@st.composite
def points(draw: st.DrawFn) -> list[Point]:
    found = []
    for x in sorted(draw(st.lists(st.integers(-(2**63), 2**63), unique=True, max_size=8))):
        low, y, high = sorted(draw(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3)))
        if draw(st.booleans()):
            found.append(Point(x, y, low, high, draw(st.integers(0, 7))))
        else:
            found.append(Point(x, math.nan, math.nan, math.nan, draw(st.integers(1, 7))))
    return found


@given(points())
def test_everything_is_inside(given_points: list[Point]) -> None:
    chart = line_chart("t", "x", given_points)
    for x, y in numbers(chart):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    for tick in [*chart.x_ticks, *chart.y_ticks]:
        assert math.isfinite(tick.at)
    assert len(chart.x_ticks) <= 21


def test_a_gap_parts_the_line() -> None:
    gap = Point(2, math.nan, math.nan, math.nan, 1)
    chart = line_chart("t", "x", [Point(0, 1, 1, 1), Point(1, 2, 2, 2), gap, Point(3, 1, 1, 1)])
    assert len(chart.lines) == 1
    assert len(chart.dots) == 1
    assert [word for _, _, word in chart.marks] == ["NaN"]
    assert not chart.bands


def test_the_band_goes_from_the_least_to_the_greatest() -> None:
    chart = line_chart("t", "x", [Point(0, 1, 0, 2), Point(1, 1, 0, 2)])
    (band,) = chart.bands
    assert band.endswith("Z")
    assert band.count(",") == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(
            (0.0, "0"),
            (-3.0, "−3"),
            (1234567.0, "1234567"),
            (0.1, "0.1"),
            (1 / 3, "0.333333"),
            (1e300, "1e+300"),
        ),
        *((math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "−∞"), (-1e-7, "−1e−07")),
    ],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert number_text(value) == text
