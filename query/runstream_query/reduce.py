"""Reduces series of numbers to buckets.

Buckets have equal widths over the x axis of the metric: the step, or the row number where the metric has
elements without a step. All columns of a metric share their buckets. Every figure is exact and is not
changed by repeats.

Most metrics are small: they are read and reduced here. A large one with steps is reduced by the engine, in
one query. Where several elements share the outermost step of a bucket (or one is stored twice), a second one
tells which of them comes first and last. A large one without steps has to be numbered, and is read piece by
piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runstream.internal.v1 import twin_pb2
from runstream.v1 import point_pb2, query_service_pb2
from runstream_query import tokens
from runstream_query.elements import Elements, Source, array
from runstream_query.errors import InvalidArgument
from runstream_query.metrics import MetricReader, ahead, row_numbers
from runstream_query.plan import Unit, batches
from runstream_query.sql import ask

MAX_BUCKETS: Final = 20_000
_ENGINE_ELEMENTS: Final = 50_000
"""From here on the engine is faster than reading."""

_FLAGS: Final = "isNaN(p.value) + 2 * (p.value = inf) + 4 * (p.value = -inf)"
_X: Final = "toUInt64(p.step - {low:Int64})"  # both wrap around, so it is right for any two steps

_FROM: Final = """
FROM points AS p {join}
WHERE p.workspace = {workspace:String} AND p.run = {run:String} AND p.metric = {metric:String}
    AND p.type BETWEEN 1 AND 3{condition}
"""
_EXTENT: Final = "SELECT min(p.step) AS low, max(p.step) AS high, count() AS elements"
# The two smallest steps and the two largest (the smallest of their complements): equal ones are shared. What
# came since the extent was read is left to the next read.
_BUCKETS: Final = f"""
SELECT toString(any(p.column)) AS column,
    (groupArraySorted(2)(p.step) AS lowest)[1] AS first_x,
    (groupArraySorted(2)(bitNot(p.step)) AS highest)[1] AS last_x_complement,
    bitNot(last_x_complement) AS last_x,
    length(lowest) = 2 AND lowest[1] = lowest[2] AS first_shared,
    length(highest) = 2 AND highest[1] = highest[2] AS last_shared,
    minOrNullIf(p.value, isFinite(p.value)) AS min, maxOrNullIf(p.value, isFinite(p.value)) AS max,
    argMin(p.value, p.step) AS first, argMax(p.value, p.step) AS last,
    toUnixTimestamp64Nano(argMax(p.logged_time, p.step)) AS last_time_ns,
    groupBitOr({_FLAGS}) AS non_finite
{{from}} AND p.step BETWEEN {{low:Int64}} AND {{high:Int64}}
GROUP BY {{columns}}toUInt16(intDiv({_X}, {{width:UInt64}}))
ORDER BY column, first_x
"""
_EDGES: Final = """
SELECT toString(p.column) AS column, p.step AS step,
    argMin(p.value, (p.time, p.writer, p.seq, p.idx)) AS first,
    argMax(p.value, (p.time, p.writer, p.seq, p.idx)) AS last,
    argMax(toUnixTimestamp64Nano(p.logged_time), (p.time, p.writer, p.seq, p.idx)) AS last_time_ns
{from} AND p.step IN {steps:Array(Int64)}
GROUP BY column, step
"""


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


def reduce_series(
    x: NDArray[np.int64], value: NDArray[np.float64], time_ns: NDArray[np.int64], low: int, width: int
) -> Buckets:
    """Buckets of a series in reading order.

    :param low: where the first bucket begins.
    :param width: width of each.
    """
    distance = x.view(np.uint64) - np.uint64(low % (1 << 64))  # wraps around: right for any two numbers
    bucket = distance // np.uint64(width)
    begin = np.concatenate(([0], np.flatnonzero(bucket[1:] != bucket[:-1]) + 1))
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


@dataclass(frozen=True, slots=True)
class Reducer:
    """Reduces the series of a selection."""

    reader: MetricReader
    buckets: int

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
        async for source, units in self.reader.units(after, numbers=True):
            for batch in batches(units, self.reader.settings.batch_elements):
                if len(batch) == 1 and batch[0].weight > _ENGINE_ELEMENTS:
                    yield await self.large(source, batch[0])
                else:
                    yield await self._small(source, batch)

    async def _small(self, source: Source, batch: list[Unit]) -> list[twin_pb2.BucketChunk]:
        elements = await source.fetch(batch, text=False)
        return await asyncio.to_thread(lambda: list(self._reduce(source.workspace, elements)))

    def _reduce(self, workspace: str, elements: Elements) -> Iterator[twin_pb2.BucketChunk]:
        count = len(elements)
        if not count:
            return
        rows = row_numbers(elements)
        numeric = _numeric(elements)
        assert elements.step is not None
        bounds = np.concatenate(([0], np.flatnonzero(elements.unit[1:] != elements.unit[:-1]) + 1, [count]))
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
        if unit.stepped:
            return await self._by_engine(source, unit)
        return await self._by_rows(source, unit)

    async def _by_engine(self, source: Source, unit: Unit) -> list[twin_pb2.BucketChunk]:
        join, hidden = source.hidden.clause([unit.key])
        condition = hidden & source.selection.elements()
        names = {"workspace": source.workspace, "run": unit.run, "metric": unit.metric}
        params: dict[str, object] = {**names, **condition.params}
        where = _FROM.replace("{join}", join).replace("{condition}", condition.further)

        async def columns(sql: str, **extra: object) -> Any:
            return await ask(source.tables, sql, {**params, **extra}, source.timeout_s, heavy=True)

        extent = unit.extent
        if join or extent is None:
            found = (await columns(f"{_EXTENT} {where}")).to_pylist()[0]
            extent = (found["low"], found["high"]) if found["elements"] else None
        if extent is None:
            return []
        low, high = extent
        width = bucket_width(low, high, self.buckets)
        key = "p.column, "
        if len(unit.columns) == 1:  # one key is much faster than two
            where += " AND p.column = {column:String}"
            params["column"], key = unit.columns[0], ""
        sql = _BUCKETS.replace("{from}", where).replace("{columns}", key)
        found = await columns(sql, low=low, high=high, width=width)
        shared = _shared_steps(found)
        edges = await columns(_EDGES.replace("{from}", where), steps=shared) if shared else None
        return await asyncio.to_thread(_engine_chunks, source.workspace, unit, found, edges)

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
        return [_message(source.workspace, unit, name, series[name]) for name in sorted(series)]

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
        return [chunk async for chunk in Reducer(reader, self.buckets).stream()]


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


def _shared_steps(found: Any) -> list[int]:
    """The outermost steps that more than one element has."""
    ends = [
        array(found[f"{end}_x"])[array(found[f"{end}_shared"]).astype(np.bool_)] for end in ("first", "last")
    ]
    steps: list[int] = np.unique(np.concatenate(ends)).tolist()
    return steps


def _engine_chunks(workspace: str, unit: Unit, found: Any, edges: Any) -> list[twin_pb2.BucketChunk]:
    """Joins the answers of the engine: of the second one, what elements with the same step amount to."""
    names = found["column"].to_pylist()
    whole = Buckets(
        first_x=array(found["first_x"]),
        last_x=array(found["last_x"]),
        min=array(found["min"]).astype(np.float64),
        max=array(found["max"]).astype(np.float64),
        first=array(found["first"]).copy(),
        last=array(found["last"]).copy(),
        non_finite=array(found["non_finite"]).astype(np.uint32),
        last_time_ns=array(found["last_time_ns"]).copy(),
    )
    if edges is not None:
        told = {(row["column"], row["step"]): row for row in edges.to_pylist()}
        for at in np.flatnonzero(array(found["first_shared"])).tolist():
            whole.first[at] = told[names[at], int(whole.first_x[at])]["first"]
        for at in np.flatnonzero(array(found["last_shared"])).tolist():
            row = told[names[at], int(whole.last_x[at])]
            whole.last[at], whole.last_time_ns[at] = row["last"], row["last_time_ns"]
    codes = np.array(names)
    return [
        _message(
            workspace,
            unit,
            str(name),
            Buckets(*(getattr(whole, part)[codes == name] for part in Buckets.__slots__)),
        )
        for name in dict.fromkeys(names)
    ]


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
