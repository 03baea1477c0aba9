"""Hot state of one process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from runstream_store.errors import ClosedError
from runstream_store.hot.protocol import LEASE_NS
from runstream_store.position import Position

_QUEUED: Final = 1_000  # messages that a subscriber may be behind
_QUEUED_BYTES: Final = 8 << 20

_Key = tuple[str, str, int, bytes]


@dataclass(slots=True, eq=False)
class _Waiter:
    missing: dict[_Key, int]
    done: asyncio.Future[bool]


class MemorySubscription:
    """`Subscription` with a bounded queue."""

    def __init__(self, siblings: set[MemorySubscription]) -> None:
        """Use `MemoryHotState.subscribe`."""
        self._siblings = siblings
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._missed = 0
        self._changed = asyncio.Event()
        self._closed = False
        siblings.add(self)

    def offer(self, message: bytes) -> None:
        """Queues a message; drops the oldest when the queue is full."""
        self._messages.append(message)
        self._bytes += len(message)
        while len(self._messages) > _QUEUED or (self._bytes > _QUEUED_BYTES and len(self._messages) > 1):
            self._bytes -= len(self._messages.popleft())
            self._missed += 1
        self._changed.set()

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> bytes:
        """See `Subscription`."""
        while not self._messages:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._take()

    async def get(self, timeout_s: float, /) -> bytes | None:
        """See `Subscription.get`."""
        try:
            async with asyncio.timeout(timeout_s):
                return await anext(self, None)
        except TimeoutError:
            return self._take() if self._messages else None

    def _take(self) -> bytes:
        message = self._messages.popleft()
        self._bytes -= len(message)
        return message

    def missed(self) -> int:
        """See `Subscription.missed`."""
        missed, self._missed = self._missed, 0
        return missed

    async def close(self) -> None:
        """See `Subscription.close`."""
        self.end()

    def miss(self) -> None:
        """Notes that messages may have gone by."""
        self._missed += 1

    def end(self) -> None:
        """Ends it; what is queued is gone."""
        self._closed = True
        self._messages.clear()
        self._siblings.discard(self)
        self._changed.set()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Ends it."""
        self.end()


class MemoryHotState:
    """`HotState` in this process."""

    def __init__(self, opened_ns: int) -> None:
        """`opened_ns`: the server's clock now."""
        self.lenient_from_ns = opened_ns
        """Writers of which nothing is known count as alive until `LEASE_NS` after this."""
        self._applied: dict[_Key, Position] = {}
        self._waiters: set[_Waiter] = set()
        self._leases: dict[bytes, int] = {}
        self._leases_swept_ns = opened_ns
        self._channels: dict[str, set[MemorySubscription]] = {}
        self._closed = False

    @property
    def name(self) -> str:
        """See `HotState.name`."""
        return "memory"

    async def problem(self) -> str:
        """See `HotState.problem`."""
        return ""

    async def set_applied(self, consumer: str, position: Position, /) -> None:
        """See `HotState.set_applied`."""
        self.check_open()
        self.note_applied(consumer, position)

    def note_applied(self, consumer: str, position: Position) -> None:
        """The same, from outside of a coroutine."""
        key = (consumer, position.topic, position.partition, position.epoch)
        known = self._applied.get(key)
        if known is not None and known.offset >= position.offset:
            return
        self._applied[key] = position
        for waiter in [waiter for waiter in self._waiters if key in waiter.missing]:
            if waiter.missing[key] <= position.offset:
                del waiter.missing[key]
                if not waiter.missing and not waiter.done.done():
                    waiter.done.set_result(True)

    async def applied(self, consumer: str, topic: str, partition: int, epoch: bytes, /) -> int | None:
        """See `HotState.applied`."""
        self.check_open()
        position = self._applied.get((consumer, topic, partition, epoch))
        return None if position is None else position.offset

    async def applied_positions(self, consumer: str, /) -> list[Position]:
        """See `HotState.applied_positions`."""
        self.check_open()
        return [position for key, position in self._applied.items() if key[0] == consumer]

    async def wait_applied(self, consumer: str, positions: Iterable[Position], timeout_s: float, /) -> bool:
        """See `HotState.wait_applied`."""
        self.check_open()
        missing: dict[_Key, int] = {}
        for position in positions:
            key = (consumer, position.topic, position.partition, position.epoch)
            known = self._applied.get(key)
            if known is None or known.offset < position.offset:
                missing[key] = max(position.offset, missing.get(key, -1))
        if not missing:
            return True
        waiter = _Waiter(missing, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter.done
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)

    async def renew_leases(self, writers: Iterable[bytes], now_ns: int, /) -> None:
        """See `HotState.renew_leases`."""
        self.check_open()
        for writer in writers:
            self._leases[writer] = max(now_ns, self._leases.get(writer, 0))
        if now_ns - self._leases_swept_ns > 10 * LEASE_NS:
            self._leases_swept_ns = now_ns
            self._leases = {writer: at for writer, at in self._leases.items() if now_ns - at < 2 * LEASE_NS}

    async def lease_alive(self, writers: Sequence[bytes], now_ns: int, /) -> list[bool]:
        """See `HotState.lease_alive`."""
        self.check_open()
        return [now_ns - self._leases.get(writer, self.lenient_from_ns) < LEASE_NS for writer in writers]

    async def publish(self, channel: str, message: bytes, /) -> None:
        """See `HotState.publish`."""
        self.check_open()
        for subscription in self._channels.get(channel, ()):
            subscription.offer(message)

    async def subscribe(self, channel: str, /) -> MemorySubscription:
        """See `HotState.subscribe`."""
        self.check_open()
        self._channels = {name: followers for name, followers in self._channels.items() if followers}
        return MemorySubscription(self._channels.setdefault(channel, set()))

    async def close(self) -> None:
        """See `HotState.close`."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.done.done():
                waiter.done.set_result(False)
        for followers in list(self._channels.values()):
            for subscription in list(followers):
                subscription.end()
        self._channels.clear()

    def check_open(self) -> None:
        """Refuses what comes after `close`."""
        if self._closed:
            raise ClosedError("the hot state is closed")
