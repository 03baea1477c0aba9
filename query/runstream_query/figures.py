"""Figures of the series of a run: how many elements of which types, and the last ones.

They are counted without repeats in all that the run has, which takes a while for a large one, and kept until
rows come that were not counted (`blocks`). Nothing is ever added to what was counted.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from runstream_query.attempts import Hidden
from runstream_query.blocks import Blocks, fresh, look
from runstream_query.plan import NUMBERS
from runstream_query.selection import DECLARATION
from runstream_query.sql import Clause, ask_rows
from runstream_store.tables import Tables
from runstream_store.tables.schema import NO_STEP

_KEPT_SERIES: Final = 100_000
"""Of how many series figures are kept in all, some 300 bytes each."""
_HEAVY: Final = 100_000
_NOTHING: Final = Hidden()

_NUMBER: Final = "p.type BETWEEN 1 AND 3"
_ELEMENT: Final = f"p.type < {DECLARATION}"
_TIME: Final = "toUnixTimestamp64Nano(p.time)"

_SIZE: Final = """
SELECT count() AS rows FROM points AS p WHERE p.workspace = {workspace:String} AND p.run = {run:String}
"""
_ROWS: Final = """
FROM points AS p {final} {join}
WHERE p.workspace = {workspace:String} AND p.run = {run:String}{condition}
"""
_COUNTS: Final = f"""
SELECT toString(any(p.metric)) AS metric, toString(any(p.column)) AS column,
    countIf({_ELEMENT}) AS elements,
    groupBitOr(bitShiftLeft(toUInt16(1), p.type)) AS types,
    max({_ELEMENT} AND p.step = {NO_STEP}) AS some_stepless,
    maxIf(p.step, {_ELEMENT}) AS last_step, maxIf(p.step, {_NUMBER}) AS number_step,
    maxIf({_TIME}, {_ELEMENT}) AS last_time, maxIf({_TIME}, {_NUMBER}) AS number_time
{{rows}}
GROUP BY bitXor(sipHash128(p.metric, 'metric'), sipHash128(p.column, 'column'))
ORDER BY metric, column
"""

# The last element has the greatest step of its series, or time where the metric has elements without a step;
# among those that share it the rest of the order decides. Steps are found by the sorting key.
_LASTS: Final = f"""
SELECT toString(p.metric) AS metric, toString(p.column) AS column, {{leading}} AS leading,
    argMaxIf((p.value, p.type), (p.time, p.writer, p.seq, p.idx), {_ELEMENT}) AS last,
    argMaxIf(p.value, (p.time, p.writer, p.seq, p.idx), {_NUMBER}) AS number
{{rows}} AND (p.metric, p.column, {{leading}}) IN {{lasts:Array(Tuple(String, String, Int64))}}
GROUP BY metric, column, leading
"""


@dataclass(frozen=True, slots=True)
class SeriesFigures:
    """Figures of one series."""

    metric: str
    column: str
    elements: int
    types: int
    """Sum of `1 << type`, those of declarations among them."""
    stepped: bool
    """All elements of the metric, in whichever column, have a step."""
    last_step: int
    """The greatest; NO_STEP when no element has one."""
    last: tuple[float, int] | None
    """Value and type of the last element."""
    last_number: float | None
    """Value of the last element that is a number."""


_End = tuple[str, str, int]
"""Metric, column, and the leading key (step or time) of its last elements."""


class _Kept(NamedTuple):
    blocks: Blocks
    hidden: Hidden
    series: Sequence[SeriesFigures]


class FiguresReader:
    """Reads figures, and keeps those of runs that were asked for lately."""

    def __init__(self, tables: Tables, timeout_s: float) -> None:
        """Keeps nothing yet."""
        self._tables = tables
        self._timeout_s = timeout_s
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._series = 0
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def read(self, workspace: str, run: str, hidden: Hidden = _NOTHING) -> Sequence[SeriesFigures]:
        """The series of a run, by metric and column, without what newer attempts hide."""
        key = workspace, run
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # several ask at once: it is counted once
            kept = self._kept.get(key)
            if kept is not None and kept.hidden == hidden:
                rows = Clause(
                    "p.workspace = {workspace:String} AND p.run = {run:String}",
                    {"workspace": workspace, "run": run},
                )
                news = await fresh(self._tables, rows, kept.blocks, self._timeout_s)
                if news is not None and not news.parts:
                    self._keep(key, _Kept(news.blocks, hidden, kept.series))
                    return kept.series
            # What comes while it is counted may be counted, and makes that it is counted again.
            before = await look(self._tables, self._timeout_s)
            series = await self.count(workspace, run, hidden)
            if before.parts:
                self._keep(key, _Kept(before.blocks, hidden, series))
            return series

    def _keep(self, key: tuple[str, str], kept: _Kept) -> None:
        """Keeps figures, and drops those that were not asked for longest."""
        if key in self._kept:
            self._series -= len(self._kept.pop(key).series)
        self._kept[key] = kept
        self._series += len(kept.series)
        while self._series > _KEPT_SERIES:
            self._series -= len(self._kept.popitem(last=False)[1].series)

    async def count(
        self, workspace: str, run: str, hidden: Hidden, elements: Clause | None = None
    ) -> Sequence[SeriesFigures]:
        """The series of a run as they are now, without what newer attempts hide.

        :param elements: condition on what is counted.
        """
        join, condition = hidden.clause(hidden.first_steps)
        condition &= elements or Clause()
        params: dict[str, object] = {"workspace": workspace, "run": run, **condition.params}
        heavy = (await self._ask(_SIZE, params, heavy=False))[0]["rows"] > _HEAVY
        rows = _ROWS.replace("{join}", join).replace("{condition}", condition.further)
        found = await self._ask(
            _COUNTS.replace("{rows}", rows.replace("{final}", "FINAL")), params, heavy=heavy
        )
        stepless = {row["metric"] for row in found if row["some_stepless"]}
        rows = rows.replace("{final}", "")
        lasts: dict[_End, dict[str, Any]] = {}
        for leading, stepped in ("p.step", True), (_TIME, False):
            ends = {
                end
                for row in found
                if (row["metric"] not in stepless) == stepped
                for end in _ends(row, stepless)
                if end
            }
            if ends:
                sql = _LASTS.replace("{rows}", rows).replace("{leading}", leading)
                for row in await self._ask(sql, {**params, "lasts": sorted(ends)}, heavy=heavy):
                    lasts[row["metric"], row["column"], row["leading"]] = row
        return [_figures(row, stepless, lasts) for row in found]

    async def _ask(self, sql: str, params: dict[str, object], *, heavy: bool) -> list[dict[str, Any]]:
        return await ask_rows(self._tables, sql, params, self._timeout_s, heavy=heavy)


def _ends(row: dict[str, Any], stepless: set[str]) -> tuple[_End | None, _End | None]:
    """Where the last element is, and the last number."""
    by = "time" if row["metric"] in stepless else "step"
    series = row["metric"], row["column"]
    return (
        (*series, row[f"last_{by}"]) if row["elements"] else None,
        (*series, row[f"number_{by}"]) if row["types"] & NUMBERS else None,
    )


def _figures(row: dict[str, Any], stepless: set[str], lasts: dict[_End, dict[str, Any]]) -> SeriesFigures:
    last, number = (lasts.get(end) if end else None for end in _ends(row, stepless))
    return SeriesFigures(
        metric=row["metric"],
        column=row["column"],
        elements=row["elements"],
        types=row["types"],
        stepped=row["metric"] not in stepless,
        last_step=row["last_step"] if row["elements"] else NO_STEP,
        last=None if last is None else tuple(last["last"].values()),
        last_number=None if number is None else number["number"],
    )
