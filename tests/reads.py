"""Rows for tests of reads, put straight into the tables, and a reference that reads them slowly and
plainly."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from runstream.columns import Series, SeriesBuilder
from runstream.v1 import query_service_pb2, run_pb2
from runstream_ingest.writers.runs import Events, RunsSink
from runstream_query.access import Access
from runstream_query.service import QueryServicer, query_service
from runstream_query.services import Service
from runstream_query.settings import QuerySettings
from runstream_query.summaries import Summaries
from runstream_store.credentials import Authenticator
from runstream_store.hot import HotState, open_hot
from runstream_store.tables import Tables, open_tables
from runstream_store.tables.schema import SCHEMAS

TOKEN = "token-of-the-tests-which-is-long-enough"
NO_STEP = -(2**63)
T0 = 1_700_000_000_000_000_000
W = [bytes([number]) * 16 for number in range(16)]
GRACE_NS = 3000 * 1_000_000_000
"""For so long writers without a lease count as alive."""
DECLARE = object()
DECLARE_TABLE = object()


def typed(value: Any) -> tuple[int, float, str]:
    """Type, value and text of an element, as docs/formats.md says."""
    if value is DECLARE or value is DECLARE_TABLE:
        return (7 if value is DECLARE else 8), math.nan, ""
    if value is None:
        return 4, math.nan, ""
    if isinstance(value, bool):
        return 3, float(value), ""
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            return 6, float(str(value)), str(value)  # infinite when it is too large
        return 2, float(value), "" if int(float(value)) == value else str(value)
    if isinstance(value, float):
        return 1, value, ""
    return 5, math.nan, value


@dataclass(frozen=True, slots=True)
class Row:
    """One element."""

    value: Any
    metric: str = "m"
    column: str = ""
    step: int | None = None
    writer: bytes = W[1]
    seq: int = 0
    idx: int = 0
    time: int = T0
    rank: int = -1
    run: str = "run"
    workspace: str = "ws"


def to_table(name: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows as a block; times are Unix nanoseconds."""
    columns = []
    for column in SCHEMAS[name]:
        values = [row[column.name] for row in rows]
        plain = pa.int64() if pa.types.is_timestamp(column.type) else column.type
        if pa.types.is_dictionary(column.type):
            plain = pa.string()
        columns.append(pa.array(values, plain).cast(column.type))
    return pa.table(columns, schema=SCHEMAS[name])


def points(rows: Iterable[Row]) -> pa.Table:
    """Elements as a block."""
    table = []
    for row in rows:
        kind, value, text = typed(row.value)
        table.append(
            {
                "workspace": row.workspace,
                "run": row.run,
                "metric": row.metric,
                "column": row.column,
                "step": NO_STEP if row.step is None else row.step,
                "writer": row.writer,
                "seq": row.seq,
                "idx": row.idx,
                "type": kind,
                "value": value,
                "text": text,
                "rank": row.rank,
                "time": row.time,
                "logged_time": row.time,
            }
        )
    return to_table("points", table)


def scalars(values: Sequence[Any], steps: Sequence[int | None] | None = None, **more: Any) -> list[Row]:
    """Values that were logged one after the other."""
    return [
        Row(value, seq=seq, time=more.pop("t0", T0) + seq, step=None if steps is None else steps[seq], **more)
        for seq, value in enumerate(values)
    ]


def reference(rows: Iterable[Row]) -> dict[tuple[str, str, str], list[tuple[int, Any]]]:
    """By run, metric and column: row numbers and values in reading order. Without attempts."""
    unique = {(r.run, r.metric, r.column, r.step, r.writer, r.seq, r.idx): r for r in rows}
    metrics: dict[tuple[str, str], list[Row]] = {}
    for row in unique.values():
        metrics.setdefault((row.run, row.metric), []).append(row)
    found: dict[tuple[str, str, str], list[tuple[int, Any]]] = {}
    for (run, metric), all_rows in metrics.items():
        elements = [row for row in all_rows if row.value is not DECLARE and row.value is not DECLARE_TABLE]
        stepped = all(row.step is not None for row in elements)

        def place(row: Row, stepped: bool = stepped) -> tuple[Any, ...]:
            return (row.step if stepped else 0, row.time, row.writer, row.seq, row.idx)

        numbers = {key: number for number, key in enumerate(sorted({place(row) for row in elements}))}
        for row in all_rows:
            found.setdefault((run, metric, row.column), [])
        for row in sorted(elements, key=place):
            found[run, metric, row.column].append((numbers[place(row)], row.value))
    return found


def same(left: Any, right: Any) -> bool:
    """Equal in type and value; every NaN is like the other."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    return bool(left == right)


def check(series: Sequence[Series], rows: Iterable[Row]) -> None:
    """Series are what the reference says."""
    expected = reference(rows)
    assert {(s.run, s.metric, s.column) for s in series} == set(expected)
    for one in series:
        wanted = expected[one.run, one.metric, one.column]
        values = one.values()
        assert len(values) == len(wanted) == len(one.step) == len(one.logged_time_ns)
        assert one.row.tolist() == [number for number, _ in wanted]
        assert all(same(a, b) for a, (_, b) in zip(values, wanted, strict=True)), (values, wanted)


@dataclass(slots=True)
class Reads:
    """A query service over real tables."""

    tables: Tables
    hot: HotState
    servicer: QueryServicer
    epochs: dict[str, bytes] = field(default_factory=dict)
    made: int = 0
    touched: set[tuple[str, str]] = field(default_factory=set)
    access: Access = field(default_factory=lambda: Access(Authenticator(TOKEN)))

    @property
    def services(self) -> tuple[Service, ...]:
        """What the ports serve."""
        return (query_service(self.servicer),)

    def run(self) -> str:
        """A name that no other test uses."""
        self.made += 1
        return f"run-{self.made}"

    async def log(self, rows: Iterable[Row], *, again: int = 0) -> None:
        """Inserts elements, and `again` inserts them again."""
        block = points(rows)
        for _ in range(1 + again):
            await self.tables.insert_points(block)
        self.touched |= set(zip(block["workspace"].to_pylist(), block["run"].to_pylist(), strict=True))

    async def events(
        self, run: str, writer: bytes, *events: tuple[str, dict[str, Any]], workspace: str = "ws", t: int = T0
    ) -> None:
        """Inserts events, a second after each other unless they say `time_ns`."""
        batch = run_pb2.RunEventBatch(writer=writer)
        for number, (kind, fields) in enumerate(events):
            content = dict(fields)
            event = batch.events.add(
                run={"workspace": workspace, "run": run},
                seq=content.pop("seq", 0),
                time_ns=content.pop("time_ns", t + number * 1_000_000_000),
            )
            getattr(event, kind).SetInParent()
            for name, value in content.items():
                if isinstance(value, list):
                    getattr(event.writer_drained, name).extend(value)
                else:
                    setattr(getattr(event, kind), name, value)
        for table, block in RunsSink().build([Events(t, batch)]):
            await self.tables.insert(table, block)
        self.touched.add((workspace, run))

    async def summarise(self) -> None:
        """Does what the summariser does beside the writers."""
        touched, self.touched = self.touched, set()
        await Summaries(self.tables).refresh(touched)

    async def search(self, **more: Any) -> query_service_pb2.SearchRunsResponse:
        """A search."""
        return await self.servicer.search_runs(query_service_pb2.SearchRunsRequest(**more))

    def request(self, runs: Sequence[str] | str, **more: Any) -> query_service_pb2.GetMetricsRequest:
        """A request for all points of runs."""
        fields = {name: more.pop(name) for name in list(more) if name in _SELECTION}
        request = query_service_pb2.GetMetricsRequest(**more)
        request.selection.MergeFrom(query_service_pb2.MetricSelection(**fields))
        for run in [runs] if isinstance(runs, str) else runs:
            request.selection.runs.add(workspace="ws", run=run)
        return request

    async def stream(self, runs: Sequence[str] | str, **more: Any) -> list[Series]:
        """All series, by the stream."""
        builder = SeriesBuilder()
        async for message in self.servicer.get_metrics(self.request(runs, **more)):
            if message.HasField("points"):
                builder.add(message.points)
        return builder.series()

    async def paged(self, runs: Sequence[str] | str, size: int, **more: Any) -> list[Series]:
        """All series, by pages."""
        builder = SeriesBuilder()
        request = query_service_pb2.GetMetricsPageRequest(request=self.request(runs, **more), page_size=size)
        for _ in range(10_000):
            page = await self.servicer.get_metrics_page(request)
            elements = sum(chunk.count for chunk in page.points if chunk.logged_time_ns)
            assert elements <= size
            for chunk in page.points:
                builder.add(chunk)
            if not page.next_page_token:
                return builder.series()
            assert elements
            request.page_token = page.next_page_token
        raise AssertionError("pages without an end")


_SELECTION = {"metrics", "ranks", "min_step", "max_step", "min_time_ns", "max_time_ns", "attempt"}


class _Summarised(QueryServicer):
    """Runs are summarised before they are searched, as the summariser beside the writers does."""

    reads: Reads

    async def search_runs(
        self, request: query_service_pb2.SearchRunsRequest
    ) -> query_service_pb2.SearchRunsResponse:
        await self.reads.summarise()
        return await super().search_runs(request)

    async def list_experiments(
        self, request: query_service_pb2.ListExperimentsRequest
    ) -> query_service_pb2.ListExperimentsResponse:
        await self.reads.summarise()
        return await super().list_experiments(request)


@asynccontextmanager
async def opened(folder: Path, settings: QuerySettings | None = None) -> AsyncIterator[Reads]:
    """A query service over new tables in a folder."""
    tables = await open_tables(f"chdb://{folder}/tables")
    hot = await open_hot("memory://", now_ns=time.time_ns() + GRACE_NS)
    try:
        await tables.migrate()
        epochs: dict[str, bytes] = {}

        async def epoch(topic: str) -> bytes:
            return epochs.get(topic, bytes(16))

        servicer = _Summarised(tables, hot, settings, epochs=epoch)
        reads = servicer.reads = Reads(tables, hot, servicer, epochs)
        yield reads
    finally:
        await hot.close()
        await tables.close()
