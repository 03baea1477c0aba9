"""How fast a chart of a long series is made: buckets of 10 million points, whole and zoomed in.

    python -m benchmarks.charts [--points 10000000] [--rounds 20] [--buckets 1500]

A chart is the whole call of the query service, from the message to the messages. The limit in the same run is
one hand-written SELECT of min, max, first and last over the same table, which would be wrong where elements
share a step. The first call of a chart makes the level that later ones use.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import numpy as np

from benchmarks.machine import describe
from runstream.v1 import query_service_pb2 as messages
from runstream_ingest.batch import Columns
from runstream_ingest.writers.points import PointsSink
from runstream_query.service import QueryServicer
from runstream_store.hot import open_hot
from runstream_store.tables import Tables, open_tables

T0: Final = 1_700_000_000_000_000_000
BLOCK: Final = 500_000
GROWTH: Final = 20_000

_LIMIT: Final = """
SELECT intDiv(toUInt64(step - {low:Int64}), {width:UInt64}) AS bucket,
    min(value), max(value), argMin(value, step), argMax(value, step)
FROM points WHERE workspace = 'bench' AND run = 'run' AND metric = 'loss'
    AND step BETWEEN {low:Int64} AND {high:Int64}
GROUP BY bucket ORDER BY bucket
"""


async def fill(tables: Tables, points: int, begin: int = 0) -> None:
    """One series with a step each."""
    sink, noise = PointsSink(), np.random.default_rng(begin + 1)
    for low in range(begin, begin + points, BLOCK):
        count = min(BLOCK, begin + points - low)
        step = np.arange(low, low + count)
        block = Columns(
            writer=bytes(16),
            first_seq=low,
            count=count,
            rank=-1,
            runs=[("bench", "run")],
            series=[("loss", "", "")],
            run_index=np.zeros(count, np.uint32),
            series_index=np.zeros(count, np.uint32),
            seq_offset=None,
            idx=None,
            step=step,
            type=None,
            integers=np.zeros(0, np.int64),
            strings=[],
            logged_time_ns=None,
            time_ns=T0 + step * 1_000_000 + noise.integers(0, 100_000, count),
            doubles=np.exp(-step / 1e6) + noise.normal(0, 0.01, count),
        )
        for table, rows in sink.build([block]):
            await tables.insert(table, rows)


async def measure(name: str, call: Callable[[], Awaitable[Any]], rounds: int) -> None:
    """Prints milliseconds and CPU of a call, and of the first one."""
    began = time.perf_counter()
    await call()
    first = (time.perf_counter() - began) * 1e3
    times, began_cpu = [], time.process_time()
    for _ in range(rounds):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1e3)
    cpu = (time.process_time() - began_cpu) * 1e3 / rounds
    p50, p95 = np.percentile(times, [50, 95])
    print(
        f"{name:32} p50 {p50:8.1f} ms, p95 {p95:8.1f} ms; CPU {cpu:8.1f} ms; first {first:8.1f} ms",
        flush=True,
    )


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--buckets", type=int, default=1_500)
    given = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        tables = await open_tables(f"chdb://{folder}/tables")
        hot = await open_hot("memory://")
        try:
            await tables.migrate()
            await fill(tables, given.points)
            await cases(QueryServicer(tables, hot), tables, given)
        finally:
            await hot.close()
            await tables.close()


async def cases(servicer: QueryServicer, tables: Tables, given: argparse.Namespace) -> None:
    """Prints all figures."""
    for zoom in 1, 3, 10, 100:
        low = given.points // 3 if zoom > 1 else 0
        high = low + given.points // zoom - 1
        request = messages.GetMetricsRequest(reduction=messages.Reduction(buckets=given.buckets))
        request.selection.runs.add(workspace="bench", run="run")
        request.selection.metrics.append("loss")
        request.selection.min_step, request.selection.max_step = low, high
        params = {"low": low, "high": high, "width": -(-(high - low + 1) // given.buckets)}

        async def chart(request: messages.GetMetricsRequest = request) -> None:
            assert len([part async for part in servicer.get_metrics(request)]) == 2

        async def limit(params: dict[str, int] = params) -> None:
            await tables.query(_LIMIT, params, heavy=True)

        name = f"1/{zoom} of {given.points:,}"
        await measure(f"limit, {name}", limit, given.rounds)
        await measure(f"chart, {name}", chart, given.rounds)
    request = messages.GetMetricsRequest(reduction=messages.Reduction(buckets=given.buckets))
    request.selection.runs.add(workspace="bench", run="run")
    request.selection.metrics.append("loss")
    times = []
    for number in range(given.rounds):
        await fill(tables, GROWTH, given.points + number * GROWTH)
        began = time.perf_counter()
        assert len([part async for part in servicer.get_metrics(request)]) == 2
        times.append((time.perf_counter() - began) * 1e3)
    p50, p95 = np.percentile(times, [50, 95])
    print(f"chart, whole, after {GROWTH:,} more points each: p50 {p50:.1f} ms, p95 {p95:.1f} ms")


if __name__ == "__main__":
    asyncio.run(main())
