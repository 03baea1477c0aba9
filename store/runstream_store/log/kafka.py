"""The event log of a cluster: Apache Kafka.

A topic is a topic, its epoch the id that Kafka gave it when it was made. Appends go through one idempotent
producer with `acks=all`; what a sender compressed is not compressed again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Self

from runstream_store.errors import ClosedError, LogUnavailable, RecordTooLarge, StoreError
from runstream_store.log.kafka_cluster import Cluster
from runstream_store.log.kafka_consumer import KafkaConsumer
from runstream_store.log.kafka_producer import Producer
from runstream_store.log.kafka_quiet import calm
from runstream_store.log.kafka_settings import KafkaSettings
from runstream_store.log.protocol import Capabilities, NewRecord, Start
from runstream_store.position import Position

logger = logging.getLogger(__name__)

_FRESH_S: Final = 5.0
"""So soon an append notices that its topic was made anew, if its offsets don't tell."""
_SLOW_S: Final = 2.0
"""An append that takes longer may wait for a topic that is gone."""


class KafkaLog:
    """`EventLog` on Kafka."""

    def __init__(self, settings: KafkaSettings, cluster: Cluster) -> None:
        """Use `open`."""
        self._settings = settings
        self._cluster = cluster
        self._producer = Producer(settings)
        self._consumers: set[KafkaConsumer] = set()
        self._next: dict[tuple[str, int, bytes], int] = {}  # after the last offset that was given
        self._looking: set[asyncio.Task[None]] = set()
        self._appending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing: asyncio.Task[None] | None = None
        self._capabilities = Capabilities(
            name="kafka",
            max_record_bytes=settings.max_record_bytes,
            partitions=settings.partitions > 1,
            many_processes=True,
            retains=True,
            atomic_append=False,
            survives=_survives(settings),
        )

    @classmethod
    async def open(cls, url: str) -> Self:
        """Opens `kafka://host:port[,host:port…]/prefix[?option=value…]`; waits for brokers that start."""
        settings = KafkaSettings.parse(url)
        calm()
        cluster = Cluster(settings)
        try:
            await cluster.start()
        except BaseException:
            await cluster.close()
            raise
        if settings.replication == 1:
            logger.warning("the event log is %s", _survives(settings))
        return cls(settings, cluster)

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        return self._capabilities

    async def epoch(self, topic: str, /) -> bytes:
        """The id that Kafka gave the topic."""
        self.check_open()
        return (await self._cluster.topic(topic, max_age_s=_FRESH_S)).epoch

    async def partitions(self, topic: str, /) -> int:
        """Number of partitions."""
        self.check_open()
        return (await self._cluster.topic(topic)).partitions

    async def append(self, topic: str, records: Sequence[NewRecord], /) -> list[Position]:
        """Appends records; see `EventLog.append`."""
        self.check_open()
        if not records:
            return []
        for record in records:
            length = len(record.key) + len(record.value)
            if length > self._settings.max_record_bytes:
                raise RecordTooLarge(
                    f"a record of {length} bytes; at most {self._settings.max_record_bytes} are taken"
                )
        self._appending += 1
        self._idle.clear()
        try:
            return await self._append(topic, records)
        finally:
            self._appending -= 1
            if not self._appending:
                self._idle.set()

    async def _append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        info = await self._cluster.topic(topic, max_age_s=_FRESH_S)
        before = {
            partition: offset
            for (name, partition, epoch), offset in self._next.items()
            if name == topic and epoch == info.epoch
        }
        slow = asyncio.get_running_loop().call_later(_SLOW_S, self._look_after, topic)
        try:
            places = await self._producer.send(info, records)
        finally:
            slow.cancel()
        known = self._cluster.known(topic)
        if known is None or known.epoch != info.epoch:
            raise LogUnavailable(f"topic {info.kafka_name} was made anew, before or after the append")
        if any(offset < before.get(partition, 0) for partition, offset in places):
            info = await self._cluster.topic(topic, max_age_s=0.0)  # it was made anew before the append
        for partition, offset in places:
            place = topic, partition, info.epoch
            self._next[place] = max(offset + 1, self._next.get(place, 0))
        return [Position(topic, partition, offset, info.epoch) for partition, offset in places]

    def _look_after(self, topic: str) -> None:
        """Has a topic described while an append takes long: perhaps somebody removed it."""
        task = asyncio.create_task(self._describe(topic))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _describe(self, topic: str) -> None:
        try:
            await self._cluster.topic(topic, max_age_s=_SLOW_S)
        except StoreError as error:
            logger.debug("the log can't be asked: %s", error)  # the append tells what comes of it

    async def subscribe(self, topic: str, group: str, start: Start, /) -> KafkaConsumer:
        """Joins a group; see `EventLog.subscribe`. Returns when it has its first partitions, or waits."""
        self.check_open()
        await self._cluster.topic(topic)
        consumer = KafkaConsumer(self._settings, self._cluster, topic, group, start, self._consumers.discard)
        self._consumers.add(consumer)
        try:
            await consumer.join()
        except BaseException:
            await consumer.close()
            raise
        return consumer

    async def bounds(self, topic: str, partition: int, /) -> tuple[int, int]:
        """First offset there is, and the next to be given."""
        self.check_open()
        return await self._cluster.bounds(topic, partition)

    async def committed(self, topic: str, partition: int, group: str, /) -> int | None:
        """Last offset that the group has committed."""
        self.check_open()
        wanted = await self._cluster.committed(topic, partition, self._settings.group(topic, group))
        return None if wanted is None else wanted - 1

    async def trim(self, topic: str, partition: int, before: int, /) -> None:
        """Removes older records; see `EventLog.trim`."""
        self.check_open()
        first, after = await self._cluster.bounds(topic, partition)
        before = min(before, after)
        if before > first:
            await self._cluster.trim(topic, partition, before)
            for consumer in self._consumers:
                consumer.trimmed(topic, partition, before)

    async def close(self) -> None:
        """Ends everything; see `EventLog.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._idle.wait()
        await asyncio.gather(*(consumer.close() for consumer in list(self._consumers)))
        await self._producer.close()
        await self._cluster.close()
        await asyncio.gather(*self._looking)

    def check_open(self) -> None:
        """Refuses what comes after `close`."""
        if self._closing is not None:
            raise ClosedError("the event log is closed")


def _survives(settings: KafkaSettings) -> str:
    if settings.replication == 1:
        return (
            "not durable (replication=1): it survives the end of any process, not the loss of a broker's"
            " disk, nor of power right after an append"
        )
    must = settings.min_insync_replicas or settings.replication // 2 + 1
    if must == 1:
        return "the loss of a broker, unless it was the only one up to date (min_insync_replicas=1)"
    return f"the end of any process, and the loss for good of {must - 1} of the brokers that hold a topic"
