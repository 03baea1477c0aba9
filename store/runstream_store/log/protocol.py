"""What every event log does.

Words, as used in the whole project:

*position*
    Names a record: topic, partition, offset, epoch. Given out by `EventLog.append`, valid as long as the
    topic exists.
*durable*
    The record survives the death of any process, and what else the engine promises (`Capabilities.survives`).
    Exactly the records of an `append` that returned are known to be durable.
*committed*
    The offset up to which a group says it is done with a partition, kept in the log. It is for lag and
    retention; nothing is decided by it, and it may be older than the truth.
*applied*
    The offset up to which the tables hold everything of a partition. It is kept in the tables, beside the
    rows, and is what a reader starts from after a restart. Records are processed at least once; identity
    makes that once.

Order: within a partition records are read in the order of their offsets. An append that begins after another
has returned comes after it; appends under way together may be stored in any order, each in the order given.
Records with one key go to one partition. Between partitions and topics nothing is promised.

Topics come into being by use. Dead letters of topic `t` go to topic `t.dead`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runstream_store.position import Position


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one engine can do, and others perhaps not."""

    name: str
    max_record_bytes: int
    """Greatest length of key and value together."""
    partitions: bool
    """A topic may have more than one partition."""
    many_processes: bool
    """Several processes may use the log at the same time."""
    retains: bool
    """It removes old records itself, after a stated time: what is applied is left to that, to be read
    again."""
    atomic_append: bool
    """All records of an append are stored, or none."""
    survives: str
    """What a durable record survives, in words."""


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to append."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record that was read."""

    position: Position
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Records that had expired before the consumer came to read them."""

    topic: str
    partition: int
    first: int
    """Offset of the first."""
    last: int
    """Offset of the last."""


Start = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
"""Says where to begin in partitions.

For each the offset of the next record wanted (one after the applied one); of those that it leaves out, the
first record that is there is wanted. Asked whenever the consumer gets partitions; it reads the applied
offsets anew each time.
"""


class Consumer(Protocol):
    """One member of a group, reading the partitions of a topic that it is assigned.

    For one task at a time.
    """

    async def fetch(self, max_bytes: int, max_wait_s: float, /) -> list[StoredRecord]:
        """Gives the records that come next, at least one and not much more than `max_bytes` of values.

        Returns as soon as there is any; an empty list after `max_wait_s` without one, or while no partition
        is assigned. Reading moves on by what was returned; after an exception or a cancellation it has not
        moved.

        Records that expired before they were read are skipped, and then told by `lost`.

        A partition may be taken away between two calls (`assigned` tells). What was fetched of it may still
        be applied: the next owner starts from the applied position and repeats the rest.

        :raises PositionUnknown: the start of a partition lies after its end.
        :raises LogUnavailable: nothing could be read; call again.
        :raises ClosedError: the consumer or the log was closed, perhaps while waiting.
        """
        ...

    async def commit(self, positions: Iterable[Position], /) -> None:
        """Notes that everything up to and including these positions is done.

        Positions of partitions that are no longer assigned are ignored, and so are older ones than noted
        before.

        :raises LogFull: not noted; harmless.
        :raises LogUnavailable: perhaps not noted; harmless.
        """
        ...

    def assigned(self) -> frozenset[int]:
        """The partitions that this consumer reads at present."""
        ...

    def lost(self) -> list[Lost]:
        """Losses since the last call: each is told once by each consumer."""
        ...

    async def close(self) -> None:
        """Leaves the group; others get the partitions. May be called again, and while `fetch` waits."""
        ...


class EventLog(Protocol):
    """Ordered, durable records. Safe for many tasks of one event loop."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        ...

    async def epoch(self, topic: str, /) -> bytes:
        """The 16 bytes that tell this topic from one of the same name made later."""
        ...

    async def partitions(self, topic: str, /) -> int:
        """Number of partitions."""
        ...

    async def append(self, topic: str, records: Sequence[NewRecord], /) -> list[Position]:
        """Appends records, and returns their positions, in the order given, once all are durable.

        Concurrent calls share their writes to the disk. After an exception, a cancellation or a crash each
        record may be stored or not (with `atomic_append`: all or none); appending it again stores it twice.

        :raises LogFull: no space; try later.
        :raises LogUnavailable: the log did not answer; try later.
        :raises RecordTooLarge: nothing was stored.
        """
        ...

    async def subscribe(self, topic: str, group: str, start: Start, /) -> Consumer:
        """Joins a group of consumers among which the partitions of a topic are divided.

        With more members than partitions some wait, and step in when others leave.
        """
        ...

    async def bounds(self, topic: str, partition: int, /) -> tuple[int, int]:
        """Offset of the first record that is there, and the offset that the next record will get."""
        ...

    async def committed(self, topic: str, partition: int, group: str, /) -> int | None:
        """Offset of the last record that the group has committed, None when it never did."""
        ...

    async def trim(self, topic: str, partition: int, before: int, /) -> None:
        """Removes the records with smaller offsets than `before`; their space is used again.

        After a return they are not read any more. Offsets beyond the end remove all there is.
        """
        ...

    async def close(self) -> None:
        """Waits for the appends under way, ends all consumers and frees the engine. May be called again."""
        ...
