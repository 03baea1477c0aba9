"""Where a record is in the event log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """Names one record of the event log, for as long as the log exists.

    Positions order only within the same topic, partition and epoch.
    """

    topic: str
    partition: int
    """From 0."""
    offset: int
    """From 0. Grows within the partition, perhaps with gaps; never reused, also not after a trim or a
    restart."""
    epoch: bytes
    """16 random bytes of the topic: a topic that was made anew has another, and its offsets say nothing about
    the old ones."""
