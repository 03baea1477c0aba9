"""The end of a server process: who asks for it, what ends, and what waits until the tables hold the log."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from runstream_store.hot import HotState
from runstream_store.log import EventLog
from runstream_store.position import Position
from runstream_store.tables import Tables
from runstream_store.tables.applied import applied_source

_log = logging.getLogger("runstream.server")

_LOOK_S: Final = 1.0  # the tables say some seconds later what they hold


@asynccontextmanager
async def stop_signal() -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM and Ctrl-C set.

    A second Ctrl-C ends the process at once: nothing that was acknowledged is lost by it.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    def asked_politely() -> None:  # a supervisor may repeat it
        stop.set()

    loop.add_signal_handler(signal.SIGINT, asked)
    loop.add_signal_handler(signal.SIGTERM, asked_politely)
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)


async def cancel(task: asyncio.Task[None]) -> None:
    """Ends a task that goes on for ever."""
    task.cancel()
    await asyncio.wait([task])


async def log_ends(log: EventLog, topic: str) -> list[Position]:
    """The last position that a topic has now, for each partition that has any."""
    epoch = await log.epoch(topic)
    ends = []
    for partition in range(await log.partitions(topic)):
        _, next_offset = await log.bounds(topic, partition)
        if next_offset > 0:
            ends.append(Position(topic, partition, next_offset - 1, epoch))
    return ends


async def wait_applied(
    log: EventLog, hot: HotState, consumers: Sequence[tuple[str, str]], within_s: float
) -> bool:
    """Wait until the tables hold all that the log holds now. False when that takes longer.

    `consumers` are pairs of consumer and topic.
    """
    deadline = asyncio.get_running_loop().time() + within_s
    complete = True
    for consumer, topic in consumers:
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        if not await hot.wait_applied(consumer, await log_ends(log, topic), left):
            complete = False
            _log.warning(
                "not all of the log is in the tables yet; the next start goes on", extra={"topic": topic}
            )
    return complete


async def wait_in_tables(
    log: EventLog, tables: Tables, consumers: Sequence[tuple[str, str]], within_s: float
) -> bool:
    """As `wait_applied`, but by what the tables themselves say: the hot state still knows the positions of
    tables that somebody has emptied.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    applied = applied_source(tables)
    for consumer, topic in consumers:
        ends = await log_ends(log, topic)
        while not _cover(await applied(consumer), ends):
            if loop.time() > deadline:
                return False
            await asyncio.sleep(_LOOK_S)
    return True


def _cover(applied: Iterable[Position], wanted: Iterable[Position]) -> bool:
    reached = {(one.topic, one.partition, one.epoch): one.offset for one in applied}
    return all(reached.get((one.topic, one.partition, one.epoch), -1) >= one.offset for one in wanted)
