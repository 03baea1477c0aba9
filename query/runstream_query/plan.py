"""What a read will find: the metrics of the selected runs, how many elements they have and of what types.

The counts are only for cutting the work into pieces: repeats that are not merged yet are counted. What is
decided by the plan, the order of a metric and the types that occur in it, is the same with repeats and
without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from runstream.v1 import point_pb2
from runstream_query.selection import DECLARATION, Selection
from runstream_query.sql import Clause, ask_rows
from runstream_store.tables import Tables
from runstream_store.tables.schema import NO_STEP

_TABLE_DECLARATION: Final = point_pb2.VALUE_TYPE_TABLE_DECLARATION
_DOUBLES_ONLY: Final = 1 << point_pb2.VALUE_TYPE_DOUBLE
_WITH_TEXT: Final = (
    (1 << point_pb2.VALUE_TYPE_INT64)  # those that a double does not hold
    | (1 << point_pb2.VALUE_TYPE_STRING)
    | (1 << point_pb2.VALUE_TYPE_BIG_INTEGER)
)
_ELEMENT_BYTES: Final = 64
ALL_TYPES: Final = (1 << DECLARATION) - 2
NUMBERS: Final = 0b1110
"""Sum of `1 << type` of DOUBLE, INT64 and BOOL."""

# A sum of bits and not a set of types, because it is one instruction an element.
_PLAN: Final = f"""
SELECT toString(any(p.run)) AS run, toString(any(p.metric)) AS metric, toString(any(p.column)) AS column,
    countIf(p.type < {DECLARATION}{{elements}}) AS elements,
    groupBitOrIf(bitShiftLeft(toUInt16(1), p.type), 1{{elements}}) AS types,
    max(p.type < {DECLARATION} AND p.step = {NO_STEP}) AS stepless,
    sumIf(length(p.text), 1{{elements}}) AS text_bytes
FROM points AS p
WHERE {{series}}
GROUP BY {{key}}
ORDER BY run, metric, column
"""

# Of a part of the steps no more than the part is read. Elements without a step are found by the sorting key.
_NUMBERS_PLAN: Final = f"""
SELECT toString(any(p.run)) AS run, toString(any(p.metric)) AS metric, toString(any(p.column)) AS column,
    count() AS elements, groupBitOr(bitShiftLeft(toUInt16(1), p.type)) AS types,
    minIf(p.step, p.type BETWEEN 1 AND 3) AS low, maxIf(p.step, p.type BETWEEN 1 AND 3) AS high
FROM points AS p
WHERE {{series}} AND p.type < {DECLARATION}{{elements}}
GROUP BY {{key}}
ORDER BY run, metric, column
"""
_STEPLESS: Final = f"""
SELECT DISTINCT toString(p.run) AS run, toString(p.metric) AS metric FROM points AS p
WHERE {{series}} AND p.step = {NO_STEP} AND p.type < {DECLARATION}
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """A metric of a run."""

    run: str
    metric: str
    stepped: bool
    """All its elements have a step, whether they are selected or not: the order is that of the steps."""
    count: int
    """Number of selected elements; repeats may be counted, hidden ones are."""
    columns: tuple[str, ...]
    """Columns with selected elements."""
    weight: int
    """What it costs, in elements: long texts count for more than one."""
    types: int
    """Sum of `1 << type` over the types of the selected elements."""
    declarations: tuple[tuple[str, int], ...] = ()
    """Column and type of the declarations to tell of: of series without an element, and of tables without a
    column."""
    extent: tuple[int, int] | None = None
    """Of `plan_numbers`: smallest and largest step of the selected numbers, if there are any."""

    @property
    def key(self) -> tuple[str, str]:
        """Run and metric."""
        return self.run, self.metric

    @property
    def doubles_only(self) -> bool:
        """All selected elements are DOUBLE."""
        return self.types == _DOUBLES_ONLY

    @property
    def may_have_text(self) -> bool:
        """An element may need the column `text`."""
        return bool(self.types & _WITH_TEXT)


async def plan(
    tables: Tables,
    workspace: str,
    runs: Sequence[str],
    selection: Selection,
    timeout_s: float,
    *,
    after: tuple[str, str] | None = None,
) -> list[Unit]:
    """The metrics with selected elements or declarations, in the order of run and metric.

    :param after: run and metric; only what comes after them.
    """
    series, elements = _series(workspace, runs, selection, after), selection.elements()
    sql = _PLAN.format(series=series.sql, elements=elements.further, key=_key(runs, selection))
    rows = await ask_rows(tables, sql, {**series.params, **elements.params}, timeout_s)
    return [unit for unit in _units(rows) if unit.count or unit.declarations]


async def plan_numbers(
    tables: Tables,
    workspace: str,
    runs: Sequence[str],
    selection: Selection,
    timeout_s: float,
    *,
    after: tuple[str, str] | None = None,
    without: Sequence[tuple[str, str]] = (),
) -> list[Unit]:
    """The metrics with selected numbers, in the order of run and metric. Texts weigh nothing.

    :param without: run and metric of those to be left out.
    """
    if len(without) == len(runs) * len(selection.metrics) > 0:
        return []
    series, elements = _series(workspace, runs, selection, after), selection.elements()
    if without:
        series &= Clause(
            "(p.run, p.metric) NOT IN {without:Array(Tuple(String, String))}", {"without": list(without)}
        )
    sql = _NUMBERS_PLAN.format(series=series.sql, elements=elements.further, key=_key(runs, selection))
    rows, stepless = await asyncio.gather(
        ask_rows(tables, sql, {**series.params, **elements.params}, timeout_s),
        ask_rows(tables, _STEPLESS.format(series=series.sql), series.params, timeout_s),
    )
    without_steps = {(row["run"], row["metric"]) for row in stepless}
    for row in rows:
        row |= {"stepless": (row["run"], row["metric"]) in without_steps, "text_bytes": 0}
    return [unit for unit in _units(rows) if unit.types & NUMBERS]


def _series(
    workspace: str, runs: Iterable[str], selection: Selection, after: tuple[str, str] | None
) -> Clause:
    series = selection.series(workspace, runs)
    if after is not None:
        series &= Clause(
            "(p.run, p.metric) > ({after_run:String}, {after_metric:String})",
            {"after_run": after[0], "after_metric": after[1]},
        )
    return series


def _key(runs: Sequence[str], selection: Selection) -> str:
    """What to group by. Several names would be put together for each element; a hash is made once for each
    name."""
    names = ["column"]
    names += ["run"] if len(runs) != 1 else []
    names += ["metric"] if len(selection.metrics) != 1 else []
    if len(names) == 1:
        return "p.column"
    key = ""
    for name in names:
        hashed = f"sipHash128(p.{name}, '{name}')"
        key = f"bitXor({key}, {hashed})" if key else hashed
    return key


def _units(rows: list[dict[str, Any]]) -> Iterator[Unit]:
    for key, group in groupby(rows, key=lambda row: (row["run"], row["metric"])):
        yield _unit(key, list(group))


def _unit(key: tuple[str, str], rows: list[dict[str, Any]]) -> Unit:
    declarations: list[tuple[str, int]] = []
    types = 0
    for row in rows:
        types |= row["types"]
        if row["types"] & (1 << DECLARATION) and not row["elements"]:
            declarations.append((row["column"], DECLARATION))
        if row["types"] & (1 << _TABLE_DECLARATION):
            declarations.append((row["column"], _TABLE_DECLARATION))
    with_extent = [row for row in rows if "low" in row and row["types"] & NUMBERS]
    return Unit(
        run=key[0],
        metric=key[1],
        stepped=not any(row["stepless"] for row in rows),
        count=sum(row["elements"] for row in rows),
        columns=tuple(row["column"] for row in rows if row["elements"]),
        weight=sum(max(row["elements"], row["text_bytes"] // _ELEMENT_BYTES) for row in rows),
        types=types & ALL_TYPES,
        declarations=tuple(declarations),
        extent=(min(row["low"] for row in with_extent), max(row["high"] for row in with_extent))
        if with_extent
        else None,
    )


def batches(units: Iterable[Unit], weight: int) -> Iterator[list[Unit]]:
    """Joins neighbours to pieces of about such a weight; a heavier unit is a piece of its own."""
    batch: list[Unit] = []
    size = 0
    for unit in units:
        if batch and size + unit.weight > weight:
            yield batch
            batch, size = [], 0
        batch.append(unit)
        size += unit.weight
    if batch:
        yield batch
