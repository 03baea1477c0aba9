"""What is made of the tables, for instance a summary of each run: told by the writers what has changed.

The position that a writer saves in the table `applied` stays behind what is derived. So a crash loses no
change: what was not derived yet is read from the log again, and told again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from runstream_store.position import Position


class Derived(Protocol):
    """Something that follows the tables."""

    def touch(self, runs: Iterable[tuple[str, str]], positions: Sequence[Position], /) -> int:
        """Rows of these runs (workspace, run) are in the tables, up to these positions.

        Gives a ticket, greater than all before.
        """
        ...

    def passed(self) -> int:
        """All tickets up to this one are done with."""
        ...

    async def settle(self) -> None:
        """Waits until all tickets that were given are done with, or it is known that they can't be now."""
        ...
