"""Line charts as SVG, made on the server: no script is needed to see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

WIDTH: Final = 480
HEIGHT: Final = 200
_LEFT: Final = 56
_RIGHT: Final = 8
_TOP: Final = 10
_BOTTOM: Final = 24


@dataclass(frozen=True, slots=True)
class Point:
    """What is drawn at one x: the line goes through `y`, the band reaches from `low` to `high`."""

    x: float
    y: float
    """NaN or infinite: the line has a gap."""
    low: float
    high: float
    non_finite: int = 0
    """1 has a NaN, 2 has +Infinity, 4 has -Infinity; added up."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that the template draws, in pixels."""

    title: str
    x_label: str
    lines: Sequence[str] = ()
    """Paths."""
    bands: Sequence[str] = ()
    dots: Sequence[tuple[float, float]] = ()
    """Points that no line goes through."""
    marks: Sequence[tuple[float, float, str]] = ()
    """x, y and a word for values that are not finite."""
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()
    summary: str = ""
    width: int = field(default=WIDTH, init=False)
    height: int = field(default=HEIGHT, init=False)
    left: int = field(default=_LEFT, init=False)
    right: int = field(default=WIDTH - _RIGHT, init=False)
    top: int = field(default=_TOP, init=False)
    bottom: int = field(default=HEIGHT - _BOTTOM, init=False)


def line_chart(title: str, x_label: str, points: Sequence[Point], summary: str = "") -> Chart:
    """A chart of one line."""
    finite = [value for point in points for value in (point.low, point.high) if math.isfinite(value)]
    x_scale = _Scale([point.x for point in points if math.isfinite(point.x)], _LEFT, WIDTH - _RIGHT)
    y_scale = _Scale(finite, HEIGHT - _BOTTOM, _TOP, margin=0.05)
    lines: list[str] = []
    bands: list[str] = []
    dots: list[tuple[float, float]] = []
    for part in _runs(points):
        if len(part) == 1:
            dots.append((x_scale(part[0].x), y_scale(part[0].y)))
        else:
            lines.append("M" + " ".join(f"{x_scale(p.x):.1f},{y_scale(p.y):.1f}" for p in part))
        if any(p.low != p.high for p in part):
            there = [f"{x_scale(p.x):.1f},{y_scale(p.high):.1f}" for p in part]
            back = [f"{x_scale(p.x):.1f},{y_scale(p.low):.1f}" for p in reversed(part)]
            bands.append("M" + " ".join(there + back) + "Z")
    return Chart(
        title=title,
        x_label=x_label,
        lines=lines,
        bands=bands,
        dots=dots,
        marks=[mark for point in points if point.non_finite for mark in _marks(point, x_scale)],
        x_ticks=x_scale.ticks(4),
        y_ticks=y_scale.ticks(4),
        summary=summary,
    )


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """Stretches without a gap."""
    runs: list[list[Point]] = [[]]
    for point in points:
        if all(math.isfinite(value) for value in (point.x, point.y, point.low, point.high)):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _marks(point: Point, x_scale: _Scale) -> list[tuple[float, float, str]]:
    x = x_scale(point.x)
    places = {
        1: (HEIGHT - _BOTTOM - 4, "NaN"),
        2: (_TOP + 2, "+Infinity"),
        4: (HEIGHT - _BOTTOM - 12, "-Infinity"),
    }
    return [(x, y, word) for flag, (y, word) in places.items() if point.non_finite & flag]


class _Scale:
    """Puts values between two pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float, margin: float = 0.0) -> None:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        # Halved, because the difference of two finite numbers may not be one.
        half = high / 2 - low / 2
        if half == 0:
            half = max(abs(low) * 0.05, 0.5) if math.isfinite(abs(low) * 0.05) else 1.0
            low, high = low - half, high + half
        self.low = low - 2 * half * margin if math.isfinite(low - 2 * half * margin) else low
        self.high = high + 2 * half * margin if math.isfinite(high + 2 * half * margin) else high
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return round(self._start + share * (self._end - self._start), 1)

    def ticks(self, count: int) -> list[Tick]:
        """Round numbers, about so many."""
        rough = (self.high / 2 - self.low / 2) / count * 2
        if not math.isfinite(rough) or rough <= 0:
            return []
        power = 10.0 ** math.floor(math.log10(rough))
        step = next((power * factor for factor in (1, 2, 5) if power * factor >= rough), power * 10)
        if step == 0 or not math.isfinite(self.low / step):
            return []
        first = math.ceil(self.low / step)
        last = math.floor(self.high / step)
        if last - first > 20:
            return []
        return [Tick(self(number * step), number_text(number * step)) for number in range(first, last + 1)]


def number_text(value: float) -> str:
    """A number for people: six digits."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e7:
        return str(int(value)).replace("-", "−")
    return f"{value:.6g}".replace("-", "−")
