"""Hot state: applied positions, leases, live messages."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from runstream_store.errors import ConfigError
from runstream_store.hot.protocol import LEASE_NS, AppliedSource, HotState, Subscription

__all__ = ["LEASE_NS", "AppliedSource", "HotState", "Subscription", "open_hot", "shared"]


def shared(url: str) -> bool:
    """Whether several processes see the state at this address."""
    return urlsplit(url).scheme in ("redis", "rediss")


async def open_hot(url: str, *, now_ns: int | None = None, source: AppliedSource | None = None) -> HotState:
    """Opens the hot state at an address, which chooses the engine.

    `memory://`
        In this process.
    `redis://<host>:<port>/<db>?prefix=<prefix>`
        Shared by processes through Redis (`rediss://` with TLS; other options as in redis-py).

    :param now_ns: the server's clock, Unix nanoseconds; the present by default. Leases are lenient from then
        on.
    :param source: where applied positions come from that nobody tells.
    :raises ConfigError: there is no such engine.
    """
    scheme = urlsplit(url).scheme
    now_ns = time.time_ns() if now_ns is None else now_ns
    if scheme == "memory":
        from runstream_store.hot.memory import MemoryHotState

        return MemoryHotState(now_ns)
    if scheme in ("redis", "rediss"):
        from runstream_store.hot.redis import RedisHotState

        return await RedisHotState.open(url, now_ns, source)
    raise ConfigError(f"no hot state for {url!r}: expected memory:// or redis://<host>:<port>")
