"""The applied positions as the tables have them: for readers that the hot state can't tell."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from runstream_store.hot import AppliedSource
from runstream_store.position import Position
from runstream_store.tables.protocol import Tables

_SELECT = """
SELECT topic, partition, lower(hex(epoch)) AS epoch, max(offset) AS offset FROM applied
WHERE consumer = {consumer:String} GROUP BY topic, partition, epoch
"""


def applied_source(tables: Tables) -> AppliedSource:
    """Reads them from these tables; they are at most some seconds behind."""
    return partial(_read, tables)


async def _read(tables: Tables, consumer: str) -> Iterable[Position]:
    rows = await tables.query(_SELECT, {"consumer": consumer})
    return [
        Position(row["topic"], row["partition"], row["offset"], bytes.fromhex(row["epoch"]))
        for row in rows.to_pylist()
    ]
