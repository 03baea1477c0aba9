"""Slots of a segment as NumPy arrays, for readers: mapped, or filled from the append engine's records."""

import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runstream.spool import layout
from runstream.spool.records import Record, SegmentRecords

KEPT_RECORDS = 16384  # of the append engine, read ahead of what was taken

Slots = npt.NDArray[np.void]
Times = npt.NDArray[np.int64]

# The fields overlap: `key` as a whole, and its parts. The top byte of `run` is the kind.
SLOT_TYPE = np.dtype(
    {
        "names": ["value", "double", "step", "key", "series", "run", "kind", "time"],
        "formats": ["<i8", "<f8", "<i8", "<u8", "<u4", "<u4", "u1", "<i8"],
        "offsets": [0, 0, 8, 16, 16, 20, 23, 24],
        "itemsize": layout.SLOT_BYTES,
    }
)


class ReadSegment:
    """A segment that is being read."""

    def __init__(self, folder: Path, number: int, writer: bytes, slots: Slots) -> None:
        self.number = number
        self.start = layout.segment_start(number)
        self.end = layout.segment_start(number + 1)
        self.slots = slots
        self.times: Times = slots["time"]
        self.words = slots.view(np.int64).data  # an element costs 40 ns, an array's 100
        self.records = SegmentRecords(folder / layout.records_name(number), writer)

    def is_committed(self, seq: int) -> bool:
        """Whether the slot is committed."""
        return self.words[(seq - self.start) * 4 + 3] != 0

    def refresh(self, final: bool) -> bool:
        """Take over what was appended. True when there is more than is kept in memory at a time."""
        return False  # mapped slots need nothing

    def close(self) -> None:
        """Give the descriptor back. The mapping goes with the last view of it."""
        self.records.close()


class MappedSegment(ReadSegment):
    """Slots that the writer stores into."""

    @classmethod
    def open(cls, folder: Path, number: int, writer: bytes) -> "MappedSegment | None":
        """The segment; None when it isn't there yet."""
        size = layout.segment_slots(number) * layout.SLOT_BYTES
        try:
            fd = os.open(folder / layout.slots_name(number), os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            return None
        try:
            if os.fstat(fd).st_size != size:  # being made
                return None
            mapped = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        return cls(folder, number, writer, np.frombuffer(mapped, SLOT_TYPE))


class AppendedSegment(ReadSegment):
    """Slots that stand at the head of records."""

    @classmethod
    def open(cls, folder: Path, number: int, writer: bytes) -> "AppendedSegment | None":
        """The segment; None when it isn't there yet."""
        if not (folder / layout.records_name(number)).exists():
            return None
        return cls(folder, number, writer, np.zeros(layout.segment_slots(number), SLOT_TYPE))

    def refresh(self, final: bool) -> bool:
        while self.records.kept < KEPT_RECORDS:
            records = self.records.read(final)
            if not records:
                return False
            self._place(records)
        return True

    def _place(self, records: list[Record]) -> None:
        for record in records:
            at = record.seq - self.start
            if not 0 <= at < len(self.slots) or not record.flags & layout.HAS_SLOT:
                continue
            slot = record.payload[: layout.SLOT_BYTES]
            kind = slot[23]
            length = int.from_bytes(slot[:8], "little")
            if kind == layout.RECORD and not self.records.has(record.seq, length):
                continue  # a block in parts: the others are to come
            self.slots[at] = np.frombuffer(slot, SLOT_TYPE)[0]
            if kind != layout.RECORD:
                self.records.drop(record.seq)


def open_segment(folder: Path, engine: str, number: int, writer: bytes) -> ReadSegment | None:
    """Open a segment for reading; None when it isn't there yet."""
    kind = AppendedSegment if engine == layout.APPEND else MappedSegment
    return kind.open(folder, number, writer)
