"""The series of a run: what it logged, in short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runstream.v1 import point_pb2, query_service_pb2
from runstream_query.attempts import Hidden, hidden_steps, one_attempt
from runstream_query.figures import FiguresReader, SeriesFigures
from runstream_query.plan import ALL_TYPES, NUMBERS
from runstream_query.selection import Selection
from runstream_query.sql import ask_rows
from runstream_store.tables import Tables

_DESCRIPTIONS: Final = """
SELECT metric, column, description FROM series FINAL
WHERE workspace = {workspace:String} AND run = {run:String} AND description != ''
"""


async def list_series(
    tables: Tables,
    figures: FiguresReader,
    workspace: str,
    run: str,
    relaunched: bool,
    timeout_s: float,
    attempt: int = 0,
) -> list[query_service_pb2.SeriesInfo]:
    """The series of a run, by metric and column.

    :param attempt: only of this one, from 1.
    """
    if attempt:
        selection = Selection({workspace: (run,)}, attempt=attempt)
        chosen = await one_attempt(tables, workspace, [run], selection, timeout_s)
        found = await figures.count(workspace, run, Hidden(), chosen.elements())
    else:
        found = await figures_that_count(tables, figures, workspace, run, relaunched, timeout_s)
    descriptions = {
        (row["metric"], row["column"]): row["description"]
        for row in await ask_rows(tables, _DESCRIPTIONS, {"workspace": workspace, "run": run}, timeout_s)
    }
    return [_info(series, descriptions.get((series.metric, series.column), "")) for series in found]


async def figures_that_count(
    tables: Tables, figures: FiguresReader, workspace: str, run: str, relaunched: bool, timeout_s: float
) -> Sequence[SeriesFigures]:
    """Figures of the series of a run, without what newer attempts hide."""
    selection = Selection({workspace: (run,)})
    hidden = await hidden_steps(tables, workspace, [run] if relaunched else [], selection, timeout_s)
    return await figures.read(workspace, run, hidden)


def _info(series: SeriesFigures, description: str) -> query_service_pb2.SeriesInfo:
    kinds = series.types & ALL_TYPES or series.types  # declarations tell nothing where there are elements
    info = query_service_pb2.SeriesInfo(
        series=point_pb2.Series(metric=series.metric, column=series.column, description=description),
        types=[kind for kind in point_pb2.ValueType.values() if kinds >> kind & 1 and kind],
        count=series.elements,
        has_steps=series.stepped and series.elements > 0,
    )
    if series.last is not None and 1 << series.last[1] & NUMBERS:
        info.last = series.last[0]
    return info
