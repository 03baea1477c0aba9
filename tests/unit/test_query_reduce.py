"""Reduction in NumPy against plain Python, and the joining of parts."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runstream_query.buckets import Buckets, bucket_width, join_buckets, reduce_series

INT64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def series(draw: st.DrawFn) -> tuple[list[int], list[float], int]:
    x = sorted(draw(st.lists(st.one_of(INT64, st.integers(-5, 5)), min_size=1, max_size=20)))
    values = draw(st.lists(st.floats(), min_size=len(x), max_size=len(x)))
    return x, values, draw(st.integers(1, 25))


def plain(x: list[int], values: list[float], low: int, width: int) -> list[tuple[float, ...]]:
    groups: dict[int, list[tuple[int, float]]] = {}
    for at, value in zip(x, values, strict=True):
        groups.setdefault((at - low) // width, []).append((at, value))
    found: list[tuple[float, ...]] = []
    taken = 0
    for group in groups.values():
        taken += len(group)
        all_values = [value for _, value in group]
        finite = [value for value in all_values if math.isfinite(value)]
        flags = (
            any(map(math.isnan, all_values)) + 2 * (math.inf in all_values) + 4 * (-math.inf in all_values)
        )
        low_high = (min(finite), max(finite)) if finite else (math.nan, math.nan)
        found.append((group[0][0], group[-1][0], *low_high, all_values[0], all_values[-1], flags, taken - 1))
    return found


def unsigned(found: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Which of 0 and -0 is the least is nobody's question."""
    return [tuple(value + 0 for value in row) for row in found]


def rows(buckets: Buckets) -> list[tuple[float, ...]]:
    return list(zip(*(getattr(buckets, name).tolist() for name in Buckets.__slots__), strict=True))


@given(series())
def test_buckets_are_exact(given_series: tuple[list[int], list[float], int]) -> None:
    x, values, count = given_series
    width = bucket_width(x[0], x[-1], count)
    found = reduce_series(np.array(x), np.array(values), np.arange(len(x)), x[0], width)
    assert len(found) <= count
    expected = plain(x, values, x[0], width)
    np.testing.assert_equal(unsigned(rows(found)), unsigned(expected))


@given(series(), st.integers(0, 20))
def test_parts_can_be_joined(given_series: tuple[list[int], list[float], int], cut: int) -> None:
    x, values, count = given_series
    low = x[0]
    width = bucket_width(low, x[-1], count)
    cut = min(cut, len(x))
    parts = [
        reduce_series(np.array(x[part]), np.array(values[part]), np.arange(len(x))[part], low, width)
        for part in (slice(0, cut), slice(cut, None))
        if x[part]
    ]
    joined = parts[0] if len(parts) == 1 else join_buckets(parts[0], parts[1], low, width)
    np.testing.assert_equal(unsigned(rows(joined)), unsigned(plain(x, values, low, width)))


@given(INT64, INT64, st.integers(1, 20_000))
def test_the_width_makes_no_more_buckets_than_wanted(one: int, other: int, buckets: int) -> None:
    low, high = sorted((one, other))
    width = bucket_width(low, high, buckets)
    assert 1 <= width < 2**64 + 1
    assert (high - low) // width < buckets
