"""Lines for the widget's charts, from what was read: columns of numbers, as the portal's charts take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from runstream.columns import Buckets, Series

_NAN: Final = 1
_PLUS: Final = 2
_MINUS: Final = 4

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """One series of numbers, by element or by bucket, in rising x. All columns have the same length."""

    by_step: bool
    """x is the step; else the row number."""
    raw: bool
    """Each entry is an element; else the last of a bucket, with its least and greatest."""
    x: Column
    time_ms: Column
    """When it was logged, Unix milliseconds."""
    y: Column
    """NaN where nothing finite is."""
    low: Column
    high: Column
    flags: NDArray[np.uint8]
    """1 has a NaN, 2 has +Infinity, 4 has -Infinity; added up."""
    begin: float
    """x of its first element, which is before that of the first bucket; NaN for none."""

    def message(self) -> dict[str, Any]:
        """For the front end; columns are little-endian bytes."""
        columns = {"x": self.x, "time": self.time_ms, "y": self.y}
        if not self.raw:
            columns |= {"min": self.low, "max": self.high}
        return {
            "axis": "step" if self.by_step else "row",
            "raw": self.raw,
            "flags": self.flags.tobytes(),
            **{name: column.astype("<f8").tobytes() for name, column in columns.items()},
        }


def line_of_elements(series: Series) -> Line:
    """The numbers of a series. Other elements are passed over."""
    from runstream.columns import NO_STEP

    drawn = (series.type >= 1) & (series.type <= 3)
    values = series.numbers()[drawn]
    by_step = bool((series.step != NO_STEP).all())
    x = (series.step if by_step else series.row)[drawn].astype(np.float64)
    finite = np.isfinite(values)
    y = np.where(finite, values, np.nan)
    flags = np.isnan(values) * _NAN + (values == np.inf) * _PLUS + (values == -np.inf) * _MINUS
    begin = float(x[0]) if len(x) else np.nan
    return Line(by_step, True, x, series.logged_time_ns[drawn] / 1e6, y, y, y, flags.astype(np.uint8), begin)


def line_of_buckets(buckets: Buckets) -> Line:
    """A series that was reduced. A bucket that ends in NaN is still crossed where it has something finite."""
    middle = buckets.min / 2 + buckets.max / 2
    return Line(
        by_step=buckets.by_step,
        raw=False,
        x=buckets.last_x.astype(np.float64),
        time_ms=buckets.last_time_ns / 1e6,
        y=np.where(np.isfinite(buckets.last), buckets.last, middle),
        low=buckets.min,
        high=buckets.max,
        flags=buckets.non_finite.astype(np.uint8),
        begin=float(buckets.first_x[0]) if len(buckets.first_x) else np.nan,
    )


def rows_message(series: Sequence[Series]) -> dict[str, Any]:
    """The columns of a table that are numbers, cell by cell: `row` in which it is, and `value`."""
    columns = []
    for column in series:
        drawn = (column.type >= 1) & (column.type <= 3)
        columns.append(
            {
                "name": column.column,
                "row": column.row[drawn].astype("<f8").tobytes(),
                "value": column.numbers()[drawn].astype("<f8").tobytes(),
            }
        )
    return {"columns": columns}
