"""How fast rows go straight into the table of points: the measure for everything above it.

    python -m benchmarks.insert [--rounds 5] [--rows 2000000]

Prints, for each block size, rows/s (median, least and greatest round) and CPU a row, merges included as far
as they ran. `insert_arrow` is the client library's call on the same table in the same engine; `insert_points`
is ours, with its checks.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import clickhouse_connect
import numpy as np
import pyarrow as pa

from benchmarks.machine import describe
from runstream_store.tables import Tables, open_tables
from runstream_store.tables.schema import NO_RANK, SCHEMAS

SIZES: Final = (1, 1_000, 5_000, 50_000, 500_000)
START_NS: Final = 1_700_000_000_000_000_000


class Rows:
    """Blocks of a run with 10 metrics in turn, steps and noisy values. No row comes twice."""

    def __init__(self) -> None:
        self._next = 0
        self._noise = np.random.default_rng(1)

    def block(self, count: int) -> pa.Table:
        seq = np.arange(self._next, self._next + count)
        self._next += count

        def names(values: list[str], codes: np.ndarray) -> pa.Array:
            return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values))

        zeros = np.zeros(count, np.int64)
        time_ns = pa.array(START_NS + seq * 700 + self._noise.integers(0, 500, count))
        writer = pa.py_buffer(np.full((count, 16), 7, np.uint8).tobytes())
        stamps = time_ns.cast(pa.timestamp("ns", "UTC"))
        return pa.table(
            {
                "workspace": names(["local"], zeros),
                "run": names(["run-1"], zeros),
                "metric": names([f"metric-{number}" for number in range(10)], seq % 10),
                "column": names([""], zeros),
                "step": pa.array(seq // 10),
                "writer": pa.Array.from_buffers(pa.binary(16), count, [None, writer]),
                "seq": pa.array(seq.astype(np.uint64)),
                "idx": pa.array(zeros.astype(np.uint32)),
                "type": pa.array(np.ones(count, np.uint8)),
                "value": pa.array(np.exp(-seq / 1e6) + self._noise.normal(0, 0.01, count)),
                "text": names([""], zeros),
                "rank": pa.array(np.full(count, NO_RANK, np.int32)),
                "time": stamps,
                "logged_time": stamps,
            },
            schema=SCHEMAS["points"],
        )


def sizes(rows: int, size: int) -> Iterator[int]:
    for _ in range(max(1, min(rows // size, 40))):
        yield size


class Direct:
    """The client library's own insert, in a table of the same form."""

    def __init__(self, folder: Path) -> None:
        self._client = clickhouse_connect.get_client(interface="chdb", path=str(folder))
        self._client.command("CREATE TABLE direct AS points")

    async def insert(self, block: pa.Table) -> None:
        await asyncio.to_thread(
            self._client.insert_arrow, "direct", block, settings={"optimize_on_insert": 0, "async_insert": 0}
        )

    def close(self) -> None:
        self._client.close()


async def measure(folder: Path, rows: int, rounds: int) -> None:
    tables: Tables = await open_tables(f"chdb://{folder}")
    await tables.migrate()
    direct = Direct(folder)
    source = Rows()
    ways = {"insert_arrow": direct.insert, "insert_points": tables.insert_points}
    found: dict[tuple[int, str], list[tuple[float, float]]] = {}
    try:
        for _ in range(rounds):
            for size in SIZES:
                for name, insert in ways.items():
                    blocks = [source.block(count) for count in sizes(rows, size)]
                    begin, cpu = time.perf_counter(), time.process_time()
                    for block in blocks:
                        await insert(block)
                    total = size * len(blocks)
                    seconds, used = time.perf_counter() - begin, time.process_time() - cpu
                    found.setdefault((size, name), []).append((total / seconds, used / total))
        stored = await tables.query(
            "SELECT sum(rows) AS rows, sum(bytes_on_disk) AS bytes"
            " FROM system.parts WHERE active AND table = 'points'"
        )
    finally:
        direct.close()
        await tables.close()
    for (size, name), results in found.items():
        rates = sorted(rate for rate, _ in results)
        used = statistics.median(cpu for _, cpu in results)
        print(
            f"{size:>7} rows, {name:>13}: {statistics.median(rates):11,.0f} rows/s"
            f" ({rates[0]:,.0f} … {rates[-1]:,.0f}), CPU {used * 1e6:9.2f} µs a row"
        )
    row = stored.to_pylist()[0]
    print(f"{row['bytes'] / row['rows']:.1f} bytes a row on disk, before all merges are done")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2_000_000, help="at most, in one round of a block size")
    options = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory(prefix="runstream-bench-") as folder:
        asyncio.run(measure(Path(folder) / "tables", options.rows, options.rounds))


if __name__ == "__main__":
    main()
