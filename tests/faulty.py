"""Engines that fail when a test says so, over real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from runstream_store.log import EventLog, NewRecord
from runstream_store.position import Position
from runstream_store.tables import Tables


class FaultyLog:
    """An event log whose appends fail or wait."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.failure: Exception | None = None
        self.failed = 0
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0

    async def append(self, topic: str, records: Sequence[NewRecord], /) -> list[Position]:
        self.waiting += 1
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
        if self.failure is not None:
            self.failed += 1
            raise self.failure
        return await self._log.append(topic, records)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class FaultyTables:
    """Tables whose inserts and queries fail."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.failure: Callable[[str, pa.Table], Exception | None] = lambda table, rows: None
        self.failed = 0
        self.query_failure: Exception | None = None

    async def query(self, sql: str, params: Mapping[str, object] | None = None, /, **more: Any) -> pa.Table:
        if self.query_failure is not None:
            self.failed += 1
            raise self.query_failure
        return await self._tables.query(sql, params, **more)

    async def insert(self, table: str, rows: pa.Table, /) -> None:
        error = self.failure(table, rows)
        if error is not None:
            self.failed += 1
            raise error
        await self._tables.insert(table, rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)
