"""How far the delivery of a writer is: pieces in order of the sequence, each acknowledged on its own."""

from collections import deque
from dataclasses import dataclass, field

from runstream.sender import refusals
from runstream.sender.refusals import Count, Reason, Refusals
from runstream.sender.state import WriterState
from runstream.sender.tally import Tallies, Tally, gather
from runstream.spool.reader import Hole


@dataclass(slots=True)
class Piece:
    """A range of the sequence that was taken from the spool, and what is still to be acknowledged of it."""

    first: int
    end: int
    time_ns: int  # running maximum at its end
    late: bool = False
    waiting: int = 0  # records that are not acknowledged
    whole: bool = False  # all its records were made
    logged: Tallies = field(default_factory=dict)
    rejected: Tallies = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)
    refusals: dict[int, Refusals] = field(default_factory=dict)

    def refuse(self, run: int, reason: Reason, tally: Tally) -> None:
        """Count a record of a run that was refused for good."""
        gather(self.rejected, {run: tally})
        refusals.note(self.refusals.setdefault(run, {}), reason, Count(tally.elements, 1))

    @property
    def done(self) -> bool:
        """Whether nothing is outstanding."""
        return self.whole and not self.waiting


def add(counts: dict[int, int], more: dict[int, int]) -> None:
    """Add counts by run index."""
    for index, count in more.items():
        counts[index] = counts.get(index, 0) + count


class Progress:
    """The pieces under way. Those at the front that are done become the writer's state."""

    def __init__(self, state: WriterState) -> None:
        self._state = state
        self._pieces: deque[Piece] = deque()
        self._late: list[Piece] = []

    def begin(self, piece: Piece) -> Piece:
        """Follow a piece. Those that are not late come in order of the sequence."""
        if piece.late:
            self._late.append(piece)
        else:
            self._pieces.append(piece)
        return piece

    def advance(self) -> set[int] | None:
        """Count what is done into the state. Returns the runs that were in it; None when nothing is done."""
        state, moved = self._state, False
        runs: set[int] = set()
        while self._pieces and self._pieces[0].done:
            piece = self._pieces.popleft()
            self._count(piece, runs)
            state.acked_seq, state.time_ns = piece.end, piece.time_ns
            moved = True
        if self._late:
            # One beyond acked_seq waits: read again, it would come in order and be counted then.
            for piece in [p for p in self._late if p.done and p.first < state.acked_seq]:
                self._late.remove(piece)
                self._count(piece, runs)
                moved = True
        return runs if moved else None

    def _count(self, piece: Piece, runs: set[int]) -> None:
        runs.update(piece.logged, piece.lost, piece.refusals)
        for index, tally in piece.logged.items():
            run = self._state.run(index)
            run.logged = run.logged.plus(tally)
        for index, tally in piece.rejected.items():
            run = self._state.run(index)
            run.rejected = run.rejected.plus(tally)
        for index, count in piece.lost.items():
            self._state.run(index).lost += count
        for index, of_run in piece.refusals.items():
            for reason, refused in of_run.items():
                refusals.note(self._state.run(index).refusals, reason, refused)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._pieces and not self._late

    def settled(self, below: int) -> bool:
        """Whether everything that was taken below a sequence number is acknowledged."""
        return all(p.first >= below for p in self._pieces) and all(p.first >= below for p in self._late)

    def late_seqs(self) -> set[int]:
        """Late commits that are under way: their segments must stay."""
        return {piece.first for piece in self._late}

    def holes(self, open_holes: list[Hole]) -> list[Hole]:
        """What the state must list as holes: those still open and late ones under way, below acked_seq."""
        acked = self._state.acked_seq
        holes = [Hole(h.first, min(h.end, acked), h.time_ns) for h in open_holes if h.first < acked]
        holes += [Hole(p.first, p.end, p.time_ns) for p in self._late if p.first < acked]
        return sorted(holes)
