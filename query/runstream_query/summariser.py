"""Keeps the summaries of runs up to date: a task beside the writers.

The writers tell which runs their blocks touched. A run that is touched again while it waits is read once. The
more it has to do, the more it does at once, and it takes no more than a part of the time of the machine: a
reader that waits for a position wakes it. Runs that take long to read, because they have very many
elements, are put off for longer while they go on, unless somebody waits. No other waits for them: a position
is saved when the rest is read, and what is not saved is read again from the log by the next start.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from runstream_query.barrier import LIGHT_SUMMARIES, SUMMARIES, WANTED
from runstream_query.summaries import Key, Summaries
from runstream_store.errors import ClosedError, StoreError
from runstream_store.hot import HotState
from runstream_store.position import Position
from runstream_store.tables import Tables

_log = logging.getLogger("runstream.query")

_SETTLE_S: Final = 30.0
_RETRY_S: Final = (0.2, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class SummariserSettings:
    """How it behaves."""

    batch: int = 2_000
    """Runs that are read at once."""
    share: float = 0.1
    """Part of the time that it may be busy when nobody waits."""
    longest_rest_s: float = 10.0
    """But it rests no longer, for a start reads again what comes meanwhile."""
    heavy_s: float = 0.5
    heavy_elements: int = 500_000
    """A run that alone takes longer, and has more elements, is heavy."""
    heavy_share: float = 0.02
    """Part of the time that a heavy run may take while it goes on."""


@dataclass(slots=True)
class _Told:
    """A ticket that is not passed yet."""

    ticket: int
    positions: Sequence[Position]


@dataclass(slots=True)
class _Waiting:
    """A run that is to be read."""

    since: int
    """The first ticket that touched it after it was read."""
    heavy: bool = False
    not_before: float = field(default=0.0)
    known: bool = False
    """Nothing but the look at the start has marked it: the next start would mark it again."""


class Summariser:
    """Implements the writers' `Derived`."""

    def __init__(
        self,
        tables: Tables,
        hot: HotState,
        settings: SummariserSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._summaries = Summaries(tables)
        self._hot = hot
        self._settings = settings or SummariserSettings()
        self._clock = clock
        self._ticket = 0
        self._told: dict[str, deque[_Told]] = {SUMMARIES: deque(), LIGHT_SUMMARIES: deque()}
        self._waiting: dict[Key, _Waiting] = {}
        self._reading: dict[Key, _Waiting] = {}
        self._heavy: dict[Key, float] = {}  # seconds that it took last time
        self._light_after = self._heavy_after = 0.0  # on the clock, unless somebody waits
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()  # somebody waits
        self._all_wanted = False  # for heavy runs, too
        self._done = asyncio.Condition()
        self._failing = False
        self._ended = False
        self._ready = False  # what was left from the last time is known

    # ----------------------------------------------------------------------------- for the writers

    def touch(self, runs: Iterable[Key], positions: Sequence[Position], /) -> int:
        """See `Derived`."""
        self._ticket += 1
        for told in self._told.values():
            told.append(_Told(self._ticket, positions))
        now = self._clock()
        events = any(position.topic != "points" for position in positions)  # few, and people look at them
        for key in runs:
            took = None if events else self._heavy.get(key)
            pause_s = 0.0 if took is None else took / self._settings.heavy_share
            new = _Waiting(self._ticket, took is not None, now + pause_s, known=not positions)
            waiting = self._waiting.setdefault(key, new)
            waiting.known &= new.known
            if took is None:
                waiting.heavy, waiting.not_before = False, now
        self._changed.set()
        return self._ticket

    def passed(self) -> int:
        """See `Derived`. Heavy runs, and those that were marked at the start, do not count: the next start
        reads them again.
        """
        if not self._ready:
            return 0
        left = [*self._waiting.items(), *self._reading.items()]
        since = (one.since for key, one in left if not one.known and key not in self._heavy)
        return min(since, default=self._ticket + 1) - 1

    async def settle(self) -> None:
        """See `Derived`."""
        aim = self._ticket
        self._all_wanted = True
        self._wanted.set()
        try:
            async with asyncio.timeout(_SETTLE_S), self._done:
                await self._done.wait_for(lambda: self._up_to() >= aim or self._failing or self._ended)
        except TimeoutError:
            _log.warning("runs are not summarised yet; that is made good for at the next start")

    def _up_to(self, consumer: str = SUMMARIES) -> int:
        if not self._ready:
            return 0
        least = min(
            (one.since for one in self._waiting.values() if consumer == SUMMARIES or not one.heavy),
            default=self._ticket + 1,
        )
        reading = min((one.since for one in self._reading.values()), default=self._ticket + 1)
        return min(least, reading) - 1

    # ------------------------------------------------------------------------------------ its task

    async def run(self) -> None:
        """Runs until it is cancelled."""
        listening = asyncio.create_task(self._listen(), name="summaries-wanted")
        try:
            await self._catch_up()
            while True:
                await self._pass()
                await self._rest()
        except ClosedError:
            pass  # the server ends
        finally:
            self._ended = True
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            async with self._done:
                self._done.notify_all()

    async def _listen(self) -> None:
        async with await self._hot.subscribe(SUMMARIES) as messages:
            async for message in messages:
                self._all_wanted |= message == WANTED
                self._wanted.set()

    async def _catch_up(self) -> None:
        """Marks what may not be up to date since the last time."""
        while True:
            try:
                self.touch(await self._summaries.stale(), ())
                self._ready = True
                return
            except ClosedError:
                raise
            except StoreError as error:
                _log.warning("the summaries of runs can't be looked through: %s", error)
                await asyncio.sleep(_RETRY_S[-1])

    async def _rest(self) -> None:
        """Waits until there is something to do and it is time, or somebody waits."""
        while True:
            if self._wanted.is_set() and any(
                self._all_wanted or not one.heavy for one in self._waiting.values()
            ):
                return
            if any(told and told[0].ticket <= self._up_to(name) for name, told in self._told.items()):
                return  # nothing of it touched a run
            self._wanted.clear()  # nothing that is wanted waits
            self._all_wanted = False
            now = self._clock()
            times = (max(one.not_before, self._after(key)) for key, one in self._waiting.items())
            due = min(times, default=None)
            pause_s = None if due is None else due - now
            if pause_s is not None and pause_s <= 0:
                return
            self._changed.clear()
            waiting = [asyncio.create_task(event.wait()) for event in (self._changed, self._wanted)]
            try:
                await asyncio.wait(waiting, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()

    def _after(self, key: Key) -> float:
        """Not sooner is a run read, unless somebody waits."""
        return self._heavy_after if key in self._heavy else self._light_after

    async def _pass(self) -> None:
        """Reads some of the runs that wait."""
        now, wanted = self._clock(), self._wanted.is_set()
        due = [
            key
            for key, one in self._waiting.items()
            if self._all_wanted or (one.not_before <= now and (wanted or self._after(key) <= now))
        ]
        if not due:
            await self._tell()
            return
        oldest = min(due, key=lambda key: self._waiting[key].since)
        if oldest in self._heavy:  # alone
            chosen = [oldest]
        else:
            chosen = [key for key in due if key not in self._heavy][: self._settings.batch]
        for key in chosen:
            self._reading[key] = self._waiting.pop(key)
        try:
            await self._read(chosen)
        except BaseException:
            for key in chosen:
                before = self._reading[key]
                self._waiting.setdefault(key, before).since = before.since
            raise
        finally:
            for key in chosen:
                del self._reading[key]
        took = self._clock() - now
        if len(chosen) == 1:
            self._heavy.pop(chosen[0], None)
            if took > self._settings.heavy_s and await self._has_many(chosen[0]):
                self._heavy[chosen[0]] = took
        after = self._clock() + took * (1 / self._settings.share - 1)
        if chosen[0] in self._heavy:
            self._heavy_after = after
        else:
            self._light_after = min(after, self._clock() + self._settings.longest_rest_s)
        await self._tell()

    async def _has_many(self, key: Key) -> bool:
        """Whether a run has so many elements that it is worth to read it less often."""
        try:
            return await self._summaries.elements(key) > self._settings.heavy_elements
        except ClosedError:
            raise
        except StoreError:
            return False

    async def _read(self, keys: Sequence[Key]) -> None:
        for pause_s in (*_RETRY_S, None):
            try:
                await self._summaries.refresh(keys)
                self._failing = False
                return
            except ClosedError:
                raise
            except StoreError as error:
                if len(keys) > 1 and not error.retryable:
                    half = len(keys) // 2  # perhaps too much at once
                    await self._read(keys[:half])
                    await self._read(keys[half:])
                    return
                _log.warning("%d runs could not be summarised: %s", len(keys), error)
                if pause_s is None:
                    self._failing = True
                    return  # the next touch tries again; a search shows the older row
                await asyncio.sleep(pause_s)

    async def _tell(self) -> None:
        """Tells readers up to where runs are summarised."""
        for consumer, told in self._told.items():
            up_to = self._up_to(consumer)
            while told and told[0].ticket <= up_to:
                for position in told.popleft().positions:
                    await self._hot.set_applied(consumer, position)
        async with self._done:
            self._done.notify_all()
