"""The byte budget, and what keeps writers from inserting too often or refusing too much."""

from __future__ import annotations

import asyncio

import pytest

from runstream_ingest.limits import ByteBudget
from runstream_ingest.writers.block import Block, Pace, Rate, Thrift
from runstream_ingest.writers.dead_letter import DeadLetterLimit
from runstream_store.log import StoredRecord
from runstream_store.position import Position


async def test_the_budget_is_given_in_order() -> None:
    budget = ByteBudget(100)
    got: list[str] = []

    async def take(name: str, size: int) -> None:
        await budget.take(size)
        got.append(name)

    await take("first", 80)
    waiting = [asyncio.create_task(take(name, size)) for name, size in (("large", 60), ("small", 10))]
    await asyncio.sleep(0)
    assert got == ["first"]  # also the small one waits: else the large one might for ever
    budget.give(80)
    await asyncio.gather(*waiting)
    assert got == ["first", "large", "small"]
    assert budget.used == 70


async def test_more_than_the_budget_is_let_in_alone() -> None:
    budget = ByteBudget(10)
    await budget.take(50)
    other = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    assert not other.done()
    budget.give(50)
    await other
    assert budget.used == 1


async def test_who_stops_waiting_takes_nothing() -> None:
    budget = ByteBudget(10)
    await budget.take(10)
    gone = asyncio.create_task(budget.take(9))
    other = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    budget.give(1)
    await other
    assert budget.used == 10

    late = asyncio.create_task(budget.take(5))
    await asyncio.sleep(0)
    budget.give(10)  # its turn has come, but it has not run yet
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert budget.used == 0


def record(offset: int) -> StoredRecord:
    return StoredRecord(Position("points", 0, offset, bytes(16)), b"", b"value")


def test_a_block_is_due_at_once_when_little_comes_and_waits_when_much_does() -> None:
    pace = Pace(rows=100, linger_s=1.0, idle_rows_per_s=10, full_rows_per_s=110)
    block: Block[None] = Block()
    assert block.due(pace, 0, 0) == float("inf")
    block.add([record(0)], [], [], 5.0)
    assert block.due(pace, 0, 0) == 5.0
    assert block.due(pace, 110, 0) == 5.25
    assert block.due(pace, 60, 0) == 5.125
    block.add([record(1)], [], [], 5.9)
    assert block.due(pace, 110, 0) == 6.0
    assert block.due(pace, 0, 7.0) == 7.0
    assert [r.position.offset for r in block.last.values()] == [1]
    block.rows = 100
    assert block.due(pace, 110, 7.0) == -float("inf")


def test_inserts_take_a_part_of_the_time() -> None:
    pace = Pace(share=0.1, saved_s=1.0, longest_wait_s=0.3)
    thrift = Thrift(pace)
    now, inserts = 100.0, 0
    for _ in range(10_000):
        now = max(now + 0.001, thrift.not_before(now))
        now += 0.02
        thrift.spend(0.02, now)
        inserts += 1
        if now > 200:
            break
    assert 0.1 <= inserts * 0.02 / 100 < 0.13
    assert thrift.not_before(now) - now <= pace.longest_wait_s + 1e-9
    assert thrift.not_before(now + 10) <= now + 10


def test_the_rate_follows_what_comes() -> None:
    rate = Rate()
    assert rate.per_second(1.0) == 0
    for tenth in range(100):
        rate.add(100, tenth / 10)
    assert 900 < rate.per_second(9.9) < 1200
    assert rate.per_second(20.0) < 1


def test_dead_letters_are_made_up_to_a_rate() -> None:
    now = 0.0
    limit = DeadLetterLimit(burst=10, per_second=2.0, per_record=0.5, clock=lambda: now)
    assert limit.wait_s(10) == 0
    assert limit.wait_s(1) == 0.5
    now = 0.5
    assert limit.wait_s(1) == 0
    limit.good(4)
    assert limit.wait_s(2) == 0
    assert limit.wait_s(1) > 0
    now = 100.0
    assert limit.wait_s(1000) == 0  # more at once than ever fits: after the whole time
    assert limit.wait_s(1) > 0
