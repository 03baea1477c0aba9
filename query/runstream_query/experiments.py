"""Experiments: what the starts of runs name."""

from __future__ import annotations

from typing import Final

from runstream.v1 import query_service_pb2
from runstream_query import tokens
from runstream_query.errors import InvalidArgument
from runstream_query.sql import ask_rows
from runstream_query.status import RUN_STARTED
from runstream_store.tables import Tables

_MAX_PAGE: Final = 10_000

_SQL: Final = f"""
SELECT workspace, experiment, count() AS runs, max(last_activity) AS last_activity_ns FROM (
    SELECT e.workspace AS workspace, e.run AS run,
        argMinIf(toString(e.experiment), e.time, e.kind = {RUN_STARTED}) AS experiment,
        max(toUnixTimestamp64Nano(e.time)) AS last_activity
    FROM run_events AS e
    WHERE {{scope}}
    GROUP BY workspace, run
    HAVING countIf(e.kind = {RUN_STARTED}) > 0
)
GROUP BY workspace, experiment
"""


async def list_experiments(
    tables: Tables, request: query_service_pb2.ListExperimentsRequest, bound_to: str, timeout_s: float
) -> query_service_pb2.ListExperimentsResponse:
    """A page of experiments, the last active first."""
    size = request.page_size or 1000
    if size > _MAX_PAGE:
        raise InvalidArgument(f"page_size is {size}; at most {_MAX_PAGE:,}")
    params: dict[str, object] = {}
    scope, after = "1", ""
    if request.workspace:
        scope = "e.workspace = {workspace:String}"
        params["workspace"] = request.workspace
    if request.page_token:
        last, workspace, name = tokens.decode(bound_to, request.page_token, int, str, str)
        after = (
            "WHERE (-last_activity_ns, workspace, experiment)"
            " > (-{last:Int64}, {last_workspace:String}, {name:String})"
        )
        params |= {"last": last, "last_workspace": workspace, "name": name}
    sql = (
        f"SELECT * FROM ({_SQL.replace('{scope}', scope)}) {after}"
        f" ORDER BY last_activity_ns DESC, workspace, experiment LIMIT {size + 1}"
    )
    rows = await ask_rows(tables, sql, params, timeout_s)
    response = query_service_pb2.ListExperimentsResponse()
    for row in rows[:size]:
        response.experiments.add(
            workspace=row["workspace"],
            name=row["experiment"],
            runs=row["runs"],
            last_activity_ns=row["last_activity_ns"],
        )
    if len(rows) > size:
        place = [rows[size - 1][name] for name in ("last_activity_ns", "workspace", "experiment")]
        response.next_page_token = tokens.encode(bound_to, place)
    return response
