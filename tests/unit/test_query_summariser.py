"""A run with very many elements keeps neither other runs nor saved positions waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from runstream_query.barrier import LIGHT_WANTED, SUMMARIES
from runstream_query.summaries import Key
from runstream_query.summariser import Summariser
from runstream_store.hot import HotState, open_hot
from runstream_store.position import Position

LARGE, SMALL = ("ws", "large"), ("ws", "small")
EPOCH = bytes(16)


class Costly:
    """Summaries of which one costs a minute, which nobody has to wait for."""

    def __init__(self) -> None:
        self.more_s = 0.0
        self.read: list[Key] = []
        self.left: list[Key] = []
        self.held = asyncio.Event()
        self.held.set()

    async def refresh(self, keys: Sequence[Key]) -> None:
        await self.held.wait()
        self.read += keys
        self.more_s += 60.0 if LARGE in keys else 0.0

    async def elements(self, key: Key) -> int:
        return 10_000_000 if key == LARGE else 1

    async def stale(self) -> list[Key]:
        return self.left


@asynccontextmanager
async def running(*left: Key) -> AsyncIterator[tuple[Summariser, Costly, HotState]]:
    """`left`: runs that were not up to date at the end of the last process."""
    hot, costly = await open_hot("memory://"), Costly()
    costly.left += left
    nothing: Any = None
    summariser = Summariser(nothing, hot, clock=lambda: time.monotonic() + costly.more_s)
    summariser._summaries = costly  # type: ignore[assignment]
    task = asyncio.create_task(summariser.run())
    try:
        yield summariser, costly, hot
    finally:
        task.cancel()
        await asyncio.wait([task])
        await hot.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def at(topic: str, offset: int) -> list[Position]:
    return [Position(topic, 0, offset, EPOCH)]


async def test_a_heavy_run_keeps_nobody_waiting() -> None:
    async with running() as (summariser, costly, hot):
        ticket = summariser.touch([LARGE], at("points", 1))
        await until(lambda: summariser.passed() >= ticket)
        ticket = summariser.touch([SMALL], at("points", 2))
        await until(lambda: summariser.passed() >= ticket)
        assert costly.read == [LARGE, SMALL]
        # Some of its processes have ended, say. It was read just now, for a minute: it is not its turn yet.
        ticket = summariser.touch([LARGE], at("runs", 1))
        ticket = summariser.touch([SMALL], at("points", 3))
        await until(lambda: summariser.passed() >= ticket)
        assert costly.read == [LARGE, SMALL, SMALL]
        assert not await hot.wait_applied("summaries.light", at("runs", 1), 0.0)
        await hot.publish(SUMMARIES, LIGHT_WANTED)  # but somebody looks at the list of runs
        assert await hot.wait_applied("summaries.light", at("runs", 1), 60.0)
        assert costly.read == [LARGE, SMALL, SMALL, LARGE]


async def test_what_was_left_at_the_start_keeps_no_position_waiting() -> None:
    async with running(LARGE) as (summariser, costly, _):
        costly.held.clear()  # it takes as long as it takes
        ticket = summariser.touch([], at("points", 1))
        await until(lambda: summariser.passed() >= ticket)
        ticket = summariser.touch([SMALL], at("points", 2))
        await asyncio.sleep(0.1)
        assert summariser.passed() < ticket
        costly.held.set()
        await until(lambda: summariser.passed() >= ticket)
        assert costly.read == [LARGE, SMALL]
