"""Reads elements: as a stream of chunks, or by pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from runstream.internal.v1 import twin_pb2
from runstream_query import tokens
from runstream_query.attempts import Hidden, hidden_steps, one_attempt
from runstream_query.chunks import chunks, declarations
from runstream_query.elements import Elements, Key, Source
from runstream_query.errors import InvalidArgument
from runstream_query.plan import ALL_TYPES, Unit, batches, plan
from runstream_query.selection import Selection
from runstream_query.settings import QuerySettings
from runstream_query.windows import windows
from runstream_store.tables import Tables

T = TypeVar("T")
Row = NDArray[np.int64]

_UNKNOWN: Final = 1 << 62
"""Count of a unit that was not planned."""


class Last(NamedTuple):
    """The last element that was read of a metric."""

    key: Key
    row: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements that were read together, and the metrics that begin with them (perhaps without an element)."""

    source: Source
    begun: Sequence[Unit]
    elements: Elements
    rows: Row


@dataclass(frozen=True, slots=True)
class MetricReader:
    """Reads the elements of a selection."""

    tables: Tables
    settings: QuerySettings
    selection: Selection
    relaunched: Mapping[str, frozenset[str]]
    """By workspace: runs with more than one launch."""

    async def stream(self, *, identity: bool) -> AsyncGenerator[twin_pb2.MetricChunk, None]:
        """All chunks. Holds two pieces in memory, whatever the size of the answer."""
        async for piece in ahead(self._pieces(identity=identity)):
            for chunk in await asyncio.to_thread(list, self.messages(piece, identity=identity)):
                yield chunk

    def messages(self, piece: Piece, *, identity: bool) -> Iterator[twin_pb2.MetricChunk]:
        """The chunks of a piece: of each metric first what was declared."""
        workspace = piece.source.workspace
        declared = {unit.key: unit for unit in piece.begun if unit.declarations}
        for chunk in chunks(workspace, piece.elements, piece.rows, self.settings, identity=identity):
            for key in [key for key in declared if key <= (chunk.run.run, chunk.metric)] if declared else ():
                yield from declarations(workspace, declared.pop(key))
            yield chunk
        for unit in declared.values():
            yield from declarations(workspace, unit)

    async def units(
        self, after: tuple[str, str, str] | None = None
    ) -> AsyncGenerator[tuple[Source, list[Unit]], None]:
        """The metrics of the selection, by parts.

        :param after: workspace, run and metric; only what comes after them.
        """
        timeout_s = self.settings.query_timeout_s
        async for source, runs, last in self.sources(after):
            yield (
                source,
                await plan(self.tables, source.workspace, runs, source.selection, timeout_s, after=last),
            )

    async def sources(
        self, after: tuple[str, str, str] | None = None
    ) -> AsyncGenerator[tuple[Source, Sequence[str], tuple[str, str] | None], None]:
        """The runs of the selection, by parts, and the run and metric after which it begins.

        :param after: workspace, run and metric; only what comes after them.
        """
        for workspace, all_runs in self.selection.runs.items():
            runs: Sequence[str] = all_runs
            last = None
            if after is not None and workspace <= after[0]:
                if workspace != after[0]:
                    continue
                last = after[1:]
                runs = [run for run in runs if run >= after[1]]
            for low in range(0, len(runs), self.settings.plan_runs):
                part = runs[low : low + self.settings.plan_runs]
                yield await self.source(workspace, part), part, last

    async def source(self, workspace: str, runs: Sequence[str]) -> Source:
        """Where the elements of some runs come from."""
        timeout_s = self.settings.query_timeout_s
        if self.selection.attempt:
            selection = await one_attempt(self.tables, workspace, runs, self.selection, timeout_s)
            return Source(self.tables, workspace, selection, Hidden(), timeout_s)
        relaunched = self.relaunched.get(workspace, frozenset())
        hidden = await hidden_steps(
            self.tables, workspace, [run for run in runs if run in relaunched], self.selection, timeout_s
        )
        return Source(self.tables, workspace, self.selection, hidden, timeout_s)

    async def _pieces(self, *, identity: bool) -> AsyncGenerator[Piece, None]:
        async for source, units in self.units():
            for batch in batches(units, self.settings.batch_elements):
                if batch[0].weight > self.settings.page_elements:
                    async for piece in self.large(source, batch[0], identity=identity):
                        yield piece
                else:
                    elements = await source.fetch(batch, identity=identity)
                    yield Piece(source, batch, elements, row_numbers(elements))

    async def large(
        self, source: Source, unit: Unit, *, identity: bool = False, text: bool = True
    ) -> AsyncGenerator[Piece, None]:
        """The elements of a large metric, piece by piece."""
        size = self.settings.page_elements
        limit = max(1000, 2 * size * unit.count // unit.weight)
        begun: Sequence[Unit] = [unit]
        row = -1
        for window in await windows(source, unit, size):
            last: Last | None = None
            fetch = partial(source.fetch, [unit], identity=identity, text=text, window=window, limit=limit)
            while True:
                if last is not None:
                    elements = await fetch(place=True, after=last.key)
                else:
                    elements = await fetch()
                    if len(elements) == limit:  # more than thought: the place to go on from is needed
                        elements = await fetch(place=True)
                if not len(elements):
                    break
                rows = row_numbers(elements, last, row)
                row = int(rows[-1])
                yield Piece(source, begun, elements, rows)
                begun = ()
                if len(elements) < limit:
                    break
                last = Last(elements.key(-1), row)
        if begun and unit.declarations:
            yield Piece(source, begun, await source.fetch([unit], limit=0), np.zeros(0, np.int64))

    async def page(
        self, bound_to: str, token: str, size: int, *, identity: bool
    ) -> tuple[list[twin_pb2.MetricChunk], str]:
        """The chunks of a page, and the token of the next one or an empty string."""
        found: list[Piece] = []
        after: tuple[str, str, str] | None = None
        if token:
            workspace, unit, last = _decode(bound_to, token)
            if unit.run not in self.selection.runs.get(workspace, ()):
                raise InvalidArgument("page_token belongs to another request")
            after = workspace, unit.run, unit.metric
            source = await self.source(workspace, [unit.run])
            more = await self._fill(found, source, [unit], size, last, identity=identity)
            size -= len(found[-1].elements)
            if more:
                return await self._finish(bound_to, found, identity=identity)
        async for source, units in self.units(after):
            for batch in batches(units, min(max(size, 1), self.settings.page_elements)):
                more = await self._fill(found, source, batch, size, None, identity=identity)
                size -= len(found[-1].elements)
                if more:
                    return await self._finish(bound_to, found, identity=identity)
        return (await self._finish(bound_to, found, identity=identity))[0], ""

    async def _fill(
        self,
        found: list[Piece],
        source: Source,
        units: list[Unit],
        size: int,
        last: Last | None,
        *,
        identity: bool,
    ) -> bool:
        """Adds a piece of at most `size` elements. True when there is more of these units."""
        key = None if last is None else last.key
        cost = max(unit.weight // max(unit.count, 1) for unit in units)
        if cost > 1:  # long texts: a smaller page
            size = min(size, max(1, self.settings.page_elements // cost))
        elements = await source.fetch(units, identity=identity, place=True, after=key, limit=size + 1)
        more = len(elements) > size
        if more:
            elements = elements.head(size)
        begun: Sequence[Unit] = () if last is not None else units
        if more and len(elements):  # those after the last element begin on the next page
            end = units[elements.unit[-1]].key
            begun = [unit for unit in begun if unit.key <= end]
        elif more:
            begun = ()
        found.append(
            Piece(source, begun, elements, row_numbers(elements, last, -1 if last is None else last.row))
        )
        return more

    async def _finish(
        self, bound_to: str, found: list[Piece], *, identity: bool
    ) -> tuple[list[twin_pb2.MetricChunk], str]:
        """The messages of the pieces, and the token that goes on after their last element."""

        def convert() -> list[twin_pb2.MetricChunk]:
            return [chunk for piece in found for chunk in self.messages(piece, identity=identity)]

        token = ""
        for piece in reversed(found):
            if len(piece.elements):
                unit = piece.elements.units[piece.elements.unit[-1]]
                last = Last(piece.elements.key(-1), int(piece.rows[-1]))
                token = _encode(bound_to, piece.source.workspace, unit, last)
                break
        return await asyncio.to_thread(convert), token


def row_numbers(elements: Elements, last: Last | None = None, row: int = -1) -> Row:
    """The row of each element in its metric.

    :param last: where the first metric is gone on with: its last element so far.
    :param row: its last row so far.
    """
    count = len(elements)
    if not count:
        return np.zeros(0, np.int64)
    starts = elements.starts()
    if last is not None and elements.seq is not None:
        first = elements.key(0)
        starts[0] = (first.writer, first.seq, first.idx) != (last.key.writer, last.key.seq, last.key.idx)
    rows: Row = np.cumsum(starts, dtype=np.int64) + row
    changes = np.flatnonzero(elements.unit[1:] != elements.unit[:-1]) + 1
    if len(changes):
        bounds = np.concatenate(([0], changes, [count]))
        base = rows[bounds[:-1]].copy()
        base[0] = 0  # the first may be gone on with
        rows -= np.repeat(base, np.diff(bounds))
    return rows


def _encode(bound_to: str, workspace: str, unit: Unit, last: Last) -> str:
    key = (*last.key[:2], last.key.writer.hex(), *last.key[3:])
    return tokens.encode(
        bound_to,
        [workspace, unit.run, unit.metric, unit.stepped, unit.weight // max(unit.count, 1), last.row, *key],
    )


def _decode(bound_to: str, token: str) -> tuple[str, Unit, Last]:
    kinds = (str, str, str, bool, int, int, int, int, str, int, int, str)
    place = tokens.decode(bound_to, token, *kinds)
    workspace, run, metric, stepped, cost, row, step, time_ns, writer, seq, idx, column = place
    try:
        key = Key(step, time_ns, bytes.fromhex(writer), seq, idx, column)
    except ValueError:
        raise InvalidArgument("page_token is not a token of this service") from None
    # Columns and types are not known any more: read as if all were there.
    unit = Unit(run, metric, stepped, count=_UNKNOWN, columns=(), weight=_UNKNOWN * cost, types=ALL_TYPES)
    return workspace, unit, Last(key, row)


async def ahead(source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The same items; the next one is made while the last one is used."""

    async def advance() -> tuple[T] | None:
        try:
            return (await anext(source),)
        except StopAsyncIteration:
            return None

    task = asyncio.create_task(advance())
    try:
        while item := await task:
            task = asyncio.create_task(advance())
            yield item[0]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.aclose()
