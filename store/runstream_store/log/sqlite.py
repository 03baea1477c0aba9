"""The event log of one machine: an SQLite file that one process has open.

One partition a topic. All appends go through one writing thread; consumers that keep up read what was
appended from memory, the others from the file, in threads and connections of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from runstream_store.errors import ClosedError, ConfigError, LogError, LogLocked, RecordTooLarge
from runstream_store.log.protocol import Capabilities, NewRecord, Start, StoredRecord
from runstream_store.log.sqlite_consumer import SqliteConsumer
from runstream_store.log.sqlite_file import (
    OFFSET_BITS,
    Bounds,
    Content,
    Job,
    WritingThread,
    connect,
    prepare,
    translate,
)
from runstream_store.ownership import OwnedByOther, Ownership
from runstream_store.position import Position

_PENDING_BYTES: Final = 64 << 20
_TAIL_BYTES: Final = 32 << 20
_OVERHEAD: Final = 256  # of a record in memory
_READERS: Final = 2

_CAPABILITIES: Final = Capabilities(
    name="sqlite",
    max_record_bytes=64 << 20,
    partitions=False,
    many_processes=False,
    retains=False,
    atomic_append=True,
    survives="the end of the process in any way, and a loss of power if the disk keeps what it confirmed",
)


class Topic:
    """What the event loop knows of a topic: its bounds, its newest records, its consumers."""

    def __init__(self, name: str, bounds: Bounds) -> None:
        """Of a topic as it is in the file."""
        self.name = name
        self.bounds = bounds
        self.groups: dict[str, list[SqliteConsumer]] = {}
        self.tail: deque[StoredRecord] = deque()
        self.tail_bytes = 0

    def remember(self, records: Sequence[StoredRecord], size: int) -> None:
        """Keeps what was appended, up to a limit, for readers that keep up."""
        if self.tail and self.tail[-1].position.offset + 1 != records[0].position.offset:
            self.forget(self.bounds.next)
        self.tail.extend(records)
        self.tail_bytes += size
        while self.tail_bytes > _TAIL_BYTES:
            self._drop()

    def forget(self, before: int) -> None:
        """Drops trimmed records."""
        while self.tail and self.tail[0].position.offset < before:
            self._drop()

    def _drop(self) -> None:
        record = self.tail.popleft()
        self.tail_bytes -= len(record.key) + len(record.value) + _OVERHEAD

    def recent(self, offset: int, max_bytes: int) -> list[StoredRecord] | None:
        """Records from memory, or None when the one wanted is not there."""
        if not self.tail:
            return None
        skipped = offset - self.tail[0].position.offset
        if not 0 <= skipped < len(self.tail):
            return None
        found: list[StoredRecord] = []
        for index in range(skipped, len(self.tail)):  # the wanted ones are at an end: a deque is quick there
            record = self.tail[index]
            max_bytes -= len(record.value)
            if found and max_bytes < 0:
                break
            found.append(record)
        return found

    def wake(self) -> None:
        """Tells all consumers that something has changed."""
        for group in self.groups.values():
            for consumer in group:
                consumer.changed.set()


class SqliteLog:
    """`EventLog` on an SQLite file."""

    def __init__(self, path: Path, ownership: Ownership, content: Content) -> None:
        """Use `open`."""
        self._path = path
        self._ownership = ownership
        self._loop = asyncio.get_running_loop()
        self._epoch = content.epoch
        self._committed = content.committed
        self._topics = {name: Topic(name, found) for name, found in content.topics.items()}
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="log-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._pending = 0
        self._room = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._thread = WritingThread(path, self._finished)

    @classmethod
    async def open(cls, url: str) -> Self:
        """Opens `sqlite:///<path>`."""
        parts = urlsplit(url)
        path = Path(unquote(parts.path))
        if parts.netloc or parts.query or path.name == "" or not path.is_absolute():
            raise ConfigError(f"{url!r} is no address of an SQLite log: expected sqlite:///<absolute path>")
        ownership = await asyncio.to_thread(_own, path)
        try:
            return cls(path, ownership, await asyncio.to_thread(prepare, path))
        except BaseException:
            ownership.release()
            raise

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        return _CAPABILITIES

    async def epoch(self, topic: str, /) -> bytes:
        """That of the file."""
        self.check_open()
        return self._epoch

    async def partitions(self, topic: str, /) -> int:
        """One."""
        self.check_open()
        return 1

    async def append(self, topic: str, records: Sequence[NewRecord], /) -> list[Position]:
        """Appends records; see `EventLog.append`."""
        self.check_open()
        if not records:
            return []
        size = 0
        for record in records:
            length = len(record.key) + len(record.value)
            if length > _CAPABILITIES.max_record_bytes:
                raise RecordTooLarge(
                    f"a record of {length} bytes; at most {_CAPABILITIES.max_record_bytes} are taken"
                )
            size += length + _OVERHEAD
        while self._pending and self._pending + size > _PENDING_BYTES:
            self._room.clear()
            await self._room.wait()
            self.check_open()
        self._pending += size
        bounds = await self._submit(Job(topic, self._loop.create_future(), records=records, size=size))
        first = bounds.next - len(records)
        return [Position(topic, 0, first + index, self._epoch) for index in range(len(records))]

    async def subscribe(self, topic: str, group: str, start: Start, /) -> SqliteConsumer:
        """Joins a group; see `EventLog.subscribe`. The first member has the partition."""
        self.check_open()
        return SqliteConsumer(self, self.topic(topic), group, start)

    async def bounds(self, topic: str, partition: int, /) -> tuple[int, int]:
        """First offset there is, and the next to be given."""
        self.check_open()
        bounds = self.topic(topic).bounds
        return bounds.first, bounds.next

    async def committed(self, topic: str, partition: int, group: str, /) -> int | None:
        """Last offset that the group has committed."""
        self.check_open()
        return self._committed.get((topic, group))

    async def trim(self, topic: str, partition: int, before: int, /) -> None:
        """Removes older records; see `EventLog.trim`. The file is tidied up a little later."""
        self.check_open()
        if before > self.topic(topic).bounds.first:
            await self._submit(Job(topic, self._loop.create_future(), trim=before))

    async def commit(self, topic: str, group: str, offset: int) -> None:
        """For consumers."""
        self.check_open()
        if offset > self._committed.get((topic, group), -1):
            await self._submit(Job(topic, self._loop.create_future(), commit=(group, offset)))

    async def close(self) -> None:
        """Ends everything; see `EventLog.close`."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._room.set()
        for topic in self._topics.values():
            topic.wake()
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        await asyncio.to_thread(self._thread.close)
        self._ownership.release()

    def check_open(self) -> None:
        """Refuses what comes after `close`."""
        if self._closing is not None:
            raise ClosedError("the event log is closed")

    def topic(self, name: str) -> Topic:
        """The topic, known from now on."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(name, Bounds(0, 0, 0))
        return topic

    async def read(self, topic: Topic, offset: int, max_bytes: int) -> list[StoredRecord]:
        """Reads from the file what comes at an offset or, when that has expired, after it."""
        return await self._loop.run_in_executor(self._readers, self._read, topic, offset, max_bytes)

    def _read(self, topic: Topic, offset: int, max_bytes: int) -> list[StoredRecord]:
        low = topic.bounds.id << OFFSET_BITS
        found: list[StoredRecord] = []
        try:
            db = getattr(self._local, "db", None)
            if db is None:
                db = self._local.db = connect(self._path, read_only=True)
                self._connections.append(db)
            rows = db.execute(
                "SELECT id, key, value FROM records WHERE id >= ? AND id < ? ORDER BY id",
                (low + max(offset, topic.bounds.first), low + (1 << OFFSET_BITS)),
            )
            with contextlib.closing(rows):
                for number, key, value in rows:
                    max_bytes -= len(value)
                    if found and max_bytes < 0:
                        break
                    found.append(StoredRecord(Position(topic.name, 0, number - low, self._epoch), key, value))
        except sqlite3.Error as error:
            raise translate(error, self._path) from error
        return found

    async def _submit(self, job: Job) -> Bounds:
        self._thread.put(job)
        return await job.reply

    def _finished(self, jobs: list[Job]) -> None:
        """In the writing thread."""
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits
            self._loop.call_soon_threadsafe(self._reply, jobs)

    def _reply(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._pending -= job.size
            if job.bounds is not None:
                self._note(job, job.bounds)
            if job.reply.done():  # cancelled
                continue
            if job.bounds is not None:
                job.reply.set_result(job.bounds)
            else:
                job.reply.set_exception(job.error or LogError("the event log failed"))
        self._room.set()

    def _note(self, job: Job, bounds: Bounds) -> None:
        topic = self.topic(job.topic)
        topic.bounds = bounds
        if job.records:
            first = bounds.next - len(job.records)
            topic.remember(
                [
                    StoredRecord(Position(job.topic, 0, offset, self._epoch), record.key, record.value)
                    for offset, record in enumerate(job.records, first)
                ],
                job.size,
            )
            topic.wake()
        if job.commit is not None:
            group, offset = job.commit
            self._committed[job.topic, group] = max(offset, self._committed.get((job.topic, group), -1))
        if job.trim is not None:
            topic.forget(bounds.first)


def _own(path: Path) -> Ownership:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return Ownership(path.with_name(path.name + ".lock"))
    except OwnedByOther as error:
        raise LogLocked(f"the event log {path} is in use by {error.owner}") from None
    except OSError as error:
        raise LogError(f"the event log {path} can't be opened: {error}") from error
