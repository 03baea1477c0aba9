"""The state of runs, as one SQL expression over their events.

Nobody keeps a status anywhere: every event stays, and what they amount to is computed here when it is asked
for. From the inside out:

``writers``   what is known about each writer of a run: its part, its launch, whether and how it ended
``places``    the writers of one rank in one launch: a newer one replaces an older one
``attempts``  one launch: explicit end, else whether a main writer lives, else how they ended
``jobs``      the launches of one job, ordered by the launcher's count of restarts, not by the hosts' clocks
``runs``      the newest attempt of the newest job

All aggregates give the same with repeated events. An end that was only read from a copy of a spool does not
count while the writer's lease is renewed; which leases are is state of the moment, and comes in as the
parameter `alive`.
"""

from __future__ import annotations

from typing import Final

from runstream.v1 import run_pb2
from runstream_query.sql import Clause

RUN_STARTED: Final = run_pb2.RunEvent.RUN_STARTED_FIELD_NUMBER
RUN_ENDED: Final = run_pb2.RunEvent.RUN_ENDED_FIELD_NUMBER
ATTRIBUTE_SET: Final = run_pb2.RunEvent.ATTRIBUTE_SET_FIELD_NUMBER
WRITER_STARTED: Final = run_pb2.RunEvent.WRITER_STARTED_FIELD_NUMBER
WRITER_ENDED: Final = run_pb2.RunEvent.WRITER_ENDED_FIELD_NUMBER
WRITER_DRAINED: Final = run_pb2.RunEvent.WRITER_DRAINED_FIELD_NUMBER
CANCEL_REQUESTED: Final = run_pb2.RunEvent.CANCEL_REQUESTED_FIELD_NUMBER

_MAIN: Final = run_pb2.WRITER_ROLE_MAIN
_COMPLETED: Final = run_pb2.RUN_STATUS_COMPLETED
_FAILED: Final = run_pb2.RUN_STATUS_FAILED
_CANCELED: Final = run_pb2.RUN_STATUS_CANCELED
_INTERRUPTED: Final = run_pb2.WRITER_OUTCOME_INTERRUPTED
_CLEAN: Final = run_pb2.WRITER_OUTCOME_CLEAN

FINAL: Final = frozenset((_COMPLETED, _FAILED, _CANCELED))
"""Statuses that stay."""


def _job(launch: str, restart: str) -> str:
    """SQL for the launcher's job that a launch belongs to: its name ends with the count of restarts."""
    return (
        f"if({restart} > 0 AND endsWith({launch}, concat('.', toString({restart}))),"
        f" substring({launch}, 1, length({launch}) - length(toString({restart})) - 1), {launch})"
    )


JOB: Final = _job("launch", "restart")
"""The job of a row of `run_events`."""


def open_writers(columns: str) -> str:
    """SQL for some of the columns workspace, run and writer of the writers of which it is not known for sure
    that they are gone, and on which a status depends."""
    return f"""
SELECT DISTINCT {columns} FROM (
    SELECT e.workspace AS workspace, e.run AS run, e.writer AS writer FROM run_events AS e
    WHERE {{scope}} AND e.kind IN ({RUN_STARTED}, {WRITER_STARTED}, {WRITER_ENDED})
        AND (e.role = {_MAIN} OR e.kind = {RUN_STARTED})
    GROUP BY workspace, run, writer
    HAVING countIf(e.kind = {WRITER_ENDED} AND bitAnd(e.precedence, 1) = 1) = 0
)
"""


OPEN_WRITERS: Final = open_writers("writer")

_TIME: Final = "toUnixTimestamp64Nano(e.time)"
# Of what a server says and what a script says, the clocks of servers tell which came first.
_RECEIVED: Final = "toUnixTimestamp64Nano(e.received_time)"
_ENDS_RUN: Final = f"e.kind = {RUN_ENDED} AND e.status IN ({_COMPLETED}, {_FAILED}, {_CANCELED})"

# Columns of a level are named in full, because a name alone could be the new column as well as the old one.
_WRITERS: Final = f"""
SELECT e.workspace AS workspace, e.run AS run, e.writer AS writer,
    maxIf(e.launch, e.kind IN ({RUN_STARTED}, {WRITER_STARTED}, {WRITER_ENDED})) AS launch,
    maxIf(e.restart, e.kind IN ({RUN_STARTED}, {WRITER_STARTED})) AS restart,
    maxIf(e.rank, e.kind = {WRITER_STARTED}) AS rank,
    countIf(e.kind = {WRITER_STARTED}) > 0 AS has_rank,
    minIf({_TIME}, e.kind IN ({RUN_STARTED}, {WRITER_STARTED})) AS started,
    countIf(e.kind IN ({RUN_STARTED}, {WRITER_STARTED})) > 0 AS has_start,
    minIf(({_TIME}, toString(e.experiment)), e.kind = {RUN_STARTED}) AS first_start,
    countIf(e.kind = {RUN_STARTED}) > 0 AS starts_run,
    minIf(({_TIME}, e.seq, e.status), {_ENDS_RUN}) AS said,
    countIf({_ENDS_RUN}) > 0 AS has_said,
    argMaxIf((e.outcome, {_TIME}), e.precedence, e.kind = {WRITER_ENDED}) AS exit,
    hex(e.writer) IN {{alive:Array(String)}} AS responds,
    countIf(e.kind = {WRITER_ENDED}) > 0
        AND (maxIf(bitAnd(e.precedence, 1), e.kind = {WRITER_ENDED}) = 1 OR NOT responds) AS gone,
    starts_run OR countIf(e.role = {_MAIN} AND e.kind IN ({WRITER_STARTED}, {WRITER_ENDED})) > 0 AS main,
    minIf({_RECEIVED}, e.kind IN ({RUN_STARTED}, {WRITER_STARTED})) AS began,
    maxIf({_RECEIVED}, e.kind = {CANCEL_REQUESTED}) AS cancel,
    max({_TIME}) AS last_event
FROM run_events AS e
WHERE {{scope}}
GROUP BY workspace, run, writer
"""

_PLACES: Final = """
SELECT w.workspace AS workspace, w.run AS run, w.launch AS launch, w.restart AS restart,
    if(w.has_rank AND w.rank >= 0, toString(w.rank), hex(w.writer)) AS place,
    countIf(w.main) > 0 AS has_main,
    minIf(w.started, w.main AND w.has_start) AS started,
    minIf(w.first_start, w.starts_run) AS first_start,
    countIf(w.starts_run) > 0 AS starts_run,
    minIf((w.said.1, w.said.2, w.said.3, w.writer), w.main AND w.has_said) AS said,
    countIf(w.main AND w.has_said) > 0 AS has_said,
    countIf(w.main AND NOT w.gone) > 0 AS lives,
    countIf(w.main AND NOT w.gone AND w.responds) > 0 AS responds,
    argMaxIf((w.exit.1, w.exit.2, w.writer), (w.started, w.writer), w.main) AS exit,
    minIf(w.began, w.main AND w.has_start) AS began,
    max(w.cancel) AS cancel,
    max(w.last_event) AS last_event
FROM ({inner}) AS w
GROUP BY workspace, run, launch, restart, place
"""

_ATTEMPTS: Final = f"""
SELECT p.workspace AS workspace, p.run AS run, p.launch AS launch, p.restart AS restart,
    countIf(p.has_main) > 0 AS is_attempt,
    minIf(p.started, p.has_main) AS started,
    minIf(p.first_start, p.starts_run) AS first_start,
    countIf(p.starts_run) > 0 AS starts_run,
    minIf(p.said, p.has_said) AS said,
    countIf(p.has_said) > 0 AS has_said,
    countIf(p.lives) > 0 AS lives,
    countIf(p.responds) > 0 AS responds,
    minIf((p.exit.2, p.exit.3), p.has_main AND p.exit.1 NOT IN ({_CLEAN}, {_INTERRUPTED})) AS bad,
    countIf(p.has_main AND p.exit.1 NOT IN ({_CLEAN}, {_INTERRUPTED})) > 0 AS any_bad,
    countIf(p.has_main AND p.exit.1 = {_INTERRUPTED}) > 0 AS any_interrupted,
    maxIf(p.exit.2, p.has_main) AS ended,
    max(p.last_event) AS last_event,
    multiIf(
        has_said, said.3,
        lives, if(responds, {run_pb2.RUN_STATUS_RUNNING}, {run_pb2.RUN_STATUS_NOT_RESPONDING}),
        any_bad, {_FAILED},
        any_interrupted, {_CANCELED},
        {_COMPLETED}
    ) AS status,
    (
        toUInt8(status), started, if(has_said, said.1, if(lives, 0, ended)),
        has_said, if(has_said, said.4, bad.2), said.2, minIf(p.began, p.has_main)
    ) AS state,
    max(p.cancel) AS cancel
FROM ({{inner}}) AS p
GROUP BY workspace, run, launch, restart
"""

_JOBS: Final = f"""
SELECT a.workspace AS workspace, a.run AS run, {_job("a.launch", "a.restart")} AS job,
    countIf(a.is_attempt) AS attempts,
    minIf(a.started, a.is_attempt) AS started,
    minIf(a.first_start, a.starts_run) AS first_start,
    countIf(a.starts_run) > 0 AS starts_run,
    argMaxIf(a.state, (a.restart, a.started, a.launch), a.is_attempt) AS state,
    max(a.cancel) AS cancel,
    max(a.last_event) AS last_event
FROM ({{inner}}) AS a
GROUP BY workspace, run, job
"""

# Somebody asked for the end of the attempt, and it did not end by a call of its own.
_CANCELED_OR: Final = f"""
    multiIf(
        NOT (cancel > 0 AND cancel >= state.7 AND state.2 > 0 AND NOT state.4), state.1,
        state.1 = {run_pb2.RUN_STATUS_RUNNING}, {run_pb2.RUN_STATUS_CANCEL_REQUESTED},
        {_CANCELED}
    )
"""

_RUNS: Final = """
SELECT j.workspace AS workspace, j.run AS run,
    sum(j.attempts) AS attempts,
    minIf(j.first_start, j.starts_run) AS first_start,
    first_start.1 AS first_started,
    first_start.2 AS experiment,
    argMaxIf(j.state, (j.started, j.job), j.attempts > 0) AS state,
    max(j.cancel) AS cancel,
    __STATUS__ AS status, state.2 AS started, state.3 AS ended,
    state.4 AS said, state.5 AS decider, state.6 AS decider_seq,
    max(j.last_event) AS last_event
FROM ({inner}) AS j
GROUP BY workspace, run
""".replace("__STATUS__", _CANCELED_OR)


def runs_sql(scope: Clause) -> Clause:
    """A query with a row for each run, of the events within `scope` (a condition on `run_events AS e` that
    takes whole runs).

    Needs the parameter `alive`: the writers, in capital hexadecimal, whose lease is renewed. Columns:
    workspace, run, attempts, experiment, first_started, status, started, ended, said (whether an explicit
    end decides), decider (the writer whose event decides), decider_seq, last_event; times in nanoseconds, 0
    for none.
    """
    sql = _WRITERS.replace("{scope}", scope.sql)
    for level in _PLACES, _ATTEMPTS, _JOBS, _RUNS:
        sql = level.replace("{inner}", sql)
    return Clause(sql, scope.params)
