"""A consumer of the Kafka log.

aiokafka's traps: `getmany` without partitions means all of them; it waits without limit while the group
rebalances; a partition that was assigned a moment ago is read from its committed offset, which is not where
we begin; some exceptions in the background end it for good, and it must be made anew; the sticky assignor
keeps its memory in its class. Each rebalance takes all partitions away, and mostly gives them back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from runstream_store.errors import ClosedError, LogUnavailable, PositionUnknown
from runstream_store.log.kafka_cluster import Cluster, translate
from runstream_store.log.kafka_settings import KafkaSettings
from runstream_store.log.protocol import Lost, Start, StoredRecord
from runstream_store.position import Position

logger = logging.getLogger(__name__)

_PARTITION_BYTES: Final = 4 << 20
_FETCH_BYTES: Final = 16 << 20
_LOOK_S: Final = 0.25  # how often to see whether partitions came while waiting for records
_JOIN_S: Final = 10.0
_STOP_S: Final = 5.0
_BEHIND_S: Final = 10.0  # records that are known to be there come within this, or the log does not answer
_FRESH_S: Final = 5.0


@dataclass(slots=True)
class _Partition:
    """How far one partition is."""

    next: int | None = None
    """The offset to give out next; None when it has not begun."""
    begun: bool = False
    """Whether aiokafka reads where we want."""
    committed: int | None = None
    """What was noted; None when nothing is known."""
    records: deque[StoredRecord] = field(default_factory=deque)
    """Read ahead."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._consumer.on_revoked()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._consumer.on_assigned({one.partition for one in assigned})


class KafkaConsumer:
    """`Consumer` of one topic, in a group of Kafka's."""

    def __init__(
        self,
        settings: KafkaSettings,
        cluster: Cluster,
        topic: str,
        group: str,
        start: Start,
        closed: Callable[[KafkaConsumer], None],
    ) -> None:
        """Use `KafkaLog.subscribe`; `closed` is told of the end."""
        self._settings = settings
        self._cluster = cluster
        self._topic = topic
        self._kafka_topic = settings.topic(topic)
        self._group = settings.group(topic, group)
        self._start = start
        self._told_closed = closed
        self._consumer: AIOKafkaConsumer | None = None
        self._epoch = b""
        self._partitions: dict[int, _Partition] = {}
        self._held: dict[int, _Partition] = {}  # while the group rebalances: what we had
        self._lost: list[Lost] = []
        self._changed = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------- membership

    async def join(self) -> None:
        """Joins the group, and waits for the first assignment, but not for ever.

        :raises LogUnavailable: the brokers do not answer.
        """
        self._epoch = (await self._cluster.topic(self._topic)).epoch
        try:
            async with asyncio.timeout(_JOIN_S):
                while not self._changed.is_set():
                    await self._pull(_LOOK_S)
        except TimeoutError:
            logger.warning("group %s has not formed yet", self._group)
        except kafka_errors.KafkaError as error:
            await self._cope(error)

    async def _connect(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._settings.connection(),
            group_id=self._group,
            group_instance_id=f"{self._settings.instance}.{self._group}" if self._settings.instance else None,
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_PARTITION_BYTES,
            partition_assignment_strategy=(type("Sticky", (StickyPartitionAssignor,), {}),),
            session_timeout_ms=self._settings.session_timeout_ms,
            heartbeat_interval_ms=max(100, min(1_000, self._settings.session_timeout_ms // 5)),
        )
        try:
            await consumer.start()
            self._check_open()
        except BaseException:
            await _stop(consumer)
            raise
        consumer.subscribe([self._kafka_topic], listener=_Listener(self))
        self._consumer = consumer

    def on_revoked(self) -> None:
        """The group rebalances: nothing is ours until it has."""
        self._held.update(self._partitions)
        self._partitions = {}

    def on_assigned(self, numbers: set[int]) -> None:
        """These partitions are ours. Those that were ours before go on; what others get is forgotten.

        Should another member have had one meanwhile, reading on repeats what it did, and nothing is missed.
        """
        held, self._held = self._held, {}
        self._partitions = {number: held.get(number) or _Partition() for number in sorted(numbers)}
        for partition in self._partitions.values():
            partition.begun = False
        self._changed.set()

    # ---------------------------------------------------------------------------------- reading

    async def fetch(self, max_bytes: int, max_wait_s: float, /) -> list[StoredRecord]:
        """See `Consumer.fetch`. Before it says that there is nothing, it has asked the brokers."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait_s
        looked = False
        while True:
            self._check_open()
            records = self._take(max_bytes)
            if records:
                return records
            try:
                await self._begin()
                left = deadline - loop.time()
                if left > 0:
                    await self._pull(min(left, _LOOK_S))
                elif looked:
                    raise LogUnavailable(f"Kafka: the records of {self._kafka_topic} do not come")
                elif not await self._behind():
                    self._check_open()
                    return self._take(max_bytes)
                else:
                    looked, deadline = True, loop.time() + _BEHIND_S
            except kafka_errors.KafkaError as error:
                await self._cope(error)
            if looked and not self._partitions:
                return []

    def _take(self, max_bytes: int) -> list[StoredRecord]:
        """What was read ahead, of each partition in turn."""
        found: list[StoredRecord] = []
        for number, partition in list(self._partitions.items()):
            while partition.records:
                max_bytes -= len(partition.records[0].value)
                if found and max_bytes < 0:
                    break
                found.append(partition.records.popleft())
                partition.next = found[-1].position.offset + 1
            if max_bytes < 0:
                self._partitions[number] = self._partitions.pop(number)  # the others' turn
                break
        return found

    async def _begin(self) -> None:
        """Has each new partition read from where it is wanted."""
        waiting = {number: one for number, one in self._partitions.items() if not one.begun}
        new = [number for number, one in waiting.items() if one.next is None]
        starts = await self._start(new) if new else {}
        for number, partition in waiting.items():
            if partition.next is None:
                wanted = starts.get(number)
                first, after = await self._cluster.bounds(self._topic, number)
                if wanted is not None and wanted > after:
                    raise self._unknown(wanted, after)
                partition.next = first if wanted is None else wanted
            if self._partitions.get(number) is partition:  # it may have gone while we asked
                self._seek(number, partition)

    def _seek(self, number: int, partition: _Partition) -> None:
        assert partition.next is not None
        after = partition.records[-1].position.offset + 1 if partition.records else partition.next
        if self._consumer is not None:
            try:
                self._consumer.seek(self._place(number), after)
            except kafka_errors.IllegalStateError:  # taken away this moment
                return
            partition.begun = True

    async def _pull(self, wait_s: float) -> None:
        """Reads ahead, for a while."""
        if self._consumer is None:
            await self._connect()
        consumer = self._consumer
        assert consumer is not None
        consumer._coordinator.check_errors()
        if consumer._fetcher.error_future.done():
            raise kafka_errors.UnknownError("the reading task has ended")
        begun = [self._place(number) for number, partition in self._partitions.items() if partition.begun]
        if not begun:
            self._changed.clear()
            await self._pause(self._changed.wait(), wait_s)
            return
        wait_ms = max(1, int(wait_s * 1000))
        try:
            batches = await self._pause(consumer.getmany(*begun, timeout_ms=wait_ms), wait_s + 0.1)
        except kafka_errors.ConsumerStoppedError:  # closed meanwhile
            return
        for place, batch in (batches or {}).items():
            partition = self._partitions.get(place.partition)
            if partition is None or not partition.begun or partition.next is None:
                continue
            after = partition.records[-1].position.offset + 1 if partition.records else partition.next
            partition.records.extend(self._stored(one) for one in batch if one.offset >= after)

    def _stored(self, one: Any) -> StoredRecord:
        position = Position(self._topic, one.partition, one.offset, self._epoch)
        return StoredRecord(position, one.key or b"", one.value or b"")

    async def _pause(self, waiting: Any, wait_s: float) -> Any:
        try:
            async with asyncio.timeout(wait_s):
                return await waiting
        except TimeoutError:
            return None

    async def _behind(self) -> bool:
        """Whether the log has records for us that were not read, as of now. Notices also what is wrong."""
        await self._check_epoch()
        behind = False
        for number, partition in list(self._partitions.items()):
            if partition.next is None or not partition.begun:
                behind = True
                continue
            first, after = await self._cluster.bounds(self._topic, number)
            if partition.next > after:
                raise self._unknown(partition.next, after)
            if partition.next < first:
                await self._skip(number, partition, first)
            behind = behind or partition.next < after
        return behind

    async def _cope(self, error: kafka_errors.KafkaError) -> None:
        """What to do about an error of aiokafka's."""
        if isinstance(error, kafka_errors.OffsetOutOfRangeError):
            await self._check_epoch()
            for place in error.args[0]:
                partition = self._partitions.get(place.partition)
                if partition is None or partition.next is None:
                    continue
                first, after = await self._cluster.bounds(self._topic, place.partition)
                if partition.next > after:
                    raise self._unknown(partition.next, after) from error
                if partition.next < first:
                    await self._skip(place.partition, partition, first)
                else:  # the records were there, and a new leader lacks them for a moment
                    partition.begun = False
            return
        if isinstance(error, kafka_errors.NoOffsetForPartitionError):
            return  # of a partition that has not begun
        if self._closing is None:
            consumer, self._consumer = self._consumer, None
            self.on_revoked()
            self._held.clear()
            if consumer is not None:
                await _stop(consumer)
        self._check_open()
        raise translate(error, f"group {self._group}") from error

    async def _skip(self, number: int, partition: _Partition, first: int) -> None:
        """Goes on after what expired. Another owner may have applied it before: then nothing is lost."""
        wanted = (await self._start([number])).get(number)
        assert partition.next is not None
        if self._partitions.get(number) is not partition:
            return
        partition.next = max(partition.next, wanted or 0)
        self._lose(number, partition, first)

    def _lose(self, number: int, partition: _Partition, first: int) -> None:
        assert partition.next is not None
        if partition.next < first:
            self._lost.append(Lost(self._topic, number, partition.next, first - 1))
            partition.next = first
        while partition.records and partition.records[0].position.offset < partition.next:
            partition.records.popleft()
        partition.begun = False
        self._seek(number, partition)

    async def _check_epoch(self) -> None:
        info = await self._cluster.topic(self._topic, max_age_s=_FRESH_S)
        if info.epoch != self._epoch:
            raise PositionUnknown(
                f"topic {self._kafka_topic} was made anew while it was read: start again to read the new one"
            )

    def _unknown(self, wanted: int, after: int) -> PositionUnknown:
        return PositionUnknown(
            f"topic {self._topic!r} is to be read from offset {wanted}, but ends at {after}:"
            " the log is an older copy, or not the one that the tables were filled from"
        )

    def trimmed(self, topic: str, number: int, before: int) -> None:
        """For the log: what lies below is gone, also when it was read ahead."""
        partition = self._partitions.get(number)
        if topic != self._topic or partition is None or partition.next is None:
            return
        if partition.next < before:
            self._lose(number, partition, before)

    # ------------------------------------------------------------------------------------- rest

    async def commit(self, positions: Iterable[Position], /) -> None:
        """See `Consumer.commit`."""
        self._check_open()
        greatest: dict[int, int] = {}
        for position in positions:
            if position.topic == self._topic and position.epoch == self._epoch:
                greatest[position.partition] = max(position.offset, greatest.get(position.partition, -1))
        offsets: dict[TopicPartition, int] = {}
        for number, offset in greatest.items():
            partition = self._partitions.get(number)
            if partition is not None:
                if partition.committed is None:
                    noted = await self._cluster.committed(self._topic, number, self._group)
                    partition.committed = -1 if noted is None else noted - 1
                if offset > partition.committed and number in self._partitions:
                    offsets[self._place(number)] = offset + 1
        if not offsets or self._consumer is None:
            return
        try:
            await self._consumer.commit(offsets)
        except (kafka_errors.CommitFailedError, kafka_errors.IllegalStateError):
            return  # no longer ours
        except (kafka_errors.KafkaError, OSError) as error:
            self._check_open()
            raise translate(error, f"commit of group {self._group}") from error
        for place, after in offsets.items():
            if place.partition in self._partitions:
                self._partitions[place.partition].committed = after - 1

    def assigned(self) -> frozenset[int]:
        """The partitions that are ours now; none while the group rebalances."""
        return frozenset(self._partitions)

    def lost(self) -> list[Lost]:
        """See `Consumer.lost`."""
        lost, self._lost = self._lost, []
        return lost

    async def close(self) -> None:
        """See `Consumer.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._told_closed(self)
        self._changed.set()
        consumer, self._consumer = self._consumer, None
        self._partitions = {}
        if consumer is not None:
            await _stop(consumer)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise ClosedError("the consumer is closed")

    def _place(self, number: int) -> TopicPartition:
        return TopicPartition(self._kafka_topic, number)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Leaves the group; without its brokers' answer when they do not give one."""
    try:
        async with asyncio.timeout(_STOP_S):
            await consumer.stop()
    except (TimeoutError, kafka_errors.KafkaError, OSError) as error:
        logger.warning("Kafka: a consumer did not end in order: %r", error)
        await consumer._client.close()
        if consumer._fetcher is not None:
            await consumer._fetcher.close()
    finally:
        consumer._closed = True
