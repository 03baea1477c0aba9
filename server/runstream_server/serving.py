"""Runs a server process until it is asked to end, or a part of it dies."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from runstream_server.drain import stop_signal

if TYPE_CHECKING:
    from runstream_server.process import ServerProcess


async def serve(
    process: ServerProcess,
    listens: Callable[[], None],
    ends: Callable[[], None] = lambda: None,
    *,
    idle_exit_s: float = 0,
) -> int:
    """Returns the exit code when somebody asks for the end, also while it starts.

    :param listens: called once it does.
    :param ends: called before its parts end.
    :param idle_exit_s: end when nobody used it for so long; 0: never.
    :raises StoreError, ServerError: what a part has died of.
    """
    async with stop_signal() as stop:
        try:
            if not await _unless(stop, process.start()):
                return 0
            listens()
            gc.collect()
            gc.freeze()  # what lives from here on is small; the rest is never looked at again
            await _unless(stop, process.ended(), *([_idle(process, idle_exit_s)] if idle_exit_s else []))
            return 0
        finally:
            ends()
            await process.stop()


async def _unless(stop: asyncio.Event, *work: Coroutine[Any, Any, None]) -> bool:
    """Waits for the first of several, and raises what it raises; False when it is to stop before."""
    asked = asyncio.create_task(_wait(stop))
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in tasks if task.done()]
        for task in ended:
            task.result()
        return bool(ended)
    finally:
        for task in (asked, *tasks):
            task.cancel()
        await asyncio.gather(asked, *tasks, return_exceptions=True)


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


async def _idle(process: ServerProcess, idle_exit_s: float) -> None:
    """Returns when nobody has used the server for long enough."""
    left = idle_exit_s
    while left > 0:
        await asyncio.sleep(left)
        left = idle_exit_s - process.idle_s()
