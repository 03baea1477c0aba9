"""The Kafka log while its brokers die, its topics expire or are made anew, and its readers come and go."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.engines.kafka import Kafka
from runstream_store.errors import ConfigError, LogUnavailable, PositionUnknown
from runstream_store.log import Consumer, EventLog, NewRecord, StoredRecord, open_log
from runstream_store.position import Position
from tests.contract.engines import delete_topics
from tests.engines import running

pytestmark = [pytest.mark.faults, pytest.mark.engine]

LONG_S = 120.0  # never reached when all is well
APPENDERS = 8


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker of its own, to be killed."""
    folder = tmp_path_factory.mktemp("kafka")
    with running(lambda: Kafka(folder, settings={"log.retention.check.interval.ms": "300"})) as started:
        yield started


def address(server: Kafka, options: str = "") -> str:
    return f"{server.url}/test-{os.urandom(8).hex()}?replication=1&partitions=3{options}"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[EventLog]:
    log = await open_log(url)
    try:
        yield log
    finally:
        await log.close()


async def anywhere(partitions: Collection[int]) -> dict[int, int]:
    return {}


def number_of(record: StoredRecord) -> tuple[int, int]:
    appender, number = record.value.split(b":")[:2]
    return int(appender), int(number)


class Load:
    """Appenders that try each record until it is acknowledged, as senders do."""

    def __init__(self, log: EventLog) -> None:
        self.acknowledged: dict[tuple[int, int], tuple[int, int]] = {}  # → partition and offset
        self.longest_s = 0.0
        self._log = log
        self._stopping = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(APPENDERS)]

    async def _run(self, appender: int) -> None:
        number = 0
        while not self._stopping.is_set():
            value = f"{appender}:{number}:".encode() + bytes(20_000)
            began = time.monotonic()
            (position,) = await append(self._log, NewRecord(b"%d" % appender, value))
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.acknowledged[appender, number] = position.partition, position.offset
            number += 1

    async def grow(self, count: int) -> None:
        """Waits for so many more to be acknowledged by each."""
        wanted = {appender: self.count(appender) + count for appender in range(APPENDERS)}
        async with asyncio.timeout(LONG_S):
            while any(self.count(appender) < least for appender, least in wanted.items()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def count(self, appender: int) -> int:
        return sum(1 for one, _ in self.acknowledged if one == appender)

    async def stop(self) -> None:
        self._stopping.set()
        async with asyncio.timeout(LONG_S):
            await asyncio.gather(*self._tasks)


async def append(log: EventLog, *records: NewRecord) -> list[Position]:
    """Appends until that succeeds."""
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                return await log.append("points", records)
            except LogUnavailable:
                await asyncio.sleep(0.1)


async def read_on(reader: Consumer, found: list[StoredRecord]) -> None:
    """Until there is an error."""
    async with asyncio.timeout(LONG_S):
        while True:
            found += await reader.fetch(1 << 20, 0.5)


async def everything(log: EventLog, consumer: Consumer | None = None) -> dict[tuple[int, int], StoredRecord]:
    """All records of the topic, by partition and offset."""
    ends = {
        number: (await log.bounds("points", number))[1] for number in range(await log.partitions("points"))
    }
    reader = consumer or await log.subscribe("points", os.urandom(4).hex(), anywhere)
    found: dict[tuple[int, int], StoredRecord] = {}
    reached = dict.fromkeys(ends, 0)
    async with asyncio.timeout(LONG_S):
        while any(reached[number] < end for number, end in ends.items()):
            for record in await reader.fetch(4 << 20, 1.0):
                place = record.position.partition, record.position.offset
                assert place not in found, "read twice"
                assert place[1] >= reached[place[0]], "read out of order"
                reached[place[0]] = place[1] + 1
                found[place] = record
    return found


def check(load: Load, found: dict[tuple[int, int], StoredRecord]) -> None:
    """What was acknowledged is where it was said to be, in order."""
    for identity, place in load.acknowledged.items():
        assert number_of(found[place]) == identity
    for appender in range(APPENDERS):
        numbers = [number_of(record)[1] for record in found.values() if number_of(record)[0] == appender]
        firsts = list(dict.fromkeys(numbers))
        assert firsts == list(range(len(firsts)))


async def test_kill_9_of_the_broker_under_appenders(broker: Kafka) -> None:
    chance = random.Random(1)
    async with opened(address(broker)) as log:
        load = Load(log)
        reader = await log.subscribe("points", "g", anywhere)
        reading = asyncio.create_task(everything(log, reader))
        for _ in range(3):
            await load.grow(chance.randrange(5, 30))
            broker.engines[0].kill()
            await asyncio.sleep(chance.random())
            began = time.monotonic()
            await asyncio.to_thread(broker.engines[0].start)
            up_s = time.monotonic() - began
            await load.grow(1)
            print(f"the broker was back after {up_s:.1f} s, all appended {time.monotonic() - began:.1f} s")
        await load.stop()
        await asyncio.gather(reading, return_exceptions=True)
        check(load, await everything(log))
    print(f"{len(load.acknowledged)} records, longest append {load.longest_s:.1f} s")


async def test_a_reader_goes_on_after_the_broker_was_away(broker: Kafka) -> None:
    async with opened(address(broker)) as log:
        load = Load(log)
        await load.grow(10)
        reader = await log.subscribe("points", "g", anywhere)
        found = await reader.fetch(1 << 20, 10.0)
        broker.engines[0].kill()
        with pytest.raises(LogUnavailable):
            await read_on(reader, found)
        await asyncio.to_thread(broker.engines[0].start)
        await load.grow(10)
        await load.stop()
        seen = {(one.position.partition, one.position.offset) for one in found}
        assert len(seen) == len(found)
        missing = set(load.acknowledged.values()) - seen
        async with asyncio.timeout(LONG_S):
            while missing:
                try:
                    more = await reader.fetch(1 << 20, 1.0)
                except LogUnavailable:
                    continue
                missing -= {(one.position.partition, one.position.offset) for one in more}


async def test_an_append_while_no_broker_answers_is_refused_in_time(broker: Kafka) -> None:
    async with opened(address(broker, "&append_timeout_ms=1500")) as log:
        await log.append("points", [NewRecord(b"0", b"0:0:")])
        broker.engines[0].pause()
        try:
            began = time.monotonic()
            with pytest.raises(LogUnavailable):
                await log.append("points", [NewRecord(b"0", b"0:1:")])
            assert time.monotonic() - began < 10
        finally:
            broker.engines[0].resume()
        await append(log, NewRecord(b"0", b"0:1:"))
        found = await everything(log)
    assert {number_of(record) for record in found.values()} == {(0, 0), (0, 1)}


async def test_a_topic_made_anew_under_everybody(broker: Kafka) -> None:
    url = address(broker)
    async with opened(url) as log:
        records = [NewRecord(b"0", b"0:%d:" % number) for number in range(20)]
        old = await log.append("points", records)
        reader = await log.subscribe("points", "g", anywhere)
        assert await reader.fetch(1 << 20, 10.0)
        await delete_topics(url)
        async with asyncio.timeout(LONG_S):
            # Kafka answers before the broker has removed it: for a moment the old one takes records still.
            while (new := await append(log, records[0]))[0].epoch == old[0].epoch:
                assert new[0].offset == old[-1].offset + 1
                old += new
        assert old[0].epoch == old[-1].epoch
        assert new[0].epoch == await log.epoch("points")
        with pytest.raises(PositionUnknown):
            await read_on(reader, [])


async def test_expired_records_are_counted(broker: Kafka) -> None:
    url = address(broker, "&retention_ms=1000")
    async with opened(url) as log:
        appended = await log.append("points", [NewRecord(b"0", b"0:%d:" % number) for number in range(50)])
        partition = appended[0].partition

        async def start(partitions: Collection[int]) -> dict[int, int]:
            return dict.fromkeys(partitions, 0)

        async with asyncio.timeout(LONG_S):
            while (await log.bounds("points", partition))[0] <= appended[-1].offset:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        reader = await log.subscribe("points", "g", start)
        assert await reader.fetch(1 << 20, 0.0) == []
        (lost,) = reader.lost()
        assert (lost.partition, lost.first, lost.last) == (partition, 0, appended[-1].offset)


async def test_members_that_come_and_go_miss_nothing(broker: Kafka) -> None:
    """Each member applies at once what it fetched; the offsets are shared, as they are by the tables."""
    applied: dict[int, int] = {}
    seen: list[tuple[int, int]] = []

    async def start(partitions: Collection[int]) -> dict[int, int]:
        return {one: applied[one] for one in partitions if one in applied}

    async def member(log: EventLog, until: asyncio.Event) -> None:
        consumer = await log.subscribe("points", "g", start)
        while not until.is_set():
            for record in await consumer.fetch(1 << 18, 0.2):
                place = record.position
                seen.append((place.partition, place.offset))
                applied[place.partition] = max(applied.get(place.partition, 0), place.offset + 1)
            assert consumer.lost() == []
        await consumer.close()

    async with opened(address(broker, "&session_timeout_ms=6000")) as log:
        load = Load(log)
        stops = [asyncio.Event() for _ in range(8)]
        members = []
        for number, stop in enumerate(stops):
            members.append(asyncio.create_task(member(log, stop)))
            await asyncio.sleep(1.0)
            if number >= 2:
                stops[number - 2].set()
        await load.stop()
        ends = {number: (await log.bounds("points", number))[1] for number in range(3)}
        async with asyncio.timeout(LONG_S):
            while any(applied.get(number, 0) < end for number, end in ends.items()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for stop in stops:
            stop.set()
        await asyncio.gather(*members)
        assert set(seen) >= set(load.acknowledged.values())
        print(f"{len(seen)} fetched, {len(set(seen))} records")


async def test_too_few_brokers_for_the_copies_is_told(broker: Kafka) -> None:
    url = f"{broker.url}/test-{os.urandom(8).hex()}?replication=3&startup_timeout_ms=1000"
    async with opened(url) as log:
        with pytest.raises(ConfigError, match="copies"):
            await log.append("points", [NewRecord(b"0", b"")])


async def test_it_waits_for_a_broker_that_starts(tmp_path: Path) -> None:
    with running(lambda: Kafka(tmp_path)) as server:
        server.engines[0].kill()
        opening = asyncio.create_task(open_log(address(server)))
        await asyncio.sleep(0.5)
        assert not opening.done()
        await asyncio.to_thread(server.engines[0].start)
        async with asyncio.timeout(LONG_S):
            log = await opening
            await log.append("points", [NewRecord(b"0", b"")])
            await log.close()
