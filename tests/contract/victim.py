"""A process that is killed: it writes to an engine and prints what was acknowledged.

Run as `python victim.py log|tables|hold URL`.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import sys

from runstream_store.log import NewRecord, open_log
from runstream_store.tables import open_tables

STREAMS = 8
"""Concurrent appenders."""


def record(stream: int, number: int) -> NewRecord:
    """A record that anybody can check: the value, 0 to 64 KiB, follows from the key."""
    name = f"{stream}:{number}".encode()
    digest = hashlib.blake2b(name).digest()
    return NewRecord(name, digest * (digest[0] * 4))


async def append(url: str) -> None:
    log = await open_log(url)
    print("ready", flush=True)

    async def stream(number: int) -> None:
        for count in itertools.count():
            positions = await log.append("points", [record(number, count)])
            print("acked", number, count, positions[0].offset, flush=True)

    await asyncio.gather(*(stream(number) for number in range(STREAMS)))


async def insert(url: str) -> None:
    from tests.contract.rows import points

    tables = await open_tables(url)
    await tables.migrate()
    print("ready", flush=True)
    for number in itertools.count():
        await tables.insert_points(points(number * 1000, 1000))
        print("acked", number, flush=True)


async def hold(url: str) -> None:
    opened = await (open_log(url) if url.startswith(("sqlite", "kafka")) else open_tables(url))
    print("ready", flush=True)
    await asyncio.Event().wait()
    del opened


if __name__ == "__main__":
    asyncio.run({"log": append, "tables": insert, "hold": hold}[sys.argv[1]](sys.argv[2]))
