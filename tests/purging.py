"""Rounds of the purger over the data of a server that is down: `python -m tests.purging DATA AFTER_S [KILL]`.

KILL names a step and when it is reached, as `remove:3`: then the process ends as `kill -9` ends it. Prints
what each round removed as a line of JSON. With `rows` for AFTER_S it prints, by table and run, what tells
each row from others.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runstream_query.purger import Purger, PurgeSettings
from runstream_store.objects import open_objects
from runstream_store.objects.folder import FolderObjects
from runstream_store.tables import open_tables
from runstream_store.tables.clickhouse_client import ClickHouseClient

TABLES = ("points", "series", "logs", "artifacts", "run_events", "attributes", "models", "run_summaries")

_STEPS: dict[str, tuple[type, str]] = {
    "remove": (ClickHouseClient, "remove"),
    "leave": (FolderObjects, "_take_away"),
    "sweep": (FolderObjects, "_sweep"),
}


def _kill_at(step: str, count: int) -> None:
    owner, name = _STEPS[step]
    work: Callable[..., Any] = getattr(owner, name)
    left = [count]

    def counted(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments)

    setattr(owner, name, counted)


async def _purge(data: Path, after_s: float) -> None:
    tables = await open_tables(f"chdb://{data}/tables")
    objects = await open_objects(f"file://{data}/objects")

    async def applied(_: float) -> bool:
        return True

    purger = Purger(tables, objects, PurgeSettings(after_s=after_s, leaving_s=0.0), applied)
    try:
        for _ in range(3):
            done = await purger.purge()
            swept = done.swept
            print(json.dumps({"runs": [run for _, run in done.runs], "removed": swept.removed}), flush=True)
    finally:
        await objects.close()
        await tables.close()


async def _rows(data: Path) -> None:
    tables = await open_tables(f"chdb://{data}/tables")
    found = {}
    for table in TABLES:
        sql = f"SELECT run, groupArray(toString(cityHash64(*))) AS told FROM {table} FINAL GROUP BY run"
        found[table] = {row["run"]: sorted(row["told"]) for row in (await tables.query(sql)).to_pylist()}
    print(json.dumps(found))
    await tables.close()


def main() -> None:
    data = Path(sys.argv[1])
    if sys.argv[2] == "rows":
        asyncio.run(_rows(data))
        return
    after_s = float(sys.argv[2])
    if len(sys.argv) > 3:
        step, _, count = sys.argv[3].partition(":")
        _kill_at(step, int(count))
    asyncio.run(_purge(data, after_s))


if __name__ == "__main__":
    main()
