"""The attempts of runs, and which elements of older ones are hidden by newer ones.

An attempt is a launch. For each metric and rank the newest attempt wins from its first step on: an older
one's elements with that step or a later one are kept, but not read. Elements without a step are never
hidden, and neither are those of writers that belong to no launch. Attempts are numbered by their start
whenever they are read, so nothing has to know its number when it starts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from runstream_query.selection import DECLARATION, Selection
from runstream_query.sql import Clause, ask_rows
from runstream_query.status import JOB, RUN_STARTED, WRITER_STARTED
from runstream_store.tables import Tables
from runstream_store.tables.schema import NO_STEP

_LAUNCHES: Final = f"""
SELECT run, {JOB} AS job, launch, restart, writer, toUnixTimestamp64Nano(min(time)) AS started
FROM run_events
WHERE workspace = {{workspace:String}} AND run IN {{runs:Array(String)}}
    AND kind IN ({RUN_STARTED}, {WRITER_STARTED}) AND launch != ''
GROUP BY run, launch, restart, writer
"""

_FIRST_STEPS: Final = f"""
SELECT toString(p.run) AS run, toString(p.metric) AS metric, p.rank AS rank, p.writer AS writer,
    min(p.step) AS step
FROM points AS p
WHERE {{series}} AND p.step > {NO_STEP} AND p.type < {DECLARATION}
GROUP BY run, metric, rank, writer
"""

_JOIN: Final = """
LEFT JOIN (
    SELECT t.1 AS run, t.2 AS metric, t.3 AS rank, t.4 AS writer, t.5 AS first_step
    FROM (SELECT arrayJoin({hidden:Array(Tuple(String, String, Int32, String, Int64))}) AS t)
) AS h ON p.run = h.run AND p.metric = h.metric AND p.rank = h.rank AND hex(p.writer) = h.writer
"""


@dataclass(frozen=True, slots=True)
class Hidden:
    """From which step on the elements of a writer are hidden, by run and metric, then rank and writer."""

    first_steps: Mapping[tuple[str, str], Mapping[tuple[int, bytes], int]] = field(default_factory=dict)

    def clause(self, units: Iterable[tuple[str, str]]) -> tuple[str, Clause]:
        """A join for the table `points AS p` and a condition, that leave out what is hidden in these
        metrics."""
        rows = [
            (run, metric, rank, writer.hex().upper(), step)
            for run, metric in units
            for (rank, writer), step in self.first_steps.get((run, metric), {}).items()
        ]
        if not rows:
            return "", Clause()
        return _JOIN, Clause("NOT (h.writer != '' AND p.step >= h.first_step)", {"hidden": rows})


async def hidden_steps(
    tables: Tables, workspace: str, relaunched: Iterable[str], selection: Selection, timeout_s: float
) -> Hidden:
    """What is hidden in those runs of a workspace that have more than one launch."""
    runs = list(relaunched)
    if not runs:
        return Hidden()
    attempts = await attempts_of(tables, workspace, runs, timeout_s)
    series = selection.series(workspace, runs)
    steps = await ask_rows(tables, _FIRST_STEPS.format(series=series.sql), series.params, timeout_s)
    return Hidden(_thresholds(attempts, steps))


async def attempts_of(
    tables: Tables, workspace: str, runs: Iterable[str], timeout_s: float
) -> dict[tuple[str, bytes], int]:
    """The attempt, from 1, of each writer of each of the runs that belongs to a launch."""
    params = {"workspace": workspace, "runs": list(runs)}
    return _attempts(await ask_rows(tables, _LAUNCHES, params, timeout_s))


async def one_attempt(
    tables: Tables, workspace: str, runs: Iterable[str], selection: Selection, timeout_s: float
) -> Selection:
    """A selection of one attempt, with the writers in these runs."""
    attempts = await attempts_of(tables, workspace, runs, timeout_s)
    writers = sorted(key for key, number in attempts.items() if number == selection.attempt)
    return replace(selection, writers=tuple(writers))


def _attempts(rows: list[dict[str, Any]]) -> dict[tuple[str, bytes], int]:
    """The attempt, from 1, of each writer of each run, from its launches."""
    jobs: dict[tuple[str, str], int] = {}
    launches: dict[str, dict[tuple[str, int], tuple[str, int]]] = defaultdict(dict)
    for row in rows:
        job = row["run"], row["job"]
        jobs[job] = min(row["started"], jobs.get(job, row["started"]))
        of_run, launch = launches[row["run"]], (row["launch"], row["restart"])
        started = row["started"] if launch not in of_run else min(row["started"], of_run[launch][1])
        of_run[launch] = row["job"], started
    numbers: dict[tuple[str, tuple[str, int]], int] = {}
    for run, of_run in launches.items():
        # As in `status`: by the start of the job, in it by the count of restarts.
        order = sorted(
            (jobs[run, job], job, launch[1], started, launch[0]) for launch, (job, started) in of_run.items()
        )
        for number, (_, _, restart, _, name) in enumerate(order, 1):
            numbers[run, (name, restart)] = number
    attempts: dict[tuple[str, bytes], int] = {}
    for row in rows:
        key = row["run"], row["writer"]
        attempts[key] = max(attempts.get(key, 0), numbers[row["run"], (row["launch"], row["restart"])])
    return attempts


def _thresholds(
    attempts: Mapping[tuple[str, bytes], int], rows: list[dict[str, Any]]
) -> dict[tuple[str, str], dict[tuple[int, bytes], int]]:
    """For each metric, rank and writer the smallest first step of the attempts after the writer's."""
    first: dict[tuple[str, str, int], dict[int, int]] = defaultdict(dict)
    writers: dict[tuple[str, str, int], dict[bytes, int]] = defaultdict(dict)
    for row in rows:
        attempt = attempts.get((row["run"], row["writer"]))
        if attempt is None:
            continue
        series = row["run"], row["metric"], row["rank"]
        first[series][attempt] = min(row["step"], first[series].get(attempt, row["step"]))
        writers[series][row["writer"]] = attempt
    hidden: dict[tuple[str, str], dict[tuple[int, bytes], int]] = {}
    for (run, metric, rank), of_series in writers.items():
        steps = first[run, metric, rank]
        for writer, attempt in of_series.items():
            later = [step for number, step in steps.items() if number > attempt]
            if later:
                hidden.setdefault((run, metric), {})[rank, writer] = min(later)
    return hidden
