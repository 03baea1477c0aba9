"""What every event log must do."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Collection
from typing import Any

import pytest

from runstream_store.errors import ClosedError, LogLocked, PositionUnknown, RecordTooLarge
from runstream_store.log import Consumer, EventLog, Lost, NewRecord, Start, StoredRecord, open_log
from runstream_store.position import Position
from tests.contract.engines import LogEngine
from tests.contract.processes import acknowledged, victim
from tests.contract.victim import STREAMS, record

LONG_S = 60.0  # never reached when all is well


def at(offset: int | None) -> Start:
    async def start(partitions: Collection[int]) -> dict[int, int]:
        return {} if offset is None else dict.fromkeys(partitions, offset)

    return start


async def read(consumer: Consumer, count: int, max_bytes: int = 1 << 20) -> list[StoredRecord]:
    found: list[StoredRecord] = []
    async with asyncio.timeout(LONG_S):
        while len(found) < count:
            found += await consumer.fetch(max_bytes, 1.0)
    return found


def numbered(first: int, count: int) -> list[NewRecord]:
    return [NewRecord(b"key", str(number).encode()) for number in range(first, first + count)]


def numbers(records: list[StoredRecord]) -> list[int]:
    return [int(found.value) for found in records]


async def divided(partitions: frozenset[int], *consumers: Consumer) -> None:
    """Waits until each partition has its consumer."""
    async with asyncio.timeout(LONG_S):
        while frozenset[int]().union(*(one.assigned() for one in consumers)) != partitions:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert sum(len(one.assigned()) for one in consumers) == len(partitions)


async def settle() -> None:
    """Lets everything run that is ready."""
    for _ in range(20):
        await asyncio.sleep(0)


class TestAppending:
    async def test_records_come_back_as_they_were(self, log: EventLog) -> None:
        values = [b"", b"\0", b"x", os.urandom(200_000), bytes(range(256)) * 5000]
        records = [NewRecord(f"k\0{number}".encode(), value) for number, value in enumerate(values)]
        positions = await log.append("points", records)
        found = await read(await log.subscribe("points", "g", at(None)), len(values), 10 << 20)
        assert [(one.key, one.value) for one in found] == [(one.key, one.value) for one in records]
        assert sorted(one.position.offset for one in found) == sorted(one.offset for one in positions)
        assert {one.position for one in found} == set(positions)

    async def test_positions_grow_in_the_order_of_the_records(self, log: EventLog) -> None:
        first = await log.append("points", numbered(0, 10))
        second = await log.append("points", numbered(10, 10))
        offsets = [position.offset for position in first + second]
        assert offsets == sorted(set(offsets))
        epoch = await log.epoch("points")
        assert {(one.topic, one.partition, one.epoch) for one in first + second} == {("points", 0, epoch)}

    async def test_nothing_appended_is_nothing(self, log: EventLog) -> None:
        assert await log.append("points", []) == []

    async def test_concurrent_appends_keep_each_ones_order(self, log: EventLog) -> None:
        async def one(stream: int) -> list[Position]:
            positions = []
            for number in range(10):
                records = [NewRecord(b"", f"{stream}:{number}:{part}".encode()) for part in range(3)]
                positions += await log.append("points", records)
            return positions

        given = await asyncio.gather(*(one(stream) for stream in range(30)))
        found = await read(await log.subscribe("points", "g", at(None)), 900)
        assert [one.position.offset for one in found] == sorted(one.position.offset for one in found)
        by_position = {one.position: one.value.decode() for one in found}
        assert len(by_position) == 900
        for stream, positions in enumerate(given):
            assert positions == sorted(positions, key=lambda position: position.offset)
            texts = [f"{stream}:{number}:{part}" for number in range(10) for part in range(3)]
            assert [by_position[position] for position in positions] == texts

    async def test_topics_know_nothing_of_each_other(self, log: EventLog) -> None:
        await log.append("points", numbered(0, 5))
        await log.append("points.dead", numbered(100, 3))
        assert await log.bounds("points.dead", 0) == (0, 3)
        assert numbers(await read(await log.subscribe("points.dead", "g", at(None)), 3)) == [100, 101, 102]
        assert await log.bounds("never used", 0) == (0, 0)

    async def test_too_large_a_record_is_refused_with_its_companions(self, log: EventLog) -> None:
        large = NewRecord(b"", bytes(log.capabilities.max_record_bytes + 1))
        with pytest.raises(RecordTooLarge):
            await log.append("points", [NewRecord(b"", b"small"), large])
        await log.append("points", numbered(0, 1))
        assert numbers(await read(await log.subscribe("points", "g", at(None)), 1)) == [0]

    async def test_a_cancelled_append_harms_no_other(self, log: EventLog) -> None:
        tasks = [asyncio.create_task(log.append("points", numbered(number, 1))) for number in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        await log.append("points", numbered(20, 1))
        _, after = await log.bounds("points", 0)
        found = numbers(await read(await log.subscribe("points", "g", at(None)), after))
        assert len(found) == len(set(found))
        assert found[-1] == 20  # appended when the others had returned
        kept = {number for number, result in enumerate(done) if isinstance(result, list)}
        assert kept <= set(found)


class TestReading:
    async def test_a_waiting_consumer_gets_what_is_appended(self, log: EventLog) -> None:
        consumer = await log.subscribe("points", "g", at(None))
        waiting = asyncio.create_task(consumer.fetch(1000, LONG_S))
        await settle()
        assert not waiting.done()
        await log.append("points", numbered(7, 1))
        async with asyncio.timeout(LONG_S / 2):
            assert numbers(await waiting) == [7]

    async def test_nothing_there_is_an_empty_list_after_the_wait(self, log: EventLog) -> None:
        consumer = await log.subscribe("points", "g", at(None))
        assert await consumer.fetch(1000, 0.0) == []
        assert await consumer.fetch(1000, 0.05) == []

    async def test_the_size_of_a_fetch_is_bounded_but_never_empty(self, log: EventLog) -> None:
        await log.append("points", [NewRecord(b"", bytes(1000)) for _ in range(10)])
        consumer = await log.subscribe("points", "g", at(None))
        assert len(await consumer.fetch(1, 1.0)) == 1
        assert 1 <= len(await consumer.fetch(3000, 1.0)) <= 4

    async def test_a_cancelled_fetch_loses_nothing(self, log: EventLog) -> None:
        consumer = await log.subscribe("points", "g", at(None))
        found: list[StoredRecord] = []
        for number in range(30):
            fetching = asyncio.create_task(consumer.fetch(1000, LONG_S))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            await log.append("points", numbered(number, 1))
            if not fetching.cancel():
                found += fetching.result()
            else:
                await asyncio.gather(fetching, return_exceptions=True)
                found += fetching.result() if not fetching.cancelled() else []
        found += await read(consumer, 30 - len(found))
        assert numbers(found) == list(range(30))

    async def test_a_consumer_far_behind_gets_everything(self, log: EventLog) -> None:
        block = bytes(1 << 20)
        for _ in range(8):
            await log.append("points", [NewRecord(b"", block) for _ in range(8)])
        consumer = await log.subscribe("points", "g", at(None))
        early = await read(consumer, 32, 4 << 20)
        await log.append("points", numbered(1, 3))
        found = early + await read(consumer, 67 - len(early), 4 << 20)
        offsets = [one.position.offset for one in found]
        assert offsets == sorted(set(offsets))
        assert [len(one.value) for one in found] == [1 << 20] * 64 + [1] * 3

    async def test_reading_starts_where_the_reader_says(self, log: EventLog) -> None:
        positions = await log.append("points", numbered(0, 10))
        consumer = await log.subscribe("points", "g", at(positions[3].offset + 1))
        assert numbers(await read(consumer, 6)) == [4, 5, 6, 7, 8, 9]
        at_the_end = await log.subscribe("points", "other", at(positions[9].offset + 1))
        assert await at_the_end.fetch(1000, 0.0) == []
        assert at_the_end.lost() == []

    async def test_a_start_beyond_the_end_is_refused(self, log: EventLog) -> None:
        await log.append("points", numbered(0, 10))
        consumer = await log.subscribe("points", "g", at(1000))
        with pytest.raises(PositionUnknown):
            await consumer.fetch(1000, 1.0)


class TestTrimming:
    async def test_trimmed_records_are_gone(self, log: EventLog) -> None:
        positions = await log.append("points", numbered(0, 10))
        await log.trim("points", 0, positions[4].offset)
        assert await log.bounds("points", 0) == (positions[4].offset, positions[9].offset + 1)
        consumer = await log.subscribe("points", "g", at(None))
        assert numbers(await read(consumer, 6)) == [4, 5, 6, 7, 8, 9]
        assert consumer.lost() == []

    async def test_offsets_are_never_used_again(self, log_engine: LogEngine) -> None:
        async with log_engine.open() as log:
            before = await log.append("points", numbered(0, 10))
            await log.trim("points", 0, 1 << 40)
            first, after = await log.bounds("points", 0)
            assert first == after > before[-1].offset
        async with log_engine.open() as log:
            assert await log.bounds("points", 0) == (first, after)
            again = await log.append("points", numbered(10, 1))
            assert again[0].offset >= after
            assert numbers(await read(await log.subscribe("points", "g", at(None)), 1)) == [10]

    async def test_trimming_backwards_changes_nothing(self, log: EventLog) -> None:
        positions = await log.append("points", numbered(0, 10))
        await log.trim("points", 0, positions[5].offset)
        await log.trim("points", 0, positions[2].offset)
        assert (await log.bounds("points", 0))[0] == positions[5].offset

    async def test_expired_records_are_told_once(self, log: EventLog) -> None:
        positions = await log.append("points", numbered(0, 10))
        await log.trim("points", 0, positions[6].offset)
        consumer = await log.subscribe("points", "g", at(positions[2].offset))
        assert numbers(await read(consumer, 4)) == [6, 7, 8, 9]
        assert consumer.lost() == [Lost("points", 0, positions[2].offset, positions[5].offset)]
        assert consumer.lost() == []

    async def test_records_that_expire_under_a_reader_are_told(self, log: EventLog) -> None:
        positions = await log.append("points", numbered(0, 10))
        consumer = await log.subscribe("points", "g", at(None))
        assert numbers(await consumer.fetch(2, 1.0)) == [0, 1]
        await log.trim("points", 0, positions[5].offset)
        assert numbers(await read(consumer, 5)) == [5, 6, 7, 8, 9]
        assert consumer.lost() == [Lost("points", 0, positions[2].offset, positions[4].offset)]

    async def test_everything_expired_is_told_before_anything_new(self, log: EventLog) -> None:
        positions = await log.append("points", numbered(0, 10))
        consumer = await log.subscribe("points", "g", at(positions[0].offset))
        await log.trim("points", 0, positions[9].offset + 1)
        assert await consumer.fetch(1000, 0.0) == []
        assert consumer.lost() == [Lost("points", 0, positions[0].offset, positions[9].offset)]

    async def test_trims_between_reads_and_appends(self, log: EventLog) -> None:
        """Seeded: whatever is trimmed, each record is either read, or told as lost, in order and once."""
        chance = random.Random(5)
        consumer = await log.subscribe("points", "g", at(0))
        written = 0
        seen: list[int] = []
        for _ in range(60):
            count = chance.randrange(0, 20)
            await log.append("points", numbered(written, count))
            written += count
            if chance.random() < 0.4:
                await log.trim("points", 0, chance.randrange(0, written + 1))
            for found in await consumer.fetch(chance.randrange(1, 40), 0.0):
                assert int(found.value) == found.position.offset
                seen.append(found.position.offset)
            for lost in consumer.lost():
                seen += range(lost.first, lost.last + 1)
        while found_last := await consumer.fetch(1000, 0.0):
            seen += numbers(found_last)
        assert sorted(seen) == list(range(written))


class TestCommitting:
    async def test_what_is_committed_is_remembered(self, log_engine: LogEngine) -> None:
        async with log_engine.open() as log:
            positions = await log.append("points", numbered(0, 10))
            consumer = await log.subscribe("points", "g", at(None))
            await read(consumer, 10)
            assert await log.committed("points", 0, "g") is None
            await consumer.commit([positions[2], positions[6]])
            await consumer.commit([positions[4]])
            assert await log.committed("points", 0, "g") == positions[6].offset
            assert await log.committed("points", 0, "other") is None
        async with log_engine.open() as log:
            assert await log.committed("points", 0, "g") == positions[6].offset

    async def test_it_does_not_decide_where_reading_starts(self, log: EventLog) -> None:
        positions = await log.append("points", numbered(0, 10))
        consumer = await log.subscribe("points", "g", at(None))
        await read(consumer, 10)
        await consumer.commit([positions[9]])
        await consumer.close()
        again = await log.subscribe("points", "g", at(positions[1].offset))
        assert numbers(await read(again, 9)) == list(range(1, 10))


class TestGroups:
    async def test_each_group_reads_everything(self, log: EventLog) -> None:
        consumers = [await log.subscribe("points", group, at(None)) for group in ("a", "b")]
        await log.append("points", numbered(0, 5))
        for consumer in consumers:
            assert numbers(await read(consumer, 5)) == [0, 1, 2, 3, 4]

    async def test_a_partition_has_one_reader_and_moves_on_when_it_leaves(self, log: EventLog) -> None:
        starts: list[int] = []
        applied: list[int | None] = [None]

        async def start(partitions: Collection[int]) -> dict[int, int]:
            starts.extend(partitions)
            return {} if applied[0] is None else dict.fromkeys(partitions, applied[0])

        positions = await log.append("points", numbered(0, 10))
        first = await log.subscribe("points", "g", start)
        assert numbers(await first.fetch(3, LONG_S))[:1] == [0]
        second = await log.subscribe("points", "g", start)
        everything = frozenset(range(await log.partitions("points")))
        await divided(everything, first, second)
        applied[0] = positions[4].offset + 1
        waiting = asyncio.create_task(read(second, 5))
        await first.close()
        async with asyncio.timeout(LONG_S):
            assert numbers(await waiting) == [5, 6, 7, 8, 9]
        assert second.assigned() == everything
        assert len(starts) == 2

    async def test_a_commit_of_a_partition_that_was_taken_away_is_ignored(self, log: EventLog) -> None:
        positions = await log.append("points", numbered(0, 3))
        await log.subscribe("points", "g", at(None))
        second = await log.subscribe("points", "g", at(None))
        await second.commit([positions[2]])
        assert await log.committed("points", 0, "g") is None

    @pytest.mark.needs("partitions")
    async def test_keys_spread_over_partitions(self, log: EventLog) -> None:
        records = [NewRecord(os.urandom(16), b"") for _ in range(200)]
        positions = await log.append("points", records)
        assert await log.partitions("points") > 1
        assert len({position.partition for position in positions}) > 1
        again = await log.append("points", records)
        assert [one.partition for one in positions] == [one.partition for one in again]


class TestRestart:
    async def test_everything_is_still_there(self, log_engine: LogEngine) -> None:
        async with log_engine.open() as log:
            epoch = await log.epoch("points")
            positions = await log.append("points", numbered(0, 5))
        async with log_engine.open() as log:
            assert await log.epoch("points") == epoch
            positions += await log.append("points", numbered(5, 5))
            found = await read(await log.subscribe("points", "g", at(None)), 10)
        assert numbers(found) == list(range(10))
        assert [one.position for one in found] == positions

    async def test_a_new_log_has_another_epoch(self, log_engine: LogEngine) -> None:
        async with log_engine.open() as log:
            old = await log.append("points", numbered(0, 1))
        await log_engine.recreate()
        async with log_engine.open() as log:
            new = await log.append("points", numbered(0, 1))
            assert len(new[0].epoch) == 16
            assert new[0].epoch != old[0].epoch
            assert new[0].epoch == await log.epoch("points")

    async def test_closing_ends_everything(self, log_engine: LogEngine) -> None:
        log = await open_log(log_engine.url)
        consumer = await log.subscribe("points", "g", at(None))
        waiting = asyncio.create_task(consumer.fetch(1000, LONG_S))
        appending = [asyncio.create_task(log.append("points", numbered(number, 1))) for number in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(log.close(), log.close())
        await asyncio.gather(*appending)
        calls: list[Awaitable[Any]] = [
            consumer.fetch(1000, 0.0),
            consumer.commit([]),
            log.append("points", numbered(0, 1)),
            log.bounds("points", 0),
            log.trim("points", 0, 1),
            log.subscribe("points", "g", at(None)),
        ]
        await asyncio.gather(waiting, return_exceptions=True)  # it may have got records before
        for call in calls:
            with pytest.raises(ClosedError):
                await call
        await consumer.close()
        await log.close()
        async with log_engine.open() as again:
            assert await again.bounds("points", 0) == (0, 20)

    async def test_a_closed_consumer_reads_no_more(self, log: EventLog) -> None:
        consumer = await log.subscribe("points", "g", at(None))
        waiting = asyncio.create_task(consumer.fetch(1000, LONG_S))
        await settle()
        await consumer.close()
        with pytest.raises(ClosedError):
            await waiting
        with pytest.raises(ClosedError):
            await consumer.fetch(1000, 0.0)
        assert consumer.assigned() == frozenset()


class TestProcesses:
    async def test_two_processes(self, log_engine: LogEngine) -> None:
        async with victim("hold", log_engine.url) as process:
            if "many_processes" in log_engine.missing:
                with pytest.raises(LogLocked, match=f"process {process.pid} "):
                    await open_log(log_engine.url)
            else:
                async with log_engine.open() as log:
                    await log.append("points", numbered(0, 1))
        async with log_engine.open() as log:  # the dead process holds nothing
            await log.append("points", numbered(1, 1))

    @pytest.mark.faults
    async def test_kill_9_while_appending(self, log_engine: LogEngine) -> None:
        done: dict[tuple[int, int, int], int] = {}  # (round, stream, number) → offset
        for seed in range(6):
            for stream, number, offset in await acknowledged("log", log_engine.url, seed):
                done[seed, stream, number] = offset
        assert len(set(done.values())) == len(done), "an offset was given out twice"
        async with log_engine.open() as log:
            first, after = await log.bounds("points", 0)
            assert first == 0
            found = await read(await log.subscribe("points", "g", at(None)), after, 8 << 20)
        stored = {one.position.offset: one for one in found}
        assert [one.position.offset for one in found] == sorted(stored)
        for (_, stream, number), offset in done.items():
            expected = record(stream, number)
            assert (stored[offset].key, stored[offset].value) == (expected.key, expected.value)
        for one in found:  # nothing partial among what was not acknowledged
            stream, number = map(int, one.key.split(b":"))
            assert stream < STREAMS
            assert one.value == record(stream, number).value
