"""Reading `.records` files while they grow.

A record that is only half there is waited for; bytes that stay no record (a write cut by a full disk
or by the process's death) are passed over byte by byte until the next magic with a right CRC.
"""

import mmap
import os
import time
import zlib
from pathlib import Path
from typing import NamedTuple

from runstream.spool import layout

CHUNK_BYTES = 256 << 10
LARGE_PAYLOAD_BYTES = 1 << 20  # larger payloads are mapped, never copied
TORN_AFTER_S = 1.0  # an incomplete record that stays incomplete for so long is no record

_MAGIC = layout.MAGIC.to_bytes(4, "little")
_HEADER = layout.RECORD_HEADER_BYTES
_ZEROS = bytes(4096)


class Record(NamedTuple):
    """One record with a right CRC."""

    kind: int
    flags: int
    seq: int
    payload: bytes | memoryview
    offset: int  # in the file
    end: int


class RecordFile:
    """The records of one file in the order in which they stand there."""

    def __init__(self, path: Path, writer: bytes) -> None:
        self._path = path
        self._seed = zlib.crc32(writer)
        self._fd = -1
        self._incomplete_since: float | None = None
        self.position = 0  # everything before has been read

    def read(self, final: bool = False) -> list[Record]:
        """The next records; [] when there are none yet.

        With `final` nothing more will be written: an incomplete record is passed over at once.
        """
        while True:
            records, progress = self._read_chunk(final)
            if records or not progress:
                return records

    def close(self) -> None:
        """Give the descriptor back. Reading again opens the file again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def size(self) -> int:
        """Bytes in the file; 0 when it isn't there."""
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY)
            except FileNotFoundError:
                return 0
        return os.fstat(self._fd).st_size

    def _read_chunk(self, final: bool) -> tuple[list[Record], bool]:
        """Records of the next chunk, and whether the position moved."""
        size = self.size()
        if self.position >= size:
            return [], False
        before = self.position
        buffer = os.pread(self._fd, CHUNK_BYTES, self.position)
        if buffer[:4096] == _ZEROS[: len(buffer)] and self._skip_punched(size):
            return [], True
        records: list[Record] = []
        at = 0
        while len(buffer) - at >= _HEADER:
            magic, crc, length, kind, flags, seq = layout.RECORD_HEADER.unpack_from(buffer, at)
            if magic != layout.MAGIC or length > layout.MAX_PAYLOAD:
                at = _next_magic(buffer, at)
                continue
            end = at + _HEADER + length
            if end > len(buffer):
                if at == 0:  # it starts the buffer, and is larger than that
                    record = self._read_long(crc, length, kind, flags, seq, size, final)
                    return ([record] if record else []), self.position != before
                break
            if zlib.crc32(memoryview(buffer)[at + 8 : end], self._seed) != crc:
                at = _next_magic(buffer, at)
                continue
            offset = before + at
            payload = buffer[at + _HEADER : end]
            records.append(Record(kind, flags, seq, payload, offset, before + end))
            at = _after_padding(buffer, end, length)
        if at == 0 and final and len(buffer) < _HEADER:
            at = len(buffer)
        self.position = before + at
        if at:
            self._incomplete_since = None
        return records, at > 0

    def _read_long(
        self, crc: int, length: int, kind: int, flags: int, seq: int, size: int, final: bool
    ) -> Record | None:
        """The record at the position, which doesn't fit a chunk or isn't whole yet."""
        offset = self.position
        end = offset + _HEADER + length
        if end > size:
            if final or self._stays_incomplete():
                self._pass_over()
            return None
        if length < LARGE_PAYLOAD_BYTES:
            checked: bytes | memoryview = os.pread(self._fd, _HEADER - 8 + length, offset + 8)
        else:
            page = offset & ~(mmap.ALLOCATIONGRANULARITY - 1)
            mapped = mmap.mmap(self._fd, end - page, access=mmap.ACCESS_READ, offset=page)
            checked = memoryview(mapped)[offset + 8 - page :]
        if zlib.crc32(checked, self._seed) != crc:
            self._pass_over()
            return None
        self._incomplete_since = None
        self.position = _after_padding(os.pread(self._fd, 8, end), 0, length) + end
        return Record(kind, flags, seq, checked[_HEADER - 8 :], offset, end)

    def _stays_incomplete(self) -> bool:
        now = time.monotonic()
        if self._incomplete_since is None:
            self._incomplete_since = now
        return now - self._incomplete_since > TORN_AFTER_S

    def _pass_over(self) -> None:
        """Go on behind the magic at the position."""
        self.position += 1
        self._incomplete_since = None

    def _skip_punched(self, size: int) -> bool:
        """Jump over a punched hole; False when the file's system doesn't know holes or there is none."""
        try:
            data = os.lseek(self._fd, self.position, os.SEEK_DATA)
        except OSError:  # nothing but zeros up to the end
            data = size
        if data <= self.position:
            return False
        # A hole ends at a block; a record may start up to three bytes before where data shows.
        self.position = data
        return True


def _next_magic(buffer: bytes, at: int) -> int:
    """Where a record may start behind `at`; a magic cut by the buffer's end is kept."""
    found = buffer.find(_MAGIC, at + 1)
    return found if found >= 0 else max(at + 1, len(buffer) - 3)


def _after_padding(buffer: bytes, end: int, length: int) -> int:
    """Behind the padding. A cut write may lack it, so only zeros count as padding."""
    padding = -length % 8
    if padding and buffer[end : end + padding] == _ZEROS[:padding]:
        return end + padding
    return end


class SegmentRecords:
    """The records of a segment, found by sequence number."""

    def __init__(self, path: Path, writer: bytes) -> None:
        self.path = path
        self.file = RecordFile(path, writer)
        self._found: dict[int, list[Record]] = {}
        self._places: list[tuple[int, int]] = []  # (seq, end) as they stand in the file, for punching
        self._delivered = 0
        self.punched = 0  # bytes that were given back

    def find(self, seq: int, length: int) -> list[Record] | None:
        """The record of a committed slot, several for a block in parts; None when it isn't there.

        It was whole before the slot was committed. So what is incomplete in front of it is no record that is
        being written, but one that a full disk has cut.
        """
        while True:
            records = self._found.get(seq)
            if records and (whole := _whole(records, length)):
                del self._found[seq]
                return whole
            if not self.read(final=True):
                return None

    def read(self, final: bool = False) -> list[Record]:
        """Read on, and keep what comes to be found."""
        records = self.file.read(final)
        for record in records:
            self._found.setdefault(record.seq, []).append(record)
            self._places.append((record.seq, record.end))
        return records

    @property
    def kept(self) -> int:
        """Calls whose records were read and not yet found."""
        return len(self._found)

    def has(self, seq: int, length: int) -> bool:
        """Whether `find` would give the record without reading on."""
        records = self._found.get(seq)
        return bool(records and _whole(records, length))

    def drop(self, seq: int) -> None:
        """Forget the record of a call: its slot says everything."""
        self._found.pop(seq, None)

    def forget(self, below: int, but: set[int]) -> None:
        """Drop what was read of calls that are delivered."""
        for seq in [seq for seq in self._found if seq < below and seq not in but]:
            del self._found[seq]

    def delivered_bytes(self, below: int, but: set[int]) -> int:
        """Length of the file's part that holds only what is delivered."""
        done = 0
        for seq, _ in self._places:
            if seq >= below or seq in but:
                break
            done += 1
        if done:
            self._delivered = self._places[done - 1][1]
            del self._places[:done]
        return self._delivered

    def close(self) -> None:
        """Give the descriptor back."""
        self.file.close()


def _whole(records: list[Record], length: int) -> list[Record] | None:
    """Those that make up the call: the first, or the parts of a block once all are there."""
    if records[0].kind != layout.BLOCK_RECORD:
        return records[:1]
    parts: dict[bytes, Record] = {}
    total = 0
    for record in records:
        size = len(record.payload) - (layout.SLOT_BYTES if record.flags & layout.HAS_SLOT else 0)
        if size == length:
            return [record]
        # The same part may stand there twice: parts differ in their series or first idx.
        key = bytes(record.payload[: 64 + layout.SLOT_BYTES])
        if key not in parts:
            parts[key] = record
            total += size
    return list(parts.values()) if total == length else None
