"""The series of a run: what it logged, in short."""

from __future__ import annotations

from typing import Any, Final

from runstream.v1 import point_pb2, query_service_pb2
from runstream_query.attempts import hidden_steps
from runstream_query.plan import ALL_TYPES, plan
from runstream_query.selection import DECLARATION, Selection
from runstream_query.sql import ask_rows
from runstream_store.tables import Tables

_HEAVY: Final = 100_000

_METRICS: Final = """
FROM points AS p {final} {join}
WHERE p.workspace = {workspace:String} AND p.run = {run:String}{condition} AND
"""
_LEADING: Final = "if(p.metric IN {stepless:Array(String)}, toUnixTimestamp64Nano(p.time), p.step)"

# The last element has the greatest leading key of its series; among those that share it the rest of the
# order decides.
_LAST: Final = f"""
SELECT toString(p.metric) AS metric, toString(p.column) AS column,
    argMax((p.value, p.type), (p.time, p.writer, p.seq, p.idx)) AS last
{{metrics}} p.type < {DECLARATION} AND (metric, column, {_LEADING}) IN (
    SELECT toString(p.metric) AS metric, toString(p.column) AS column, max({_LEADING})
    {{metrics}} p.type < {DECLARATION}
    GROUP BY metric, column
)
GROUP BY metric, column
"""

_COUNTS: Final = f"""
SELECT toString(p.metric) AS metric, toString(p.column) AS column,
    countIf(p.type < {DECLARATION}) AS elements,
    groupBitOr(bitShiftLeft(toUInt16(1), p.type)) AS types
{{metrics}} 1
GROUP BY metric, column ORDER BY metric, column
"""

_DESCRIPTIONS: Final = """
SELECT metric, column, description FROM series FINAL
WHERE workspace = {workspace:String} AND run = {run:String} AND description != ''
"""


async def list_series(
    tables: Tables, workspace: str, run: str, relaunched: bool, timeout_s: float
) -> list[query_service_pb2.SeriesInfo]:
    """The series of a run, by metric and column."""
    selection = Selection({workspace: (run,)})
    units = await plan(tables, workspace, [run], selection, timeout_s)
    if not units:
        return []
    hidden = await hidden_steps(tables, workspace, [run] if relaunched else [], selection, timeout_s)
    join, condition = hidden.clause([unit.key for unit in units])
    names: dict[str, object] = {"workspace": workspace, "run": run}
    params = {**names, **condition.params, "stepless": [unit.metric for unit in units if not unit.stepped]}
    heavy = sum(unit.count for unit in units) > _HEAVY

    async def rows(sql: str, *, final: bool) -> list[dict[str, Any]]:
        metrics = _METRICS.replace("{final}", "FINAL" if final else "").replace("{join}", join)
        text = sql.replace("{metrics}", metrics.replace("{condition}", condition.further))
        return await ask_rows(tables, text, params, timeout_s, heavy=heavy)

    lasts = {
        (row["metric"], row["column"]): tuple(row["last"].values()) for row in await rows(_LAST, final=False)
    }
    stepped = {unit.metric: unit.stepped for unit in units}
    descriptions = {
        (row["metric"], row["column"]): row["description"]
        for row in await ask_rows(tables, _DESCRIPTIONS, names, timeout_s)
    }
    return [
        _info(row, stepped[row["metric"]], lasts, descriptions)
        for row in await rows(_COUNTS, final=True)
        if row["metric"] in stepped
    ]


def _info(
    row: dict[str, Any],
    stepped: bool,
    lasts: dict[tuple[str, str], tuple[Any, ...]],
    descriptions: dict[tuple[str, str], str],
) -> query_service_pb2.SeriesInfo:
    key = row["metric"], row["column"]
    kinds = row["types"] & ALL_TYPES or row["types"]  # declarations tell nothing where there are elements
    info = query_service_pb2.SeriesInfo(
        series=point_pb2.Series(metric=key[0], column=key[1], description=descriptions.get(key, "")),
        types=[kind for kind in point_pb2.ValueType.values() if kinds >> kind & 1 and kind],
        count=row["elements"],
        has_steps=stepped and row["elements"] > 0,
    )
    if key in lasts:
        value, kind = lasts[key]
        if kind in (point_pb2.VALUE_TYPE_DOUBLE, point_pb2.VALUE_TYPE_INT64, point_pb2.VALUE_TYPE_BOOL):
            info.last = value
    return info
