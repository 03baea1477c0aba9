"""The applied positions in the tables, where the hot state finds what nobody tells."""

from __future__ import annotations

import pytest

from runstream_store.position import Position
from runstream_store.tables import Tables
from runstream_store.tables.applied import applied_source
from tests.contract.rows import table

pytestmark = pytest.mark.asyncio(loop_scope="module")

EPOCH, OTHER = bytes(range(240, 256)), b"\0" * 16


async def test_the_greatest_offset_of_each_partition_and_epoch(tables: Tables) -> None:
    source = applied_source(tables)
    assert list(await source("points")) == []
    rows = [
        {"consumer": consumer, "topic": "points", "partition": partition, "epoch": epoch, "offset": offset}
        for consumer, partition, epoch, offset in [
            ("points", 0, EPOCH, 5),
            ("points", 0, EPOCH, 9),
            ("points", 0, OTHER, 70),
            ("points", 1, EPOCH, 0),
            ("runs", 0, EPOCH, 100),
        ]
    ]
    for row in rows:
        await tables.insert("applied", table("applied", [{**row, "check": 1}]))
    assert sorted(await source("points"), key=lambda one: (one.partition, one.offset)) == [
        Position("points", 0, 9, EPOCH),
        Position("points", 0, 70, OTHER),
        Position("points", 1, 0, EPOCH),
    ]
