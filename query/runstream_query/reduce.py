"""Reduces series of numbers to buckets.

Buckets have equal widths over the x axis of the metric: the step, or the row number where the metric has
elements without a step. All columns of a metric share their buckets. Every figure is exact and is not
changed by repeats.

Most metrics are small: they are read and reduced here. A large one with steps is reduced by the engine,
several that were logged together with one query, and a very large one from its `levels`. A large one without
steps has to be numbered, and is read piece by piece.
"""

from __future__ import annotations

import asyncio
from bisect import bisect
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from runstream.internal.v1 import twin_pb2
from runstream.v1 import point_pb2, query_service_pb2
from runstream_query import tokens
from runstream_query.bucket_sql import BucketRows, alike
from runstream_query.buckets import Buckets, begins, bucket_width, join_buckets, reduce_series
from runstream_query.elements import Elements, Source
from runstream_query.errors import InvalidArgument
from runstream_query.levels import Levels
from runstream_query.metrics import MetricReader, ahead, row_numbers
from runstream_query.plan import NUMBERS, Unit, batches, plan_numbers

MAX_BUCKETS: Final = 20_000
_ENGINE_ELEMENTS: Final = 50_000
"""From here on the engine is faster than reading."""
_ALIKE_ELEMENTS: Final = 5_000
_ELEMENTS_A_BUCKET: Final = 16
"""From here on it is so for each of several metrics."""
_PACK_ELEMENTS: Final = 1_000_000
"""Elements of metrics that are reduced with one query."""


@dataclass(frozen=True, slots=True)
class Reducer:
    """Reduces the series of a selection."""

    reader: MetricReader
    buckets: int
    levels: Levels | None = None
    """Without them every element is read."""

    @staticmethod
    def check(buckets: int) -> None:
        """Checks a number of buckets.

        :raises InvalidArgument: there may not be so many.
        """
        if not 1 <= buckets <= MAX_BUCKETS:
            raise InvalidArgument(f"reduction.buckets is {buckets}; from 1 to {MAX_BUCKETS:,}")

    async def stream(
        self, after: tuple[str, str, str] | None = None
    ) -> AsyncGenerator[twin_pb2.BucketChunk, None]:
        """All chunks, one a series.

        :param after: workspace, run and metric; only what comes after them.
        """
        async for part in ahead(self._parts(after)):
            for chunk in part:
                yield chunk

    async def _parts(
        self, after: tuple[str, str, str] | None
    ) -> AsyncGenerator[list[twin_pb2.BucketChunk], None]:
        async for source, runs, last in self.reader.sources(after):
            made = await self._of_levels(source, runs, last)
            units = await plan_numbers(
                source.tables,
                source.workspace,
                runs,
                source.selection,
                source.timeout_s,
                after=last,
                without=list(made),
            )
            packs = {unit.key: pack for pack in self._packs(source, units) for unit in pack}
            levels = sorted(made)
            # What is made at once lies between what is made alone.
            for (packed, _), neighbours in groupby(
                units, key=lambda unit: (unit.key in packs, bisect(levels, unit.key))
            ):
                for batch in self._batches(neighbours, alone=packed):
                    first = batch[0]
                    if packed and first.key not in made:
                        made |= await self._alike(source, packs[first.key])
                    for key in sorted(key for key in made if key < first.key):
                        yield made.pop(key)
                    if packed:
                        yield made.pop(first.key)
                    elif len(batch) == 1 and first.weight > _ENGINE_ELEMENTS:
                        yield await self.large(source, first)
                    else:
                        yield await self._small(source, batch)
            for key in sorted(made):
                yield made[key]

    def _batches(self, units: Iterable[Unit], *, alone: bool) -> Iterable[list[Unit]]:
        if alone:
            return ([unit] for unit in units)
        return batches(units, self.reader.settings.batch_elements)

    def _packs(self, source: Source, units: Sequence[Unit]) -> Iterator[list[Unit]]:
        """Metrics of some length that can be reduced with one query: they have the same extent, as those
        have that were logged together."""
        members: dict[tuple[int, int], list[Unit]] = {}
        least = max(_ALIKE_ELEMENTS, _ELEMENTS_A_BUCKET * self.buckets)
        for unit in units:
            if not unit.stepped or unit.extent is None or unit.count < least:
                continue
            if unit.key in source.hidden.first_steps:
                continue
            if self.levels is None or not self.levels.worth(source, unit):
                members.setdefault(unit.extent, []).append(unit)
        for same in members.values():
            for pack in batches(same, _PACK_ELEMENTS):
                if len(pack) > 1:
                    yield pack

    async def _alike(
        self, source: Source, units: Sequence[Unit]
    ) -> dict[tuple[str, str], list[twin_pb2.BucketChunk]]:
        made = await alike(source, units, self.buckets)
        return {unit.key: self._messages(source, unit, made.get(unit.key, {})) for unit in units}

    async def _of_levels(
        self, source: Source, runs: Sequence[str], after: tuple[str, str] | None
    ) -> dict[tuple[str, str], list[twin_pb2.BucketChunk]]:
        """The chunks of metrics of which there is a level, by run and metric, in their order."""
        made: dict[tuple[str, str], list[twin_pb2.BucketChunk]] = {}
        if self.levels is not None:
            for key in self.levels.kept(source, runs):
                if after is None or key > after:
                    unit = Unit(*key, stepped=True, count=0, columns=(), weight=0, types=NUMBERS)
                    series = await self.levels.buckets(source, unit, self.buckets)
                    if series is not None:
                        made[key] = self._messages(source, unit, series)
        return made

    @staticmethod
    def _messages(source: Source, unit: Unit, series: Mapping[str, Buckets]) -> list[twin_pb2.BucketChunk]:
        return [_message(source.workspace, unit, name, series[name]) for name in series]

    async def _small(self, source: Source, batch: list[Unit]) -> list[twin_pb2.BucketChunk]:
        numbered = not all(unit.stepped for unit in batch)
        elements = await source.fetch(batch, text=False, numbered=numbered)
        return await asyncio.to_thread(lambda: list(self._reduce(source.workspace, elements)))

    def _reduce(self, workspace: str, elements: Elements) -> Iterator[twin_pb2.BucketChunk]:
        count = len(elements)
        if not count:
            return
        rows = row_numbers(elements)
        numeric = _numeric(elements)
        assert elements.step is not None
        bounds = np.append(begins(elements.unit), count)
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            unit = elements.units[elements.unit[begin]]
            chosen = numeric[begin:end]
            if not chosen.any():
                continue
            x = (elements.step if unit.stepped else rows)[begin:end][chosen]
            low = int(x[0])
            width = bucket_width(low, int(x[-1]), self.buckets)
            column = elements.column[begin:end][chosen]
            value = elements.value[begin:end][chosen]
            time_ns = elements.logged_time[begin:end][chosen]
            series = {elements.columns[code]: column == code for code in np.unique(column)}
            for name in sorted(series):
                part = series[name]
                buckets = reduce_series(x[part], value[part], time_ns[part], low, width)
                yield _message(workspace, unit, name, buckets)

    async def large(self, source: Source, unit: Unit) -> list[twin_pb2.BucketChunk]:
        """The chunks of one large metric."""
        if not unit.stepped:
            return await self._by_rows(source, unit)
        if self.levels is not None and self.levels.worth(source, unit):
            await self.levels.make(source, unit)
            series = await self.levels.buckets(source, unit, self.buckets)
            if series is not None:
                return self._messages(source, unit, series)
        return await self._by_engine(source, unit)

    async def _by_engine(self, source: Source, unit: Unit) -> list[twin_pb2.BucketChunk]:
        rows = BucketRows.of(source, unit, unit.columns)
        extent = await rows.extent() if unit.key in source.hidden.first_steps else unit.extent
        if extent is None:
            return []
        low, high = extent
        found = await rows.buckets(low, high, bucket_width(low, high, self.buckets))
        return self._messages(source, unit, await rows.exact(found))

    async def _by_rows(self, source: Source, unit: Unit) -> list[twin_pb2.BucketChunk]:
        """Reads twice: once to number the rows, once to reduce them."""
        highest = -1
        async for piece in ahead(self.reader.large(source, unit, text=False)):
            if len(piece.rows):
                highest = int(piece.rows[-1])
        if highest < 0:
            return []
        width = bucket_width(0, highest, self.buckets)
        series: dict[str, Buckets] = {}
        async for piece in ahead(self.reader.large(source, unit, text=False)):
            elements = piece.elements
            numeric = _numeric(elements)
            for code in np.unique(elements.column[numeric]):
                chosen = numeric & (elements.column == code)
                times = elements.logged_time[chosen]
                part = reduce_series(piece.rows[chosen], elements.value[chosen], times, 0, width)
                name = elements.columns[code]
                series[name] = join_buckets(series[name], part, 0, width) if name in series else part
        return self._messages(source, unit, {name: series[name] for name in sorted(series)})

    async def page(self, bound_to: str, token: str, size: int) -> tuple[list[twin_pb2.BucketChunk], str]:
        """The chunks of a page, of at most `size` buckets in all, and the token of the next page or an empty
        string."""
        after: tuple[str, str, str] | None = None
        column, skip = "", 0
        chunks: list[twin_pb2.BucketChunk] = []
        if token:
            workspace, run, metric, column, skip = tokens.decode(bound_to, token, str, str, str, str, int)
            if run not in self.reader.selection.runs.get(workspace, ()):
                raise InvalidArgument("page_token belongs to another request")
            after = workspace, run, metric
            for chunk in await self._again(workspace, run, metric):
                if chunk.column < column:
                    continue
                piece = _cut(chunk, skip if chunk.column == column else 0, size)
                if piece.count:
                    chunks.append(piece)
                    size -= piece.count
                done = piece.count + (skip if chunk.column == column else 0)
                if done < chunk.count:
                    return chunks, tokens.encode(bound_to, [workspace, run, metric, chunk.column, done])
        async for chunk in self.stream(after):
            piece = _cut(chunk, 0, size)
            if piece.count:
                chunks.append(piece)
                size -= piece.count
            if piece.count < chunk.count:
                place = [chunk.run.workspace, chunk.run.run, chunk.metric, chunk.column, piece.count]
                return chunks, tokens.encode(bound_to, place)
        return chunks, ""

    async def _again(self, workspace: str, run: str, metric: str) -> list[twin_pb2.BucketChunk]:
        """The series of a metric that a page was cut in."""
        selection = self.reader.selection
        one = type(selection)(
            {workspace: (run,)},
            (metric,),
            *(getattr(selection, name) for name in type(selection).__slots__[2:]),
        )
        reader = MetricReader(self.reader.tables, self.reader.settings, one, self.reader.relaunched)
        return [chunk async for chunk in Reducer(reader, self.buckets, self.levels).stream()]


def _numeric(elements: Elements) -> NDArray[np.bool_]:
    """Which elements are numbers. The others have row numbers too."""
    if elements.type is None:
        return np.ones(len(elements), np.bool_)
    return (elements.type >= 1) & (elements.type <= 3)


def _cut(chunk: twin_pb2.BucketChunk, skip: int, size: int) -> twin_pb2.BucketChunk:
    """Some buckets of a chunk."""
    count = max(0, min(chunk.count - skip, size))
    if count == chunk.count:
        return chunk
    cut = twin_pb2.BucketChunk(
        run=chunk.run, metric=chunk.metric, column=chunk.column, axis=chunk.axis, count=count
    )
    for name in "first_x", "last_x", "min", "max", "first", "last", "non_finite", "last_time_ns":
        data = getattr(chunk, name)
        width = len(data) // chunk.count
        setattr(cut, name, data[skip * width : (skip + count) * width])
    return cut


def _message(workspace: str, unit: Unit, column: str, buckets: Buckets) -> twin_pb2.BucketChunk:
    chunk = twin_pb2.BucketChunk(
        run=point_pb2.RunRef(workspace=workspace, run=unit.run),
        metric=unit.metric,
        column=column,
        axis=query_service_pb2.BUCKET_AXIS_STEP if unit.stepped else query_service_pb2.BUCKET_AXIS_ROW,
        count=len(buckets),
    )
    for name in "first_x", "last_x", "min", "max", "first", "last", "last_time_ns":
        setattr(chunk, name, getattr(buckets, name).tobytes())
    if buckets.non_finite.any():
        chunk.non_finite = buckets.non_finite.tobytes()
    return chunk
