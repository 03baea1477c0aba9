"""What every hot state must do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from runstream_store.errors import ClosedError
from runstream_store.hot import LEASE_NS, HotState, open_hot
from runstream_store.position import Position
from tests.contract.conftest import START_NS

LONG_S = 60.0  # never reached when all is well
EPOCH = bytes(range(16))
SECOND_NS = 1_000_000_000


def position(offset: int, *, topic: str = "points", partition: int = 0, epoch: bytes = EPOCH) -> Position:
    return Position(topic, partition, offset, epoch)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_it_has_a_name_and_answers(hot: HotState, hot_url: str) -> None:
    assert hot_url.startswith(hot.name)
    assert await hot.problem() == ""


class TestApplied:
    async def test_nothing_is_known_at_first(self, hot: HotState) -> None:
        assert await hot.applied("points", "points", 0, EPOCH) is None
        assert await hot.applied_positions("points") == []

    async def test_the_greatest_offset_counts(self, hot: HotState) -> None:
        for offset in (3, 7, 5):
            await hot.set_applied("points", position(offset))
        assert await hot.applied("points", "points", 0, EPOCH) == 7

    async def test_consumers_topics_partitions_and_epochs_are_apart(self, hot: HotState) -> None:
        await hot.set_applied("points", position(3))
        assert await hot.applied("runs", "points", 0, EPOCH) is None
        assert await hot.applied("points", "runs", 0, EPOCH) is None
        assert await hot.applied("points", "points", 1, EPOCH) is None
        assert await hot.applied("points", "points", 0, bytes(16)) is None
        await hot.set_applied("points", position(1, partition=1))
        known = sorted(await hot.applied_positions("points"), key=lambda one: one.partition)
        assert known == [position(3), position(1, partition=1)]

    async def test_waiting_for_what_is_there_is_over_at_once(self, hot: HotState) -> None:
        await hot.set_applied("points", position(3))
        assert await hot.wait_applied("points", [], 0.0)
        assert await hot.wait_applied("points", [position(3), position(2)], 0.0)
        assert not await hot.wait_applied("points", [position(4)], 0.0)

    async def test_a_waiter_is_woken(self, hot: HotState) -> None:
        waiting = asyncio.create_task(hot.wait_applied("points", [position(3), position(5)], LONG_S))
        await hot.set_applied("points", position(3))
        await hot.set_applied("points", position(4))
        await hot.set_applied("runs", position(9))
        await settle()
        assert not waiting.done()
        await hot.set_applied("points", position(6))
        async with asyncio.timeout(LONG_S / 2):
            assert await waiting

    async def test_a_waiter_waits_for_all_partitions(self, hot: HotState) -> None:
        wanted = [position(3), position(5, partition=1)]
        waiting = asyncio.create_task(hot.wait_applied("points", wanted, LONG_S))
        await settle()
        await hot.set_applied("points", position(9))
        await settle()
        assert not waiting.done()
        await hot.set_applied("points", position(5, partition=1))
        async with asyncio.timeout(LONG_S / 2):
            assert await waiting

    async def test_many_waiters(self, hot: HotState) -> None:
        waiting = [asyncio.create_task(hot.wait_applied("points", [position(n)], LONG_S)) for n in range(50)]
        for offset in range(0, 50, 7):
            await hot.set_applied("points", position(offset))
            await settle()
            assert [one.done() for one in waiting] == [n <= offset for n in range(50)]
        await hot.set_applied("points", position(50))
        assert all(await asyncio.gather(*waiting))

    async def test_waiting_ends_in_time(self, hot: HotState) -> None:
        assert not await hot.wait_applied("points", [position(3)], 0.01)

    async def test_another_epoch_is_never_applied(self, hot: HotState) -> None:
        await hot.set_applied("points", position(100))
        assert not await hot.wait_applied("points", [position(3, epoch=bytes(16))], 0.01)


class TestLeases:
    A, B, C = (bytes([number]) * 16 for number in range(3))

    async def test_a_lease_lives_for_its_time(self, hot: HotState) -> None:
        now = START_NS + 100 * SECOND_NS
        await hot.renew_leases([self.A], now)
        assert await hot.lease_alive([self.A, self.B], now) == [True, False]
        assert await hot.lease_alive([self.A], now + LEASE_NS - 1) == [True]
        assert await hot.lease_alive([self.A], now + LEASE_NS) == [False]
        await hot.renew_leases([self.A, self.B], now + LEASE_NS)
        assert await hot.lease_alive([self.A, self.B, self.C], now + LEASE_NS) == [True, True, False]

    async def test_unknown_ones_live_until_senders_had_time_to_come_back(self, hot: HotState) -> None:
        assert await hot.lease_alive([self.A], START_NS + LEASE_NS - 1) == [True]
        assert await hot.lease_alive([self.A], START_NS + LEASE_NS) == [False]

    async def test_old_leases_are_forgotten(self, hot: HotState) -> None:
        now = START_NS
        for _ in range(50):
            now += 10 * SECOND_NS
            await hot.renew_leases([self.A], now)
        assert await hot.lease_alive([self.A, self.B], now) == [True, False]

    async def test_nobody(self, hot: HotState) -> None:
        await hot.renew_leases([], START_NS)
        assert await hot.lease_alive([], START_NS) == []


class TestChannels:
    async def test_everybody_gets_every_message_in_order(self, hot: HotState) -> None:
        async with await hot.subscribe("run") as one, await hot.subscribe("run") as other:
            for number in range(100):
                await hot.publish("run", b"%d" % number)
            for subscription in (one, other):
                found = [await subscription.get(LONG_S) for _ in range(100)]
                assert found == [b"%d" % number for number in range(100)]
                assert subscription.missed() == 0

    async def test_only_what_comes_after_subscribing(self, hot: HotState) -> None:
        await hot.publish("run", b"early")
        async with await hot.subscribe("run") as subscription:
            await hot.publish("another", b"elsewhere")
            await hot.publish("run", b"late")
            assert await subscription.get(LONG_S) == b"late"
            assert await subscription.get(0.01) is None

    async def test_a_waiting_subscriber_is_woken(self, hot: HotState) -> None:
        async with await hot.subscribe("run") as subscription:
            waiting = asyncio.create_task(subscription.get(LONG_S))
            await settle()
            await hot.publish("run", b"now")
            async with asyncio.timeout(LONG_S / 2):
                assert await waiting == b"now"

    async def test_a_slow_one_misses_the_oldest_and_is_told(self, hot: HotState) -> None:
        async with await hot.subscribe("run") as slow:
            for number in range(100_000):
                await hot.publish("run", b"%d" % number)
            assert await slow.get(LONG_S) is not None
            found = 1
            last = b""
            while (message := await slow.get(0.01)) is not None:
                found += 1
                last = message
            assert last == b"99999"
            assert found < 100_000
            assert found + slow.missed() == 100_000
            assert slow.missed() == 0

    async def test_large_messages_are_bounded_too(self, hot: HotState) -> None:
        async with await hot.subscribe("run") as slow:
            for _ in range(100):
                await hot.publish("run", bytes(1 << 20))
            found = 0
            while await slow.get(0.01) is not None:
                found += 1
            assert 1 <= found < 100
            assert found + slow.missed() == 100

    async def test_an_iteration_ends_with_its_subscription(self, hot: HotState) -> None:
        subscription = await hot.subscribe("run")
        seen: list[bytes] = []

        async def follow() -> None:
            async for message in subscription:
                seen.append(message)

        task = asyncio.create_task(follow())
        await hot.publish("run", b"a")
        await settle()
        await subscription.close()
        async with asyncio.timeout(LONG_S / 2):
            await task
        assert seen == [b"a"]
        await hot.publish("run", b"b")  # to nobody
        await subscription.close()


async def test_closing_ends_all_waiting(hot_url: str) -> None:
    hot = await open_hot(hot_url)
    waiting = asyncio.create_task(hot.wait_applied("points", [position(3)], LONG_S))
    subscription = await hot.subscribe("run")
    following = asyncio.create_task(subscription.get(LONG_S))
    await settle()
    await hot.close()
    async with asyncio.timeout(LONG_S / 2):
        assert await waiting is False
        assert await following is None
    calls: list[Awaitable[Any]] = [
        hot.set_applied("points", position(3)),
        hot.publish("run", b""),
        hot.subscribe("run"),
        hot.lease_alive([], 0),
    ]
    for call in calls:
        with pytest.raises(ClosedError):
            await call
    await hot.close()
