"""What is on the page of a run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np

from runstream.internal.v1 import twin_pb2
from runstream.v1 import point_pb2, query_service_pb2, run_pb2
from runstream_query.charts import Chart, Point, line_chart, number_text
from runstream_query.service import QueryServicer

CHARTS: Final = 24
"""Charts a page."""
_SERIES: Final = 2_000
_BUCKETS: Final = 240
_TABLE_ROWS: Final = 50
_TABLE_ELEMENTS: Final = 5_000
_VALUES: Final = 3
_TEXT: Final = 120

_NUMBERS: Final = frozenset(
    (point_pb2.VALUE_TYPE_DOUBLE, point_pb2.VALUE_TYPE_INT64, point_pb2.VALUE_TYPE_BOOL)
)
_DECLARATIONS: Final = frozenset((point_pb2.VALUE_TYPE_DECLARATION, point_pb2.VALUE_TYPE_TABLE_DECLARATION))
OUTCOMES: Final[Mapping[int, str]] = {
    run_pb2.WRITER_OUTCOME_UNSPECIFIED: "gone",
    run_pb2.WRITER_OUTCOME_CLEAN: "ended",
    run_pb2.WRITER_OUTCOME_EXCEPTION: "failed",
    run_pb2.WRITER_OUTCOME_INTERRUPTED: "interrupted",
    run_pb2.WRITER_OUTCOME_KILLED: "killed",
}


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A line of the list of metrics."""

    metric: str
    column: str
    description: str
    types: str
    count: int
    last: str


@dataclass(frozen=True, slots=True)
class TableView:
    """The first rows of a metric that is a table."""

    metric: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    more: bool


@dataclass(frozen=True, slots=True)
class WriterRow:
    """A line of the ledger."""

    id: str
    role: str
    rank: str
    place: str
    started_ns: int
    state: str
    drained: run_pb2.WriterDrained | None


@dataclass(frozen=True, slots=True)
class RunPage:
    """Everything that the template shows."""

    run: query_service_pb2.Run
    now_ns: int
    series: Sequence[SeriesRow]
    series_hidden: int
    charts: Sequence[Chart]
    tables: Sequence[TableView]
    writers: Sequence[WriterRow]
    chart_from: int
    charts_all: int
    wanted: str

    @classmethod
    async def read(
        cls, servicer: QueryServicer, workspace: str, run: str, query: Mapping[str, str]
    ) -> RunPage:
        """Asks the service. Never waits for what is settling: the page says so."""
        ref = point_pb2.RunRef(workspace=workspace, run=run)
        barrier = query_service_pb2.ReadBarrier(allow_settling=True)
        found = (await servicer.get_run(query_service_pb2.GetRunRequest(run=ref, barrier=barrier))).run
        listed = await servicer.list_series(query_service_pb2.ListSeriesRequest(run=ref, barrier=barrier))
        wanted = query.get("q", "")
        series = [info for info in listed.series if wanted.lower() in info.series.metric.lower()]
        metrics = {name: list(infos) for name, infos in groupby(series, key=lambda info: info.series.metric)}
        drawn = [name for name, infos in metrics.items() if _is_drawn(infos)]
        start = _number(query.get("from", "0"))
        shown = drawn[start : start + CHARTS]
        plain = [name for name in shown if _vector(metrics[name])]
        tabled = [name for name in metrics if any(info.series.column for info in metrics[name])][:CHARTS]
        texts = [
            name
            for name, infos in metrics.items()
            if name not in tabled
            and any(not info.HasField("last") for info in infos)
            and infos[0].count <= _TABLE_ROWS
        ][:200]
        read = _Reads(servicer, ref, barrier)
        charts = {chart.title: chart for chart in await read.charts(plain)}
        tables = await read.tables(tabled, metrics)
        charts |= {view.metric: chart for view, chart in tables if chart is not None and view.metric in shown}
        lasts = await read.lasts(texts)
        return cls(
            run=found,
            now_ns=time.time_ns(),
            series=[_series_row(info, lasts) for info in series[:_SERIES]],
            series_hidden=max(0, len(series) - _SERIES),
            charts=[charts[name] for name in shown if name in charts],
            tables=[view for view, _ in tables],
            writers=[_writer_row(info) for info in found.writers],
            chart_from=start,
            charts_all=len(drawn),
            wanted=wanted,
        )

    @property
    def chart_to(self) -> int:
        """Number of the last chart on this page."""
        return min(self.chart_from + CHARTS, self.charts_all)


@dataclass(frozen=True, slots=True)
class _Reads:
    """Reads of one run."""

    servicer: QueryServicer
    ref: point_pb2.RunRef
    barrier: query_service_pb2.ReadBarrier

    def _request(self, metrics: Iterable[str]) -> query_service_pb2.GetMetricsRequest:
        selection = query_service_pb2.MetricSelection(runs=[self.ref], metrics=metrics)
        return query_service_pb2.GetMetricsRequest(selection=selection, barrier=self.barrier)

    async def charts(self, metrics: Sequence[str]) -> list[Chart]:
        """Charts of vectors, from exact buckets."""
        if not metrics:
            return []
        request = self._request(metrics)
        request.reduction.buckets = _BUCKETS
        return [
            _bucket_chart(message.buckets)
            async for message in self.servicer.get_metrics(request)
            if message.HasField("buckets") and not message.buckets.column
        ]

    async def tables(
        self, metrics: Sequence[str], series: Mapping[str, Sequence[query_service_pb2.SeriesInfo]]
    ) -> list[tuple[TableView, Chart | None]]:
        """The first rows of tables, and the line through those with two columns of numbers."""
        found = []
        for metric in metrics:
            columns = len(series[metric])
            size = min(
                _TABLE_ELEMENTS, max(columns * (_TABLE_ROWS + 1), columns * 1000 if columns <= 2 else 0)
            )
            request = query_service_pb2.GetMetricsPageRequest(request=self._request([metric]), page_size=size)
            page = await self.servicer.get_metrics_page(request)
            found.append(_table(metric, page.points, bool(page.next_page_token)))
        return found

    async def lasts(self, metrics: Sequence[str]) -> dict[str, str]:
        """Values of short metrics that are no numbers."""
        if not metrics:
            return {}
        request = query_service_pb2.GetMetricsPageRequest(
            request=self._request(metrics), page_size=_TABLE_ELEMENTS
        )
        page = await self.servicer.get_metrics_page(request)
        found: dict[str, list[str]] = {}
        for chunk in page.points:
            found.setdefault(chunk.metric, []).extend(_text(value) for value in values(chunk))
        return {
            metric: ", ".join(texts[-_VALUES:])
            if len(texts) <= _VALUES
            else "… " + ", ".join(texts[-_VALUES:])
            for metric, texts in found.items()
        }


def values(chunk: twin_pb2.MetricChunk) -> Iterator[Any]:
    """The elements of a small chunk; declarations are none."""
    types = np.frombuffer(chunk.type, np.uint32).tolist() or [point_pb2.VALUE_TYPE_DOUBLE] * chunk.count
    doubles = iter(np.frombuffer(chunk.doubles, np.float64).tolist())
    integers = iter(np.frombuffer(chunk.integers, np.int64).tolist())
    for kind in types:
        if kind == point_pb2.VALUE_TYPE_DOUBLE:
            yield next(doubles)
        elif kind == point_pb2.VALUE_TYPE_INT64:
            yield next(integers)
        elif kind == point_pb2.VALUE_TYPE_BOOL:
            yield bool(next(integers))
        elif kind == point_pb2.VALUE_TYPE_STRING:
            yield chunk.strings[next(integers)]
        elif kind == point_pb2.VALUE_TYPE_BIG_INTEGER:
            yield int(chunk.strings[next(integers)])
        elif kind == point_pb2.VALUE_TYPE_NONE:
            yield None


def _rows(chunk: twin_pb2.MetricChunk) -> list[int]:
    offsets = np.frombuffer(chunk.row_offset, np.uint32) if chunk.row_offset else np.arange(chunk.count)
    rows: list[int] = (offsets.astype(np.int64) + chunk.first_row).tolist()
    return rows


def _table(metric: str, chunks: Iterable[twin_pb2.MetricChunk], more: bool) -> tuple[TableView, Chart | None]:
    cells: dict[str, dict[int, Any]] = {}
    for chunk in chunks:
        column = cells.setdefault(chunk.column, {})
        column.update(zip(_rows(chunk), values(chunk), strict=False))  # declarations have no value
    rows = sorted({row for column in cells.values() for row in column})
    names = list(cells)
    view = TableView(
        metric=metric,
        columns=names,
        rows=[
            [_text(cells[name][row]) if row in cells[name] else "" for name in names]
            for row in rows[:_TABLE_ROWS]
        ],
        more=more or len(rows) > _TABLE_ROWS,
    )
    numeric = [name for name in names if cells[name] and all(map(_is_number, cells[name].values()))]
    if len(names) != 2 or len(numeric) != 2 or len(rows) < 2:
        return view, None
    x, y = (cells[name] for name in names)
    points = [
        Point(float(x[row]), float(y[row]), float(y[row]), float(y[row]), _flag(float(y[row])))
        for row in rows
        if row in x and row in y and math.isfinite(x[row])
    ]
    note = f"{names[1]} over {names[0]}" + (f", the first {len(points):,} rows" if more else "")
    return view, line_chart(metric, names[0], points, note)


def _bucket_chart(chunk: twin_pb2.BucketChunk) -> Chart:
    def column(name: str, kind: Any) -> list[Any]:
        found: list[Any] = np.frombuffer(getattr(chunk, name), kind).tolist()
        return found

    flags = column("non_finite", np.uint32) or [0] * chunk.count
    lows, highs, last = column("min", np.float64), column("max", np.float64), column("last", np.float64)
    points = [
        # A bucket whose last value is not finite is still crossed, through the middle of what is.
        Point(x, y if math.isfinite(y) else low / 2 + high / 2, low, high, flag)
        for x, y, low, high, flag in zip(column("last_x", np.int64), last, lows, highs, flags, strict=True)
    ]
    steps = chunk.axis == query_service_pb2.BUCKET_AXIS_STEP
    return line_chart(chunk.metric, "step" if steps else "point", points, f"last {number_text(last[-1])}")


def _is_drawn(infos: Sequence[query_service_pb2.SeriesInfo]) -> bool:
    if _vector(infos):
        return True
    numeric = [info for info in infos if info.series.column and set(info.types) <= _NUMBERS]
    return len(infos) == len(numeric) == 2 and infos[0].count > 1


def _vector(infos: Sequence[query_service_pb2.SeriesInfo]) -> bool:
    """Scalars or a list with more than one number."""
    return any(not i.series.column and i.count > 1 and not _NUMBERS.isdisjoint(i.types) for i in infos)


def _series_row(info: query_service_pb2.SeriesInfo, lasts: Mapping[str, str]) -> SeriesRow:
    text = lasts.get(info.series.metric, "") if not info.series.column else ""
    names = [
        point_pb2.ValueType.Name(kind).removeprefix("VALUE_TYPE_").replace("_", " ").lower()
        for kind in info.types
    ]
    return SeriesRow(
        metric=info.series.metric,
        column=info.series.column,
        description=info.series.description,
        types=", ".join(
            "empty" if kind in _DECLARATIONS else name for kind, name in zip(info.types, names, strict=True)
        ),
        count=info.count,
        last=number_text(info.last) if info.HasField("last") else text,
    )


def _writer_row(info: query_service_pb2.WriterInfo) -> WriterRow:
    started = info.started
    role = {run_pb2.WRITER_ROLE_MAIN: "main", run_pb2.WRITER_ROLE_WORKER: "worker"}
    if info.HasField("ended"):
        state = OUTCOMES.get(info.ended.outcome, "gone")
        if info.ended.HasField("exit_code") and info.ended.exit_code:
            state += f", exit code {info.ended.exit_code}"
    else:
        state = "writing" if info.responding else "not responding"
    return WriterRow(
        id=info.writer.hex(),
        role=role.get(started.role or info.ended.role, "attached"),
        rank=str(started.rank) if started.HasField("rank") else "",
        place=f"{started.host}:{started.pid}" if started.host else "",
        started_ns=info.started_time_ns,
        state=state,
        drained=info.drained if info.HasField("drained") else None,
    )


def _is_number(value: Any) -> bool:
    """Whether it can be drawn: a number that a double holds about."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**300)


def _flag(value: float) -> int:
    return 1 if math.isnan(value) else 0 if math.isfinite(value) else 2 if value > 0 else 4


def _text(value: Any) -> str:
    if isinstance(value, float):
        return number_text(value)
    text = str(value)
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
