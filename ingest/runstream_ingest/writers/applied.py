"""Applied positions: where a writer begins, and the proof that the log is the one it read before.

The table `applied` says for each partition up to which offset everything is in the tables, and the checksum
of the record there. A writer begins at that very record and compares: a log that was set back (restored from
an older copy, made anew under the same epoch) has another one, or none, and new records under old offsets
would never be read. Hence that record is never trimmed.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence

from runstream_ingest.errors import LogSetBack
from runstream_ingest.writers.columns import to_table
from runstream_store.hot import HotState
from runstream_store.log import EventLog, Lost, StoredRecord
from runstream_store.position import Position
from runstream_store.tables import Tables

_SELECT = """
SELECT partition, offset, check FROM applied FINAL
WHERE consumer = {consumer:String} AND topic = {topic:String}
  AND has({partitions:Array(UInt32)}, partition) AND epoch = unhex({epoch:String})
"""


class Applied:
    """The applied positions of one consumer of one topic."""

    def __init__(
        self, log: EventLog, tables: Tables, hot: HotState, consumer: str, topic: str, epoch: bytes
    ) -> None:
        self._log = log
        self._tables = tables
        self._hot = hot
        self._consumer = consumer
        self._topic = topic
        self._epoch = epoch
        self._expected: dict[int, tuple[int, int]] = {}  # by partition: offset and checksum
        self._saved: dict[int, int] = {}
        self._reached: dict[int, StoredRecord] = {}  # and to be saved
        self._held: deque[tuple[int, list[StoredRecord]]] = deque()

    async def start(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Where to begin in partitions: the last record applied, which `fresh` compares and drops.

        :raises LogSetBack: the log ends before it.
        """
        rows = await self._tables.query(
            _SELECT,
            {
                "consumer": self._consumer,
                "topic": self._topic,
                "partitions": list(partitions),
                "epoch": self._epoch.hex(),
            },
        )
        found = {row["partition"]: (row["offset"], row["check"]) for row in rows.to_pylist()}
        for partition in partitions:
            self._expected.pop(partition, None)
        for partition, (offset, check) in found.items():
            _, end = await self._log.bounds(self._topic, partition)
            if offset >= end:
                raise self._set_back(partition, f"ends before offset {offset}, up to which it was applied")
            self._expected[partition] = (offset, check)
            self._saved[partition] = offset
            await self._tell(self.position(partition, offset))
        return {partition: offset for partition, (offset, _) in found.items()}

    def position(self, partition: int, offset: int) -> Position:
        """A position in this log."""
        return Position(self._topic, partition, offset, self._epoch)

    def fresh(self, records: Iterable[StoredRecord]) -> list[StoredRecord]:
        """The records that are not applied yet.

        :raises LogSetBack: the log is not the one that was applied.
        """
        fresh = []
        for record in records:
            expected = self._expected.get(record.position.partition)
            if expected is None or record.position.offset > expected[0]:
                fresh.append(record)
            elif record.position.offset == expected[0] and zlib.crc32(record.value) != expected[1]:
                raise self._set_back(
                    record.position.partition, f"has another record at offset {expected[0]} than was applied"
                )
        return fresh

    def lost(self, lost: Sequence[Lost]) -> list[Lost]:
        """Losses, without the record that was applied already."""
        left = []
        for one in lost:
            expected = self._expected.get(one.partition)
            first = one.first if expected is None else max(one.first, expected[0] + 1)
            if first <= one.last:
                left.append(Lost(one.topic, one.partition, first, one.last))
        return left

    async def reach(self, records: Sequence[StoredRecord], ticket: int) -> None:
        """Everything up to these records, one for each partition, is in the tables: readers may know.

        :param ticket: of `Derived`: it is saved once that is done with.
        """
        self._held.append((ticket, list(records)))
        for record in records:
            await self._tell(record.position)

    def unsaved(self, passed: int) -> bool:
        """Whether more is applied than the table says, that may be saved.

        :param passed: the greatest ticket that is done with.
        """
        while self._held and self._held[0][0] <= passed:
            for record in self._held.popleft()[1]:
                self._reached[record.position.partition] = record
        return bool(self._reached)

    @property
    def holding(self) -> bool:
        """Whether positions wait for what is derived from them."""
        return bool(self._held)

    async def save(self, passed: int) -> list[Position]:
        """Writes the positions to the table, and returns them.

        :param passed: as of `unsaved`.

        :raises StoreError: not saved; harmless, call again.
        """
        self.unsaved(passed)
        reached = dict(self._reached)
        if reached:
            rows = [
                {
                    "consumer": self._consumer,
                    "topic": self._topic,
                    "partition": record.position.partition,
                    "epoch": self._epoch,
                    "offset": record.position.offset,
                    "check": zlib.crc32(record.value),
                }
                for record in reached.values()
            ]
            await self._tables.insert("applied", to_table("applied", rows))
        for partition, record in reached.items():
            if self._reached.get(partition) is record:
                del self._reached[partition]
            self._saved[partition] = record.position.offset
        return [record.position for record in reached.values()]

    def saved(self) -> dict[int, int]:
        """The offsets that the table has, by partition."""
        return dict(self._saved)

    def _set_back(self, partition: int, fact: str) -> LogSetBack:
        return LogSetBack(
            f"topic {self._topic}, partition {partition} {fact}: the log was set back, and what is new in it "
            "would be taken for old. Put the right log back, or empty the table `applied` to read this one "
            "from its start"
        )

    async def _tell(self, position: Position) -> None:
        await self._hot.set_applied(self._consumer, position)
