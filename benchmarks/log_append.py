"""How fast the event log takes records, with a consumer behind that commits and trims.

    python -m benchmarks.log_append [--url sqlite:///…] [--seconds 2] [--rounds 5]

Prints, for each record size, MB/s and records/s (median, least and greatest round), CPU of the process a MB,
and the time until an append is acknowledged while others append (median, 99 %). Appends come from 32 tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import describe
from runstream_store.log import EventLog, NewRecord, open_log

SIZES = (512, 64 << 10, 256 << 10)
TASKS = 32


@dataclass
class Round:
    size: int
    records: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    waits: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.records / self.seconds


async def one_round(log: EventLog, size: int, seconds: float) -> Round:
    async def start(partitions: Collection[int]) -> dict[int, int]:
        return {partition: (await log.bounds("bench", partition))[1] for partition in partitions}

    consumer = await log.subscribe("bench", "bench", start)
    await consumer.fetch(1, 0.0)
    result = Round(size)
    value = os.urandom(size)
    begin, cpu = time.perf_counter(), time.process_time()
    end = begin + seconds

    async def append() -> None:
        while (now := time.perf_counter()) < end:
            await log.append("bench", [NewRecord(b"writer", value)])
            result.waits.append(time.perf_counter() - now)
            result.records += 1

    async def drain() -> int:
        seen = 0
        while records := await consumer.fetch(8 << 20, 0.2):
            seen += len(records)
            await consumer.commit([records[-1].position])
            await log.trim("bench", 0, records[-1].position.offset + 1)
        return seen

    draining = asyncio.create_task(drain())
    await asyncio.gather(*(append() for _ in range(TASKS)))
    result.seconds = time.perf_counter() - begin
    seen = await draining
    result.cpu = time.process_time() - cpu
    await consumer.close()
    if seen != result.records:
        raise RuntimeError(f"{result.records} records were appended and {seen} read")
    return result


async def measure(url: str, seconds: float, rounds: int) -> None:
    log = await open_log(url)
    try:
        found: dict[int, list[Round]] = {size: [] for size in SIZES}
        for _ in range(rounds):
            for size in SIZES:
                found[size].append(await one_round(log, size, seconds))
    finally:
        await log.close()
    for size, results in found.items():
        rates = sorted(one.rate for one in results)
        waits = sorted(wait for one in results for wait in one.waits)
        megabytes = sum(one.records for one in results) * size / 1e6
        print(
            f"{size:>7} B: {statistics.median(rates) * size / 1e6:8.1f} MB/s"
            f" ({rates[0] * size / 1e6:.1f} … {rates[-1] * size / 1e6:.1f}),"
            f" {statistics.median(rates):8.0f} records/s,"
            f" CPU {sum(one.cpu for one in results) / megabytes * 1e3:6.2f} ms/MB,"
            f" acknowledged after {waits[len(waits) // 2] * 1e3:.1f} ms,"
            f" 99 %: {waits[len(waits) * 99 // 100] * 1e3:.1f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="an event log; a file in a temporary folder by default")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory(prefix="runstream-bench-") as folder:
        url = options.url or f"sqlite://{Path(folder) / 'log.sqlite'}"
        asyncio.run(measure(url, options.seconds, options.rounds))


if __name__ == "__main__":
    main()
