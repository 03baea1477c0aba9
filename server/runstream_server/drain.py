"""The end of a server process: who asks for it, and in which order the parts close."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from runstream_store.hot import HotState
from runstream_store.log import EventLog
from runstream_store.position import Position

_log = logging.getLogger("runstream.server")


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
