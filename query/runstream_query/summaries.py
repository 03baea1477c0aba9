"""Makes the rows of `run_summaries`: what runs amount to.

A row is read as a whole from events, attributes and points, without repeats and without what newer attempts
hide, and inserted by the engine itself. It is never changed by adding to it, so that nothing that comes twice
counts twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from runstream.v1 import point_pb2, run_pb2
from runstream_query.attempts import Hidden, hidden_steps
from runstream_query.barrier import event_of
from runstream_query.names import display_name
from runstream_query.selection import DECLARATION, Selection
from runstream_query.sql import Clause, ask_rows
from runstream_query.status import RUN_STARTED, WRITER_STARTED, open_writers, runs_sql
from runstream_store.tables import Tables
from runstream_store.tables.schema import NO_STEP

RULES: Final = 1
"""Version of what a row says. Rows of older rules are made anew."""
CUT: Final = 4096
"""Longest value in a row, characters."""

ARCHIVED: Final = "archived"
DELETED: Final = "deleted"
"""Keys of system attributes."""

Key = tuple[str, str]
"""Workspace and run."""

_TIMEOUT_S: Final = 600.0
_STRING: Final = point_pb2.VALUE_TYPE_STRING
_MAPS: Final = {
    "tags": run_pb2.ATTRIBUTE_KIND_TAG,
    "properties": run_pb2.ATTRIBUTE_KIND_PROPERTY,
    "params": run_pb2.ATTRIBUTE_KIND_PARAM,
    "system": run_pb2.ATTRIBUTE_KIND_SYSTEM,
}

_NOW: Final = "SELECT toUnixTimestamp64Nano(now64(9)) AS now"

# One start of each launch says what all its ranks say.
_STARTS: Final = f"""
SELECT e.run AS run, hex(e.event) AS event FROM run_events AS e
WHERE {{scope}} AND e.kind = {RUN_STARTED}
ORDER BY e.run, e.time, e.writer, e.seq LIMIT 1 BY e.run, e.launch, e.restart
"""
_RELAUNCHED: Final = f"""
SELECT e.run AS run FROM run_events AS e
WHERE {{scope}} AND e.kind IN ({RUN_STARTED}, {WRITER_STARTED}) AND e.launch != ''
GROUP BY run HAVING uniqExact(e.launch, e.restart) > 1
"""

_ATTRIBUTE_MAPS: Final = ", ".join(
    f"groupArrayIf((key, v), kind = {kind}) AS of_{name},"
    f" mapFromArrays(arrayMap(t -> t.1, of_{name}), arrayMap(t -> t.2, of_{name})) AS {name}"
    for name, kind in _MAPS.items()
)
_ATTRIBUTES: Final = f"""
SELECT run, max(lengthUTF8(ifNull(newest.1, '')) > {CUT}) AS cut, {_ATTRIBUTE_MAPS} FROM (
    SELECT e.run AS run, e.kind AS kind, e.key AS key,
        argMax((e.value, e.removed), (e.version, e.writer, e.seq)) AS newest,
        substringUTF8(newest.1, 1, {CUT}) AS v
    FROM attributes AS e FINAL
    WHERE {{scope}}
    GROUP BY run, kind, key
    HAVING newest.2 = 0
) GROUP BY run
"""

_NUMBER: Final = "p.type IN (1, 2, 3)"
_BY_STEP: Final = "(p.step, p.time, p.writer, p.seq, p.idx)"
_BY_TIME: Final = "(p.time, p.writer, p.seq, p.idx)"

# Both orders are worked out, since only the whole metric tells which is the one.
_SERIES: Final = f"""
SELECT toString(p.run) AS run, toString(p.metric) AS metric, toString(p.column) AS column,
    countIf(p.type < {DECLARATION}) AS elements,
    max(p.type < {DECLARATION} AND p.step = {NO_STEP}) AS some_stepless,
    countIf({_NUMBER}) > 0 AS has_number,
    countIf({_NUMBER} AND NOT isNaN(p.value)) > 0 AS has_extremes,
    minIf(p.value, {_NUMBER} AND NOT isNaN(p.value)) AS low,
    maxIf(p.value, {_NUMBER} AND NOT isNaN(p.value)) AS high,
    argMinIf(p.value, {_BY_STEP}, {_NUMBER}) AS first_by_step,
    argMaxIf(p.value, {_BY_STEP}, {_NUMBER}) AS last_by_step,
    argMinIf(p.value, {_BY_TIME}, {_NUMBER}) AS first_by_time,
    argMaxIf(p.value, {_BY_TIME}, {_NUMBER}) AS last_by_time,
    countIf(p.type = {_STRING}) > 0 AS has_text,
    argMaxIf(p.text, {_BY_STEP}, p.type = {_STRING}) AS text_by_step,
    argMaxIf(p.text, {_BY_TIME}, p.type = {_STRING}) AS text_by_time
FROM points AS p FINAL {{join}}
WHERE {{points}}{{visible}}
GROUP BY run, metric, column
HAVING elements > 0
"""
_METRICS: Final = f"""
SELECT run, max(lengthUTF8(text) > {CUT}) AS cut,
    groupArrayIf((key, first), has_number) AS f, groupArrayIf((key, last), has_number) AS l,
    groupArrayIf((key, low), has_extremes) AS a, groupArrayIf((key, high), has_extremes) AS b,
    groupArray((key, elements)) AS c, groupArrayIf((key, substringUTF8(text, 1, {CUT})), has_text) AS t,
    mapFromArrays(f.1, f.2) AS metrics_first, mapFromArrays(l.1, l.2) AS metrics_last,
    mapFromArrays(a.1, a.2) AS metrics_min, mapFromArrays(b.1, b.2) AS metrics_max,
    mapFromArrays(c.1, c.2) AS metrics_count, mapFromArrays(t.1, t.2) AS metrics_text
FROM (
    SELECT run, if(column = '', metric, concat(metric, '\\0', column)) AS key,
        elements, has_number, low, high, has_extremes, has_text,
        max(some_stepless) OVER (PARTITION BY run, metric) AS stepless,
        if(stepless, first_by_time, first_by_step) AS first, if(stepless, last_by_time, last_by_step) AS last,
        if(stepless, text_by_time, text_by_step) AS text
    FROM ({_SERIES})
) GROUP BY run
"""

_OPEN: Final = f"""
SELECT run, groupArray(writer) AS open FROM ({open_writers("run, writer")}) GROUP BY run
"""

_GIVEN: Final = """
SELECT t.1 AS run, t.2 AS name, t.3 AS parent, t.4 AS run_type
FROM (SELECT arrayJoin({given:Array(Tuple(String, String, String, String))}) AS t)
"""

_COLUMNS: Final = {
    "workspace": "s.workspace",
    "run": "s.run",
    "version": "fromUnixTimestamp64Nano({version:Int64}, 'UTC')",
    "rules": str(RULES),
    "experiment": "s.experiment",
    "name": "if(ifNull(a.system['display_name'], '') != '', assumeNotNull(a.system['display_name']), g.name)",
    "parent": "g.parent",
    "run_type": "g.run_type",
    "first_started": "s.first_started",
    "started": "s.started",
    "ended": "s.ended",
    "last_event": "s.last_event",
    "status": "s.status",
    "attempts": "s.attempts",
    "said": "s.said",
    "decider": "s.decider",
    "decider_seq": "s.decider_seq",
    "open": "o.open",
    "archived": f"mapContains(a.system, '{ARCHIVED}')",
    "deleted": f"mapContains(a.system, '{DELETED}')",
    "cut": "a.cut OR m.cut",
    **{name: f"a.{name}" for name in _MAPS},
    **{
        f"metrics_{figure}": f"m.metrics_{figure}"
        for figure in ("last", "min", "max", "first", "count", "text")
    },
}


class Summaries:
    """Makes summaries of runs."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def refresh(self, keys: Iterable[Key]) -> None:
        """Makes the rows of these runs anew. A run without an event gets none.

        :raises StoreError: not all were made; call it again.
        """
        by_workspace: dict[str, list[str]] = defaultdict(list)
        for workspace, run in keys:
            by_workspace[workspace].append(run)
        for workspace, runs in by_workspace.items():
            await self._refresh(workspace, runs)

    async def _refresh(self, workspace: str, runs: Sequence[str]) -> None:
        names: dict[str, object] = {"workspace": workspace, "runs": runs}
        events = Clause("e.workspace = {workspace:String} AND e.run IN {runs:Array(String)}", names)
        # Before anything is read: what comes meanwhile makes a newer row.
        version = (await ask_rows(self._tables, _NOW, {}, _TIMEOUT_S))[0]["now"]
        given = await self._given(events, runs)
        hidden = await self._hidden(workspace, events)
        join, visible = hidden.clause(hidden.first_steps)
        points = Clause("p.workspace = {workspace:String} AND p.run IN {runs:Array(String)}", names) & visible
        states = runs_sql(events)
        metrics = _METRICS.replace("{join}", join).replace("{points}{visible}", points.sql)
        sql = f"""
            SELECT {", ".join(f"{expression} AS {name}" for name, expression in _COLUMNS.items())}
            FROM ({states.sql}) AS s
            LEFT JOIN ({_GIVEN}) AS g ON s.run = g.run
            LEFT JOIN ({_OPEN.replace("{scope}", events.sql)}) AS o ON s.run = o.run
            LEFT JOIN ({_ATTRIBUTES.replace("{scope}", events.sql)}) AS a ON s.run = a.run
            LEFT JOIN ({metrics}) AS m ON s.run = m.run
        """
        params = {**names, **points.params, "alive": [], "given": given, "version": version}
        await self._tables.derive("run_summaries", tuple(_COLUMNS), sql, params, timeout_s=_TIMEOUT_S)

    async def _given(self, scope: Clause, runs: Sequence[str]) -> list[tuple[str, str, str, str]]:
        """By run what its starts say: name, parent, type."""
        said: dict[str, list[str]] = {run: ["", "", ""] for run in runs}
        for row in await ask_rows(
            self._tables, _STARTS.replace("{scope}", scope.sql), scope.params, _TIMEOUT_S
        ):
            started = event_of(row["event"]).run_started
            for place, value in enumerate((started.display_name, started.parent, started.run_type)):
                said[row["run"]][place] = value or said[row["run"]][place]
        return [(run, name or display_name(run), parent, kind) for run, (name, parent, kind) in said.items()]

    async def _hidden(self, workspace: str, scope: Clause) -> Hidden:
        """What newer attempts hide in these runs."""
        sql = _RELAUNCHED.replace("{scope}", scope.sql)
        relaunched = [row["run"] for row in await ask_rows(self._tables, sql, scope.params, _TIMEOUT_S)]
        selection = Selection({workspace: tuple(relaunched)})
        return await hidden_steps(self._tables, workspace, relaunched, selection, _TIMEOUT_S)

    async def elements(self, key: Key) -> int:
        """Roughly how many elements a run has: repeats may be counted."""
        params = {"workspace": key[0], "run": key[1]}
        return int((await ask_rows(self._tables, _ELEMENTS, params, _TIMEOUT_S))[0]["elements"])

    async def stale(self) -> list[Key]:
        """Runs whose row is missing, of older rules, or perhaps not of the last moment before a crash."""
        rows = await ask_rows(self._tables, _STALE, {"rules": RULES, "final": list(_FINAL)}, _TIMEOUT_S)
        return [(row["workspace"], row["run"]) for row in rows]


_FINAL: Final = (run_pb2.RUN_STATUS_COMPLETED, run_pb2.RUN_STATUS_FAILED, run_pb2.RUN_STATUS_CANCELED)
_ELEMENTS: Final = """
SELECT count() AS elements FROM points WHERE workspace = {workspace:String} AND run = {run:String}
"""
_STALE: Final = """
SELECT e.workspace AS workspace, e.run AS run
FROM (
    SELECT toString(workspace) AS workspace, run, toUnixTimestamp64Nano(max(received_time)) AS received
    FROM run_events GROUP BY workspace, run
) AS e
LEFT JOIN (
    SELECT toString(workspace) AS workspace, run, rules, status, toUnixTimestamp64Nano(version) AS version
    FROM run_summaries FINAL
) AS r ON e.workspace = r.workspace AND e.run = r.run
WHERE r.rules < {rules:UInt8} OR r.status NOT IN {final:Array(UInt8)} OR r.version < e.received
    OR r.version > (SELECT toUnixTimestamp64Nano(max(version)) FROM run_summaries) - 3600000000000
"""
