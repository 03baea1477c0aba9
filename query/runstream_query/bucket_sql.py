"""Buckets that the engine makes of the elements of one metric with steps.

One query reads steps, values and times. Where several elements share the outermost step of a bucket (or one
is stored twice) it marks that, and a second one tells which of them comes first and last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runstream_query.buckets import Buckets, bucket_width
from runstream_query.elements import Source, array, names
from runstream_query.plan import Unit
from runstream_query.sql import Clause, ask

_FLAGS: Final = "isNaN(p.value) + 2 * (p.value = inf) + 4 * (p.value = -inf)"
_X: Final = "toUInt64(p.step - {low:Int64})"  # both wrap around, so it is right for any two steps

_FROM: Final = """
FROM points AS p {join}
WHERE p.workspace = {workspace:String} AND p.run = {run:String} AND p.metric = {metric:String}
    AND p.type BETWEEN 1 AND 3{condition}
"""
_EXTENT: Final = "SELECT min(p.step) AS low, max(p.step) AS high, count() AS elements"
# The two smallest steps and the two largest (the smallest of their complements): equal ones are shared.
_FIGURES: Final = f"""
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
"""
# What came since the extent was read is left to the next read.
_BUCKETS: Final = f"""
{_FIGURES} {{from}} AND p.step BETWEEN {{low:Int64}} AND {{high:Int64}}
GROUP BY {{columns}}toUInt16(intDiv({_X}, {{width:UInt64}}))
ORDER BY column, first_x
"""
# Of several metrics; a hash is made once for each name.
_ALIKE: Final = f"""
{_FIGURES.rstrip()}, toString(any(p.run)) AS run, toString(any(p.metric)) AS metric
FROM points AS p
WHERE p.workspace = {{workspace:String}} AND p.type BETWEEN 1 AND 3
    AND (p.run, p.metric) IN {{units:Array(Tuple(String, String))}}{{condition}}
    AND p.step BETWEEN {{low:Int64}} AND {{high:Int64}}
GROUP BY
    bitXor(bitXor(sipHash128(p.run, 'run'), sipHash128(p.metric, 'metric')), sipHash128(p.column, 'column')),
    toUInt16(intDiv({_X}, {{width:UInt64}}))
ORDER BY run, metric, column, first_x
"""
_BINS: Final = f"""
{_FIGURES} {{from}}{{within}}
GROUP BY {{columns}}bitShiftRight(bitXor(toUInt64(p.step), 0x8000000000000000), {{shift:UInt8}})
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
class Bins(Buckets):
    """Buckets of which it is not settled yet which of the elements at their outermost steps are first and
    last."""

    first_shared: NDArray[np.bool_]
    last_shared: NDArray[np.bool_]

    def part(self, chosen: slice | NDArray[Any]) -> Bins:
        """Some of them."""
        return Bins(*(getattr(self, field.name)[chosen] for field in fields(Bins)))


Series = Mapping[str, Bins]
"""Bins by column, in the order of columns."""


@dataclass(frozen=True, slots=True)
class BucketRows:
    """Numbers of one metric."""

    source: Source
    where: str
    params: Mapping[str, object]
    one: bool
    """All are of one column."""

    @classmethod
    def of(
        cls, source: Source, unit: Unit, columns: Sequence[str], condition: Clause | None = None
    ) -> BucketRows:
        """Those of a unit.

        :param columns: the columns that it has, if that is known. One key is much faster than two.
        :param condition: on them; that of the selection if there is none.
        """
        join, hidden = source.hidden.clause([unit.key])
        condition = hidden & (source.selection.elements() if condition is None else condition)
        params = {
            "workspace": source.workspace,
            "run": unit.run,
            "metric": unit.metric,
            **condition.params,
        }
        where = _FROM.replace("{join}", join).replace("{condition}", condition.further)
        if len(columns) == 1:
            where += " AND p.column = {column:String}"
            params["column"] = columns[0]
        return cls(source, where, params, len(columns) == 1)

    async def extent(self) -> tuple[int, int] | None:
        """Smallest and largest step; None when there is no number."""
        found = (await self._ask(f"{_EXTENT} {self.where}")).to_pylist()[0]
        return (found["low"], found["high"]) if found["elements"] else None

    async def buckets(self, low: int, high: int, width: int) -> Series:
        """Buckets of the steps from `low` to `high`."""
        return _series(await self._ask(self._sql(_BUCKETS), low=low, high=high, width=width))

    async def bins(self, shift: int, parts: Sequence[str] | None = None) -> Series:
        """Buckets of 2^shift steps of all elements, or of those that some parts of the table have."""
        if parts is None:
            return _series(await self._ask(self._sql(_BINS.replace("{within}", "")), shift=shift))
        sql = self._sql(_BINS.replace("{within}", " AND p._part IN {parts:Array(String)}"))
        return _series(await self._ask(sql, parts=parts, shift=shift))

    async def exact(self, series: Series) -> dict[str, Buckets]:
        """Asks which elements come first and last where that is not settled."""
        steps: list[int] = np.unique(
            np.concatenate(
                [np.zeros(0, np.int64)]
                + [bins.first_x[bins.first_shared] for bins in series.values()]
                + [bins.last_x[bins.last_shared] for bins in series.values()]
            )
        ).tolist()
        if not steps:
            return dict(series)
        found = (await self._ask(_EDGES.replace("{from}", self.where), steps=steps)).to_pylist()
        told = {(row["column"], row["step"]): row for row in found}
        settled: dict[str, Buckets] = {}
        for name, bins in series.items():
            first, last, time_ns = bins.first.copy(), bins.last.copy(), bins.last_time_ns.copy()
            for at in np.flatnonzero(bins.first_shared).tolist():
                first[at] = told[name, int(bins.first_x[at])]["first"]
            for at in np.flatnonzero(bins.last_shared).tolist():
                row = told[name, int(bins.last_x[at])]
                last[at], time_ns[at] = row["last"], row["last_time_ns"]
            settled[name] = replace(bins, first=first, last=last, last_time_ns=time_ns)
        return settled

    def _sql(self, template: str) -> str:
        return template.replace("{from}", self.where).replace("{columns}", "" if self.one else "p.column, ")

    async def _ask(self, sql: str, **extra: object) -> Any:
        source = self.source
        return await ask(source.tables, sql, {**self.params, **extra}, source.timeout_s, heavy=True)


async def alike(
    source: Source, units: Sequence[Unit], buckets: int
) -> dict[tuple[str, str], Mapping[str, Buckets]]:
    """Buckets of metrics of one extent of which nothing is hidden, with one query: by run and metric, then by
    column."""
    extent = units[0].extent
    assert extent is not None
    selected = source.selection.elements()
    params = {
        "workspace": source.workspace,
        "units": [unit.key for unit in units],
        "low": extent[0],
        "high": extent[1],
        "width": bucket_width(*extent, buckets),
        **selected.params,
    }
    sql = _ALIKE.replace("{condition}", selected.further)
    found = await ask(source.tables, sql, params, source.timeout_s, heavy=True)
    if not found.num_rows:
        return {}
    (runs, run), (metrics, metric) = names(found["run"]), names(found["metric"])
    cuts = [0, *(np.flatnonzero((np.diff(run) != 0) | (np.diff(metric) != 0)) + 1).tolist(), len(run)]
    by_key = {unit.key: unit for unit in units}
    made: dict[tuple[str, str], Mapping[str, Buckets]] = {}
    for low, high in pairwise(cuts):
        key = runs[run[low]], metrics[metric[low]]
        rows = BucketRows.of(source, by_key[key], by_key[key].columns)
        made[key] = await rows.exact(_series(found.slice(low, high - low)))
    return made


def _series(found: Any) -> Series:
    if not found.num_rows:
        return {}
    bins = Bins(
        first_x=array(found["first_x"]),
        last_x=array(found["last_x"]),
        min=array(found["min"]).astype(np.float64),
        max=array(found["max"]).astype(np.float64),
        first=array(found["first"]),
        last=array(found["last"]),
        non_finite=array(found["non_finite"]).astype(np.uint32),
        last_time_ns=array(found["last_time_ns"]),
        first_shared=array(found["first_shared"]).astype(np.bool_),
        last_shared=array(found["last_shared"]).astype(np.bool_),
    )
    columns, codes = names(found["column"])
    cuts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    return {columns[codes[low]]: bins.part(slice(low, high)) for low, high in pairwise(cuts)}
