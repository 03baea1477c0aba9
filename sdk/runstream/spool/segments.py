"""Segments of a spool being written: slots in mapped memory, or records alone (the append engine).

Nothing here takes a lock, because a signal handler may log in the middle of any line. What must happen
once is left to operations that the interpreter, or the kernel, does as one: an iterator's step claims
a slot, `dict.setdefault` decides between two followers, `link` between two files.
"""

import errno
import mmap
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from runstream.spool import layout
from runstream.spool.folder import Descriptor, WriterFolder
from runstream.spool.layout import Bytes

# The last slots of a segment are kept for what must be said when no further segment can be had (a full disk):
# how many calls were dropped, and how run and process ended.
SPARE_SLOTS: Final = 64
_BALLAST = ".ballast"
_BALLAST_BYTES = 64 << 10


class FolderGoneError(OSError):
    """The writer's folder was removed under it."""


class Segment(Protocol):
    """A range of sequence numbers, and where they are written."""

    number: int
    start: int
    end: int
    # Where a scalar may be written to directly: word indexes of slots. Empty in the append engine.
    free: Iterable[int]
    doubles: "memoryview[float]"
    values: "memoryview[int]"
    steps: "memoryview[int]"
    keys: "memoryview[int]"
    times: "memoryview[int]"
    following: dict[int, "Segment"]

    def claim(self) -> int | None:
        """The next sequence number, for this caller alone; None when there is none left."""

    def claim_spare(self) -> int | None:
        """A sequence number of those kept for the end."""

    def release_spare(self) -> None:
        """Give the spare sequence numbers to everyone: the next segment is there."""

    def claimed(self) -> int:
        """One more than the last sequence number that was claimed."""

    def scalar(self, seq: int, value: float | int, step: int, key: int, time_ns: int) -> None:
        """Write and commit a slot."""

    def record(
        self, seq: int, kind: int, parts: list[list[Bytes]], step: int, key: int, time_ns: int
    ) -> None:
        """Write a record, in as many parts as given, and commit its slot."""

    def close(self) -> None:
        """Give memory and descriptors back, when nobody writes any more.

        In a forked child that may be in the middle of a call, which a signal handler interrupted: it gets a
        ValueError or OSError, and goes on in a writer of its own.
        """


class RecordFile:
    """A file of records, opened when the first one is written."""

    def __init__(self, folder: WriterFolder, name: str) -> None:
        self._folder = folder
        self._path = folder.file(name)
        self._open: dict[int, Descriptor] = {}
        self._closed = False

    def append(self, pieces: list[Bytes]) -> None:
        """Append a record as one write. Raises OSError when it was not written as a whole."""
        if self._closed:
            raise ValueError("closed")
        descriptor = self._open.get(0)
        if descriptor is None:
            descriptor = self._reopen()
        links = descriptor.links()
        if links < 0:  # somebody closed it
            self._open.pop(0, None)
            descriptor = self._reopen()
        elif links == 0:
            raise FolderGoneError(self._path)
        length = sum(map(len, pieces))
        if length <= 1 << 16 or len(pieces) > 1000 or sys.platform == "win32":
            written = os.write(descriptor.number, b"".join(pieces))
        else:
            written = os.writev(descriptor.number, pieces)
        if written != length:  # the disk became full in the middle; readers skip the torso
            raise OSError(errno.ENOSPC, "no space left for the whole record", self._path)

    def _reopen(self) -> Descriptor:
        try:
            made = Descriptor(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        except FileNotFoundError:
            raise FolderGoneError(self._path) from None
        kept = self._open.setdefault(0, made)
        if kept is not made:
            made.close()
        return kept

    def close(self) -> None:
        """Close it. Who is in the middle of writing gets a ValueError or OSError."""
        self._closed = True
        descriptor = self._open.pop(0, None)
        if descriptor is not None:
            descriptor.close()


def has_global_lock() -> bool:
    """False in a free-threaded build of Python, unless its lock was turned on."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def _claims(start: int, stop: int, step: int) -> Iterator[int]:
    """An iterator that gives each number to one caller only, in threads and in signal handlers."""
    numbers = iter(range(start, stop, step))
    if has_global_lock():
        return numbers
    return _Guarded(numbers)


class _Guarded:
    """For builds without a global lock, where an iterator's step is not one operation.

    The lock is reentrant, and what it guards is one operation of the interpreter in this thread: a handler
    that comes in between claims the number before or after.
    """

    def __init__(self, numbers: Iterator[int]) -> None:
        import threading

        self._numbers = numbers
        self._lock = threading.RLock()

    def __iter__(self) -> "Iterator[int]":
        return self

    def __next__(self) -> int:
        with self._lock:
            return next(self._numbers)

    def __length_hint__(self) -> int:
        from operator import length_hint

        return length_hint(self._numbers)


class _Numbered:
    """What both engines share: the numbering, and the file of records."""

    def __init__(self, folder: WriterFolder, number: int, words: int) -> None:
        self.number = number
        self.start = layout.segment_start(number)
        self.end = layout.segment_start(number + 1)
        self.following: dict[int, Segment] = {}
        self._writer = folder.writer
        self._words = words
        self._records = RecordFile(folder, layout.records_name(number))
        slots = self.end - self.start
        self._plain = _claims(0, (slots - SPARE_SLOTS) * words, words)
        self._spare = _claims((slots - SPARE_SLOTS) * words, slots * words, words)
        self._spare_is_free = False
        self._closed = False

    def claim(self) -> int | None:
        if self._closed:
            return None
        for at in self._plain:
            return self.start + at // self._words
        return self.claim_spare() if self._spare_is_free else None

    def claim_spare(self) -> int | None:
        if self._closed:
            return None
        for at in self._spare:
            return self.start + at // self._words
        return None

    def _append(self, record: list[Bytes]) -> None:
        if self._closed:
            raise ValueError("closed")
        self._records.append(record)

    def claimed(self) -> int:
        from operator import length_hint

        spare = length_hint(self._spare)
        if spare < SPARE_SLOTS:
            return self.end - spare
        return self.end - SPARE_SLOTS - length_hint(self._plain)


class MappedSegment(_Numbered):
    """Slots in a preallocated, mapped file."""

    def __init__(self, folder: WriterFolder, number: int) -> None:
        """Make the file, or take the one that another thread made. Raises OSError when there is no space."""
        super().__init__(folder, number, 4)
        size = layout.segment_slots(number) * layout.SLOT_BYTES
        path = folder.file(layout.slots_name(number))
        self._mapping = _make_and_map(path, size)
        words = memoryview(self._mapping.map).cast("q")
        self.values = words
        self.doubles = memoryview(self._mapping.map).cast("d")
        # Shifted views spare the hot path three additions.
        self.steps, self.keys, self.times = words[1:], words[2:], words[3:]
        self.free: Iterable[int] = self._plain

    def release_spare(self) -> None:
        self._spare_is_free = True
        self.free = self._spare  # the plain ones are used up when this is called

    def scalar(self, seq: int, value: float | int, step: int, key: int, time_ns: int) -> None:
        at = (seq - self.start) * 4
        if isinstance(value, float):
            self.doubles[at] = value
        else:
            self.values[at] = value
        self.steps[at] = step
        self.keys[at] = key
        self.times[at] = time_ns

    def record(
        self, seq: int, kind: int, parts: list[list[Bytes]], step: int, key: int, time_ns: int
    ) -> None:
        length = 0
        for part in parts:
            length += sum(map(len, part))
            self._append(layout.record(self._writer, kind, seq, part))
        self.scalar(seq, length, step, key, time_ns)

    def close(self) -> None:
        self._closed = True
        self.free = ()
        for view in (self.doubles, self.steps, self.keys, self.times, self.values):
            view.release()
        self._mapping.close()
        self._records.close()


class AppendSegment(_Numbered):
    """Records alone: each begins with its slot, and is committed when it is whole."""

    free: Iterable[int] = ()
    doubles: "memoryview[float]" = memoryview(b"").cast("d")
    values = steps = keys = times = memoryview(b"")

    def __init__(self, folder: WriterFolder, number: int) -> None:
        super().__init__(folder, number, 1)

    def release_spare(self) -> None:
        self._spare_is_free = True

    def scalar(self, seq: int, value: float | int, step: int, key: int, time_ns: int) -> None:
        pack = layout.SLOT_DOUBLE.pack if isinstance(value, float) else layout.SLOT.pack
        slot = pack(value, step, key, time_ns)
        self._append(layout.record(self._writer, layout.SLOT_RECORD, seq, [slot], layout.HAS_SLOT))

    def record(
        self, seq: int, kind: int, parts: list[list[Bytes]], step: int, key: int, time_ns: int
    ) -> None:
        length = sum(sum(map(len, part)) for part in parts)
        slot = layout.SLOT.pack(length, step, key, time_ns)
        for part in parts:
            self._append(layout.record(self._writer, kind, seq, [slot, *part], layout.HAS_SLOT))

    def close(self) -> None:
        self._closed = True
        self._records.close()


def open_segment(folder: WriterFolder, engine: str, number: int) -> Segment:
    """Make a segment. Raises OSError when there is no space for it."""
    try:
        if engine == layout.MMAP:
            return MappedSegment(folder, number)
        return AppendSegment(folder, number)
    except FileNotFoundError:
        raise FolderGoneError(folder.path) from None


def _make_and_map(path: str, size: int) -> "_Mapping":
    """Map the segment's file, made whole under another name first, so that nobody sees it half made."""
    made = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.urandom(6).hex()}")
    descriptor = Descriptor(made, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        os.posix_fallocate(descriptor.number, 0, size)
        try:
            os.link(made, path)
        except (FileExistsError, FileNotFoundError):
            # Another thread or a signal handler was faster; or it has forked, and the fork published this.
            descriptor.close()
            descriptor = Descriptor(path, os.O_RDWR)
        return _Mapping(descriptor, size)
    finally:
        descriptor.close()
        try:
            os.unlink(made)
        except FileNotFoundError:  # a fork in the middle of this has done it
            pass


_never_closed: list[mmap.mmap] = []


class _Mapping:
    """A mapped file.

    Before Python 3.13 a mapping keeps a duplicate of the descriptor and closes that number in the end,
    whoever has it by then. So one whose number was taken away is never closed.
    """

    def __init__(self, descriptor: Descriptor, size: int) -> None:
        self._duplicate: Descriptor | None = None
        if sys.version_info >= (3, 13):
            self.map = mmap.mmap(descriptor.number, size, trackfd=False)
        else:
            free = os.dup(descriptor.number)
            os.close(free)
            self.map = mmap.mmap(descriptor.number, size)
            self._duplicate = descriptor.twin(free)

    def close(self) -> None:
        if self._duplicate is not None and self._duplicate.links() < 0:
            _never_closed.append(self.map)
        else:
            self.map.close()


# ------------------------------------------------------------------------------------- ballast


def make_ballast(folder: WriterFolder) -> None:
    """Take some disk space, to be given back when the last words of a writer find the disk full."""
    try:
        descriptor = Descriptor(folder.file(_BALLAST), os.O_RDWR | os.O_CREAT)
        try:
            os.posix_fallocate(descriptor.number, 0, _BALLAST_BYTES)
        finally:
            descriptor.close()
    except (OSError, AttributeError):
        pass


def drop_ballast(folder: WriterFolder) -> bool:
    """Give it back. False when there is none."""
    try:
        os.unlink(folder.file(_BALLAST))
    except OSError:
        return False
    return True
