"""Experiments: what their runs amount to, and what people say about them."""

from __future__ import annotations

import time
from typing import Any, Final

from runstream.v1 import query_service_pb2, run_pb2
from runstream_query import tokens
from runstream_query.errors import InvalidArgument
from runstream_query.filter_sql import STARTED, STATUS
from runstream_query.live import LiveStates, as_live, join_live
from runstream_query.search import scope_of
from runstream_query.sql import ask_rows
from runstream_query.summaries import ARCHIVED

_MAX_PAGE: Final = 10_000
_MAX_PARTS: Final = 400
_USUAL_SPAN_S: Final = 30 * 86_400
_LONGEST_SPAN_S: Final = 3660 * 86_400
_GOING_ON: Final = ", ".join(
    str(status)
    for status in (
        run_pb2.RUN_STATUS_RUNNING,
        run_pb2.RUN_STATUS_NOT_RESPONDING,
        run_pb2.RUN_STATUS_CANCEL_REQUESTED,
    )
)

_SQL: Final = f"""
SELECT workspace, experiment, count() AS runs, max(last_event) AS last_activity,
    countIf({STATUS} IN ({_GOING_ON})) AS running,
    countIf({STATUS} = {run_pb2.RUN_STATUS_FAILED}) AS failed,
    countIf(archived) AS archived_runs{{activity}}
FROM (
    SELECT toString(r.workspace) AS workspace, toString(r.experiment) AS experiment, r.archived AS archived,
        r.last_event AS last_event, {{columns}}
    FROM run_summaries AS r FINAL {{join}}
    WHERE {{scope}} AND r.experiment != ''
)
GROUP BY workspace, experiment
"""
_ACTIVITY: Final = f"""
, sumMapIf(map(toUInt32(intDiv({STARTED} - {{from:Int64}}, {{width:Int64}})), toUInt64(1)),
    {STARTED} >= {{from:Int64}} AND {STARTED} < {{to:Int64}}) AS activity
"""
_ATTRIBUTES: Final = """
SELECT toString(e.workspace) AS workspace, e.experiment AS experiment, e.kind AS kind, e.key AS key,
    argMax((e.value, e.removed), (e.version, e.writer, e.seq)) AS newest
FROM experiment_attributes AS e FINAL
WHERE (e.workspace, e.experiment) IN {these:Array(Tuple(String, String))}
GROUP BY workspace, experiment, kind, key
HAVING newest.2 = 0
ORDER BY workspace, experiment, kind, key
"""
_ARCHIVED: Final = f"""
SELECT toString(workspace) AS workspace, experiment FROM (
    SELECT workspace, experiment, argMax(removed, (version, writer, seq)) AS removed
    FROM experiment_attributes FINAL
    WHERE kind = {run_pb2.ATTRIBUTE_KIND_SYSTEM} AND key = '{ARCHIVED}'
    GROUP BY workspace, experiment
) WHERE removed = 0
"""
_VIEWS: Final = {
    query_service_pb2.ARCHIVE_VIEW_ALL: "1",
    query_service_pb2.ARCHIVE_VIEW_ARCHIVED: f"(workspace, experiment) IN ({_ARCHIVED})",
}


async def list_experiments(
    live: LiveStates, request: query_service_pb2.ListExperimentsRequest, bound_to: str, timeout_s: float
) -> query_service_pb2.ListExperimentsResponse:
    """A page of experiments, the last active first."""
    size = request.page_size or 1000
    if size > _MAX_PAGE:
        raise InvalidArgument(f"page_size is {size}; at most {_MAX_PAGE:,}")
    parts, span_s = request.activity_parts, request.activity_span_s or _USUAL_SPAN_S
    if parts > _MAX_PARTS:
        raise InvalidArgument(f"activity_parts is {parts}; at most {_MAX_PARTS}")
    if span_s > _LONGEST_SPAN_S:
        raise InvalidArgument(f"activity_span_s is {span_s:,}; at most {_LONGEST_SPAN_S:,}")
    scope = scope_of(request.workspace, ())
    states = await live.read(scope)
    now = time.time_ns()
    width = span_s * 10**9 // parts if parts else 1
    params: dict[str, object] = {**scope.params, **states.params}
    params |= {"from": now - width * parts, "to": now, "width": width}
    where = [_VIEWS.get(request.archive, f"(workspace, experiment) NOT IN ({_ARCHIVED})")]
    if request.page_token:
        last, workspace, name = tokens.decode(bound_to, request.page_token, int, str, str)
        where.append(
            "(-last_activity, workspace, experiment)"
            " > (-{last:Int64}, {last_workspace:String}, {last_name:String})"
        )
        params |= {"last": last, "last_workspace": workspace, "last_name": name}
    inner = (
        _SQL.replace("{activity}", _ACTIVITY if parts else "")
        .replace("{columns}", as_live(states))
        .replace("{join}", join_live(states))
        .replace("{scope}", scope.sql)
    )
    sql = f"""
        SELECT * FROM ({inner}) WHERE {" AND ".join(where)}
        ORDER BY last_activity DESC, workspace, experiment LIMIT {size + 1}
    """
    rows = await ask_rows(live.runs.tables, sql, params, timeout_s)
    response = query_service_pb2.ListExperimentsResponse(
        experiments=[_experiment(row, parts, now) for row in rows[:size]]
    )
    await _add_attributes(live, response, timeout_s)
    if len(rows) > size:
        place = [rows[size - 1][name] for name in ("last_activity", "workspace", "experiment")]
        response.next_page_token = tokens.encode(bound_to, place)
    return response


def _experiment(row: dict[str, Any], parts: int, now: int) -> query_service_pb2.Experiment:
    experiment = query_service_pb2.Experiment(
        workspace=row["workspace"],
        name=row["experiment"],
        runs=row["runs"],
        last_activity_ns=row["last_activity"],
        running=row["running"],
        failed=row["failed"],
        archived_runs=row["archived_runs"],
    )
    if parts:
        counts = dict(row["activity"])
        experiment.activity.extend(counts.get(part, 0) for part in range(parts))
        experiment.activity_end_ns = now
    return experiment


async def _add_attributes(
    live: LiveStates, response: query_service_pb2.ListExperimentsResponse, timeout_s: float
) -> None:
    experiments = {(one.workspace, one.name): one for one in response.experiments}
    if not experiments:
        return
    params = {"these": list(experiments)}
    for row in await ask_rows(live.runs.tables, _ATTRIBUTES, params, timeout_s):
        experiment = experiments[row["workspace"], row["experiment"]]
        value = next(iter(row["newest"].values()))
        experiment.attributes.add(kind=row["kind"], key=row["key"], value=value)
        if row["kind"] == run_pb2.ATTRIBUTE_KIND_SYSTEM and row["key"] == ARCHIVED:
            experiment.archived = True
