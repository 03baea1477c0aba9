"""Hot state of several processes: each has it in memory, and Redis carries what changes between them.

Nothing waits for Redis but the first question about what another process knows. What this process tells is
kept until Redis has it, and its applied positions are told again every few seconds, so that an emptied Redis
fills up. Applied positions that nobody tells any more (their writer has ended, and Redis was emptied) come
from the tables, where they are kept for good.

In Redis, below the prefix: `applied:<consumer>`, a hash of offsets; `lease:<writer>`, the server's clock at
the last renewal; `since`, from when on writers without a lease are given time; channels `applied` and
`live:<channel>`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio import Redis

from runstream_store.errors import ConfigError
from runstream_store.hot.memory import MemoryHotState, MemorySubscription
from runstream_store.hot.protocol import LEASE_NS, AppliedSource
from runstream_store.hot.redis_link import UNREACHABLE, Listener, Pusher, chunks, connect, reason
from runstream_store.position import Position

logger = logging.getLogger(__name__)

_AGAIN_S: Final = 2.0  # so often our positions are told anyway
_LOOK_S: Final = 0.5  # so often Redis is asked on behalf of who waits: a message may have been lost
_SOURCE_S: Final = 2.0  # so often the tables are, while Redis answers; without it always
_DOWN_S: Final = 0.5
_QUEUED: Final = 1_000
_QUEUED_BYTES: Final = 8 << 20
_LEASE_MS: Final = 10 * LEASE_NS // 1_000_000
_APPLIED_S: Final = 7 * 86_400
_ORIGIN: Final = 16

# Offsets only grow. KEYS: the hash. ARGV: how long to keep it, then fields and offsets.
_RAISE: Final = """
for at = 2, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[at])
  if not known or tonumber(known) < tonumber(ARGV[at + 1]) then
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""


class RedisSubscription(MemorySubscription):
    """A subscription that lets Redis know when it ends."""

    def __init__(self, siblings: set[MemorySubscription], state: RedisHotState, channel: str) -> None:
        """Use `RedisHotState.subscribe`."""
        super().__init__(siblings)
        self._state = state
        self._channel = channel

    def end(self) -> None:
        """Ends it."""
        super().end()
        self._state.ended(self._channel)


class RedisHotState:
    """`HotState` of several processes."""

    def __init__(self, client: Redis, prefix: str, now_ns: int, source: AppliedSource | None) -> None:
        """Use `open`."""
        self._client = client
        self._prefix = prefix
        self._source = source
        self._memory = MemoryHotState(now_ns)
        self._origin = os.urandom(_ORIGIN)
        self._raise = client.register_script(_RAISE)
        self._ours: dict[tuple[str, str, int, bytes], Position] = {}  # told by this process
        self._fresh: set[tuple[str, str, int, bytes]] = set()  # of them, not yet told to Redis
        self._leases: dict[bytes, int] = {}
        self._messages: deque[tuple[str, bytes]] = deque()
        self._messages_bytes = 0
        self._channels: dict[str, set[MemorySubscription]] = {}
        self._loaded: set[str] = set()  # consumers whose positions we had since we listen
        self._waiting: Counter[str] = Counter()
        self._wanted = asyncio.Event()
        self._blind = False  # Redis did not answer when it was last asked about leases
        self._down_until = 0.0  # on the monotonic clock: it did not answer just now, so it is not asked
        self._pusher = Pusher(self._push, _AGAIN_S)
        self._listener = Listener(client, self._heard, self._connected)
        self._looker = asyncio.create_task(self._look(), name="hot-state-look")
        self._ends: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, now_ns: int, source: AppliedSource | None) -> Self:
        """Opens `redis://host:port/db?prefix=…`. Does not fail when Redis is not there."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        prefix = options.pop("prefix", "runstream")
        if not prefix:
            raise ConfigError("the prefix of the hot state in Redis is empty")
        client = connect(parts._replace(query=urlencode(options)).geturl())
        state = cls(client, prefix, now_ns, source)
        await state._listener.follow(state._name("applied"))
        try:
            await client.set(state._name("since"), now_ns)
        except UNREACHABLE as error:
            state._blind = True
            logger.warning("the hot state starts without Redis: %s", reason(error))
        return state

    @property
    def name(self) -> str:
        """See `HotState.name`."""
        return "redis"

    async def problem(self) -> str:
        """See `HotState.problem`."""
        try:
            await self._client.ping()
        except UNREACHABLE as error:
            return reason(error)
        return ""

    # --------------------------------------------------------------------------------- positions

    async def set_applied(self, consumer: str, position: Position, /) -> None:
        """See `HotState.set_applied`. Redis learns it a moment later."""
        await self._memory.set_applied(consumer, position)
        key = (consumer, position.topic, position.partition, position.epoch)
        known = self._ours.get(key)
        if known is None or known.offset < position.offset:
            self._ours[key] = position
            self._fresh.add(key)
            self._pusher.wake()

    async def applied(self, consumer: str, topic: str, partition: int, epoch: bytes, /) -> int | None:
        """See `HotState.applied`."""
        await self._load(consumer)
        return await self._memory.applied(consumer, topic, partition, epoch)

    async def applied_positions(self, consumer: str, /) -> list[Position]:
        """See `HotState.applied_positions`."""
        await self._load(consumer)
        return await self._memory.applied_positions(consumer)

    async def wait_applied(self, consumer: str, positions: Iterable[Position], timeout_s: float, /) -> bool:
        """See `HotState.wait_applied`."""
        self._waiting[consumer] += 1
        self._wanted.set()
        try:
            return await self._memory.wait_applied(consumer, positions, timeout_s)
        finally:
            self._waiting[consumer] -= 1

    async def _load(self, consumer: str) -> None:
        """Knows what Redis or the tables know, when changes were not heard from the start."""
        if consumer not in self._loaded and not await self._ask_redis(consumer):
            await self._ask_source(consumer)

    async def _look(self) -> None:
        """Asks on behalf of who waits."""
        asked_at = time.monotonic()
        while self._closing is None:
            waiting = [consumer for consumer, count in self._waiting.items() if count > 0]
            if not waiting:
                self._wanted.clear()
                await self._wanted.wait()
                asked_at = time.monotonic()
                continue
            source = time.monotonic() - asked_at >= _SOURCE_S
            for consumer in waiting:
                if not await self._ask_redis(consumer) or source:
                    asked_at = time.monotonic()
                    await self._ask_source(consumer)
            await asyncio.sleep(_LOOK_S)

    async def _ask_redis(self, consumer: str) -> bool:
        heard = self._listener.complete()
        if time.monotonic() < self._down_until:
            return False
        try:
            found = await self._client.hgetall(self._name(f"applied:{consumer}"))
        except UNREACHABLE:
            self._down_until = time.monotonic() + _DOWN_S
            return False
        if heard and self._listener.complete():
            self._loaded.add(consumer)
        for field, offset in found.items():
            topic, partition, epoch = json.loads(field)
            await self._learn(consumer, Position(topic, partition, int(offset), bytes.fromhex(epoch)))
        return True

    async def _ask_source(self, consumer: str) -> None:
        if self._source is not None:
            try:
                for position in await self._source(consumer):
                    await self._learn(consumer, position)
            except Exception as error:  # whatever the tables have: others may still tell
                logger.warning("the applied positions can't be read from the tables: %s", error)

    async def _learn(self, consumer: str, position: Position) -> None:
        if self._closing is None:
            await self._memory.set_applied(consumer, position)

    # ------------------------------------------------------------------------------------ leases

    async def renew_leases(self, writers: Iterable[bytes], now_ns: int, /) -> None:
        """See `HotState.renew_leases`. Redis learns it a moment later."""
        renewed = list(writers)
        await self._memory.renew_leases(renewed, now_ns)
        self._leases.update((writer, now_ns) for writer in renewed)
        self._pusher.wake()

    async def lease_alive(self, writers: Sequence[bytes], now_ns: int, /) -> list[bool]:
        """See `HotState.lease_alive`. All live as long as Redis does not answer, and a while after."""
        alive = await self._memory.lease_alive(writers, now_ns)
        if all(alive):
            return alive
        if time.monotonic() < self._down_until:
            return [True] * len(writers)
        try:
            keys = [self._lease(writer) for writer in writers]
            found, *known = await self._client.mget([self._name("since"), *keys])
            if found is None:  # Redis was emptied
                await self._client.set(self._name("since"), now_ns, nx=True)
        except UNREACHABLE:
            self._blind, self._down_until = True, time.monotonic() + _DOWN_S
            return [True] * len(writers)
        since_ns = now_ns if found is None or self._blind else int(found)
        self._blind = False
        self._memory.lenient_from_ns = max(self._memory.lenient_from_ns, since_ns)
        for writer, renewed in zip(writers, known, strict=True):
            if renewed is not None:
                await self._memory.renew_leases([writer], int(renewed))
        return await self._memory.lease_alive(writers, now_ns)

    # ---------------------------------------------------------------------------------- channels

    async def publish(self, channel: str, message: bytes, /) -> None:
        """See `HotState.publish`. The subscribers of this process have it at once."""
        self._memory.check_open()
        for subscription in self._channels.get(channel, ()):
            subscription.offer(message)
        self._messages.append((channel, message))
        self._messages_bytes += len(message)
        while len(self._messages) > _QUEUED or self._messages_bytes > _QUEUED_BYTES:
            self._messages_bytes -= len(self._messages.popleft()[1])
        self._pusher.wake()

    async def subscribe(self, channel: str, /) -> RedisSubscription:
        """See `HotState.subscribe`."""
        self._memory.check_open()
        subscription = RedisSubscription(self._channels.setdefault(channel, set()), self, channel)
        await self._listener.follow(self._name(f"live:{channel}"))
        return subscription

    def ended(self, channel: str) -> None:
        """For subscriptions."""
        if channel in self._channels and not self._channels[channel]:
            del self._channels[channel]
            if self._closing is None:
                task = asyncio.create_task(self._leave(channel))
                self._ends.add(task)
                task.add_done_callback(self._ends.discard)

    async def _leave(self, channel: str) -> None:
        if channel not in self._channels:  # nobody came meanwhile
            await self._listener.leave(self._name(f"live:{channel}"))

    # --------------------------------------------------------------------------------------- link

    def _heard(self, name: bytes, message: bytes) -> None:
        origin, message = message[:_ORIGIN], message[_ORIGIN:]
        if origin == self._origin or self._closing is not None:
            return
        if name == self._name("applied"):
            for consumer, topic, partition, offset, epoch in json.loads(message):
                self._memory.note_applied(consumer, Position(topic, partition, offset, bytes.fromhex(epoch)))
            return
        channel = name.removeprefix(self._name("live:")).decode()
        for subscription in self._channels.get(channel, ()):
            subscription.offer(message)

    def _connected(self, connected: bool) -> None:
        if connected:
            self._pusher.wake()
            return
        self._loaded.clear()
        for followers in self._channels.values():
            for subscription in followers:
                subscription.miss()

    async def _push(self) -> None:
        """Tells Redis what it does not know, and our positions in any case."""
        fresh, self._fresh = self._fresh, set()
        leases, self._leases = self._leases, {}
        messages, self._messages, self._messages_bytes = self._messages, deque(), 0
        try:
            await self._push_applied([self._told(key) for key in fresh])
            for some in chunks(leases.items(), 1_000):
                async with self._client.pipeline(transaction=False) as pipeline:
                    for writer, now_ns in some:
                        pipeline.set(self._lease(writer), now_ns, px=_LEASE_MS)
                    await pipeline.execute()
            for some in chunks(messages, 100):
                async with self._client.pipeline(transaction=False) as pipeline:
                    for channel, message in some:
                        pipeline.publish(self._name(f"live:{channel}"), self._origin + message)
                    await pipeline.execute()
        except BaseException:  # messages of the moment are gone, the rest is told later
            self._fresh |= fresh
            self._leases = leases | self._leases
            raise

    async def _push_applied(self, fresh: list[tuple[str, str, int, int, str]]) -> None:
        by_consumer: dict[str, list[str | int]] = {}
        for (consumer, *_), position in self._ours.items():
            field = json.dumps([position.topic, position.partition, position.epoch.hex()])
            by_consumer.setdefault(consumer, []).extend((field, position.offset))
        for consumer, fields in by_consumer.items():
            await self._raise(keys=[self._name(f"applied:{consumer}")], args=[_APPLIED_S, *fields])
        if fresh:
            await self._client.publish(self._name("applied"), self._origin + json.dumps(fresh).encode())

    def _told(self, key: tuple[str, str, int, bytes]) -> tuple[str, str, int, int, str]:
        consumer, topic, partition, epoch = key
        return consumer, topic, partition, self._ours[key].offset, epoch.hex()

    def _name(self, name: str) -> bytes:
        return f"{self._prefix}:{name}".encode()

    def _lease(self, writer: bytes) -> bytes:
        return self._name(f"lease:{writer.hex()}")

    async def close(self) -> None:
        """See `HotState.close`. What Redis can be told at once is told."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._memory.close()
        for followers in list(self._channels.values()):
            for subscription in list(followers):
                subscription.end()
        self._looker.cancel()
        await asyncio.gather(self._looker, *self._ends, return_exceptions=True)
        await self._pusher.close()
        try:
            async with asyncio.timeout(1.0):
                await self._push()
        except UNREACHABLE:
            pass
        await self._listener.close()
        await self._client.aclose()
