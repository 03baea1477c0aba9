"""The connections of the hot state to Redis: one that tells, one that listens. Both come back by themselves.

redis-py's own PubSub connects again without a word, and what went by meanwhile is lost unnoticed; hence a
plain connection. A task that is cancelled within a command may go on as if nothing had been: tasks look at a
flag, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from redis.asyncio import Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from runstream_store.errors import ConfigError

logger = logging.getLogger(__name__)

UNREACHABLE: Final = (RedisError, OSError, TimeoutError)

_TIMEOUT_S: Final = 2.0
_ABSENT_S: Final = 0.5
_QUIET_S: Final = 5.0  # then the connection is asked whether it lives
_LEAST_PAUSE_S: Final = 0.05
_GREATEST_PAUSE_S: Final = 2.0


def reason(error: BaseException) -> str:
    """What one of `UNREACHABLE` says; the client's own `repr` says only of which kind it is."""
    return str(error) or type(error).__name__


def connect(url: str) -> Redis:
    """A client that gives up soon.

    :raises ConfigError: the address makes no sense.
    """
    try:
        client = Redis.from_url(
            url,
            protocol=2,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        connection(client)  # this looks at the options
        return client
    except (ValueError, TypeError) as error:
        raise ConfigError(f"no hot state at this address: {error}") from error


def connection(client: Redis) -> Connection:
    """A connection beside those that the client uses for commands; not connected yet."""
    made: Connection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    return made


class Pusher:
    """Does something again and again: when told to, now and then anyway, and later when it fails."""

    def __init__(self, push: Callable[[], Awaitable[None]], every_s: float) -> None:
        """`push` tells Redis what it does not know yet."""
        self._push = push
        self._every_s = every_s
        self._wanted = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="hot-state-push")

    def wake(self) -> None:
        """There is something to tell."""
        self._wanted.set()

    async def close(self) -> None:
        """Ends it."""
        self._closing = True
        self._wanted.set()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = 0.0
        while not self._closing:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            try:
                await self._push()
            except UNREACHABLE as error:
                if not pause_s:
                    logger.warning(
                        "Redis can't be told: %s. What it lacks is told when it is back", reason(error)
                    )
                pause_s = min(_GREATEST_PAUSE_S, max(_LEAST_PAUSE_S, pause_s * 2))
                self._wanted.set()
                await asyncio.sleep(pause_s)
            else:
                if pause_s:
                    logger.info("Redis is back")
                pause_s = 0.0


class Listener:
    """Follows channels of Redis."""

    def __init__(
        self, client: Redis, heard: Callable[[bytes, bytes], None], connected: Callable[[bool], None]
    ) -> None:
        """`heard` gets channel and message; `connected` learns whether it is, after each change."""
        self._client = client
        self._heard = heard
        self._told = connected
        self._connection: Connection | None = None
        self._channels: dict[bytes, asyncio.Event] = {}  # set when Redis has confirmed
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="hot-state-listen")

    def complete(self) -> bool:
        """Whether all channels are followed at present."""
        return self._connection is not None and all(one.is_set() for one in self._channels.values())

    async def follow(self, channel: bytes) -> None:
        """Returns when all that is published from now on will be heard, or Redis does not answer."""
        confirmed = self._channels.get(channel)
        if confirmed is None:
            confirmed = self._channels[channel] = asyncio.Event()
            await self._send("SUBSCRIBE", channel)
        try:
            async with asyncio.timeout(_TIMEOUT_S if self._connection else _ABSENT_S):
                await confirmed.wait()
        except TimeoutError:
            logger.warning("Redis does not confirm that channel %r is followed", channel)

    async def leave(self, channel: bytes) -> None:
        """Hears no more of a channel."""
        if self._channels.pop(channel, None) is not None:
            await self._send("UNSUBSCRIBE", channel)

    async def close(self) -> None:
        """Ends it."""
        self._closing = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self, *command: Any) -> None:
        if self._connection is not None:
            try:
                await self._connection.send_command(*command)
            except UNREACHABLE:  # the reading task notices
                pass

    async def _run(self) -> None:
        pause_s = 0.0
        while not self._closing:
            try:
                await self._listen()
            except UNREACHABLE as error:
                logger.debug("the connection to Redis ended: %s", reason(error))
            if self._connection is None:
                pause_s = min(_GREATEST_PAUSE_S, pause_s * 2 + _LEAST_PAUSE_S)
            else:
                pause_s, self._connection = _LEAST_PAUSE_S, None
                for confirmed in self._channels.values():
                    confirmed.clear()
                self._told(False)
            await asyncio.sleep(pause_s)

    async def _listen(self) -> None:
        ours = connection(self._client)
        try:
            await ours.connect()  # type: ignore[no-untyped-call]
            self._connection = ours
            if self._channels:
                await ours.send_command("SUBSCRIBE", *self._channels)
            while not self._closing:
                self._handle(await self._read(ours))
        finally:
            await ours.disconnect(nowait=True)

    async def _read(self, ours: Connection) -> Any:
        try:
            return await ours.read_response(timeout=_QUIET_S, disconnect_on_error=False)
        except (RedisTimeout, TimeoutError):
            await ours.send_command("PING", check_health=False)
            return await ours.read_response(timeout=_TIMEOUT_S)

    def _handle(self, answer: Any) -> None:
        match answer:
            case [b"message", bytes(channel), bytes(message)]:
                self._heard(channel, message)
            case [b"subscribe", bytes(channel), _]:
                confirmed = self._channels.get(channel)
                if confirmed is not None:
                    confirmed.set()
                if self.complete():
                    self._told(True)
            case _:
                pass


def chunks(items: Iterable[Any], size: int) -> list[list[Any]]:
    """Cut into lists of at most so many."""
    everything = list(items)
    return [everything[at : at + size] for at in range(0, len(everything), size)]
