"""Events that the server itself writes: into the log, like everybody's.

Whoever is not sure that a call arrived makes it again. With the call's id the events have the same identity
both times, and the first receipt counts.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from runstream.v1 import event_pb2, point_pb2, run_pb2, workspace_pb2
from runstream_query.errors import Unavailable
from runstream_store.errors import StoreError
from runstream_store.log import EventLog, NewRecord
from runstream_store.position import Position

_TOPIC: Final = "runs"
_FORMAT: Final = 1
_WRITER_BYTES: Final = 16


@dataclass(slots=True)
class Call:
    """The events of one call."""

    principal: str
    writer: bytes
    time_ns: int
    records: list[NewRecord] = field(default_factory=list)
    _seq: itertools.count[int] = field(default_factory=itertools.count)

    def about_run(self, run: point_pb2.RunRef, events: Iterable[run_pb2.RunEvent]) -> None:
        """Adds events of a run; where and when they happened is filled in."""
        batch = run_pb2.RunEventBatch(writer=self.writer)
        for event in events:
            event.run.CopyFrom(run)
            event.seq, event.time_ns = next(self._seq), self.time_ns
            batch.events.append(event)
        key = b"\0".join((run.workspace.encode(), run.run.encode()))
        self._add(key, event_pb2.LogRecord(run_events=batch))

    def about_workspace(self, workspace: str, events: Iterable[workspace_pb2.WorkspaceEvent]) -> None:
        """Adds events of a workspace."""
        batch = workspace_pb2.WorkspaceEventBatch(writer=self.writer, workspace=workspace)
        for event in events:
            event.seq, event.time_ns = next(self._seq), self.time_ns
            batch.events.append(event)
        self._add(workspace.encode(), event_pb2.LogRecord(workspace_events=batch))

    def _add(self, key: bytes, record: event_pb2.LogRecord) -> None:
        record.format, record.received_time_ns, record.principal = _FORMAT, self.time_ns, self.principal
        self.records.append(NewRecord(key, record.SerializeToString()))


class EventWriter:
    """Writes events of the server."""

    def __init__(self, log: EventLog, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._log = log
        self._clock_ns = clock_ns

    def begin(self, principal: str, request_id: str = "") -> Call:
        """A call of somebody; with an id the same events come of it whenever it is made."""
        if request_id:
            name = b"\0".join((principal.encode(), request_id.encode()))
            writer = hashlib.sha256(name).digest()[:_WRITER_BYTES]
        else:
            writer = secrets.token_bytes(_WRITER_BYTES)
        return Call(principal, writer, self._clock_ns())

    async def write(self, call: Call) -> list[Position]:
        """Makes the events of a call durable; the last position of each partition.

        :raises Unavailable: some may be written or none; make the call again with its id.
        """
        if not call.records:
            return []
        try:
            return _last(await self._log.append(_TOPIC, call.records))
        except StoreError as error:
            raise Unavailable(f"the event log takes nothing now: {error}") from error


def _last(positions: Sequence[Position]) -> list[Position]:
    last: dict[int, Position] = {}
    for position in positions:
        known = last.get(position.partition)
        if known is None or known.offset < position.offset:
            last[position.partition] = position
    return list(last.values())


def message_of(position: Position) -> run_pb2.LogPosition:
    """A position as it is sent."""
    return run_pb2.LogPosition(
        topic=position.topic, partition=position.partition, offset=position.offset, epoch=position.epoch
    )
