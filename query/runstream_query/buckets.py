"""Buckets of a series of numbers, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Buckets:
    """Buckets of one series, in the order of x."""

    first_x: NDArray[np.int64]
    last_x: NDArray[np.int64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]
    non_finite: NDArray[np.uint32]
    last_time_ns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first_x)


def begins(group: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Where each row of equal neighbours begins. Of at least one element."""
    found: NDArray[np.int64] = np.concatenate(([0], np.flatnonzero(group[1:] != group[:-1]) + 1))
    return found


def reduce_series(
    x: NDArray[np.int64], value: NDArray[np.float64], time_ns: NDArray[np.int64], low: int, width: int
) -> Buckets:
    """Buckets of a series in reading order.

    :param low: where the first bucket begins.
    :param width: width of each.
    """
    distance = x.view(np.uint64) - np.uint64(low % (1 << 64))  # wraps around: right for any two numbers
    bucket = distance // np.uint64(width) if width < 1 << 64 else np.zeros_like(distance)  # all in one
    begin = begins(bucket)
    end = np.append(begin[1:], len(x)) - 1
    finite = np.isfinite(value)
    smallest = np.minimum.reduceat(np.where(finite, value, np.inf), begin)
    largest = np.maximum.reduceat(np.where(finite, value, -np.inf), begin)
    any_finite = np.logical_or.reduceat(finite, begin)
    flags = np.isnan(value) * 1 + np.isposinf(value) * 2 + np.isneginf(value) * 4
    return Buckets(
        first_x=x[begin],
        last_x=x[end],
        min=np.where(any_finite, smallest, np.nan),
        max=np.where(any_finite, largest, np.nan),
        first=value[begin],
        last=value[end],
        non_finite=np.bitwise_or.reduceat(flags, begin).astype(np.uint32),
        last_time_ns=time_ns[end],
    )


def join_buckets(before: Buckets, after: Buckets, low: int, width: int) -> Buckets:
    """One series from two parts that follow each other; the last bucket of the one may go on in the other."""
    if not len(before) or not len(after):
        return before if len(before) else after
    shared = (int(before.last_x[-1]) - low) // width == (int(after.first_x[0]) - low) // width
    if not shared:
        return Buckets(
            *(np.concatenate((getattr(before, name), getattr(after, name))) for name in Buckets.__slots__)
        )
    middle = {
        "first_x": before.first_x[-1],
        "last_x": after.last_x[0],
        "min": np.fmin(before.min[-1], after.min[0]),
        "max": np.fmax(before.max[-1], after.max[0]),
        "first": before.first[-1],
        "last": after.last[0],
        "non_finite": before.non_finite[-1] | after.non_finite[0],
        "last_time_ns": after.last_time_ns[0],
    }
    return Buckets(
        *(
            np.concatenate((getattr(before, name)[:-1], [middle[name]], getattr(after, name)[1:])).astype(
                getattr(before, name).dtype
            )
            for name in Buckets.__slots__
        )
    )


def bucket_width(low: int, high: int, buckets: int) -> int:
    """The width with which so many buckets reach from `low` to `high`."""
    return max(1, -(-(high - low + 1) // buckets))
