"""Coarser levels of long series: bins of 2^k steps, from which charts of them are made.

A level is made when a long series is first read, of all of it, and kept in memory with the blocks of the
table that it has seen (`blocks`). Before each use it gets what came since. All that a bin has is exact, and
not changed by repeats, so a part that was merged with what is known is added like any other; when much was
read again the level is made anew, since elements at one step can't be told from their repeats. A chart whose
buckets are made of whole bins reads no points but those of the bins that the ends of its range cut.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from runstream_query.blocks import Blocks, fresh, look
from runstream_query.bucket_sql import Bins, BucketRows, Series
from runstream_query.buckets import Buckets, begins
from runstream_query.elements import Source
from runstream_query.plan import Unit
from runstream_query.selection import DECLARATION, Selection
from runstream_query.sql import Clause, ask_rows
from runstream_store.tables.schema import NO_STEP

LEVEL_ELEMENTS: Final = 500_000
"""Metrics with fewer elements are read themselves."""
_ELEMENTS_A_BIN: Final = 64
_BINS_A_BUCKET: Final = 16
"""With fewer, the number of buckets would be too unlike what was asked for: so short a range is read
itself."""
_KEPT_BINS: Final = 1_000_000
"""Bins that are kept in all, of 66 bytes each."""

_READ_AGAIN: Final = 0.25
"""Part of a level that may be read again before it is made anew."""
_TRIES: Final = 4

_SIGN: Final = np.uint64(1 << 63)

_STEPLESS: Final = f"""
SELECT 1 AS stepless FROM points AS p
WHERE {{rows}} AND p.step = {NO_STEP} AND p.type < {DECLARATION} LIMIT 1
"""

Key = tuple[str, str, str]
"""Workspace, run and metric."""


@dataclass(frozen=True, slots=True)
class Level:
    """A metric as bins."""

    blocks: Blocks
    shift: int
    """A bin has 2^shift steps."""
    series: Series
    again: int = 0
    """Bins that were read again with parts that have what was known, so that their elements are not told from
    their repeats."""

    @property
    def size(self) -> int:
        """Number of bins."""
        return _size(self.series)

    @property
    def emptied(self) -> Level:
        """To be made anew."""
        return Level(Blocks(), self.shift, {})


class Levels:
    """Makes levels, and keeps those that were used lately."""

    def __init__(self) -> None:
        """Keeps nothing yet."""
        self._kept: OrderedDict[Key, Level] = OrderedDict()
        self._bins = 0
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    def kept(self, source: Source, runs: Iterable[str]) -> list[tuple[str, str]]:
        """The selected metrics of some runs of which there is a level: run and metric, in order."""
        wanted, metrics = set(runs), set(source.selection.metrics)
        return sorted(
            (run, metric)
            for workspace, run, metric in self._kept
            if workspace == source.workspace
            and run in wanted
            and (not metrics or metric in metrics)
            and _fits(source, (run, metric))
        )

    def worth(self, source: Source, unit: Unit) -> bool:
        """Whether a level is to be made of a metric with steps."""
        return (
            unit.count >= LEVEL_ELEMENTS
            and unit.extent is not None
            and _fits(source, unit.key)
            and (source.workspace, *unit.key) not in self._kept
        )

    async def make(self, source: Source, unit: Unit) -> None:
        """Makes the level of a metric with steps that is long enough."""
        assert unit.extent is not None
        low, high = unit.extent
        shift = 0
        while (high - low) >> shift > unit.count // _ELEMENTS_A_BIN:
            shift += 1
        await self._current(source, unit, shift)

    async def buckets(self, source: Source, unit: Unit, count: int) -> dict[str, Buckets] | None:
        """At most `count` buckets of each column of a metric of which there is a level. None when there is no
        level that is fine enough."""
        level = await self._current(source, unit, None)
        if level is None:
            return None
        low, high = _ends(source.selection)
        if _too_short(level, low, high, count):
            return None
        rows = BucketRows.of(source, unit, tuple(level.series), Clause())
        cut = await self._cut(rows, level, low, high)
        series = await asyncio.to_thread(_reduced, level, cut, low, high, count)
        return None if series is None else await rows.exact(series)

    async def _cut(self, rows: BucketRows, level: Level, low: int, high: int) -> Mapping[str, list[Bins]]:
        """What is in the range of the bins that its ends cut."""
        edges: set[tuple[int, int]] = set()
        for bins in level.series.values():
            for end in low, high:
                for at in np.flatnonzero((bins.first_x <= end) & (bins.last_x >= end)).tolist():
                    if bins.first_x[at] < low or bins.last_x[at] > high:
                        begin = (int(bins.first_x[at]) >> level.shift) << level.shift
                        edges.add((max(begin, low), min(begin + (1 << level.shift) - 1, high)))
        found: dict[str, list[Bins]] = {}
        for first, last in sorted(edges):
            for name, bins in (await rows.buckets(first, last, 1 << level.shift)).items():
                found.setdefault(name, []).append(bins)
        return found

    async def _current(self, source: Source, unit: Unit, shift: int | None) -> Level | None:
        """The level with all that the table has now.

        :param shift: of a level to be made; None: only bring up to date one that there is.
        """
        key = source.workspace, unit.run, unit.metric
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # several ask at once: it is made once
            level = self._kept.get(key)
            if level is None and shift is not None:
                level = Level(Blocks(), shift, {})
            if level is not None:
                level = await self._brought_up(source, unit, level)
            self._keep(key, level if level is not None and level.series else None)
            return self._kept.get(key)

    def _keep(self, key: Key, level: Level | None) -> None:
        """Keeps a level, and drops those that were not used longest."""
        if before := self._kept.pop(key, None):
            self._bins -= before.size
        if level is None:
            return
        while level.shift < 63 and level.size > _KEPT_BINS // 2:
            level = _coarser(level)
        self._kept[key] = level
        self._bins += level.size
        while self._bins > _KEPT_BINS and len(self._kept) > 1:
            self._bins -= self._kept.popitem(last=False)[1].size

    async def _brought_up(self, source: Source, unit: Unit, level: Level) -> Level | None:
        """A level with what came since. None: the metric is none any more that a level can be made of, or its
        parts don't stand still."""
        tables, timeout_s = source.tables, source.timeout_s
        scope = Clause(
            "p.workspace = {workspace:String} AND p.run = {run:String} AND p.metric = {metric:String}",
            {"workspace": source.workspace, "run": unit.run, "metric": unit.metric},
        )
        rows = BucketRows.of(source, unit, (), Clause())

        async def some_stepless() -> bool:
            sql = _STEPLESS.replace("{rows}", scope.sql)
            return bool(await ask_rows(tables, sql, scope.params, timeout_s))

        for _ in range(_TRIES):
            if not level.series:
                before = await look(tables, timeout_s)
                if not before.parts or await some_stepless():
                    return None
                # What comes meanwhile may be in it, and is added once more later.
                return Level(before.blocks, level.shift, await rows.bins(level.shift))
            news = await fresh(tables, scope, level.blocks, timeout_s)
            if news is None:
                level = level.emptied
                continue
            if not news.parts:
                return replace(level, blocks=news.blocks)
            if await some_stepless():
                return None
            more = await rows.bins(level.shift, [part.name for part in news.parts])
            if not (await look(tables, timeout_s)).has(news.parts):
                continue  # some were merged before they were read
            again = level.again + (_size(more) if level.blocks.meets(news.parts) else 0)
            if again > level.size * _READ_AGAIN:
                level = level.emptied
                continue
            return Level(news.blocks, level.shift, _both(level.series, more, level.shift), again)
        return None


def _fits(source: Source, key: tuple[str, str]) -> bool:
    """Whether all elements of a range of steps are selected."""
    selection = source.selection
    by_time = selection.min_time_ns is not None or selection.max_time_ns is not None
    some = selection.ranks or by_time or selection.attempt
    return not some and key not in source.hidden.first_steps


def _ends(selection: Selection) -> tuple[int, int]:
    """First and last step of a selection."""
    low = NO_STEP + 1 if selection.min_step is None else max(selection.min_step, NO_STEP + 1)
    return low, (1 << 63) - 1 if selection.max_step is None else selection.max_step


def _too_short(level: Level, low: int, high: int, count: int) -> bool:
    """Whether buckets of a range would be of too few bins."""
    low = max(low, min(int(bins.first_x[0]) for bins in level.series.values()))
    high = min(high, max(int(bins.last_x[-1]) for bins in level.series.values()))
    return level.shift > 0 and (high >> level.shift) - (low >> level.shift) + 1 < count * _BINS_A_BUCKET


def _reduced(
    level: Level, cut: Mapping[str, Sequence[Bins]], low: int, high: int, count: int
) -> Series | None:
    """At most `count` buckets of each column. None when they would be of too few bins.

    :param cut: what is in the range of the bins that its ends cut.
    """
    chosen: dict[str, Bins] = {}
    for name, bins in level.series.items():
        inside = bins.part((bins.first_x >= low) & (bins.last_x <= high))
        part = _joined([inside, *cut.get(name, ())], level.shift)
        if len(part):
            chosen[name] = part
    if not chosen:
        return {}
    places = {name: _bin(bins.first_x, level.shift) for name, bins in chosen.items()}
    first = min(int(place[0]) for place in places.values())
    number = max(int(place[-1]) for place in places.values()) - first + 1
    if level.shift and number < count * _BINS_A_BUCKET:
        return None
    width = np.uint64(-(-number // count))
    return {name: _grouped(bins, (places[name] - np.uint64(first)) // width) for name, bins in chosen.items()}


def _bin(x: NDArray[np.int64], shift: int) -> NDArray[np.uint64]:
    """The number of the bin of each step, in their order."""
    number: NDArray[np.uint64] = (x.view(np.uint64) ^ _SIGN) >> np.uint64(shift)
    return number


def _size(series: Series) -> int:
    return sum(map(len, series.values()))


def _both(one: Series, other: Series, shift: int) -> Series:
    return {
        name: _joined([series[name] for series in (one, other) if name in series], shift)
        for name in sorted({*one, *other})
    }


def _coarser(level: Level) -> Level:
    shift = level.shift + 1
    series = {name: _grouped(bins, _bin(bins.first_x, shift)) for name, bins in level.series.items()}
    return replace(level, shift=shift, series=series, again=level.again // 2)


def _joined(parts: Sequence[Bins], shift: int) -> Bins:
    """Bins of several parts of one series, each once and in order. Elements of different parts at one step
    are not told apart: they may be the same."""
    bins = Bins(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Bins)))
    place = _bin(bins.first_x, shift)
    if (place[1:] > place[:-1]).all():
        return bins
    by_first = np.lexsort((bins.first_x, place))
    begin = begins(place[by_first])
    end = np.append(begin[1:], len(place)) - 1
    by_last = np.lexsort((bins.last_x, place))
    first, last = by_first[begin], by_last[end]
    many = end > begin
    second, before_last = by_first[np.minimum(begin + 1, end)], by_last[np.maximum(end - 1, begin)]
    return Bins(
        first_x=bins.first_x[first],
        last_x=bins.last_x[last],
        min=np.fmin.reduceat(bins.min[by_first], begin),
        max=np.fmax.reduceat(bins.max[by_first], begin),
        first=bins.first[first],
        last=bins.last[last],
        non_finite=np.bitwise_or.reduceat(bins.non_finite[by_first], begin),
        last_time_ns=bins.last_time_ns[last],
        first_shared=bins.first_shared[first] | (many & (bins.first_x[first] == bins.first_x[second])),
        last_shared=bins.last_shared[last] | (many & (bins.last_x[last] == bins.last_x[before_last])),
    )


def _grouped(bins: Bins, group: NDArray[np.uint64]) -> Bins:
    """Neighbours as one, where they are of the same group."""
    begin = begins(group)
    end = np.append(begin[1:], len(group)) - 1
    return Bins(
        first_x=bins.first_x[begin],
        last_x=bins.last_x[end],
        min=np.fmin.reduceat(bins.min, begin),
        max=np.fmax.reduceat(bins.max, begin),
        first=bins.first[begin],
        last=bins.last[end],
        non_finite=np.bitwise_or.reduceat(bins.non_finite, begin),
        last_time_ns=bins.last_time_ns[end],
        first_shared=bins.first_shared[begin],
        last_shared=bins.last_shared[end],
    )
