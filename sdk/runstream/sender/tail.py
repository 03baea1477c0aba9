"""Follows the spool of one writer and delivers it: what to send next, and what an answer means."""

import logging
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from runstream.sender import events, state, tidying
from runstream.sender.batch import halves
from runstream.sender.cutter import Cut, Cutter
from runstream.sender.definitions import Definitions
from runstream.sender.header import Header
from runstream.sender.lifecycle import Lifecycle
from runstream.sender.logs import LogTail
from runstream.sender.progress import Piece, Progress
from runstream.sender.refusals import Reason
from runstream.sender.state import WriterState
from runstream.sender.tally import NOTHING, Tallies
from runstream.sender.uploader import Outcome
from runstream.sender.uploads import Uploads
from runstream.spool import layout
from runstream.spool.reader import SpoolReader
from runstream.v1 import run_pb2

log = logging.getLogger("runstream.sender")

_NOTHING = memoryview(bytes(8)).cast("q")
_MOST_RECORDS = 256  # in a request
_MOST_EVENTS = 200  # runs with events in one go


@dataclass(slots=True, eq=False)
class Outgoing:
    """One record on its way."""

    tail: "WriterTail"
    generation: int
    data: bytes
    points: bool
    logs: bool = False
    piece: Piece | None = None
    logged: Tallies = field(default_factory=dict)
    said: tuple[list[run_pb2.RunEvent], int] | None = None
    not_before: float = 0.0
    attempts: int = 0


class WriterLiveness(Protocol):
    """Says whether the writing process lives."""

    def is_dead(self, closed: bool) -> bool:
        """Whether it is gone, or has let go of the writer and said so (`closed`). What it had
        stored can be read after this returned.
        """

    def close(self) -> None:
        """Close the lock file."""


class WriterTail:
    """Delivery of one writer's folder."""

    def __init__(
        self,
        folder: Path,
        header: Header,
        liveness: WriterLiveness,
        *,
        request_bytes: int,
        copy: bool = False,
    ) -> None:
        self.folder = folder
        self.header = header
        self.liveness = liveness
        self._request_bytes = request_bytes
        if not copy:
            state.make_ballast(folder)
        self._copy = copy  # read by `sync`, perhaps away from its machine: nothing is written to the folder
        self.state = state.load(folder) or WriterState()
        self.definitions = Definitions(header.writer, header.rank, folder / layout.NAMES)
        self.uploads = Uploads(folder, header.writer, copy=copy)
        self.generation = 0
        self.dead = False
        self.read_to_end = False
        self._begin()
        self.definitions.read()  # all are new to the lifecycle
        self.lifecycle = Lifecycle(header, self.state, self.definitions.runs, self._logs_held)
        self.lifecycle.touch_all()
        self._dirty = False

    def _begin(self) -> None:
        s = self.state
        self.reader = SpoolReader(
            self.folder,
            self.header.writer,
            self.header.engine,
            acked_seq=s.acked_seq,
            time_ns=s.time_ns,
            holes=s.holes,
        )
        if self.reader.missing_below:
            # What is counted from here on is of here on.
            for run in s.runs.values():
                run.logged, run.rejected, run.lost, run.proven = NOTHING, NOTHING, 0, True
            s.first_seq = self.reader.missing_below
            log.warning(
                "%s: what was logged before call %d was delivered elsewhere and is gone here",
                self.header.writer.hex(),
                self.reader.missing_below,
            )
        s.acked_seq = self.reader.taken
        self.cutter = Cutter(self.reader, self.definitions, self._request_bytes, self._copy)
        self.progress = Progress(s)
        self.logs = LogTail(self.folder, self.header, self.definitions, s.logs)
        self._outbox: deque[Outgoing] = deque()
        self._again: list[Outgoing] = []  # refused for now
        self._cut: Cut | None = None

    def serves(self, server_id: bytes) -> None:
        """The server that takes the records has this data. Other data than before: begin again."""
        known = server_id.hex()
        if not known or self.state.server_id == known:
            return
        if self.state.server_id:
            log.warning("%s: the server has other data than before; sending again", self.header.writer.hex())
            old = self.state
            self.state = WriterState(dropped=old.dropped, exit=old.exit, death=old.death)
            for index, run in old.runs.items():
                self.state.run(index).ended = run.ended
            self.generation += 1
            self.reader.close()
            self.logs.close()
            self.read_to_end = False
            self._begin()
            self.lifecycle.restart(self.state)
        self.state.server_id = known
        self._dirty = True

    # ------------------------------------------------------------------------------- reading

    @property
    def lives(self) -> bool:
        """Whether the process runs and has not said goodbye."""
        return not self.dead and not self._copy and self.state.exit is None

    @property
    def has_more(self) -> bool:
        """Whether something waits to be sent that no poll would find."""
        return bool(self._outbox or self._again or self._cut) or not self.lifecycle.idle or self.logs.has_more

    def probe(self) -> tuple[memoryview, int] | None:
        """A word that is not 0 when something new is there; None: only a poll can tell."""
        return (_NOTHING, 0) if self.read_to_end else self.reader.probe()

    def poll(self) -> bool:
        """Look for what is new. True when it was found."""
        before = self.reader.seen
        logs = self.logs.poll(self.dead)
        if not self.read_to_end or not self.read_up:
            found = self.reader.poll(final=self.dead)
            if found or self._copy:
                self._read_definitions()
            if self.dead and not found and self.read_up:
                self._end_reading()
        return self.reader.seen != before or self.reader.finds_late or logs

    def _read_definitions(self) -> None:
        new = self.definitions.read()
        if new:
            self.lifecycle.touch(run.index for run in new)

    def _end_reading(self) -> None:
        self.read_to_end = True
        self.reader.close_holes()
        self.lifecycle.observed = not self._copy
        self.lifecycle.seq_end = self.reader.seen
        self.lifecycle.read_ns = self.reader.time_ns
        self.lifecycle.touch_all()

    @property
    def busy(self) -> bool:
        """Whether something is to be sent, or is under way."""
        waits = not self.logs.idle or not self.progress.idle
        return self.has_more or waits or not self.read_up or self.reader.finds_late

    def look(self, thoroughly: bool) -> None:
        """What needs no look at every poll: whether the writer lives; also new segments and runs."""
        self.uploads.look()
        if thoroughly:
            self.reader.look_for_segments()
            self._read_definitions()
        closed = self.state.exit is not None and self.state.exit.get("closed") is True
        if self.liveness.is_dead(closed) == self.dead:
            return
        if self.dead:
            self._resurrect()
        else:
            self._declare_dead()

    @property
    def read_up(self) -> bool:
        """Whether everything that was seen is on its way."""
        return self.reader.taken >= self.reader.seen and self.cutter.idle and self._cut is None

    def _resurrect(self) -> None:
        """The process had lost its lock, and has taken it again: it ends another time."""
        log.warning("%s lives after all", self.header.writer.hex())
        self.dead = self.read_to_end = False
        self.state.death = None
        self.lifecycle.seq_end = None

    def _declare_dead(self) -> None:
        """The process is gone: what is in the spool now is all there will be."""
        self.dead = True
        if self.state.death is None and not self._copy:
            how = "exit" if self.state.exit else "killed"
            self.state.death = {"time_ns": max(time.time_ns(), self.reader.time_ns), "how": how}
            self.save()  # what is reported of it must not change when this process ends too

    # ------------------------------------------------------------------------------- sending

    def ready_bytes(self) -> int:
        """About how much there is to send."""
        waiting = sum(len(record.data) for record in self._outbox)
        return waiting + self.cutter.ready_bytes() + (self._request_bytes if self._cut else 0)

    def request(self, now: float) -> list[Outgoing]:
        """The records of the next request; [] when there are none now."""
        records: list[Outgoing] = []
        size = 0
        while size < self._request_bytes and len(records) < _MOST_RECORDS:
            record = self._next(now)
            if record is None:
                break
            records.append(record)
            size += len(record.data)
        return records

    def _next(self, now: float) -> Outgoing | None:
        for record in self._again:
            if record.not_before <= now:
                self._again.remove(record)
                return record
        if self._outbox:
            return self._outbox.popleft()
        while True:
            if self._cut is None and not self._next_cut():
                break
            assert self._cut is not None
            piece = self._cut.piece
            made = next(self._cut.records, None)
            if made is not None:
                piece.waiting += 1
                return Outgoing(
                    self, self.generation, made.data, made.points, piece=piece, logged=made.logged
                )
            self._finish_cut(self._cut)
            self._cut = None
        self._say()
        if self._outbox:
            return self._outbox.popleft()
        data = self.logs.next(self.dead)
        return None if data is None else Outgoing(self, self.generation, data, False, logs=True)

    def _next_cut(self) -> bool:
        cut = self.cutter.next()
        if cut is None:
            return False
        self._cut = cut
        self.progress.begin(cut.piece)
        for index, count in cut.dropped.items():
            self.state.dropped[index] = max(count, self.state.dropped.get(index, 0))
        for said in cut.exits:
            if self.state.exit is None or said["seq"] >= self.state.exit["seq"]:
                self.state.exit = said
                self.lifecycle.touch_all()
        for index, seq in cut.ended.items():
            run = self.state.run(index)
            run.ended = max(seq, -1 if run.ended is None else run.ended)
        self.lifecycle.touch(cut.ended)
        return True

    def _finish_cut(self, cut: Cut) -> None:
        cut.piece.whole = True
        for problem in cut.problems[:5]:
            log.error("%s: %s", self.header.writer.hex(), problem)
        self._advance()

    def _say(self) -> None:
        for said, index in self.lifecycle.due(self.progress.idle, _MOST_EVENTS):
            data = events.batch(self.header.writer, said)
            self._outbox.append(Outgoing(self, self.generation, data, False, said=(said, index)))

    # ------------------------------------------------------------------------------- answers

    def acknowledged(self, record: Outgoing) -> None:
        """The record is in the log."""
        if record.generation != self.generation:
            return
        if record.said is not None:
            self.lifecycle.acknowledged(*record.said)
            self._dirty = True
        if record.logs:
            self.logs.acknowledged()
            self.state.logs = self.logs.dump()
            self._dirty = True
        if record.piece is not None:
            record.piece.waiting -= 1
            self._advance()

    def refused(self, record: Outgoing, reason: Reason, retryable: bool, now: float) -> None:
        """The server did not take the record."""
        if record.generation != self.generation:
            return
        if retryable:
            record.attempts += 1
            record.not_before = now + min(0.25 * 2 ** min(record.attempts, 10), 30.0)
            self._again.append(record)
            return
        parts = self._parts(record)
        if parts:
            if record.piece is not None:
                record.piece.waiting += len(parts) - 1
            self._outbox.extendleft(reversed(parts))
            return
        text = str(reason)
        log.error("%s: refused for good: %s", self.header.writer.hex(), text)
        if text not in self.state.refused and len(self.state.refused) < 20:
            self.state.refused.append(text)
        if record.piece is not None:
            for index, tally in record.logged.items():
                record.piece.refuse(index, reason, tally)
        self.acknowledged(record)

    def _parts(self, record: Outgoing) -> list[Outgoing]:
        """A refused record in smaller ones, so that only what is wrong is refused in the end."""
        if record.points:
            indexes = {run.run: run.index for run in self.definitions.runs.values()}
            return [
                Outgoing(self, self.generation, part.data, True, piece=record.piece, logged=part.logged)
                for part in halves(record.data, indexes)
            ]
        if record.said is not None or record.logs:
            return []
        return [
            Outgoing(
                self,
                self.generation,
                data,
                False,
                piece=record.piece,
                logged=dict.fromkeys(record.logged, tally),
            )
            for data, tally in events.single_events(record.data)
        ]

    def _advance(self) -> None:
        runs = self.progress.advance()
        if runs is not None:
            self._dirty = True
            of_runs = self.state.runs
            self.lifecycle.touch(
                i for i in runs if i in of_runs and (of_runs[i].ended is not None or of_runs[i].refusals)
            )

    # ------------------------------------------------------------------------------- keeping

    @property
    def drained(self) -> bool:
        """Whether the writer is dead and everything, its end included, is acknowledged."""
        return (
            self.read_to_end
            and self.progress.idle
            and self._cut is None
            and not self._outbox
            and not self._again
            and self.lifecycle.settled
            and not self.uploads.look()
            and self.logs_delivered()
        )

    def logs_delivered(self) -> bool:
        """Whether everything that was printed up to now, and seen in folders of logs, is acknowledged."""
        self.logs.poll(self.dead)
        return self.logs.idle

    def _logs_held(self, run: int) -> bool:
        return self.logs.held(run, self.dead)

    @property
    def undelivered(self) -> int:
        """How many calls and files are not acknowledged, as far as they were seen."""
        return max(self.reader.seen - self.state.acked_seq, 0) + self.uploads.pending

    def delivered(self, below: int) -> bool:
        """Whether every call below that has returned is acknowledged, and what it means for its runs."""
        reader = self.reader
        reached = self.read_up or (reader.taken >= below and self.cutter.idle and self._cut is None)
        return (
            (reached or self.state.acked_seq >= below)
            and self.progress.settled(below)
            and not self._outbox
            and (self.state.exit is None or self.lifecycle.told)
        )

    def uploaded(self, outcome: Outcome) -> None:
        """A file is in the log, or refused for good."""
        for p in outcome.positions:
            self.state.acknowledge(p.topic, p.partition, p.offset, p.epoch)
        if outcome.refused and outcome.refused not in self.state.refused and len(self.state.refused) < 20:
            self.state.refused.append(outcome.refused)
        self.uploads.finished(outcome.upload)
        self._dirty = True

    def save(self) -> None:
        """Write the state."""
        if not self._copy:
            tidying.write_state(self, sync=False)
            self._dirty = False

    def tidy(self) -> None:
        """Keep the state when it has changed, and remove what is delivered."""
        if self._dirty and not self._copy:
            self._dirty = not tidying.tidy(self)

    def close(self) -> None:
        """Give all descriptors back."""
        self.reader.close()
        self.logs.close()
        self.definitions.close()
        self.liveness.close()
