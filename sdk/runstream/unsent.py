"""Reads back what is in a spool and was never sent: the metrics of runs that are logged offline.

The same order and the same types as the query service gives; each element is looked at by itself, which is
slow, and enough for what one process keeps.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from runstream.columns import (
    BIG_INTEGER,
    DECLARATION,
    DOUBLE,
    NO_STEP,
    NONE,
    STRING,
    TABLE_DECLARATION,
    Series,
)
from runstream.internal.v1 import twin_pb2
from runstream.sender.header import read_header
from runstream.sender.tail import WriterTail

_REQUEST_BYTES: Final = 1 << 20
_MOST_IDLE: Final = 3  # polls that find nothing: a slot is taken in the one after that which saw it


class _Element(NamedTuple):
    """One, with what decides its place."""

    step: int
    time_ns: int
    writer: bytes
    seq: int
    idx: int
    column: str
    type: int
    value: float | int | str
    logged_time_ns: int


class _Undead:
    """Stands for the lock of a process that lives: this one, or one that has ended and can't mind."""

    def is_dead(self, closed: bool) -> bool:
        return False

    def close(self) -> None:
        pass


def unsent_series(
    folders: Iterable[Path], runs: Sequence[str], metrics: Sequence[str] = (), ranks: Sequence[int] = ()
) -> list[Series]:
    """The series of some runs, from the folders of all writers that may have logged to them.

    :param metrics: exact names; empty for all.
    :param ranks: empty for all.
    """
    wanted = set(runs)
    found: dict[tuple[str, str, str], list[_Element]] = {}
    for folder in folders:
        for batch in _batches(folder):
            if ranks and (not batch.HasField("rank") or batch.rank not in ranks):
                continue
            for workspace, run, metric, element in _elements(batch):
                if run in wanted and (not metrics or metric in metrics):
                    found.setdefault((workspace, run, metric), []).append(element)
    return [series for key in sorted(found) for series in _series(*key, found[key])]


def _batches(folder: Path) -> Iterator[twin_pb2.PointBatch]:
    """All that is in a writer's folder, which is left as it is."""
    header = read_header(folder)
    if header is None:
        return
    tail = WriterTail(folder, header, _Undead(), request_bytes=_REQUEST_BYTES, copy=True)
    try:
        idle = 0
        while idle < _MOST_IDLE:
            tail.look(thoroughly=True)
            moved = tail.poll()
            for record in tail.request(time.monotonic()):
                moved = True
                tail.acknowledged(record)  # in memory: what was read is not held any longer
                if record.points:
                    yield twin_pb2.PointBatch.FromString(record.data)
            idle = 0 if moved else idle + 1
    finally:
        tail.close()


def _elements(batch: twin_pb2.PointBatch) -> Iterator[tuple[str, str, str, _Element]]:
    """Workspace, run, metric and element, for each."""
    count = batch.count
    nothing: list[int] = [0] * count
    times = np.frombuffer(batch.time_ns, "<i8").tolist()
    types = _column(batch.type, "<u4", [DOUBLE] * count)
    columns = zip(
        _column(batch.run_index, "<u4", nothing),
        _column(batch.series_index, "<u4", nothing),
        _column(batch.seq_offset, "<u4", list(range(count))),
        _column(batch.idx, "<u4", nothing),
        _column(batch.step, "<i8", [NO_STEP] * count),
        times,
        _column(batch.logged_time_ns, "<i8", times),
        types,
        _values(batch, types),
        strict=True,
    )
    for run_at, series_at, offset, idx, step, time_ns, logged_ns, kind, value in columns:
        run, series = batch.runs[run_at], batch.series[series_at]
        seq = batch.first_seq + offset
        element = _Element(step, time_ns, batch.writer, seq, idx, series.column, kind, value, logged_ns)
        yield run.workspace, run.run, series.metric, element


def _column(data: bytes, kind: str, default: list[int]) -> list[int]:
    return np.frombuffer(data, kind).tolist() if data else default


def _values(batch: twin_pb2.PointBatch, types: Iterable[int]) -> Iterator[float | int | str]:
    doubles = iter(np.frombuffer(batch.doubles, "<f8").tolist())
    integers = iter(np.frombuffer(batch.integers, "<i8").tolist())
    for kind in types:
        if kind == DOUBLE:
            yield next(doubles)
        elif kind in (NONE, DECLARATION, TABLE_DECLARATION):
            yield 0
        elif kind in (STRING, BIG_INTEGER):
            yield batch.strings[next(integers)]
        else:
            yield next(integers)


def _series(workspace: str, run: str, metric: str, elements: list[_Element]) -> Iterator[Series]:
    """The columns of one metric, in reading order."""
    real = [element for element in elements if element.type < DECLARATION]
    if all(element.step != NO_STEP for element in real):
        real.sort(key=lambda element: element[:5])
    else:
        real.sort(key=lambda element: element[1:5])
    rows: dict[tuple[bytes, int, int], int] = {}
    for element in real:
        rows.setdefault((element.writer, element.seq, element.idx), len(rows))
    by_column: dict[str, list[_Element]] = {element.column: [] for element in elements}
    for element in real:
        by_column[element.column].append(element)
    declared: dict[str, set[int]] = {}
    for element in elements:
        if element.type >= DECLARATION:
            declared.setdefault(element.column, set()).add(element.type)
    for column in sorted(by_column):
        yield _one(workspace, run, metric, column, by_column[column], rows, declared.get(column, set()))


def _one(
    workspace: str,
    run: str,
    metric: str,
    column: str,
    elements: list[_Element],
    rows: dict[tuple[bytes, int, int], int],
    declared: set[int],
) -> Series:
    texts = itertools.count()
    strings: list[str] = []
    integers: list[Any] = []
    for element in elements:
        if element.type in (STRING, BIG_INTEGER):
            strings.append(str(element.value))
            integers.append(next(texts))
        elif element.type not in (DOUBLE, NONE):
            integers.append(element.value)
    return Series(
        workspace,
        run,
        metric,
        column,
        row=np.array([rows[element.writer, element.seq, element.idx] for element in elements], np.int64),
        type=np.array([element.type for element in elements], np.uint8),
        doubles=np.array([element.value for element in elements if element.type == DOUBLE], np.float64),
        integers=np.array(integers, np.int64),
        strings=tuple(strings),
        step=np.array([element.step for element in elements], np.int64),
        logged_time_ns=np.array([element.logged_time_ns for element in elements], np.int64),
        identity=None,
        declared=frozenset(declared),
    )
