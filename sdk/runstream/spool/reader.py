"""Reads one writer's spool while it is written: what was logged, in order, and late commits.

The reader only looks; what is delivered, and when segments may go, is its caller's business. It keeps
three places in the sequence: everything below `taken` was handed out or is a hole; everything below
`ready` was seen committed one poll ago (see docs/formats.md for why) and may be taken; `seen` is one more
than the last commit that was seen.
"""

import os
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runstream.spool import layout
from runstream.spool.records import Record
from runstream.spool.slots import ReadSegment, Slots, open_segment

WINDOW_SLOTS = 4096  # so many empty slots end a scan
AHEAD_SLOTS = 1 << 18  # nothing is scanned further ahead of what was taken


class Hole(NamedTuple):
    """Sequence numbers below `taken` that were empty when what follows them was taken."""

    first: int
    end: int
    time_ns: int  # the running maximum that stood before them


class Taken(NamedTuple):
    """Committed slots of one segment, in order."""

    first: int  # sequence number that `offsets` count from, and the lowest taken
    end: int  # everything from `first` to here is in `slots`, or a hole
    offsets: npt.NDArray[np.uint32] | None  # None: 0, 1, 2, …
    slots: Slots
    time_ns: npt.NDArray[np.int64]  # ordering times
    late: bool = False

    def seq(self, at: int) -> int:
        """Sequence number of a slot."""
        return self.first + (at if self.offsets is None else int(self.offsets[at]))

    def part(self, start: int, stop: int) -> "Taken":
        """Some of the slots. The last part has the end of the whole."""
        end = self.end if stop >= len(self.slots) else self.seq(stop)
        offsets = None if self.offsets is None else self.offsets[start:stop]
        first = self.seq(start)
        if offsets is not None:
            offsets = offsets - offsets[0]
        return Taken(first, end, offsets, self.slots[start:stop], self.time_ns[start:stop], self.late)


class SpoolReader:
    """Polls the spool of one writer."""

    def __init__(
        self,
        folder: Path,
        writer: bytes,
        engine: str,
        *,
        acked_seq: int = 0,
        time_ns: int = 0,
        holes: Iterable[Hole] = (),
    ) -> None:
        """Begin at `acked_seq`, or at the first segment that is there when that is later."""
        self.folder = folder
        self.writer = writer
        self.engine = engine
        self.numbers = list_segments(folder, engine)
        first = layout.segment_start(self.numbers[0]) if self.numbers else 0
        self.missing_below = first if first > acked_seq else 0  # nobody knows what was there
        self.taken = self.ready = self.seen = max(acked_seq, first)
        self.time_ns = time_ns  # running maximum before `taken`
        self.holes = [hole for hole in holes if layout.segment_of(hole.first) in self.numbers]
        self._gaps: list[tuple[int, int]] = []  # empty ranges between `taken` and `seen`
        self._late_seen: list[int] = []
        self._late_ready: list[int] = []
        self._segments: dict[int, ReadSegment] = {}
        self._head: ReadSegment | None = None  # where `seen` is
        self.backlog = False  # the files hold more than was looked at
        self._exhausted = False  # all was looked at, and nothing more will be written

    # ---------------------------------------------------------------------------------- polling

    def probe(self) -> tuple[memoryview, int] | None:
        """A word that is not 0 when something new is there; None: only a poll can tell."""
        head = self._head
        if head is None or self.engine == layout.APPEND or self.seen >= head.end:
            return None
        return head.words, (self.seen - head.start) * 4 + 3

    def poll(self, final: bool = False) -> bool:
        """Look for new commits. True when there is something to take now or in the next poll.

        With `final` nothing more will be written: all that is there is looked at, to the end.
        """
        before, self.ready = self.seen, self.seen
        self._late_ready, self._late_seen = self._late_seen, []
        if final and self._exhausted:
            return self.seen > self.taken or bool(self._late_ready)
        self.backlog = False
        if final:
            self.look_for_segments()
        if self.holes:
            self._look_at_holes(final)
        if final or self.seen - self.taken < AHEAD_SLOTS:
            self._scan(final)
        # Not before all is taken: only then every empty slot is a hole, and was looked at as one.
        all_taken = self.taken >= self.seen == before
        self._exhausted = final and all_taken and not self.backlog and not self._late_seen
        return self.backlog or self.seen > self.taken or bool(self._late_seen or self._late_ready)

    def look_for_segments(self) -> None:
        """List the folder again: a segment may be there although the one before it was never full."""
        self.numbers = list_segments(self.folder, self.engine)

    @property
    def finds_late(self) -> bool:
        """Whether late commits were seen that are not taken yet."""
        return bool(self._late_seen or self._late_ready)

    def close_holes(self) -> None:
        """The writer is dead: what is empty stays empty."""
        self.holes = []
        self._late_seen, self._late_ready = [], []

    def _scan(self, final: bool) -> None:
        number = layout.segment_of(self.seen)
        last = self.numbers[-1] if self.numbers else -1
        while True:
            segment = self._segment(number)
            if segment is not None:
                self.backlog |= segment.refresh(final)
                self._scan_segment(segment, final)
                if number >= last and self.seen < segment.end:
                    break
                if segment.end - self.taken >= AHEAD_SLOTS and not final:
                    break
            elif number >= last:
                break
            number += 1
        self._head = self._segments.get(layout.segment_of(self.seen))

    def _scan_segment(self, segment: ReadSegment, final: bool) -> None:
        """Move `seen` behind the last commit of the segment, and note the empty slots before that."""
        times = segment.times
        at = max(self.seen - segment.start, 0)
        while at < len(times):
            window = times[at : at + WINDOW_SLOTS]
            count = int(np.count_nonzero(window))
            if count == 0 and not final:
                return
            start = segment.start + at
            if count == len(window) and start == self.seen:
                self.seen = start + count
            elif count:
                self._note_gaps(np.flatnonzero(window) + start)
            at += len(window)

    def _note_gaps(self, committed: npt.NDArray[np.int64]) -> None:
        before = np.concatenate(([self.seen - 1], committed[:-1]))
        for at in np.flatnonzero(committed - before > 1):
            self._gaps.append((int(before[at]) + 1, int(committed[at])))
        self.seen = int(committed[-1]) + 1

    def _look_at_holes(self, final: bool) -> None:
        for hole in self.holes:
            for number in range(layout.segment_of(hole.first), layout.segment_of(hole.end - 1) + 1):
                segment = self._segment(number)
                if segment is None:
                    continue
                self.backlog |= segment.refresh(final)
                first, end = max(hole.first, segment.start), min(hole.end, segment.end)
                found = np.flatnonzero(segment.times[first - segment.start : end - segment.start])
                self._late_seen.extend((found + first).tolist())

    # ----------------------------------------------------------------------------------- taking

    def take(self, limit: int) -> Taken | None:
        """The next committed slots, at most `limit`, all of one segment; None when none is ready."""
        while self.taken < self.ready:
            if self._gaps and self._gaps[0][0] <= self.taken:  # only when nothing precedes it
                self._pass_gap(self._gaps.pop(0), self.time_ns)
                continue
            segment = self._segment(layout.segment_of(self.taken))
            if segment is None:  # removed by somebody else
                self.taken = min(self.ready, layout.segment_start(layout.segment_of(self.taken) + 1))
                continue
            return self._take_from(segment, min(self.ready, self.taken + limit, segment.end))
        return None

    def _take_from(self, segment: ReadSegment, end: int) -> Taken:
        first = self.taken
        slots = segment.slots[first - segment.start : end - segment.start]
        offsets: npt.NDArray[np.uint32] | None = None
        gaps: list[tuple[int, int]] = []
        while self._gaps and self._gaps[0][0] < end:
            gap = self._gaps.pop(0)
            if gap[1] > end:  # the rest belongs to the next taking
                self._gaps.insert(0, (end, gap[1]))
                gap = (gap[0], end)
            gaps.append(gap)
        if gaps:
            wanted = np.ones(end - first, np.bool_)
            for gap in gaps:
                wanted[gap[0] - first : gap[1] - first] = False
            offsets = np.flatnonzero(wanted).astype(np.uint32)
            slots = slots[wanted]
        order = np.maximum.accumulate(slots["time"])
        if order[0] < self.time_ns:
            np.maximum(order, self.time_ns, out=order)
        for gap in gaps:
            before = bisect_left(offsets, gap[0] - first) if offsets is not None else 0
            self._pass_gap(gap, int(order[before - 1]) if before else self.time_ns)
        self.time_ns = int(order[-1])
        self.taken = end
        return Taken(first, end, offsets, slots, order)

    def _pass_gap(self, gap: tuple[int, int], time_ns: int) -> None:
        self.holes.append(Hole(gap[0], gap[1], time_ns))
        self.taken = max(self.taken, gap[1])

    def take_late(self) -> Taken | None:
        """The next late commit; its hole is gone with it."""
        while self._late_ready:
            seq = self._late_ready.pop()
            hole = next((hole for hole in self.holes if hole.first <= seq < hole.end), None)
            segment = self._segment(layout.segment_of(seq))
            if hole is None or segment is None:
                continue
            self.holes.remove(hole)
            for first, end in ((hole.first, seq), (seq + 1, hole.end)):
                if first < end:
                    self.holes.append(Hole(first, end, hole.time_ns))
            if seq in self._late_seen:
                self._late_seen.remove(seq)
            slots = segment.slots[seq - segment.start : seq - segment.start + 1]
            return Taken(seq, seq + 1, None, slots, np.array([hole.time_ns], np.int64), late=True)
        return None

    def records(self, seq: int, length: int) -> list[Record] | None:
        """Records of a committed RECORD slot; None when they aren't readable."""
        segment = self._segment(layout.segment_of(seq))
        return segment.records.find(seq, length) if segment is not None else None

    # --------------------------------------------------------------------------------- segments

    def _segment(self, number: int) -> ReadSegment | None:
        segment = self._segments.get(number)
        if segment is None:
            segment = open_segment(self.folder, self.engine, number, self.writer)
            if segment is not None:
                self._segments[number] = segment
                if number not in self.numbers:
                    self.numbers = sorted([*self.numbers, number])
        return segment

    def hole_seqs(self) -> set[int]:
        """Every sequence number that is a hole."""
        return {seq for hole in self.holes for seq in range(hole.first, hole.end)}

    def delivered_segments(self, acked: int, but: set[int]) -> list[int]:
        """Numbers of the segments that hold nothing but what is delivered: no hole, nothing of `but`."""
        kept = {layout.segment_of(seq) for seq in but}
        for hole in self.holes:
            kept.update(range(layout.segment_of(hole.first), layout.segment_of(hole.end - 1) + 1))
        return [n for n in self.numbers if layout.segment_start(n + 1) <= acked and n not in kept]

    def forget(self, numbers: Iterable[int]) -> None:
        """Unmap segments that are removed."""
        gone = set(numbers)
        for number in gone & self._segments.keys():
            self._segments.pop(number).close()
        self.numbers = [number for number in self.numbers if number not in gone]

    def open_records(self) -> Iterable[ReadSegment]:
        """Segments whose files are open."""
        return self._segments.values()

    def close(self) -> None:
        """Give all descriptors back."""
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
        self._head = None


def list_segments(folder: Path, engine: str) -> list[int]:
    """Numbers of the segments that are there, in order."""
    ending = ".records" if engine == layout.APPEND else ".slots"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(n[: -len(ending)]) for n in names if n.endswith(ending) and n[: -len(ending)].isdigit())
