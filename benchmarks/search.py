"""How fast runs are found among very many: filtered, sorted, the first page.

    python -m benchmarks.search [--runs 100000] [--names 20] [--rounds 7]

The runs go through the writers' own sinks and the summariser into the tables of the embedded engine; a search
is the whole call of the query service, from the message to the message. Limits in the same run: the same
condition and order as one hand-written SELECT over the summaries, and over a SQLite table with a column for
each name, which is the best that it could be given (trackers keep rows of run, name and value).
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.machine import describe
from runstream.v1 import query_service_pb2 as messages
from runstream.v1 import run_pb2
from runstream_ingest.batch import Columns
from runstream_ingest.writers.points import PointsSink
from runstream_ingest.writers.runs import Events, RunsSink
from runstream_query.service import QueryServicer
from runstream_query.summaries import Summaries
from runstream_store.hot import open_hot
from runstream_store.tables import Tables, open_tables

T0: Final = 1_700_000_000_000_000_000
SECOND: Final = 1_000_000_000
BLOCK: Final = 2_000
FILTER: Final = "metrics.m7 < 0.5 and params.p2 > 2"

_LIMIT: Final = """
SELECT run, metrics_last['m3'] AS x, count() OVER () AS total FROM run_summaries FINAL
WHERE workspace = 'bench' AND metrics_last['m7'] < 0.5 AND toFloat64OrZero(assumeNotNull(params['p2'])) > 2
ORDER BY x DESC, started DESC, run LIMIT 100
"""
_SQLITE: Final = """
SELECT run, m3, count(*) OVER () FROM runs WHERE m7 < 0.5 AND CAST(p2 AS REAL) > 2 ORDER BY m3 DESC LIMIT 100
"""


async def fill(tables: Tables, lite: sqlite3.Connection, runs: int, names: int) -> None:
    """Runs that have ended, each with so many params and metrics of one point."""
    chance = np.random.default_rng(1)
    events, points, summaries = RunsSink(), PointsSink(), Summaries(tables)
    for low in range(0, runs, BLOCK):
        ids = [f"run-{number:06}" for number in range(low, min(runs, low + BLOCK))]
        params, metrics = chance.random((len(ids), names)) * 10, chance.random((len(ids), names))
        contents = []
        for place, run in enumerate(ids):
            start = T0 + (low + place) * SECOND
            contents.append(Events(start, batch_of(run, low + place, params[place], start)))
        for table, rows in events.build(contents):
            await tables.insert(table, rows)
        block = Columns(
            writer=low.to_bytes(16, "big"),
            first_seq=0,
            count=metrics.size,
            rank=-1,
            runs=[("bench", run) for run in ids],
            series=[(f"m{number}", "", "") for number in range(names)],
            run_index=np.repeat(np.arange(len(ids), dtype=np.uint32), names),
            series_index=np.tile(np.arange(names, dtype=np.uint32), len(ids)),
            seq_offset=None,
            idx=None,
            step=None,
            type=None,
            integers=np.zeros(0, np.int64),
            strings=[],
            logged_time_ns=None,
            time_ns=np.full(metrics.size, T0),
            doubles=metrics.ravel(),
        )
        for table, rows in points.build([block]):
            await tables.insert(table, rows)
        await summaries.refresh([("bench", run) for run in ids])
        rows = (
            (run, *metrics[p].tolist(), *(f"{value:.3f}" for value in params[p])) for p, run in enumerate(ids)
        )
        lite.executemany(f"INSERT INTO runs VALUES (?{', ?' * 2 * names})", rows)
        lite.commit()


def batch_of(run: str, number: int, params: Any, start: int) -> run_pb2.RunEventBatch:
    """What a short run says."""
    batch = run_pb2.RunEventBatch(writer=(number + 1).to_bytes(16, "little"))

    def event(seq: int, **what: Any) -> None:
        batch.events.add(run={"workspace": "bench", "run": run}, seq=seq, time_ns=start + seq, **what)

    event(0, run_started=run_pb2.RunStarted(experiment="sweep", launch=run))
    event(0, writer_started=run_pb2.WriterStarted(role=run_pb2.WRITER_ROLE_MAIN, launch=run))
    for place, value in enumerate(params):
        kind = run_pb2.ATTRIBUTE_KIND_PARAM
        event(place + 1, attribute_set=run_pb2.AttributeSet(kind=kind, key=f"p{place}", value=f"{value:.3f}"))
    event(900, run_ended=run_pb2.RunEnded(status=run_pb2.RUN_STATUS_COMPLETED))
    ended = run_pb2.WriterEnded(
        role=run_pb2.WRITER_ROLE_MAIN,
        launch=run,
        outcome=run_pb2.WRITER_OUTCOME_CLEAN,
        seq_end=901,
        observed=True,
    )
    event(0, writer_ended=ended)
    event(0, writer_drained=run_pb2.WriterDrained(seq_end=901))
    return batch


async def measure(name: str, call: Callable[[], Awaitable[Any]], rounds: int) -> float:
    """Median milliseconds of a call, printed with the extremes."""
    await call()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1e3)
    median = statistics.median(times)
    print(f"{name:48} {median:8.1f} ms  ({min(times):.1f} to {max(times):.1f})", flush=True)
    return median


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--names", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        lite = sqlite3.connect(Path(folder) / "runs.sqlite")
        wide = [f"m{n} REAL" for n in range(given.names)] + [f"p{n} TEXT" for n in range(given.names)]
        lite.execute(f"CREATE TABLE runs (run TEXT PRIMARY KEY, {', '.join(wide)})")
        tables = await open_tables(f"chdb://{folder}/tables")
        hot = await open_hot("memory://")
        try:
            await tables.migrate()
            began = time.perf_counter()
            await fill(tables, lite, given.runs, given.names)
            print(
                f"{given.runs:,} runs, {given.names} params and metrics: {time.perf_counter() - began:.0f} s"
            )
            await cases(QueryServicer(tables, hot), tables, lite, given.rounds)
        finally:
            await hot.close()
            await tables.close()
            lite.close()


async def cases(servicer: QueryServicer, tables: Tables, lite: sqlite3.Connection, rounds: int) -> None:
    """Prints all figures."""
    found = []

    def search(**more: Any) -> Callable[[], Awaitable[Any]]:
        request = messages.SearchRunsRequest(workspace="bench", experiments=["sweep"], **more)

        async def call() -> messages.SearchRunsResponse:
            found.append(await servicer.search_runs(request))
            return found[-1]

        return call

    async def in_lite() -> Any:
        return lite.execute(_SQLITE).fetchall()

    by_metric = [messages.RunOrder(field="metrics.m3", descending=True)]
    columns = ["metrics.m3", "metrics.m7", "params.p2"]
    limit = await measure("limit: one SELECT, filter and sort", lambda: tables.query(_LIMIT), rounds)
    sqlite = await measure("SQLite, filter and sort", in_lite, rounds)
    await measure("newest first", search(), rounds)
    await measure("sort by a metric", search(order_by=by_metric, columns=columns), rounds)
    both = search(filter=FILTER, order_by=by_metric, columns=columns)
    whole = await measure("filter and sort, first page", both, rounds)
    print(f"  {found[-1].total:,} match; {whole / limit:.1f} of the limit, {whole / sqlite:.2f} of SQLite")
    token = found[-1].next_page_token
    await measure(
        "  its second page",
        search(filter=FILTER, order_by=by_metric, columns=columns, page_token=token),
        rounds,
    )
    await measure(
        "filter by text and status", search(filter="status == Completed and name contains fern"), rounds
    )
    listing = messages.ListExperimentsRequest(workspace="bench", activity_parts=30)
    await measure("experiments", lambda: servicer.list_experiments(listing), rounds)


if __name__ == "__main__":
    asyncio.run(main())
