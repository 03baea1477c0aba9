"""How much is taken: the limits of messages (docs/formats.md) and the byte budget of the service."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

MiB: Final = 1 << 20

REQUEST_BYTES: Final = 4 * MiB
"""A request."""
BATCH_BYTES: Final = 16 * MiB
"""A batch, when decompressed."""
ELEMENTS: Final = 1 << 20
"""Elements of a batch."""
RUNS: Final = 65_536
"""Runs of a batch."""
SERIES: Final = 65_536
"""Series of a batch."""
EVENTS: Final = 65_536
"""Events of a batch."""
LEASES: Final = 65_536
"""Writers of a lease."""
DEAD_LETTER_RUNS: Final = 100
"""Runs that a dead letter names."""

WORKSPACE_CHARACTERS: Final = 255
EXPERIMENT_CHARACTERS: Final = 255
RUN_CHARACTERS: Final = 256
LAUNCH_CHARACTERS: Final = 256
METRIC_CHARACTERS: Final = 1_000
KEY_CHARACTERS: Final = 1_000
DESCRIPTION_CHARACTERS: Final = 5_000
PATH_CHARACTERS: Final = 5_000
MEDIA_TYPE_CHARACTERS: Final = 255
MODEL_CHARACTERS: Final = 255
MODEL_LABELS: Final = 1_000
CHUNK_BYTES: Final = 64 * MiB
"""A chunk of a file."""
LOG_PIECES: Final = 65_536
"""Pieces of a batch of a log."""
LOG_PIECE_BYTES: Final = MiB
"""A piece of a log."""
ERROR_CHARACTERS: Final = 100_000
TEXT_BYTES: Final = 2 * MiB


class ByteBudget:
    """Bytes that may be in memory at the same time, for all streams together. First come, first served."""

    def __init__(self, limit: int) -> None:
        """
        :param limit: bytes. What is larger than that is let in alone.
        """
        self._limit = limit
        self._used = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    @property
    def used(self) -> int:
        """Bytes that are taken now."""
        return self._used

    def take_now(self, size: int) -> bool:
        """Takes so many bytes if they are free."""
        free = not self._waiting and self._fits(size)
        if free:
            self._used += size
        return free

    async def take(self, size: int) -> None:
        """Waits until so many bytes are free, and takes them."""
        if self.take_now(size):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (turn, size)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was our turn at the same moment
                self.give(size)
            else:
                self._waiting.remove(entry)
                self._serve()  # perhaps only this one was too large for the moment
            raise

    def give(self, size: int) -> None:
        """Gives bytes back."""
        self._used -= size
        self._serve()

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self._limit

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            turn, size = self._waiting.popleft()
            self._used += size
            turn.set_result(None)
