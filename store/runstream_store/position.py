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
    """From 0. Grows within the partition, perhaps with gaps; never reused, not even after a restart."""
    epoch: bytes
    """16 random bytes of the topic. One that was made anew has others: its offsets say nothing of the old."""
