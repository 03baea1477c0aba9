"""Keeps a writer's state, and removes what it says is delivered."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from typing import TYPE_CHECKING

from runstream.sender import state
from runstream.sender.punch import punch
from runstream.spool import layout

if TYPE_CHECKING:
    from runstream.sender.tail import WriterTail
    from runstream.spool.records import SegmentRecords

log = logging.getLogger("runstream.sender")

PUNCH_BYTES = 4 << 20  # large files of records are punched in steps of at least this


def write_state(tail: WriterTail, sync: bool) -> bool:
    """Write `state.json`. False when the disk is full: delivery goes on with what is in memory."""
    tail.state.holes = tail.progress.holes(tail.reader.holes)
    try:
        state.save(tail.folder, tail.state, sync)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        log.warning("%s: %s", tail.folder, error)
        return False
    return True


def tidy(tail: WriterTail) -> bool:
    """Write the state, then remove delivered segments, and punch large files of records. False: try again."""
    late = tail.progress.late_seqs()
    acked = tail.state.acked_seq
    gone = tail.reader.delivered_segments(acked, late)
    to_punch = _to_punch(tail, acked, tail.reader.hole_seqs() | late, gone)
    if not write_state(tail, sync=bool(gone or to_punch)):
        if not gone:
            return False
        # The disk is so full that not even this can be said; the oldest segment is what fills it. Should
        # the sender die in this moment, the next begins at the segments that are there, which loses no call.
        _remove_segments(tail, gone[:1])
        return False
    if gone:
        _remove_segments(tail, gone)
        state.make_ballast(tail.folder)
    for path in tail.logs.delivered_files():
        path.unlink(missing_ok=True)
    for records, done in to_punch:
        punch(records.path, records.punched, done)
        records.punched = done
    return True


def _to_punch(
    tail: WriterTail, acked: int, but: set[int], gone: list[int]
) -> list[tuple[SegmentRecords, int]]:
    """Files of records with the length of the part that is delivered."""
    result = []
    for segment in tail.reader.open_records():
        if segment.number in gone:
            continue
        done = segment.records.delivered_bytes(acked, but)
        segment.records.forget(acked, but)
        if done - segment.records.punched >= PUNCH_BYTES:
            result.append((segment.records, done))
    return result


def _remove_segments(tail: WriterTail, numbers: list[int]) -> None:
    tail.reader.forget(numbers)
    for number in numbers:
        for name in (layout.slots_name(number), layout.records_name(number)):
            (tail.folder / name).unlink(missing_ok=True)


def remove(tail: WriterTail) -> None:
    """Remove the folder of a drained writer. Both of its locks are held."""
    removed = tail.folder.with_name(f".removed-{tail.folder.name}")
    os.rename(tail.folder, removed)
    tail.close()
    shutil.rmtree(removed, ignore_errors=True)
