"""Runs, as people see them: state, names, attributes, writers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runstream.v1 import point_pb2, query_service_pb2, run_pb2
from runstream_query.attempts import attempts_of
from runstream_query.barrier import Barrier, event_of, run_ends
from runstream_query.columns import KINDS, WantedColumns
from runstream_query.errors import NotFound
from runstream_query.names import display_name
from runstream_query.settings import QuerySettings
from runstream_query.sql import Clause, ask_rows
from runstream_query.status import (
    FINAL,
    OPEN_WRITERS,
    RUN_ENDED,
    RUN_STARTED,
    WRITER_DRAINED,
    WRITER_ENDED,
    WRITER_STARTED,
    runs_sql,
)
from runstream_query.summaries import DELETED
from runstream_store.hot import HotState
from runstream_store.tables import Tables

DISPLAY_NAME: Final = "display_name"
PHASE: Final = "phase"
_PHASES: Final = {
    "Preparing": run_pb2.RUN_STATUS_PREPARING,
    "Starting": run_pb2.RUN_STATUS_STARTING,
    "Finalizing": run_pb2.RUN_STATUS_FINALIZING,
}
"""Key of the system attribute that names a run."""

# The whole tuple, because argMax alone passes over values that are NULL.
_ATTRIBUTES: Final = """
SELECT workspace, run, kind, key, argMax((value, removed), (version, writer, seq)) AS newest
FROM attributes FINAL
WHERE {scope} AND kind IN {kinds:Array(UInt8)}
GROUP BY workspace, run, kind, key
HAVING newest.2 = 0
ORDER BY workspace, run, kind, key
"""

_EVENTS: Final = """
SELECT e.workspace AS workspace, e.run AS run, e.kind AS kind, e.writer AS writer, e.seq AS seq,
    hex(argMax(e.event, e.precedence)) AS event
FROM run_events AS e
WHERE {scope} AND e.kind IN {kinds:Array(UInt8)}
GROUP BY workspace, run, kind, writer, seq
"""

# One start of each launch says what all its ranks say.
_STARTS: Final = f"""
SELECT e.workspace AS workspace, e.run AS run, hex(e.event) AS event
FROM run_events AS e
WHERE {{scope}} AND e.kind = {RUN_STARTED}
ORDER BY e.workspace, e.run, e.time, e.writer, e.seq
LIMIT 1 BY e.workspace, e.run, e.launch, e.restart
"""

_NUMBER: Final = f"""
SELECT count() AS number FROM (
    SELECT e.run AS run, min(e.time) AS first_started, argMin(e.experiment, e.time) AS experiment
    FROM run_events AS e
    WHERE e.workspace = {{workspace:String}} AND e.kind = {RUN_STARTED}
    GROUP BY run
    HAVING experiment = {{experiment:String}}
) WHERE (toUnixTimestamp64Nano(first_started), run) <= ({{first_started:Int64}}, {{run:String}})
"""

_REJECTIONS: Final = """
SELECT why.1 AS code, why.2 AS reason, sum(elements) AS elements, count() AS records FROM (
    SELECT d.writer, d.first_seq, d.seq_end, any((d.code, d.reason)) AS why, max(d.elements) AS elements
    FROM dead_letters AS d FINAL
    WHERE d.workspace = {workspace:String} AND d.run = {run:String}
    GROUP BY d.writer, d.first_seq, d.seq_end, d.topic,
        if(d.seq_end > 0, (0, ''), (d.offset, toString(d.epoch)))
)
GROUP BY code, reason
"""

# The condition is on the key alone, so it may come before repeats are left out: less is read.
_SUMMARIES: Final = """
SELECT toString(r.workspace) AS workspace, r.run AS run, toString(r.experiment) AS experiment, r.name AS name,
    r.parent AS parent, toString(r.run_type) AS run_type, r.first_started AS first_started,
    r.started AS started, r.ended AS ended, r.status AS status, r.attempts AS attempts, r.said AS said,
    r.decider AS decider, r.decider_seq AS decider_seq, r.archived AS archived, r.cut AS cut,
    r.system['description'] AS description{maps}
FROM run_summaries AS r FINAL PREWHERE {scope}
"""

_NUMBERS: Final = """
SELECT workspace, run, number FROM (
    SELECT toString(workspace) AS workspace, run,
        row_number() OVER (PARTITION BY workspace, experiment ORDER BY first_started, run) AS number
    FROM run_summaries FINAL
    WHERE workspace IN {workspaces:Array(String)} AND experiment IN {experiments:Array(String)}
) WHERE (workspace, run) IN {these:Array(Tuple(String, String))}
"""

_WORKSPACES: Final = """
SELECT DISTINCT toString(workspace) AS workspace FROM run_events WHERE run = {run:String} ORDER BY workspace
"""

# Ends with the last run that is found: of runs that are there little is read.
_ARE_THERE: Final = """
SELECT DISTINCT toString(run) AS run FROM (
    SELECT DISTINCT run FROM points
    WHERE workspace = {workspace:String} AND run IN {runs:Array(String)}
    UNION ALL
    SELECT DISTINCT run FROM attributes
    WHERE workspace = {workspace:String} AND run IN {runs:Array(String)}
)
LIMIT {count:UInt64}
"""


_DELETED: Final = f"""
SELECT run FROM (
    SELECT e.run AS run, argMax(e.removed, (e.version, e.writer, e.seq)) AS removed FROM attributes AS e FINAL
    WHERE e.workspace = {{workspace:String}} AND e.run IN {{runs:Array(String)}}
        AND e.kind = {run_pb2.ATTRIBUTE_KIND_SYSTEM} AND e.key = '{DELETED}'
    GROUP BY run
) WHERE removed = 0 ORDER BY run LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class RunReader:
    """Reads runs."""

    tables: Tables
    hot: HotState
    barrier: Barrier
    settings: QuerySettings

    async def query(self, sql: str, params: Mapping[str, object]) -> list[dict[str, Any]]:
        """Rows of a query."""
        return await ask_rows(self.tables, sql, params, self.settings.query_timeout_s)

    async def alive(self, scope: Clause) -> list[str]:
        """The writers whose lease is renewed, among those on which a status depends."""
        rows = await self.query(OPEN_WRITERS.replace("{scope}", scope.sql), scope.params)
        writers = [row["writer"] for row in rows]
        lives = await self.hot.lease_alive(writers, time.time_ns())
        return [writer.hex().upper() for writer, lease in zip(writers, lives, strict=True) if lease]

    async def states(self, scope: Clause, alive: Iterable[bytes] | None = None) -> list[dict[str, Any]]:
        """Rows of `runs_sql` for all runs within a scope.

        :param alive: writers whose lease is renewed; None when that is not known yet.
        """
        clause = runs_sql(scope)
        names = await self.alive(scope) if alive is None else [writer.hex().upper() for writer in alive]
        return await self.query(clause.sql, {**clause.params, "alive": names})

    async def ended(self, workspace: str, runs: Sequence[str]) -> list[str]:
        """Those of the runs whose status is final."""
        scope = Clause(
            "e.workspace = {workspace:String} AND e.run IN {runs:Array(String)}",
            {"workspace": workspace, "runs": list(runs)},
        )
        return sorted(state["run"] for state in await self.states(scope) if state["status"] in FINAL)

    async def get(self, workspace: str, run: str) -> query_service_pb2.Run:
        """One run, whole.

        :raises NotFound: nothing is known of it.
        """
        scope = Clause(
            "e.workspace = {workspace:String} AND e.run = {run:String}", {"workspace": workspace, "run": run}
        )
        await self.check_kept(workspace, [run])
        states = await self.states(scope)
        if not states:
            states = [await self._without_events(workspace, run)]
        state = states[0]
        if state["experiment"]:
            names = {"workspace": workspace, "run": run}
            params = {**names, "experiment": state["experiment"], "first_started": state["first_started"]}
            state["number"] = (await self.query(_NUMBER, params))[0]["number"]
        (message,) = await self._messages(states, tuple(run_pb2.AttributeKind.values())[1:])
        writers = await self._writers(scope)
        await self._number_attempts(workspace, run, writers)
        message.writers.extend(writers)
        message.rejections.extend(await self.rejections(scope, message.writers))
        return message

    async def rejections(
        self, scope: Clause, writers: Iterable[query_service_pb2.WriterInfo]
    ) -> list[query_service_pb2.Rejection]:
        """What ingest refused, as the senders say, and what the writers could not store."""
        found: Counter[tuple[int, str]] = Counter()
        records: Counter[tuple[int, str]] = Counter()
        for row in await self.query(_REJECTIONS, scope.params):
            found[row["code"], row["reason"]] += row["elements"]
            records[row["code"], row["reason"]] += row["records"]
        for writer in writers:
            for refusal in writer.drained.refusals:
                found[refusal.code, refusal.reason] += refusal.elements
                records[refusal.code, refusal.reason] += refusal.records
        return [
            query_service_pb2.Rejection(
                code=code,  # type: ignore[arg-type]
                reason=reason,
                elements=found[code, reason],
                records=count,
            )
            for (code, reason), count in sorted(records.items(), key=lambda item: (-found[item[0]], item))
        ]

    async def workspaces_of(self, run: str) -> list[str]:
        """The workspaces that have a run with this id."""
        return [row["workspace"] for row in await self.query(_WORKSPACES, {"run": run})]

    async def check_there(self, workspace: str, runs: Iterable[str]) -> None:
        """Looks for points and attributes of runs of which there is no event.

        :raises NotFound: of one of them there is nothing.
        """
        wanted = list(runs)
        params = {"workspace": workspace, "runs": wanted, "count": len(wanted)}
        found = {row["run"] for row in await self.query(_ARE_THERE, params)} if wanted else set()
        for run in wanted:
            if run not in found:
                raise NotFound(
                    f"there is no run {run!r} in workspace {workspace!r}: `runstream runs` lists those that"
                    " are there. If it was started a moment ago, what it logged may still be on its way"
                )

    async def check_kept(self, workspace: str, runs: Sequence[str]) -> None:
        """Checks that runs were not deleted.

        :raises NotFound: one was.
        """
        for row in await self.query(_DELETED, {"workspace": workspace, "runs": list(runs)}):
            raise NotFound(f"run {row['run']!r} in workspace {workspace!r} was deleted")

    async def _without_events(self, workspace: str, run: str) -> dict[str, Any]:
        """The state of a run of which only points or attributes have come."""
        await self.check_there(workspace, [run])
        return {
            "workspace": workspace,
            "run": run,
            "experiment": "",
            "status": 0,
            "attempts": 0,
            "started": 0,
            "ended": 0,
            "said": 0,
            "decider": b"",
            "decider_seq": 0,
            "number": 0,
        }

    async def _writers(self, scope: Clause) -> list[query_service_pb2.WriterInfo]:
        kinds = [WRITER_STARTED, WRITER_ENDED, WRITER_DRAINED]
        rows = await self.query(_EVENTS.replace("{scope}", scope.sql), {**scope.params, "kinds": kinds})
        found: dict[bytes, query_service_pb2.WriterInfo] = {}
        # A writer may have more than one part in a run: the later definition is shown, the main one before
        # others.
        for row in sorted(rows, key=lambda row: (row["writer"], row["kind"], row["seq"])):
            event = event_of(row["event"])
            info = found.setdefault(row["writer"], query_service_pb2.WriterInfo(writer=row["writer"]))
            if row["kind"] == WRITER_STARTED:
                if info.HasField("started") and info.started.role == run_pb2.WRITER_ROLE_MAIN:
                    continue
                info.started.CopyFrom(event.writer_started)
                info.started_time_ns = event.time_ns
            elif row["kind"] == WRITER_ENDED:
                info.ended.CopyFrom(event.writer_ended)
                info.ended_time_ns = event.time_ns
            elif not info.HasField("drained") or info.drained.seq_end <= event.writer_drained.seq_end:
                info.drained.CopyFrom(event.writer_drained)
        infos = sorted(found.values(), key=lambda info: (info.started_time_ns, info.writer))
        alive = await self.hot.lease_alive([info.writer for info in infos], time.time_ns())
        for info, lease in zip(infos, alive, strict=True):
            info.responding = lease and not (info.HasField("ended") and info.ended.observed)
        return infos

    async def _number_attempts(
        self, workspace: str, run: str, writers: Sequence[query_service_pb2.WriterInfo]
    ) -> None:
        """Says of the writers of a run which attempt they belong to."""
        launched = [writer for writer in writers if writer.started.launch]
        attempts: dict[tuple[str, bytes], int] = {}
        if len({(writer.started.launch, writer.started.restart) for writer in launched}) > 1:
            attempts = await attempts_of(self.tables, workspace, [run], self.settings.query_timeout_s)
        for writer in launched:
            writer.attempt = attempts.get((run, writer.writer), 1)

    async def listed(
        self, keys: Sequence[tuple[str, str]], columns: WantedColumns, live: Mapping[tuple[str, str], Any]
    ) -> list[query_service_pb2.Run]:
        """Runs of which there is a summary, in the order given.

        :param live: rows of `runs_sql` of those that are going on.
        """
        if not keys:
            return []
        listed, settling = await asyncio.gather(self._listed(keys, columns, live), self._settling(keys))
        for key in settling & listed.keys():
            listed[key].settling = True
        return list(listed.values())

    async def _listed(
        self, keys: Sequence[tuple[str, str]], columns: WantedColumns, live: Mapping[tuple[str, str], Any]
    ) -> dict[tuple[str, str], query_service_pb2.Run]:
        scope, maps = these(keys, "r."), columns.maps()
        sql = _SUMMARIES.format(maps=maps.sql, scope=scope.sql)
        found = await self.query(sql, {**scope.params, **maps.params})
        rows = {(row["workspace"], row["run"]): row for row in found}
        numbers = await self._numbers(rows.values())
        runs: dict[tuple[str, str], query_service_pb2.Run] = {}
        for key in keys:
            if key not in rows:
                continue  # deleted this moment
            row = rows[key]
            row |= live.get(key, {})
            runs[key] = run = query_service_pb2.Run(
                ref=point_pb2.RunRef(workspace=key[0], run=key[1]),
                experiment=row["experiment"],
                number=numbers.get(key, 0),
                display_name=row["name"],
                status=row["status"],
                attempts=row["attempts"],
                started_time_ns=row["started"],
                ended_time_ns=row["ended"],
                first_started_ns=row["first_started"],
                parent=row["parent"],
                run_type=row["run_type"],
                archived=bool(row["archived"]),
                description=row["description"] or "",
            )
            for name, kind in KINDS.items():
                if columns.wants(name) and not row["cut"]:
                    for attribute, value in columns.chosen(name, row[name]):
                        run.attributes.add(kind=kind, key=attribute, value=value)
                        if kind == run_pb2.ATTRIBUTE_KIND_SYSTEM and attribute == PHASE:
                            _set_phase(run, value)
            if columns.wants("metrics"):
                run.metrics.extend(columns.metrics(row))
        await self._add_errors(runs, [rows[key] for key in runs])
        if cut := {key: run for key, run in runs.items() if rows[key]["cut"]}:
            await self._add_attributes(cut, KINDS.values(), columns)
        for run in runs.values():
            run.attributes.sort(key=lambda attribute: (attribute.kind, attribute.key))
        return runs

    async def _numbers(self, rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], int]:
        """The number of each of these runs in its experiment."""
        wanted = [
            (row["workspace"], row["experiment"], row["first_started"], row["run"])
            for row in rows
            if row["experiment"]
        ]
        params = {
            "workspaces": list({workspace for workspace, _, _, _ in wanted}),
            "experiments": list({experiment for _, experiment, _, _ in wanted}),
            "these": [(workspace, run) for workspace, _, _, run in wanted],
        }
        found = await self.query(_NUMBERS, params) if wanted else []
        return {(row["workspace"], row["run"]): row["number"] for row in found}

    async def _messages(
        self, states: Sequence[dict[str, Any]], kinds: Iterable[int]
    ) -> list[query_service_pb2.Run]:
        """Runs in the order of their states, with the attributes of some kinds."""
        runs = {
            (state["workspace"], state["run"]): query_service_pb2.Run(
                ref=point_pb2.RunRef(workspace=state["workspace"], run=state["run"]),
                experiment=state["experiment"],
                number=state.get("number", 0),
                status=state["status"],
                attempts=state["attempts"],
                started_time_ns=state["started"],
                ended_time_ns=state["ended"],
            )
            for state in states
        }
        if not runs:
            return []
        await self._add_names(runs)
        await self._add_errors(runs, states)
        await self._add_attributes(runs, kinds)
        for key in await self._settling(runs):
            runs[key].settling = True
        return list(runs.values())

    async def _add_names(self, runs: Mapping[tuple[str, str], query_service_pb2.Run]) -> None:
        scope = these(runs, "e.")
        for row in await self.query(_STARTS.replace("{scope}", scope.sql), scope.params):
            started = event_of(row["event"]).run_started
            run = runs[row["workspace"], row["run"]]
            run.display_name = started.display_name or run.display_name
            run.parent = started.parent or run.parent
            run.run_type = started.run_type or run.run_type
        for run in runs.values():
            run.display_name = run.display_name or display_name(run.ref.run)

    async def _add_errors(
        self, runs: Mapping[tuple[str, str], query_service_pb2.Run], states: Iterable[dict[str, Any]]
    ) -> None:
        failed = {
            (state["workspace"], state["run"]): state
            for state in states
            if state["status"] in (run_pb2.RUN_STATUS_FAILED, run_pb2.RUN_STATUS_CANCELED)
        }
        if not failed:
            return
        scope = these(failed, "e.") & Clause(
            "hex(e.writer) IN {deciders:Array(String)}",
            {"deciders": list({state["decider"].hex().upper() for state in failed.values()})},
        )
        params = {**scope.params, "kinds": [RUN_ENDED, WRITER_ENDED]}
        for row in await self.query(_EVENTS.replace("{scope}", scope.sql), params):
            key = row["workspace"], row["run"]
            state = failed[key]
            if row["writer"] != state["decider"] or (row["kind"] == RUN_ENDED) != bool(state["said"]):
                continue
            event = event_of(row["event"])
            if not state["said"]:
                runs[key].error_message = event.writer_ended.error_message or _how(event.writer_ended)
            elif row["seq"] == state["decider_seq"]:
                runs[key].error_message = event.run_ended.error_message
                runs[key].error_code = event.run_ended.error_code

    async def _add_attributes(
        self,
        runs: Mapping[tuple[str, str], query_service_pb2.Run],
        kinds: Iterable[int],
        columns: WantedColumns | None = None,
    ) -> None:
        """Adds attributes of some kinds, of them those that are wanted."""
        groups = {kind: group for group, kind in KINDS.items()}
        scope = these(runs, "")
        params = {**scope.params, "kinds": list(kinds)}
        for row in await self.query(_ATTRIBUTES.replace("{scope}", scope.sql), params):
            run = runs[row["workspace"], row["run"]]
            value = next(iter(row["newest"].values()))
            pair = (row["key"], value)
            if columns is not None and not list(columns.chosen(groups[row["kind"]], [pair])):
                continue
            run.attributes.add(kind=row["kind"], key=row["key"], value=value)
            if row["kind"] == run_pb2.ATTRIBUTE_KIND_SYSTEM and row["key"] == DISPLAY_NAME and value:
                run.display_name = value
            elif row["kind"] == run_pb2.ATTRIBUTE_KIND_SYSTEM and row["key"] == PHASE:
                _set_phase(run, value)

    async def _settling(self, keys: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of the runs that are settling."""
        by_workspace: dict[str, list[str]] = {}
        for workspace, run in keys:
            by_workspace.setdefault(workspace, []).append(run)
        settling: set[tuple[str, str]] = set()
        for workspace, runs in by_workspace.items():
            ends = await run_ends(self.tables, self.hot, workspace, runs, self.settings.query_timeout_s)
            if ends.direct:
                ends = ends.direct_by(await self.barrier.points_now())
            settling.update((workspace, run) for run in await self.barrier.unsettled(ends))
        return settling


def _set_phase(run: query_service_pb2.Run, phase: str | None) -> None:
    """What a submitted run that is going on is doing, as its supervisor says."""
    if run.status == run_pb2.RUN_STATUS_RUNNING and phase in _PHASES:
        run.status = _PHASES[phase]


def these(runs: Iterable[tuple[str, str]], prefix: str) -> Clause:
    """A condition on workspace and run."""
    keys = list(runs)
    workspaces = list(dict.fromkeys(workspace for workspace, _ in keys))
    return Clause(
        f"{prefix}workspace IN {{workspaces:Array(String)}}"
        f" AND ({prefix}workspace, {prefix}run) IN {{these:Array(Tuple(String, String))}}",
        {"workspaces": workspaces, "these": keys},
    )


def _how(ended: run_pb2.WriterEnded) -> str:
    """How a writer ended that left no message."""
    if ended.outcome in (run_pb2.WRITER_OUTCOME_KILLED, run_pb2.WRITER_OUTCOME_UNSPECIFIED):
        return "the process is gone without having ended: killed, out of memory, or its machine went down"
    if ended.HasField("exit_code"):
        return f"the process ended with exit code {ended.exit_code}"
    return ""
