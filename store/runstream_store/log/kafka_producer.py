"""Appends to Kafka: an idempotent producer that is replaced when it can't go on.

aiokafka's traps: after a batch that failed, the sequence numbers of an idempotent producer have a gap, and
all its later batches are refused, so it is thrown away. It never gives up on a batch that may be repeated,
and keeps it when the caller has given up: it may still be stored. The offset of a batch that was stored
before and is no longer among the broker's last ones is unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from runstream_store.errors import LogUnavailable
from runstream_store.log.kafka_cluster import TopicInfo, translate
from runstream_store.log.kafka_settings import KafkaSettings
from runstream_store.log.protocol import NewRecord

logger = logging.getLogger(__name__)

_BATCH_BYTES: Final = 1 << 20
_OVERHEAD: Final = 1 << 10  # of a record in a request
_STOP_S: Final = 10.0


@lru_cache(1 << 14)
def _hash(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """Where records with a key go; as Kafka's own producers have it."""
    return _hash(key) % partitions


class Producer:
    """Sends records, and knows when they are durable."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Connects on first use."""
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._discarding: set[asyncio.Task[None]] = set()

    async def send(self, info: TopicInfo, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        """Gives partition and offset of each record, once all are durable.

        :raises LogUnavailable: they may be stored or not.
        :raises LogError: Kafka refuses them.
        """
        try:
            async with asyncio.timeout(self._settings.append_timeout_ms / 1000):
                return await self._send(info, records)
        except TimeoutError:
            raise LogUnavailable(f"Kafka: append to {info.kafka_name}: the brokers do not answer") from None

    async def _send(self, info: TopicInfo, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        producer = await self._started()
        sent: list[asyncio.Future[Any]] = []
        try:
            for record in records:
                future = await producer.send(
                    info.kafka_name,
                    record.value,
                    key=record.key,
                    partition=partition_of(record.key, info.partitions),
                )
                future.add_done_callback(_look_at)
                sent.append(future)
            await asyncio.wait(sent)  # not gather: a caller that goes away cancels nothing
            stored = [future.result() for future in sent]
        except kafka_errors.KafkaTimeoutError as error:  # the queue is full: nothing has failed yet
            raise translate(error, f"append to {info.kafka_name}") from error
        except kafka_errors.KafkaError as error:
            logger.warning("Kafka: an append to %s failed: %r", info.kafka_name, error)
            self._replace(producer)
            raise translate(error, f"append to {info.kafka_name}") from error
        if any(one is None or one.offset < 0 for one in stored):
            raise LogUnavailable(f"Kafka: append to {info.kafka_name}: stored, but the offset is lost")
        return [(one.partition, one.offset) for one in stored]

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        async with self._starting:
            if self._producer is None:
                settings = self._settings
                producer = AIOKafkaProducer(
                    **settings.connection(),
                    acks="all",
                    enable_idempotence=True,
                    max_batch_size=_BATCH_BYTES,
                    max_request_size=settings.max_record_bytes + _OVERHEAD,
                    request_timeout_ms=settings.append_timeout_ms,
                )
                try:
                    await producer.start()
                except BaseException:
                    await _discard(producer)
                    raise
                self._producer = producer
            return self._producer

    def _replace(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
            task = asyncio.create_task(_discard(producer))
            self._discarding.add(task)
            task.add_done_callback(self._discarding.discard)

    async def close(self) -> None:
        """Sends what is queued, if that goes quickly."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                async with asyncio.timeout(_STOP_S):
                    await producer.flush()
            except TimeoutError:
                logger.warning("Kafka: records that nobody waits for any more are given up")
            await _discard(producer)
        if self._discarding:
            await asyncio.wait(self._discarding)


def _look_at(future: asyncio.Future[Any]) -> None:
    """An error that nobody waits for any more is no news."""
    if not future.cancelled():
        future.exception()


async def _discard(producer: AIOKafkaProducer) -> None:
    """Ends a producer without sending what it still has: `stop` would wait for that for ever."""
    sender = producer._sender
    if sender.sender_task is not None:
        sender.sender_task.cancel()
    await producer.client.close()
    if sender.sender_task is not None:
        await asyncio.wait([sender.sender_task])
        if not sender.sender_task.cancelled():
            sender.sender_task.exception()
    producer._message_accumulator.fail_all(kafka_errors.ProducerClosed())
    producer._closed = True
