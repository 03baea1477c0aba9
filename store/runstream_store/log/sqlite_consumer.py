"""A consumer of the SQLite log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from runstream_store.errors import ClosedError, PositionUnknown
from runstream_store.log.protocol import Lost, Start, StoredRecord
from runstream_store.position import Position

if TYPE_CHECKING:
    from runstream_store.log.sqlite import SqliteLog, Topic


class SqliteConsumer:
    """`Consumer` of one topic. The oldest member of its group has the only partition."""

    def __init__(self, log: SqliteLog, topic: Topic, group: str, start: Start) -> None:
        """Use `SqliteLog.subscribe`."""
        self.changed = asyncio.Event()
        """Set by the log whenever there may be something to do."""
        self._log = log
        self._topic = topic
        self._group = group
        self._members = topic.groups.setdefault(group, [])
        self._members.append(self)
        self._start = start
        self._next: int | None = None
        self._lost: list[Lost] = []
        self._closed = False

    async def fetch(self, max_bytes: int, max_wait_s: float, /) -> list[StoredRecord]:
        """See `Consumer.fetch`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait_s
        while True:
            self._check_open()
            self.changed.clear()
            if self.assigned():
                records = await self._read(max_bytes)
                if records:
                    return records
                self._check_open()
            left = deadline - loop.time()
            if left <= 0:
                return []
            try:
                async with asyncio.timeout(left):
                    await self.changed.wait()
            except TimeoutError:
                return []

    async def _read(self, max_bytes: int) -> list[StoredRecord]:
        if self._next is None:
            await self._begin()
        assert self._next is not None
        self._skip_expired()
        if self._next >= self._topic.bounds.next:
            return []
        records = self._topic.recent(self._next, max_bytes)
        if records is None:
            records = await self._log.read(self._topic, self._next, max_bytes)
        if records:
            first = records[0].position.offset
            if first > self._next:  # it expired while it was read
                self._lose(first)
            self._next = records[-1].position.offset + 1
        else:
            self._skip_expired()
        return records

    async def _begin(self) -> None:
        wanted = (await self._start([0])).get(0)
        bounds = self._topic.bounds
        if wanted is not None and wanted > bounds.next:
            raise PositionUnknown(
                f"topic {self._topic.name!r} is to be read from offset {wanted}, but ends at {bounds.next}:"
                " the log is an older copy, or not the one that the tables were filled from"
            )
        self._next = bounds.first if wanted is None else wanted

    def _skip_expired(self) -> None:
        assert self._next is not None
        if self._next < self._topic.bounds.first:
            self._lose(self._topic.bounds.first)

    def _lose(self, until: int) -> None:
        assert self._next is not None
        self._lost.append(Lost(self._topic.name, 0, self._next, until - 1))
        self._next = until

    async def commit(self, positions: Iterable[Position], /) -> None:
        """See `Consumer.commit`."""
        self._check_open()
        offsets = [position.offset for position in positions if position.topic == self._topic.name]
        if offsets and self.assigned():
            await self._log.commit(self._topic.name, self._group, max(offsets))

    def assigned(self) -> frozenset[int]:
        """Partition 0, or none."""
        return frozenset({0}) if self._members and self._members[0] is self else frozenset()

    def lost(self) -> list[Lost]:
        """See `Consumer.lost`."""
        lost, self._lost = self._lost, []
        return lost

    async def close(self) -> None:
        """See `Consumer.close`."""
        if not self._closed:
            self._closed = True
            self._members.remove(self)
            self.changed.set()
            for member in self._members:
                member.changed.set()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the consumer is closed")
        self._log.check_open()
