"""Cuts what a reader takes from a spool into pieces, and makes the records that deliver them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runstream.sender import events
from runstream.sender.batch import Batch, build, limit_texts, without_undefined
from runstream.sender.definitions import Definitions
from runstream.sender.elements import Call, Elements, join, of_block, of_scalars, of_texts
from runstream.sender.progress import Piece, add
from runstream.sender.refusals import Reason
from runstream.sender.rows import of_small_blocks
from runstream.sender.tally import Tallies, Tally, gather
from runstream.spool import layout
from runstream.spool.reader import SpoolReader, Taken
from runstream.spool.records import Record
from runstream.v1 import error_pb2, run_pb2

_SLOT_COST = 32  # bytes on the wire of one element, roughly
_CALLS_AT_ONCE = 256
_SMALL_BLOCK_BYTES = 8 << 10
_TOO_LONG = Reason(
    error_pb2.ERROR_CODE_TOO_LARGE, f"a text has more than {layout.MOST_TEXT_BYTES} bytes: log it in parts"
)


class Made(NamedTuple):
    """A record to send."""

    data: bytes
    points: bool  # else run events
    logged: Tallies  # by run


@dataclass(slots=True)
class Cut:
    """A piece, and its records, which are made when they are asked for."""

    piece: Piece
    records: Iterator[Made]
    ended: dict[int, int] = field(default_factory=dict)  # run index → seq of RUN_ENDED
    exits: list[dict[str, Any]] = field(default_factory=list)
    dropped: dict[int, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Cutter:
    """Makes pieces of one writer's spool, in order."""

    def __init__(self, reader: SpoolReader, definitions: Definitions, request_bytes: int, copy: bool) -> None:
        self._reader = reader
        self._definitions = definitions
        self._bytes = request_bytes
        self._most = max(request_bytes // _SLOT_COST, 1)
        self._copy = copy  # nothing unreadable in a copy is lost: the original may still be whole
        self._rest: Taken | None = None
        self._held: tuple[int, list[Record]] | None = None  # of the block that the next piece begins with

    @property
    def idle(self) -> bool:
        """Whether everything that was taken is in a piece."""
        return self._rest is None

    def ready_bytes(self) -> int:
        """About how much could be sent now; blocks count as if they were scalars."""
        rest = len(self._rest.slots) if self._rest else 0
        return (rest + self._reader.ready - self._reader.taken) * _SLOT_COST

    def next(self) -> Cut | None:
        """The next piece; None when nothing is ready."""
        taken = self._rest or self._reader.take_late() or self._reader.take(self._most)
        self._rest = None
        if taken is None:
            return None
        if not (taken.slots["kind"] == layout.RECORD).any():
            piece = self._piece(taken)
            cut = Cut(piece, iter(()))
            cut.records = self._points(cut, taken, [])
            return cut
        return self._cut_records(taken)

    def _piece(self, taken: Taken) -> Piece:
        return Piece(taken.first, taken.end, int(taken.time_ns[-1]), taken.late)

    def _cut_records(self, taken: Taken) -> Cut:
        gathered = _Gathered()
        stop = len(taken.slots)
        lone: tuple[Call, list[Record]] | None = None
        rows = np.flatnonzero(taken.slots["kind"] == layout.RECORD)
        for at, length, call in _calls(taken, rows):
            records = self._find(call.seq, length)
            if records and records[0].kind == layout.BLOCK_RECORD and length > _SMALL_BLOCK_BYTES:
                if at > 0:  # it comes next, alone
                    self._held = (call.seq, records)
                    stop = at
                else:
                    lone = (call, records)
                    stop = 1
                break
            self._gather(gathered, at, call, records)
            if at * _SLOT_COST + gathered.bytes >= self._bytes:
                stop = at + 1
                break
        if stop < len(taken.slots):
            self._rest = taken.part(stop, len(taken.slots))
            taken = taken.part(0, stop)
        cut = Cut(
            self._piece(taken), iter(()), gathered.ended, gathered.exits, gathered.dropped, gathered.problems
        )
        cut.piece.lost = gathered.lost
        cut.records = self._block(cut, *lone) if lone else self._all(cut, taken, gathered)
        return cut

    def _find(self, seq: int, length: int) -> list[Record] | None:
        if self._held is not None and self._held[0] == seq:
            records, self._held = self._held[1], None
            return records
        return self._reader.records(seq, length)

    def _gather(self, gathered: "_Gathered", at: int, call: Call, records: list[Record] | None) -> None:
        if not records:
            gathered.lose(call.run, f"the record of call {call.seq} can't be read", self._copy)
            return
        kind, payload = records[0].kind, _content(records[0])
        gathered.bytes += 64 + len(payload)
        try:
            if kind == layout.BLOCK_RECORD:
                gathered.bytes += 5 * sum(len(record.payload) for record in records)
                gathered.blocks += [(call, _content(record)) for record in records]
            elif kind in (layout.TEXT_RECORD, layout.BIG_INTEGER_RECORD):
                number = layout.STRING if kind == layout.TEXT_RECORD else layout.BIG_INTEGER
                gathered.rows.append((at, number))
                gathered.texts.append(str(payload, "utf-8", "replace"))
            elif kind < 64:  # later kinds may be skipped
                self._gather_event(gathered, kind, events.parse(payload), call)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            gathered.lose(call.run, f"the record of call {call.seq} is damaged: {error!r}", self._copy)

    def _gather_event(self, gathered: "_Gathered", kind: int, content: dict[str, Any], call: Call) -> None:
        seq, run, _, time_ns, _ = call
        for index, count in events.counts(content.get("dropped")).items():
            gathered.dropped[index] = max(count, gathered.dropped.get(index, 0))
        if kind == layout.WRITER_EXIT:
            gathered.exits.append({**content, "seq": seq, "ordering_ns": time_ns})
        if run == layout.WRITER_ITSELF or kind == layout.GAP:
            return
        if self._definitions.undefined([run], [])[0]:
            raise ValueError(f"run {run} is not defined")
        event = events.of_record(kind, content, self._definitions.runs[run], seq, time_ns)
        if event is not None:
            gathered.events.setdefault(run, []).append(event)
        if kind == layout.RUN_ENDED:
            gathered.ended[run] = seq

    # ------------------------------------------------------------------------------ records

    def _all(self, cut: Cut, taken: Taken, gathered: "_Gathered") -> Iterator[Made]:
        for run, of_run in gathered.events.items():
            if run not in gathered.ended:
                yield self._events(cut, run, of_run)
        groups: list[Elements] = []
        if gathered.texts:
            groups.append(of_texts(gathered.rows, gathered.texts, taken))
        if gathered.blocks:
            small = of_small_blocks(gathered.blocks)
            groups += small.elements
            for call, problem in small.damaged:
                _lose(cut, call, problem, self._copy)
        yield from self._points(cut, taken, groups)
        for run in gathered.ended:
            if run in gathered.events:
                yield self._events(cut, run, gathered.events[run])

    def _events(self, cut: Cut, run: int, of_run: list[run_pb2.RunEvent]) -> Made:
        logged = {run: events.tally(of_run)}
        gather(cut.piece.logged, logged)
        return Made(events.batch(self._definitions.writer, of_run), False, logged)

    def _points(self, cut: Cut, taken: Taken, groups: list[Elements]) -> Iterator[Made]:
        scalars = of_scalars(taken)
        if scalars is not None:
            groups = [scalars, *groups]
        if groups:
            yield from self._batch(cut, join(groups))

    def _block(self, cut: Cut, call: Call, records: list[Record]) -> Iterator[Made]:
        for record in records:
            try:
                for elements in of_block(_content(record), call, self._most, self._bytes):
                    yield from self._batch(cut, elements)
            except ValueError as error:
                _lose(cut, call, f"the block of call {call.seq} is damaged: {error}", self._copy)

    def _batch(self, cut: Cut, elements: Elements) -> Iterator[Made]:
        defined, lost = without_undefined(elements, self._definitions)
        if lost:
            cut.problems.append("a definition in names.records can't be read")
            if not self._copy:
                add(cut.piece.lost, lost)
        if defined is None:
            return
        kept, refused = limit_texts(defined, layout.MOST_TEXT_BYTES)
        if refused:
            cut.problems.append(_TOO_LONG.text)
            for run, count in refused.items():  # no digest: it would be added and subtracted
                gather(cut.piece.logged, {run: Tally(count)})
                cut.piece.refuse(run, _TOO_LONG, Tally(count))
        if kept is not None:
            made: Batch = build(kept, self._definitions)
            gather(cut.piece.logged, made.logged)
            yield Made(made.data, True, made.logged)


class _Gathered:
    """What the records of a piece hold."""

    def __init__(self) -> None:
        self.bytes = 0
        self.rows: list[tuple[int, int]] = []
        self.texts: list[str] = []
        self.blocks: list[tuple[Call, bytes | memoryview]] = []
        self.events: dict[int, list[run_pb2.RunEvent]] = {}
        self.ended: dict[int, int] = {}
        self.exits: list[dict[str, Any]] = []
        self.dropped: dict[int, int] = {}
        self.lost: dict[int, int] = {}
        self.problems: list[str] = []

    def lose(self, run: int, problem: str, copy: bool) -> None:
        """Note a call that can't be delivered."""
        self.problems.append(problem)
        if not copy:
            add(self.lost, {run: 1})


def _lose(cut: Cut, call: Call, problem: str, copy: bool) -> None:
    cut.problems.append(problem)
    if not copy:
        add(cut.piece.lost, {call.run: 1})


def _content(record: Record) -> bytes | memoryview:
    return record.payload[layout.SLOT_BYTES :] if record.flags & layout.HAS_SLOT else record.payload


def _calls(taken: Taken, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, Call]]:
    """Of the slots in these rows: the row, the length of the records, and what else the slot says."""
    for start in range(0, len(rows), _CALLS_AT_ONCE):  # a piece may be cut long before the last
        some = rows[start : start + _CALLS_AT_ONCE]
        slots = taken.slots[some]
        seq = some if taken.offsets is None else taken.offsets[some].astype(np.int64)
        columns = (
            some,
            slots["value"],
            seq + taken.first,
            slots["run"] & np.uint32(layout.WRITER_ITSELF),
            slots["step"],
            taken.time_ns[some],
            slots["time"],
        )
        for at, length, *values in zip(*(column.tolist() for column in columns), strict=True):
            yield at, length, Call(*values)
