"""What a Kafka log asks of its brokers besides appending and reading: topics, offsets, trims."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import aiokafka.errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateTopicsRequest, DeleteRecordsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.offset import OffsetRequest

from runstream_store.errors import ClosedError, ConfigError, LogError, LogFull, LogUnavailable, StoreError
from runstream_store.log.kafka_settings import KafkaSettings
from runstream_store.log.kafka_wire import TopicIdsRequest

logger = logging.getLogger(__name__)

T = TypeVar("T")

EARLIEST: Final = -2
LATEST: Final = -1
_AGAIN_S: Final = 2.0
_PATIENCE_S: Final = 10.0  # of requests other than appends


@dataclass(slots=True)
class TopicInfo:
    """A topic as the brokers described it."""

    name: str
    """Ours."""
    kafka_name: str
    epoch: bytes
    """The id that Kafka gave it when it was made."""
    leaders: list[int]
    """Node of each partition's leader; -1 for none."""
    replication: int
    seen_at: float = field(default_factory=time.monotonic)

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return len(self.leaders)


def translate(error: Exception, what: str) -> StoreError:
    """The store's error for one of aiokafka's."""
    if isinstance(error, kafka_errors.KafkaStorageError):
        return LogFull(f"Kafka: {what}: a broker can't write to its disk")
    if isinstance(
        error,
        kafka_errors.TopicAuthorizationFailedError
        | kafka_errors.GroupAuthorizationFailedError
        | kafka_errors.ClusterAuthorizationFailedError
        | kafka_errors.AuthenticationFailedError
        | kafka_errors.MessageSizeTooLargeError
        | kafka_errors.PolicyViolationError
        | kafka_errors.UnsupportedSaslMechanismError,
    ):
        return LogError(f"Kafka refuses it: {what}: {error!r}")
    return LogUnavailable(f"Kafka: {what}: {error!r}")


class Cluster:
    """A connection to the brokers, with patience."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Use `start`."""
        self._settings = settings
        self._client = AIOKafkaClient(**settings.connection(), request_timeout_ms=_request_ms(_PATIENCE_S))
        self._topics: dict[str, TopicInfo] = {}
        self._asking: dict[str, asyncio.Task[TopicInfo]] = {}
        self._coordinators: dict[str, int] = {}
        self._closed = False

    async def start(self) -> None:
        """Waits until a broker answers.

        :raises LogUnavailable: none did in time.
        """
        deadline = time.monotonic() + self._settings.startup_timeout_ms / 1000
        told = False
        while True:
            try:
                await self._client.bootstrap()
                return
            except (kafka_errors.KafkaError, OSError) as error:
                if time.monotonic() > deadline:
                    what = f"no broker of {', '.join(self._settings.brokers)} answers"
                    if self._settings.security_protocol != "PLAINTEXT":
                        what += ", or none takes the certificate or password (the lines above may say which)"
                    raise translate(error, what) from error
                if not told:
                    logger.warning("waiting for Kafka at %s", ", ".join(self._settings.brokers))
                    told = True
                await asyncio.sleep(0.25)

    async def close(self) -> None:
        """Ends the connections."""
        self._closed = True
        for task in self._asking.values():
            task.cancel()
        await self._client.close()

    # ----------------------------------------------------------------------------------- topics

    async def topic(self, name: str, *, max_age_s: float = float("inf")) -> TopicInfo:
        """Describes a topic, and makes it when there is none.

        :param max_age_s: how old the answer may be.
        """
        known = self._topics.get(name)
        if known is not None and time.monotonic() - known.seen_at <= max_age_s:
            return known
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.create_task(self._ask(name))
            task.add_done_callback(lambda done: self._asked(name, done))
        return await asyncio.shield(task)

    def _asked(self, name: str, task: asyncio.Task[TopicInfo]) -> None:
        self._asking.pop(name, None)
        if not task.cancelled():
            task.exception()  # who asked has it; nobody may be left

    def known(self, name: str) -> TopicInfo | None:
        """What is known without asking."""
        return self._topics.get(name)

    async def _ask(self, name: str) -> TopicInfo:
        kafka_name = self._settings.topic(name)
        # Who asks again about a known topic has a patience of its own.
        patience_s = _AGAIN_S if name in self._topics else self._settings.startup_timeout_ms / 1000
        info = await self._call(lambda: self._describe(name, kafka_name), kafka_name, patience_s)
        known = self._topics.get(name)
        if known is not None and known.epoch != info.epoch:
            logger.warning(
                "topic %s was made anew: %s, was %s", kafka_name, info.epoch.hex(), known.epoch.hex()
            )
        elif known is None and info.replication == 1:
            logger.warning("topic %s is not durable: it has one copy, on one broker's disk", kafka_name)
        self._topics[name] = info
        return info

    async def _describe(self, name: str, kafka_name: str) -> TopicInfo:
        answer = await self._send(None, TopicIdsRequest([kafka_name]))
        ((code, _, epoch, _, partitions, *_),) = answer.topics
        error = kafka_errors.for_code(code)
        if error is kafka_errors.UnknownTopicOrPartitionError:
            await self._create(kafka_name)
            raise kafka_errors.LeaderNotAvailableError(kafka_name)  # it comes into being
        if error is not kafka_errors.NoError:
            raise error(kafka_name)
        leaders = [-1] * len(partitions)
        for _, number, leader, *_ in partitions:
            leaders[number] = leader
        if not leaders or (min(leaders) < 0 and name not in self._topics):
            raise kafka_errors.LeaderNotAvailableError(kafka_name)
        return TopicInfo(name, kafka_name, epoch, leaders, min(len(one[4]) for one in partitions))

    async def _create(self, kafka_name: str) -> None:
        settings = self._settings
        config = list(settings.topic_config().items())
        topic: tuple[Any, ...] = (kafka_name, settings.partitions, settings.replication, [], config)
        answer = await self._send(None, CreateTopicsRequest([topic], 10_000, False))
        for _, code, *message in answer.topic_errors:
            error = kafka_errors.for_code(code)
            if error is kafka_errors.InvalidReplicationFactorError:
                raise _TooFewBrokers(
                    f"topic {kafka_name} is to have {settings.replication} copies, and Kafka has too few"
                    " brokers for them. Start more, or accept fewer with the option replication"
                )
            if error not in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):
                raise error(f"{kafka_name}: {message}")

    # ---------------------------------------------------------------------------------- offsets

    async def bounds(self, name: str, partition: int) -> tuple[int, int]:
        """First offset there is, and the next to be given."""

        async def ask() -> tuple[int, int]:
            first, after = await asyncio.gather(
                self._offset(name, partition, EARLIEST), self._offset(name, partition, LATEST)
            )
            return first, max(first, after)

        return await self._call(ask, f"offsets of {name}")

    async def _offset(self, name: str, partition: int, when: int) -> int:
        info = await self.topic(name)
        request = OffsetRequest(-1, 0, [(info.kafka_name, [(partition, when)])])
        answer = await self._send_leader(info, partition, request)
        ((_, ((_, code, _, offset),)),) = answer.topics
        self._check(info, code)
        return int(offset)

    async def trim(self, name: str, partition: int, before: int) -> None:
        """Removes what lies below an offset; -1 removes all."""

        async def ask() -> None:
            info = await self.topic(name)
            request = DeleteRecordsRequest([(info.kafka_name, [(partition, before)])], 5_000)
            answer = await self._send_leader(info, partition, request)
            for _, partitions, *_ in answer.topics:
                for _, _, code, *_ in partitions:
                    self._check(info, code)

        await self._call(ask, f"trim of {name}")

    async def committed(self, name: str, partition: int, group: str) -> int | None:
        """The offset that a group of Kafka's has committed (the next it wants), None for none."""

        async def ask() -> int | None:
            info = await self.topic(name)
            node = self._coordinators.get(group)
            if node is None:
                node = self._coordinators[group] = await self._client.coordinator_lookup(0, group)
            try:
                answer = await self._send(node, OffsetFetchRequest(group, [(info.kafka_name, [partition])]))
                return committed_in(answer, group)
            except kafka_errors.KafkaError:
                self._coordinators.pop(group, None)
                raise

        return await self._call(ask, f"offsets of group {group}")

    # ------------------------------------------------------------------------------------ calls

    def _check(self, info: TopicInfo, code: int) -> None:
        error = kafka_errors.for_code(code)
        if error is not kafka_errors.NoError:
            self._forget(info)
            raise error(info.kafka_name)

    def _forget(self, info: TopicInfo) -> None:
        """Has the topic described again before its next use."""
        info.seen_at = float("-inf")

    async def _send_leader(self, info: TopicInfo, partition: int, request: Any) -> Any:
        if info.seen_at == float("-inf"):
            info = await self.topic(info.name, max_age_s=0.0)
        if partition >= info.partitions:
            raise LogError(f"topic {info.kafka_name} has {info.partitions} partitions, and none {partition}")
        if info.leaders[partition] < 0:
            self._forget(info)
            raise kafka_errors.LeaderNotAvailableError(info.kafka_name)
        try:
            return await self._send(info.leaders[partition], request)
        except kafka_errors.KafkaError:
            self._forget(info)
            raise

    async def _send(self, node: int | None, request: Any) -> Any:
        if node is None:
            node = self._client.get_random_node()
        if node is None:
            raise kafka_errors.NodeNotReadyError("no broker is known")
        return await self._client.send(node, request)

    async def _call(self, ask: Callable[[], Awaitable[T]], what: str, patience_s: float = _PATIENCE_S) -> T:
        """Asks until there is an answer. Right after a start brokers say for seconds that they can't."""
        deadline = time.monotonic() + patience_s
        pause_s = 0.02
        while True:
            try:
                return await ask()
            except _TooFewBrokers as error:
                if time.monotonic() + pause_s > deadline:
                    raise ConfigError(str(error)) from None
            except (kafka_errors.KafkaError, OSError, TimeoutError) as error:
                if self._closed:
                    raise ClosedError("the event log is closed") from None
                passing = getattr(error, "retriable", True)
                if not passing or time.monotonic() + pause_s > deadline:
                    raise translate(error, what) from error
                if isinstance(error, kafka_errors.NodeNotReadyError | kafka_errors.KafkaConnectionError):
                    await self._reconnect()
            await asyncio.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)

    async def _reconnect(self) -> None:
        """Asks the brokers of the address again: all that were known may be gone."""
        try:
            await self._client.bootstrap()
        except (kafka_errors.KafkaError, OSError):
            pass


def committed_in(answer: Any, group: str) -> int | None:
    """The offset in an answer to a question for one partition's, None for none.

    :raises KafkaError: the coordinator can't tell. Then it tells of no partition, not even that one.
    """
    codes = [answer.error_code, *(code for _, partitions in answer.topics for *_, code in partitions)]
    for error in map(kafka_errors.for_code, codes):
        if error is not kafka_errors.NoError:
            raise error(group)
    offsets = [offset for _, partitions in answer.topics for _, offset, *_ in partitions if offset >= 0]
    return int(offsets[0]) if offsets else None


class _TooFewBrokers(Exception):
    """Perhaps the others are still starting."""


def _request_ms(patience_s: float) -> int:
    return int(patience_s * 1000)
