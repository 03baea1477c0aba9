"""Batches of points for tests: made with the public message, and read again one element at a time.

Slow and plain on purpose: it is what the fast code is compared with.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from runstream.v1 import point_pb2

NO_STEP = -(2**63)
WRITER = bytes(range(16))

DOUBLE, INT64, BOOL, NONE, STRING, BIG, DECLARATION, TABLE_DECLARATION = range(1, 9)


@dataclass(frozen=True)
class Element:
    """One element, as a script would log it."""

    kind: int = DOUBLE
    value: Any = 0.0
    run: int = 0
    series: int = 0
    offset: int = 0
    idx: int = 0
    step: int = NO_STEP
    time_ns: int = 1_700_000_000_000_000_000
    logged_time_ns: int = 1_700_000_000_000_000_000


def make_batch(
    elements: Sequence[Element],
    *,
    writer: bytes = WRITER,
    first_seq: int = 0,
    rank: int | None = None,
    runs: Sequence[tuple[str, str]] = (("local", "run"),),
    series: Sequence[tuple[str, str, str]] = (("loss", "", ""),),
    default: bool = True,
) -> point_pb2.PointBatch:
    """A batch of these elements.

    :param default: leave out the columns that have their default for all elements.
    """
    batch = point_pb2.PointBatch(writer=writer, first_seq=first_seq, count=len(elements), rank=rank)
    for workspace, run in runs:
        batch.runs.add(workspace=workspace, run=run)
    for metric, column, description in series:
        batch.series.add(metric=metric, column=column, description=description)
    columns: dict[str, tuple[Callable[[Element], int], list[int]]] = {
        "run_index": (lambda e: e.run, [0] * len(elements)),
        "series_index": (lambda e: e.series, [0] * len(elements)),
        "seq_offset": (lambda e: e.offset, list(range(len(elements)))),
        "idx": (lambda e: e.idx, [0] * len(elements)),
        "step": (lambda e: e.step, [NO_STEP] * len(elements)),
        "type": (lambda e: e.kind, [DOUBLE] * len(elements)),
        "logged_time_ns": (lambda e: e.logged_time_ns, [e.time_ns for e in elements]),
    }
    for name, (get, defaults) in columns.items():
        values = [get(element) for element in elements]
        if values != defaults or not default:
            getattr(batch, name).extend(values)
    batch.time_ns.extend(element.time_ns for element in elements)
    for element in elements:
        if element.kind == DOUBLE:
            batch.doubles.append(element.value)
        elif element.kind in (INT64, BOOL):
            batch.integers.append(element.value)
        elif element.kind in (STRING, BIG):
            batch.integers.append(len(batch.strings))
            batch.strings.append(str(element.value))
    return batch


def expected_rows(batch: point_pb2.PointBatch) -> Iterator[dict[str, Any]]:
    """The rows of the table `points` that a batch stands for."""
    doubles, integers = iter(batch.doubles), iter(batch.integers)

    def at(name: str, index: int, default: int) -> int:
        column = getattr(batch, name)
        return column[index] if len(column) else default

    for i in range(batch.count):
        run, series = batch.runs[at("run_index", i, 0)], batch.series[at("series_index", i, 0)]
        kind = at("type", i, DOUBLE)
        value, text = math.nan, ""
        if kind == DOUBLE:
            value = next(doubles)
        elif kind in (INT64, BOOL):
            integer = next(integers)
            value = float(integer)
            text = str(integer) if int(value) != integer else ""
        elif kind in (STRING, BIG):
            text = batch.strings[next(integers)]
            value = float(text) if kind == BIG else math.nan
        yield {
            "workspace": run.workspace,
            "run": run.run,
            "metric": series.metric,
            "column": series.column,
            "step": at("step", i, NO_STEP),
            "writer": batch.writer,
            "seq": batch.first_seq + at("seq_offset", i, i),
            "idx": at("idx", i, 0),
            "type": kind,
            "value": value,
            "text": text,
            "rank": batch.rank if batch.HasField("rank") else -1,
            "time": batch.time_ns[i],
            "logged_time": at("logged_time_ns", i, batch.time_ns[i]),
        }


def comparable(row: dict[str, Any]) -> tuple[Any, ...]:
    """A row whose value is compared bit by bit, but for NaNs, which are all one."""
    value = row["value"]
    bits = "nan" if math.isnan(value) else struct.pack("<d", value)
    return tuple(bits if name == "value" else content for name, content in sorted(row.items()))


# ------------------------------------------------------------------------------ for hypothesis

_INT64 = st.integers(-(2**63), 2**63 - 1)
_TIME = st.integers(0, 2**62)
_NAME = st.text(min_size=1, max_size=8)


@st.composite
def batches(draw: st.DrawFn) -> point_pb2.PointBatch:
    """Any batch that is in order."""
    runs = draw(st.lists(_NAME, min_size=1, max_size=3))
    series = draw(
        st.lists(st.tuples(_NAME, st.text(max_size=4), st.text(max_size=4)), min_size=1, max_size=4)
    )
    values: list[tuple[int, Any]] = draw(
        st.lists(
            st.one_of(
                st.tuples(st.just(DOUBLE), st.floats()),
                st.tuples(st.just(INT64), st.one_of(_INT64, st.integers(-3, 3), st.just(2**53 + 1))),
                st.tuples(st.just(BOOL), st.integers(0, 1)),
                st.tuples(st.just(NONE), st.none()),
                st.tuples(st.just(STRING), st.text(max_size=20)),
                st.tuples(st.just(BIG), st.integers(-(10**400), 10**400)),
                st.tuples(st.sampled_from([DECLARATION, TABLE_DECLARATION]), st.none()),
            )
            if draw(st.booleans())
            else st.tuples(st.just(DOUBLE), st.floats()),
            min_size=1,
            max_size=20,
        )
    )
    plain = draw(st.booleans())
    elements = [
        Element(kind, value, time_ns=time_ns, logged_time_ns=time_ns, offset=i)
        if plain
        else Element(
            kind,
            value,
            draw(st.integers(0, len(runs) - 1)),
            draw(st.integers(0, len(series) - 1)),
            draw(st.integers(0, 2**32 - 1)),
            draw(st.integers(0, 2**32 - 1)),
            draw(_INT64),
            time_ns,
            draw(_TIME),
        )
        for i, (kind, value) in enumerate(values)
        for time_ns in [draw(_TIME)]
    ]
    return make_batch(
        elements,
        writer=draw(st.binary(min_size=16, max_size=16)),
        first_seq=draw(st.integers(0, 2**63)),
        rank=draw(st.none() | st.integers(0, 2**31 - 1)),
        runs=[("workspace", run) for run in runs],
        series=series,
        default=draw(st.booleans()),
    )
