"""Hot state: applied positions, leases, live messages."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from runstream_store.errors import ConfigError
from runstream_store.hot.protocol import LEASE_NS, HotState, Subscription

__all__ = ["LEASE_NS", "HotState", "Subscription", "open_hot"]


async def open_hot(url: str, *, now_ns: int | None = None) -> HotState:
    """Opens the hot state at an address, which chooses the engine.

    `memory://`
        In this process.

    :param now_ns: the server's clock, Unix nanoseconds; the present by default. Leases are lenient from then
        on.
    :raises ConfigError: there is no such engine.
    """
    if urlsplit(url).scheme == "memory":
        from runstream_store.hot.memory import MemoryHotState

        return MemoryHotState(time.time_ns() if now_ns is None else now_ns)
    raise ConfigError(f"no hot state for {url!r}: expected memory://")
