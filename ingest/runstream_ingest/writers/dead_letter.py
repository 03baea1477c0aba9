"""Dead letters: records that were accepted and can't be stored, kept with the reason.

Each goes to the topic `<topic>.dead`, byte for byte, and to the table `dead_letters`, where the people whose
runs it was for see it. One bad client makes a few of them. A bad release of the server would make one of
every record: hence `DeadLetterLimit`, above which the writer pauses with the records still in the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runstream.v1 import error_pb2, event_pb2, point_pb2, run_pb2
from runstream_ingest import records
from runstream_ingest.batch import Description
from runstream_ingest.errors import RecordRefused
from runstream_ingest.writers.columns import to_table
from runstream_store.log import EventLog, Lost, NewRecord, StoredRecord
from runstream_store.tables import Tables

_NO_WRITER: Final = bytes(16)
_OVERHEAD: Final = 64 * 1024
"""What a dead letter adds to its record, at most: names of 100 runs and a reason."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A record from the log that can't be stored."""

    record: StoredRecord
    why: RecordRefused
    about: Description
    received_time_ns: int
    """0 when it can't be told."""


class DeadLetterLimit:
    """How many dead letters are made before the writer pauses: a store, refilled by time and good records."""

    def __init__(
        self,
        burst: int = 10_000,
        per_second: float = 1.0,
        per_record: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param burst: so many at once.
        :param per_second: so many a second are made in any case.
        :param per_record: so many for each good record.
        :param clock: seconds.
        """
        self._burst = burst
        self._per_second = per_second
        self._per_record = per_record
        self._clock = clock
        self._left = float(burst)
        self._filled = clock()

    def good(self, count: int) -> None:
        """Notes records that are in order."""
        self._left = min(self._burst, self._left + count * self._per_record)

    def wait_s(self, count: int) -> float:
        """Takes from the store and returns 0; if too little is left: how long to wait before asking again."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._filled) * self._per_second)
        self._filled = now
        wanted = min(count, self._burst)
        if self._left >= wanted:
            self._left -= wanted
            return 0.0
        return (wanted - self._left) / self._per_second


class DeadLetters:
    """Keeps what one topic's writer refuses."""

    def __init__(self, log: EventLog, tables: Tables, clock_ns: Callable[[], int]) -> None:
        self._log = log
        self._tables = tables
        self._clock_ns = clock_ns

    async def keep(self, refused: Sequence[Refused]) -> None:
        """Keeps records and their reasons; on return they are durable and visible.

        :raises StoreError: perhaps not all were kept; call again.
        """
        topics: dict[str, list[NewRecord]] = {}
        for one in refused:
            new = NewRecord(one.record.key, self._letter(one))
            topics.setdefault(one.record.position.topic + records.DEAD, []).append(new)
        for topic, new_records in topics.items():
            await self._log.append(topic, new_records)
        await self._insert([row for one in refused for row in _rows(one)])

    async def note_lost(self, lost: Sequence[Lost], epoch: bytes) -> None:
        """Makes losses visible: records that the log no longer had when the writer came to read them.

        :raises StoreError: perhaps not all were noted; call again.
        """
        await self._insert([_lost_row(one, epoch, self._clock_ns()) for one in lost])

    async def _insert(self, rows: list[dict[str, Any]]) -> None:
        await self._tables.insert("dead_letters", to_table("dead_letters", rows))

    def _letter(self, refused: Refused) -> bytes:
        position, about = refused.record.position, refused.about
        value, reason = refused.record.value, refused.why.reason
        if len(value) + len(refused.record.key) + _OVERHEAD > self._log.capabilities.max_record_bytes:
            value, reason = b"", f"{reason} (the record of {len(value):,} bytes is too large to be kept)"
        letter = event_pb2.DeadLetter(
            position=run_pb2.LogPosition(
                topic=position.topic,
                partition=position.partition,
                offset=position.offset,
                epoch=position.epoch,
            ),
            record=value,
            code=refused.why.code,
            reason=reason,
            runs=[point_pb2.RunRef(workspace=workspace, run=run) for workspace, run in about.runs],
            elements=about.elements,
            writer=about.writer,
            first_seq=about.first_seq,
            seq_end=about.seq_end,
        )
        return records.encode_dead_letter(letter, refused.received_time_ns)


def _rows(refused: Refused) -> list[dict[str, Any]]:
    """A row for each run; the elements are told once."""
    position, about = refused.record.position, refused.about
    return [
        {
            "topic": position.topic,
            "partition": position.partition,
            "epoch": position.epoch,
            "offset": position.offset,
            "workspace": workspace,
            "run": run,
            "writer": about.writer or _NO_WRITER,
            "first_seq": about.first_seq,
            "seq_end": about.seq_end,
            "code": refused.why.code,
            "reason": refused.why.reason,
            "elements": elements,
            "received_time": refused.received_time_ns,
            "digest": about.digests.get((workspace, run), 0),
            "digested": int((workspace, run) in about.digests),
            "events": about.events,
        }
        for (workspace, run), elements in _shares(about)
    ]


def _shares(about: Description) -> list[tuple[tuple[str, str], int]]:
    """The runs of a record, each with its part of the elements."""
    if about.by_run:
        return list(about.by_run.items())
    runs = about.runs or [("", "")]
    return [(run, 0 if index else about.elements) for index, run in enumerate(runs)]


def _lost_row(lost: Lost, epoch: bytes, now_ns: int) -> dict[str, Any]:
    count = lost.last - lost.first + 1
    return {
        "topic": lost.topic,
        "partition": lost.partition,
        "epoch": epoch,
        "offset": lost.first,
        "workspace": "",
        "run": "",
        "writer": _NO_WRITER,
        "first_seq": 0,
        "seq_end": 0,
        "code": error_pb2.ERROR_CODE_UNAVAILABLE,
        "reason": f"{count:,} records, offsets {lost.first} to {lost.last}, had expired in the event log "
        "before they were read",
        "elements": count,  # what was in them is not known: at least one each
        "received_time": now_ns,
        "digest": 0,
        "digested": 0,
        "events": 0,
    }
