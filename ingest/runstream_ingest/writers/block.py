"""Blocks: what a writer has read and not yet inserted, and when to insert it.

An insert has a price of its own (some 17 ms), so rows are cheap in large blocks only. What comes alone is
inserted at once. The more rows come, the longer a block waits for more; and where a few come all the time, a
block waits so that inserts take no more than a part of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from runstream_ingest.writers.dead_letter import Refused
from runstream_store.log import StoredRecord

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Part(Generic[C]):
    """A record that was decoded."""

    record: StoredRecord
    content: C
    rows: int
    size: int
    """Bytes of its payload, decompressed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When a block is inserted."""

    rows: int = 500_000
    """A block of so many rows is inserted at once."""
    first_rows: int = 50_000
    """And the first one already with so many: after a start who reads soon sees that it goes on."""
    bytes: int = 64 << 20
    """And one of so many bytes of payloads."""
    linger_s: float = 0.5
    """Under full load a block waits for so long."""
    idle_rows_per_s: float = 5_000
    """Below this load a block does not wait."""
    full_rows_per_s: float = 50_000
    """From this load on it waits for `linger_s`."""
    share: float = 0.1
    """Part of the time that inserts may take when blocks need not wait."""
    saved_s: float = 3.0
    """How much of that time is saved up while nothing comes, seconds."""
    longest_wait_s: float = 0.3
    """A block waits at most so long because of that."""

    def first(self) -> Pace:
        """Of the first block."""
        return replace(self, rows=min(self.rows, self.first_rows))

    def linger(self, rows_per_s: float) -> float:
        """How long a block waits, seconds."""
        share = (rows_per_s - self.idle_rows_per_s) / (self.full_rows_per_s - self.idle_rows_per_s)
        return self.linger_s * min(1.0, max(0.0, share))


@dataclass(slots=True)
class Block(Generic[C]):
    """Records that are inserted together."""

    parts: list[Part[C]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    last: dict[int, StoredRecord] = field(default_factory=dict)
    """The last record of each partition, whatever became of it."""
    rows: int = 0
    size: int = 0
    """Bytes of their payloads."""
    began: float = 0.0
    """When its first record came."""
    grew: float = 0.0
    """When its last records came."""

    def add(
        self,
        records: Sequence[StoredRecord],
        parts: Sequence[Part[C]],
        refused: Sequence[Refused],
        now: float,
    ) -> None:
        """Adds records, which became `parts` or were refused."""
        if not self.last:
            self.began = now
        self.grew = now
        self.parts.extend(parts)
        self.refused.extend(refused)
        self.rows += sum(part.rows for part in parts)
        self.size += sum(part.size for part in parts)
        for record in records:
            self.last[record.position.partition] = record

    def full(self, pace: Pace) -> bool:
        """Whether it takes no more."""
        return self.rows >= pace.rows or self.size >= pace.bytes

    def due(self, pace: Pace, rows_per_s: float, not_before: float) -> float:
        """When it is to be inserted: after its time, or when for a part of that nothing more came.

        :param not_before: only a full block is inserted sooner.
        """
        if not self.last:
            return math.inf
        if self.full(pace):
            return -math.inf
        linger = pace.linger(rows_per_s)
        return max(not_before, min(self.began + linger, self.grew + linger / 4))


class Rate:
    """Rows a second, over about the last second."""

    def __init__(self) -> None:
        self._rows = 0.0
        self._at = 0.0

    def add(self, rows: int, now: float) -> None:
        """Notes rows that came."""
        self._rows = self.per_second(now) + rows
        self._at = now

    def per_second(self, now: float) -> float:
        """The rate."""
        return self._rows * math.exp(self._at - now) if self._rows else 0.0


class Thrift:
    """Keeps the time that inserts take to a part of the whole, when that can be had by waiting a little."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._left_s = pace.saved_s
        self._at = 0.0

    def spend(self, seconds: float, now: float) -> None:
        """Notes an insert that has just ended."""
        pace = self._pace
        earned = (now - self._at) * pace.share
        self._at = now
        self._left_s = min(pace.saved_s, self._left_s + earned) - seconds
        self._left_s = max(self._left_s, -pace.longest_wait_s * pace.share)

    def not_before(self, now: float) -> float:
        """The earliest time for the next insert."""
        return self._at - self._left_s / self._pace.share if self._left_s < 0 else now
