"""Hot state that processes share: what one tells the others learn, whatever happens to Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis as Client

from deploy.engines.redis import Redis
from runstream_store.errors import ConfigError
from runstream_store.hot import LEASE_NS, AppliedSource, HotState, open_hot
from runstream_store.position import Position
from tests.contract.engines import redis
from tests.engines import running

pytestmark = pytest.mark.engine

LONG_S = 30.0  # never reached when all is well
SOON_S = 1.0  # for what must not wait for Redis
EPOCH = bytes(range(16))
A, B = bytes(16), b"b" * 16

Open = Callable[..., Awaitable[HotState]]


def position(offset: int) -> Position:
    return Position("points", 3, offset, EPOCH)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    """A server of its own, to be killed."""
    with running(lambda: Redis(tmp_path)) as started:
        yield started


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Opens hot states, as of different processes."""
    async with AsyncExitStack() as stack:

        async def open_one(url: str, source: AppliedSource | None = None) -> HotState:
            state = await open_hot(url, source=source)
            stack.push_async_callback(state.close)
            return state

        yield open_one


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LONG_S):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class TestTogether:
    @pytest.fixture
    async def two(self, redis_server: Redis, opened: Open) -> tuple[HotState, HotState]:
        url = redis(redis_server)
        return await opened(url), await opened(url)

    async def test_a_position_wakes_who_waits_elsewhere(self, two: tuple[HotState, HotState]) -> None:
        one, other = two
        waiting = asyncio.create_task(other.wait_applied("points", [position(5)], LONG_S))
        await one.set_applied("points", position(4))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        began = time.monotonic()
        await one.set_applied("points", position(6))
        assert await waiting
        assert time.monotonic() - began < SOON_S
        assert await other.applied("points", "points", 3, EPOCH) == 6

    async def test_who_comes_later_learns_what_was_told(
        self, two: tuple[HotState, HotState], redis_server: Redis, opened: Open
    ) -> None:
        url = redis(redis_server)
        first = await opened(url)
        await first.set_applied("points", position(7))
        await first.set_applied("points", position(2))
        await first.close()
        later = await opened(url)
        assert await later.applied_positions("points") == [position(7)]
        assert await later.wait_applied("points", [position(7)], LONG_S)
        assert await two[0].applied_positions("points") == []  # another prefix

    async def test_an_older_position_does_not_count(self, two: tuple[HotState, HotState]) -> None:
        one, other = two
        await one.set_applied("points", position(9))
        assert await other.wait_applied("points", [position(9)], LONG_S)
        await other.set_applied("points", position(3))
        await other.set_applied("points", position(1))
        await asyncio.sleep(0.1)
        assert await one.applied("points", "points", 3, EPOCH) == 9

    async def test_leases_are_shared(self, two: tuple[HotState, HotState]) -> None:
        one, other = two
        now = time.time_ns() + 10 * LEASE_NS
        await one.renew_leases([A], now)

        async def seen() -> bool:
            return await other.lease_alive([A, B], now) == [True, False]

        await eventually(seen)
        assert await other.lease_alive([A], now + LEASE_NS) == [False]

    async def test_messages_cross_over_in_order_and_once(self, two: tuple[HotState, HotState]) -> None:
        one, other = two
        async with await one.subscribe("run") as near, await other.subscribe("run") as far:
            for number in range(500):
                await one.publish("run", b"%d" % number)
                await one.publish("elsewhere", b"no")
            for subscription in (near, far):
                found = [await subscription.get(LONG_S) for _ in range(500)]
                assert found == [b"%d" % number for number in range(500)]
                assert await subscription.get(0.05) is None
                assert subscription.missed() == 0

    async def test_a_channel_can_be_left_and_followed_again(self, two: tuple[HotState, HotState]) -> None:
        one, other = two
        for number in range(20):
            async with await other.subscribe("run") as subscription:
                await one.publish("run", b"%d" % number)
                assert await subscription.get(LONG_S) == b"%d" % number


class TestFaults:
    pytestmark = pytest.mark.faults

    async def test_an_emptied_redis_fills_up(self, server: Redis, opened: Open) -> None:
        one, other = await opened(server.url), await opened(server.url)
        await one.set_applied("points", position(5))
        assert await other.wait_applied("points", [position(5)], LONG_S)
        async with Client.from_url(server.url) as client:
            await client.flushall()
        now = time.time_ns() + 10 * LEASE_NS
        assert await other.lease_alive([A], now) == [True]  # its sender gets the time to tell
        assert await other.lease_alive([A], now + LEASE_NS) == [False]
        later = await opened(server.url)
        assert await later.wait_applied("points", [position(5)], LONG_S)

    async def test_nobody_waits_for_a_redis_that_is_dead(self, server: Redis, opened: Open) -> None:
        one, other = await opened(server.url), await opened(server.url)
        async with await other.subscribe("run") as subscription, await one.subscribe("run") as near:
            server.engine.kill()
            now = time.time_ns() + 10 * LEASE_NS
            async with asyncio.timeout(SOON_S):
                await one.set_applied("points", position(5))
                await one.renew_leases([A], now)
                await one.publish("run", b"lost")
                assert await near.get(LONG_S) == b"lost"
                assert await other.lease_alive([A, B], now) == [True, True]
                assert await one.wait_applied("points", [position(5)], LONG_S)
                assert not await other.wait_applied("points", [position(5)], 0.1)
            waiting = asyncio.create_task(other.wait_applied("points", [position(5)], LONG_S))
            await asyncio.to_thread(server.start)
            assert await waiting

            async def seen() -> bool:
                await one.publish("run", b"again")
                return await subscription.get(0.1) == b"again"

            await eventually(seen)
            assert subscription.missed() == 1

    async def test_the_tables_know_what_nobody_tells(self, server: Redis, opened: Open) -> None:
        asked = []

        async def source(consumer: str) -> Iterable[Position]:
            asked.append(consumer)
            return [position(8)]

        reader = await opened(server.url, source)
        assert await reader.wait_applied("points", [position(8)], LONG_S)
        server.engine.kill()
        alone = await opened(server.url, source)
        began = time.monotonic()
        assert await alone.wait_applied("runs", [position(8)], LONG_S)
        assert time.monotonic() - began < SOON_S
        assert await alone.applied("points", "points", 3, EPOCH) == 8
        assert set(asked) == {"points", "runs"}

    async def test_tables_that_fail_are_asked_again(self, server: Redis, opened: Open) -> None:
        failures = [OSError("away"), RuntimeError("what is this")]

        async def source(consumer: str) -> Iterable[Position]:
            if failures:
                raise failures.pop()
            return [position(8)]

        server.engine.kill()
        reader = await opened(server.url, source)
        assert await reader.wait_applied("points", [position(8)], LONG_S)

    async def test_it_starts_without_redis_and_finds_it_later(self, server: Redis, opened: Open) -> None:
        server.engine.kill()
        one, other = await opened(server.url), await opened(server.url)
        await one.set_applied("points", position(5))
        await asyncio.to_thread(server.start)
        assert await other.wait_applied("points", [position(5)], LONG_S)

    async def test_a_redis_that_hangs_holds_nobody_for_long(self, server: Redis, opened: Open) -> None:
        one, other = await opened(server.url), await opened(server.url)
        server.engine.pause()
        try:
            began = time.monotonic()
            await one.set_applied("points", position(5))
            await one.publish("run", b"x")
            assert time.monotonic() - began < SOON_S
            assert await other.lease_alive([A], time.time_ns() + 10 * LEASE_NS) == [True]
            assert await other.applied("points", "points", 3, EPOCH) is None
            assert time.monotonic() - began < LONG_S / 2
        finally:
            server.engine.resume()
        assert await other.wait_applied("points", [position(5)], LONG_S)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0?prefix=", "redis://127.0.0.1:1/0?nonsense=1"])
async def test_an_address_that_makes_no_sense(url: str) -> None:
    with pytest.raises(ConfigError):
        await open_hot(url)
