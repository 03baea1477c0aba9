"""State that changes often and can be made anew: what is applied, who is alive, what happens right now.

Everything here may vanish at any time (a restart, an eviction) and no promise of the system depends on it:
applied positions are read again from the tables, leases are renewed every few seconds, and a live follower
that missed something reads the tables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, Self

from runstream_store.position import Position

LEASE_NS = 20_000_000_000
"""A writer whose lease was not renewed for this long, in nanoseconds, is no longer known to live."""

AppliedSource = Callable[[str], Awaitable[Iterable[Position]]]
"""Reads the applied positions of a consumer where they are kept for good: in the tables."""


class Subscription(Protocol):
    """Messages of a channel from now on. An asynchronous iterator and context manager, for one task."""

    def __aiter__(self) -> Self:
        """Itself."""
        ...

    async def __anext__(self) -> bytes:
        """Waits for the next message. Ends when the subscription or the engine is closed."""
        ...

    async def get(self, timeout_s: float, /) -> bytes | None:
        """Waits for the next message; None when none came in time, or the subscription is closed."""
        ...

    def missed(self) -> int:
        """How many messages were dropped since the last call: the oldest, when they are not taken in time.

        A connection that was lost counts as one: nobody knows what went by.
        """
        ...

    async def close(self) -> None:
        """Ends it."""
        ...

    async def __aenter__(self) -> Self:
        """Itself."""
        ...

    async def __aexit__(self, *exc: object) -> None:
        """Ends it."""
        ...


class HotState(Protocol):
    """Safe for many tasks of one event loop.

    An engine that can't be reached raises nothing. What is told is told again when it is back, what is asked
    is answered with what is known, and no writer is called dead meanwhile.
    """

    @property
    def name(self) -> str:
        """The engine's name."""
        ...

    async def problem(self) -> str:
        """Why the engine can't be reached now; empty when it can."""
        ...

    async def set_applied(self, consumer: str, position: Position, /) -> None:
        """Tells that the tables hold everything up to and including the position, and wakes who waits for it.

        A smaller offset than known is ignored.
        """
        ...

    async def applied(self, consumer: str, topic: str, partition: int, epoch: bytes, /) -> int | None:
        """The offset up to which, inclusive, the tables hold everything; None when nothing is known."""
        ...

    async def applied_positions(self, consumer: str, /) -> list[Position]:
        """All that `set_applied` told of a consumer."""
        ...

    async def wait_applied(self, consumer: str, positions: Iterable[Position], timeout_s: float, /) -> bool:
        """Waits until the tables hold all of these positions. False when that took longer than `timeout_s`.

        At once true without positions.
        """
        ...

    async def renew_leases(self, writers: Iterable[bytes], now_ns: int, /) -> None:
        """Notes that these writers live. `now_ns` is the server's clock (Unix nanoseconds)."""
        ...

    async def lease_alive(self, writers: Sequence[bytes], now_ns: int, /) -> list[bool]:
        """For each writer, whether its lease was renewed in the last `LEASE_NS`.

        A writer of which nothing is known counts as alive until `LEASE_NS` after the engine was opened: its
        sender has not had the time to come back.
        """
        ...

    async def publish(self, channel: str, message: bytes, /) -> None:
        """Sends a message to the present subscribers of a channel. Never waits for them."""
        ...

    async def subscribe(self, channel: str, /) -> Subscription:
        """Follows a channel: all that is published after the return, except what `missed` counts."""
        ...

    async def close(self) -> None:
        """Ends all waiting (`wait_applied` answers False) and all subscriptions. May be called again."""
        ...
