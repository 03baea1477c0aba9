"""The loop of a writer: reads its topic, decodes, inserts blocks, remembers how far it came.

While a block is inserted the next one is read and decoded. A record that can't be stored becomes a dead
letter; a sink that fails pauses the loop, which tries again until it succeeds or is stopped: nothing is
skipped. What was inserted and not yet noted in the table `applied` is inserted again after a crash, which
identity makes harmless.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic, TypeVar

from runstream_ingest.batch import Description
from runstream_ingest.errors import RecordRefused, malformed
from runstream_ingest.records import decode_log_record
from runstream_ingest.writers.applied import Applied
from runstream_ingest.writers.block import Block, Pace, Part, Rate, Thrift
from runstream_ingest.writers.dead_letter import DeadLetterLimit, DeadLetters, Refused
from runstream_ingest.writers.derived import Derived
from runstream_ingest.writers.sink import AboutRuns, Sink
from runstream_store.errors import (
    ClosedError,
    LogUnavailable,
    QueryTimeout,
    RowsRefused,
    StoreError,
    TablesUnavailable,
)
from runstream_store.hot import HotState
from runstream_store.log import Consumer, EventLog, StoredRecord
from runstream_store.position import Position
from runstream_store.tables import Tables

logger = logging.getLogger(__name__)

C = TypeVar("C")
T = TypeVar("T")

_TRIES: Final = 5
"""After so many failures a large block is inserted in halves: it may be too large for the memory there is."""
_AWAY: Final = (LogUnavailable, TablesUnavailable, QueryTimeout)
"""An engine does not answer now, and may soon."""
_SMALL_ROWS: Final = 50_000
"""A block that is not large."""


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """How a writer behaves."""

    pace: Pace = field(default_factory=Pace)
    fetch_bytes: int = 4 << 20
    """Records that are read and decoded at once."""
    fetch_wait_s: float = 5.0
    """How long the log is asked to wait for records."""
    applied_interval_s: float = 1.0
    """How often the table `applied` is written, at most."""
    trim_interval_s: float = 10.0
    """How often what is applied is removed from the log."""
    trim: bool = True
    """Whether it is, if the log does not remove what is old by itself."""
    least_pause_s: float = 0.1
    """First pause after a failure; doubled with each."""
    greatest_pause_s: float = 5.0
    """Longest pause after a failure."""


@dataclass(slots=True)
class WriterStats:
    """What a writer has done since its start."""

    records: int = 0
    rows: int = 0
    blocks: int = 0
    dead_letters: int = 0
    lost: int = 0
    """Records that had expired before they were read."""
    failures: int = 0
    """Inserts and reads that failed and were repeated."""
    paused: str = ""
    """Why nothing moves at present; empty when it does."""


class _Stopped(Exception):
    """The loop is to end, and what it was trying again stays in the log."""


class _GivenUp(Exception):
    """It failed as often as it was to be tried."""


class WriterLoop(Generic[C]):
    """Moves one topic into the tables."""

    def __init__(
        self,
        log: EventLog,
        tables: Tables,
        hot: HotState,
        sink: Sink[C],
        settings: WriterSettings | None = None,
        *,
        derived: Derived | None = None,
        limit: DeadLetterLimit | None = None,
        clock: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.stats = WriterStats()
        self._log = log
        self._tables = tables
        self._hot = hot
        self._sink = sink
        self._settings = settings or WriterSettings()
        self._derived = derived if isinstance(sink, AboutRuns) else None
        self._dead = DeadLetters(log, tables, clock_ns)
        self._limit = limit or DeadLetterLimit()
        self._clock = clock
        self._block: Block[C] = Block()
        self._rate = Rate()
        self._thrift = Thrift(self._settings.pace)
        self._pace = self._settings.pace.first()
        self._changed = asyncio.Event()  # the block grew, or was taken; or the loop is to stop
        self._taken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix=f"writer-{sink.consumer}")
        self._saved_at = clock()
        self._trimmed_at = clock()
        self._trimmed: dict[int, int] = {}

    async def run(self) -> None:
        """Runs until `stop`.

        :raises LogSetBack: the log is older than what was applied of it.
        :raises StoreError: the log or the tables can't be used any more.
        """
        topic = self._sink.topic
        begun = await self._begin()
        if begun is None:
            return
        consumer, applied = begun
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read(consumer, applied), name=f"read-{topic}")
                tasks.create_task(self._write(consumer, applied), name=f"write-{topic}")
                tasks.create_task(self._end(reading))
        except ExceptionGroup as group:
            if not isinstance(group.exceptions[0], _Stopped):
                raise group.exceptions[0] from None
            logger.warning("topic %s: stopped while its sink failed; the rest stays in the log", topic)
        finally:
            await consumer.close()
            self._threads.shutdown(wait=False)

    async def _begin(self) -> tuple[Consumer, Applied] | None:
        """Joins the readers of the topic, as soon as the brokers can have that. None when it is to stop."""
        topic = self._sink.topic
        while not self._stopping.is_set():
            try:
                epoch = await self._log.epoch(topic)
                applied = Applied(self._log, self._tables, self._hot, self._sink.consumer, topic, epoch)
                start = partial(self._start, applied)
                return await self._log.subscribe(topic, self._sink.consumer, start), applied
            except _AWAY as error:
                await self._pause("the start", error, self._settings.greatest_pause_s)
        return None

    async def _start(self, applied: Applied, partitions: Collection[int]) -> Mapping[int, int]:
        """Where to begin in partitions: what was applied before is derived."""
        offsets = await applied.start(partitions)
        if offsets and self._derived is not None:
            self._derived.touch((), [applied.position(*one) for one in offsets.items()])
        return offsets

    def stop(self) -> None:
        """Lets `run` end once what was read is inserted. What a failing sink refuses stays in the log."""
        self._stopping.set()
        self._changed.set()

    async def _end(self, reading: asyncio.Task[None]) -> None:
        await self._stopping.wait()
        reading.cancel()

    # ---------------------------------------------------------------------------------- reading

    async def _read(self, consumer: Consumer, applied: Applied) -> None:
        settings = self._settings
        while not self._stopping.is_set():
            try:
                records = await consumer.fetch(settings.fetch_bytes, settings.fetch_wait_s)
            except LogUnavailable as error:
                await self._pause("the event log", error, settings.greatest_pause_s)
                continue
            except _AWAY as error:  # a partition came, and where to begin is in the tables
                await self._pause("the applied position", error, settings.greatest_pause_s)
                continue
            lost = applied.lost(consumer.lost())
            if lost:
                self.stats.lost += sum(one.last - one.first + 1 for one in lost)
                logger.error("records expired before they were read: %s", lost)
                epoch = await self._log.epoch(self._sink.topic)
                await self._repeat("dead_letters", partial(self._dead.note_lost, lost, epoch))
            fresh = applied.fresh(records)
            if fresh:
                self.stats.paused = ""
                await self._take_in(fresh)

    async def _take_in(self, records: Sequence[StoredRecord]) -> None:
        """Decodes records and adds them to a block, or to several: compressed ones may hold a great deal."""
        done = 0
        while done < len(records):
            parts, refused = await self._in_thread(partial(self._decode, records[done:]))
            taken = records[done : done + len(parts) + len(refused)]
            done += len(taken)
            self._limit.good(len(parts))
            while refused and (wait_s := self._limit.wait_s(len(refused))):
                if self._stopping.is_set():
                    return  # they stay in the log
                self.stats.paused = f"too many records are refused, the last: {refused[-1].why.reason}"
                logger.error("topic %s is paused: %s", self._sink.topic, self.stats.paused)
                await self._sleep(min(wait_s, 60.0))
            while self._block.full(self._pace):
                self._taken.clear()
                await self._taken.wait()
            now = self._clock()
            self._block.add(taken, parts, refused, now)
            self._rate.add(sum(part.rows for part in parts), now)
            self._changed.set()

    def _decode(self, records: Sequence[StoredRecord]) -> tuple[list[Part[C]], list[Refused]]:
        """Decodes the first of these records: as many as make a full block."""
        parts: list[Part[C]] = []
        refused: list[Refused] = []
        rows = size = 0
        for record in records:
            try:
                received = decode_log_record(record.value)
                part = Part(record, *self._sink.decode(received), len(received.payload))
                parts.append(part)
                rows, size = rows + part.rows, size + part.size
            except MemoryError:
                raise
            except RecordRefused as error:
                refused.append(self._refuse(record, error))
            except Exception as error:  # whatever a record does to the decoder, the others go on
                logger.exception("%s could not be decoded", record.position)
                refused.append(self._refuse(record, malformed(f"the decoder failed: {error!r}")))
            if rows >= self._pace.rows or size >= self._pace.bytes:
                break
        return parts, refused

    def _refuse(self, record: StoredRecord, why: RecordRefused) -> Refused:
        try:
            received = decode_log_record(record.value)
            return Refused(record, why, self._sink.describe(received), received.received_time_ns)
        except Exception:  # nothing can be told of it
            return Refused(record, why, Description(), 0)

    # ---------------------------------------------------------------------------------- writing

    async def _write(self, consumer: Consumer, applied: Applied) -> None:
        while True:
            block = await self._next(consumer, applied)
            if block is None:
                break
            began = self._clock()
            await self._store(block.parts)
            if block.refused:
                await self._keep(block.refused)
            self._thrift.spend(self._clock() - began, self._clock())
            self.stats.blocks += 1
            self._pace = self._settings.pace
            self.stats.records += len(block.parts)
            self.stats.rows += block.rows
            last = list(block.last.values())
            await applied.reach(last, self._touch(block, [record.position for record in last]))
        if self._derived is not None:
            await self._derived.settle()
        await self._save(consumer, applied)

    def _touch(self, block: Block[C], positions: Sequence[Position]) -> int:
        """Tells which runs a block was about; the ticket for that."""
        if self._derived is None or not isinstance(self._sink, AboutRuns):
            return 0
        runs = {run for part in block.parts for run in self._sink.runs(part.content)}
        return self._derived.touch(runs, positions)

    def _passed(self) -> int:
        """The greatest ticket that is done with."""
        return 0 if self._derived is None else self._derived.passed()

    async def _next(self, consumer: Consumer, applied: Applied) -> Block[C] | None:
        """Waits for a block that is due; saves the applied position meanwhile. None when the loop stops."""
        while True:
            now = self._clock()
            due = self._block.due(self._pace, self._rate.per_second(now), self._thrift.not_before(now))
            unsaved = applied.unsaved(self._passed())
            save = self._saved_at + self._settings.applied_interval_s if unsaved else None
            if save is not None and save <= now:
                await self._save(consumer, applied)
                continue
            if due <= now or (self._stopping.is_set() and self._block.last):
                block, self._block = self._block, Block()
                self._taken.set()
                return block
            if self._stopping.is_set():
                return None
            self._changed.clear()
            look = now + (self._settings.applied_interval_s if applied.holding else 60.0)
            wait_s = min(due if save is None else min(due, save), look) - now
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _store(self, parts: Sequence[Part[C]]) -> None:
        """Inserts records; those that the tables refuse become dead letters."""
        if not parts:
            return
        halves = len(parts) > 1 and sum(part.rows for part in parts) > _SMALL_ROWS
        try:
            rows = await self._in_thread(lambda: self._sink.build([part.content for part in parts]))
            for table, content in rows:
                await self._repeat(
                    table, partial(self._tables.insert, table, content), _TRIES if halves else None
                )
        except (MemoryError, _Stopped, ClosedError):
            raise
        except _GivenUp:  # perhaps it is too large for the memory there is
            self._sink.forget()
            await self._store_halves(parts)
        except Exception as error:
            # Only what the records themselves cause comes here. Find the one.
            logger.exception("topic %s: a block of %d records is refused", self._sink.topic, len(parts))
            self._sink.forget()
            if len(parts) > 1:
                await self._store_halves(parts)
                return
            why = malformed(f"the tables refuse it: {error}")
            await self._keep([self._refuse(parts[0].record, why)])

    async def _store_halves(self, parts: Sequence[Part[C]]) -> None:
        half = len(parts) // 2
        await self._store(parts[:half])
        await self._store(parts[half:])

    async def _keep(self, refused: Sequence[Refused]) -> None:
        await self._repeat("dead_letters", lambda: self._dead.keep(refused))
        self.stats.dead_letters += len(refused)

    async def _save(self, consumer: Consumer, applied: Applied) -> None:
        """Notes how far the tables are; a failure is harmless and tried again later."""
        self._saved_at = self._clock()
        try:
            for table, content in self._sink.rest():
                await self._repeat(table, partial(self._tables.insert, table, content))
            positions = await applied.save(self._passed())
            await consumer.commit(positions)
            await self._trim(applied)
        except (StoreError, _Stopped) as error:
            logger.warning("topic %s: the applied position is not saved: %s", self._sink.topic, error)

    async def _trim(self, applied: Applied) -> None:
        now = self._clock()
        if (
            not self._settings.trim
            or self._log.capabilities.retains
            or (now - self._trimmed_at < self._settings.trim_interval_s and not self._stopping.is_set())
        ):
            return
        self._trimmed_at = now
        for partition, offset in applied.saved().items():
            if self._trimmed.get(partition) != offset:
                await self._log.trim(self._sink.topic, partition, offset)
                self._trimmed[partition] = offset

    # --------------------------------------------------------------------------------- failures

    async def _repeat(self, what: str, action: Callable[[], Awaitable[T]], tries: int | None = None) -> T:
        """Does something until it succeeds.

        :param tries: or until it has failed so often.
        :raises RowsRefused: the rows are at fault.
        :raises ClosedError: there is nothing to do it with any more.
        :raises _GivenUp: it has failed `tries` times.
        :raises _Stopped: the loop stops, and it still fails.
        """
        failures, pause_s = 0, self._settings.least_pause_s
        while True:
            try:
                result = await action()
            except (RowsRefused, ClosedError):
                raise
            except (StoreError, OSError) as error:
                failures += 1
                if self._stopping.is_set():
                    raise _Stopped from error
                await self._pause(what, error, pause_s)
                pause_s = min(pause_s * 2, self._settings.greatest_pause_s)
                if failures == tries:
                    raise _GivenUp from error
            else:
                self.stats.paused = ""
                return result

    async def _pause(self, what: str, error: Exception, pause_s: float) -> None:
        self.stats.failures += 1
        self.stats.paused = f"{what}: {error}"
        logger.warning("topic %s is paused: %s", self._sink.topic, self.stats.paused)
        await self._sleep(pause_s)

    async def _sleep(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _in_thread(self, action: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)
