"""What a read will find: the metrics of the selected runs, how many elements they have and of what types.

The counts are only for cutting the work into pieces: repeats that are not merged yet are counted. What is
decided by the plan, the order of a metric and the types that occur in it, is the same with repeats and
without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

# A sum of bits and not a set of types, because it is one instruction an element.
_PLAN: Final = f"""
SELECT toString(p.run) AS run, toString(p.metric) AS metric, toString(p.column) AS column,
    countIf(p.type < {DECLARATION}{{elements}}) AS elements,
    groupBitOrIf(bitShiftLeft(toUInt16(1), p.type), 1{{elements}}) AS types,
    max(p.type < {DECLARATION} AND p.step = {NO_STEP}) AS stepless,
    sumIf(length(p.text), 1{{elements}}) AS text_bytes
FROM points AS p
WHERE {{series}}
GROUP BY run, metric, column
ORDER BY run, metric, column
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
    runs: Iterable[str],
    selection: Selection,
    timeout_s: float,
    *,
    after: tuple[str, str] | None = None,
) -> list[Unit]:
    """The metrics with selected elements or declarations, in the order of run and metric.

    :param after: run and metric; only what comes after them.
    """
    series = selection.series(workspace, runs)
    if after is not None:
        series &= Clause(
            "(p.run, p.metric) > ({after_run:String}, {after_metric:String})",
            {"after_run": after[0], "after_metric": after[1]},
        )
    elements = selection.elements()
    sql = _PLAN.format(series=series.sql, elements=elements.further)
    rows = await ask_rows(tables, sql, {**series.params, **elements.params}, timeout_s)
    units = (
        _unit(key, list(group)) for key, group in groupby(rows, key=lambda row: (row["run"], row["metric"]))
    )
    return [unit for unit in units if unit.count or unit.declarations]


def _unit(key: tuple[str, str], rows: list[dict[str, Any]]) -> Unit:
    declarations: list[tuple[str, int]] = []
    types = 0
    for row in rows:
        types |= row["types"]
        if row["types"] & (1 << DECLARATION) and not row["elements"]:
            declarations.append((row["column"], DECLARATION))
        if row["types"] & (1 << _TABLE_DECLARATION):
            declarations.append((row["column"], _TABLE_DECLARATION))
    return Unit(
        run=key[0],
        metric=key[1],
        stepped=not any(row["stepless"] for row in rows),
        count=sum(row["elements"] for row in rows),
        columns=tuple(row["column"] for row in rows if row["elements"]),
        weight=sum(max(row["elements"], row["text_bytes"] // _ELEMENT_BYTES) for row in rows),
        types=types & ALL_TYPES,
        declarations=tuple(declarations),
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
