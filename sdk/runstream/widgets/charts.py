"""Lines as inline SVG: no script, so that they show wherever HTML does."""

from collections.abc import Sequence
from math import inf, isfinite, nan
from typing import Any, Final, NamedTuple

from runstream.core.display import escape

_WIDTH: Final = 320
_HEIGHT: Final = 160
_LEFT: Final = 66
_RIGHT: Final = 8
_TOP: Final = 8
_BOTTOM: Final = 20
_BUCKETS: Final = 300  # of more points the least and greatest of each are drawn


class Point(NamedTuple):
    """NaN stands for a value that can't be drawn."""

    x: float
    y: float

    @property
    def drawn(self) -> bool:
        return isfinite(self.x) and isfinite(self.y)


def is_numeric(column: Sequence[Any]) -> bool:
    """Whether all values are numbers, or missing, and one at least is a number."""
    return all(value is None or isinstance(value, int | float) for value in column) and any(
        value is not None for value in column
    )


def line_chart(
    title: str,
    ys: Sequence[Any],
    xs: Sequence[Any] | None = None,
    axes: str = "",
    count: int | None = None,
) -> str:
    """A figure of y over x, or over the place in the list. Missing and non-finite values interrupt the line
    and are counted below it.

    :param axes: what is below the chart, as `y over x`.
    :param count: number of values of which these are the least and greatest; None when these are all.
    """
    places = range(len(ys)) if xs is None else xs
    points = [Point(_number(x), _number(y)) for x, y in zip(places, ys, strict=False)]
    left_out = sum(not point.drawn for point in points)
    about = [axes] if axes else []
    about.append(f"{len(points) if count is None else count:,} values")
    if left_out and count is None:
        about.append(f"{left_out:,} of them missing or not finite")
    caption = f"<b>{escape(title)}</b><br><small>{escape(', '.join(about))}</small>"
    place = "display:inline-block;margin:4px 12px 4px 0;vertical-align:top"
    style = f"{place};max-width:{_WIDTH}px;overflow-wrap:anywhere"
    return f'<figure style="{style}"><figcaption>{caption}</figcaption>{_svg(title, points)}</figure>'


def _svg(title: str, points: list[Point]) -> str:
    drawn = [point for point in points if point.drawn]
    if not drawn:
        return "<small>Nothing that can be drawn.</small>"
    low = Point(min(point.x for point in drawn), min(point.y for point in drawn))
    high = Point(max(point.x for point in drawn), max(point.y for point in drawn))
    marks = "".join(_mark(part, low, high) for part in _parts(_thinned(points)))
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    bottom = _HEIGHT - _BOTTOM
    frame = f'<path d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - _RIGHT}" fill="none" stroke="#888"/>'
    labels = (
        _label(_LEFT - 4, _TOP + 8, "end", high.y)
        + _label(_LEFT - 4, bottom, "end", low.y)
        + _label(_LEFT, _HEIGHT - 6, "start", low.x)
        + _label(_WIDTH - _RIGHT, _HEIGHT - 6, "end", high.x)
    )
    return f'<svg role="img" aria-label="{escape(title)}" {size}>{frame}{marks}{labels}</svg>'


def _label(x: int, y: int, anchor: str, value: float) -> str:
    style = f'font-size="10" fill="#888" text-anchor="{anchor}"'
    return f'<text x="{x}" y="{y}" {style}>{value:.5g}</text>'


def _mark(part: list[Point], low: Point, high: Point) -> str:
    """A line, or a dot for a point without neighbours."""
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    placed = [
        (
            _LEFT + wide * _share(point.x, low.x, high.x),
            _TOP + tall * (1 - _share(point.y, low.y, high.y)),
        )
        for point in part
    ]
    if len(placed) == 1:
        return f'<circle cx="{placed[0][0]:.1f}" cy="{placed[0][1]:.1f}" r="2.5" fill="#1f77b4"/>'
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return f'<polyline points="{corners}" fill="none" stroke="#1f77b4" stroke-width="1.5"/>'


def _share(value: float, low: float, high: float) -> float:
    """Where it is between the two, from 0 to 1. Halves: the distance of two floats may be infinite."""
    span = high / 2 - low / 2
    return (value / 2 - low / 2) / span if span else 0.5


def _parts(points: list[Point]) -> list[list[Point]]:
    """Stretches without a gap."""
    parts: list[list[Point]] = [[]]
    for point in points:
        if point.drawn:
            parts[-1].append(point)
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def _thinned(points: list[Point]) -> list[Point]:
    """At most two points of each bucket: no peak is lost."""
    if len(points) <= 2 * _BUCKETS:
        return points
    kept = []
    for number in range(_BUCKETS):
        bucket = points[number * len(points) // _BUCKETS : (number + 1) * len(points) // _BUCKETS]
        drawn = [place for place, point in enumerate(bucket) if point.drawn]
        if not drawn:
            kept.append(Point(nan, nan))
            continue
        ends = {min(drawn, key=lambda at: bucket[at].y), max(drawn, key=lambda at: bucket[at].y)}
        kept += [bucket[place] for place in sorted(ends)]
    return kept


def _number(value: Any) -> float:
    if value is None:
        return nan
    try:
        return float(value)
    except OverflowError:
        return inf
