"""What the sender itself states of a writer: that it began to log to a run, ended, and is drained."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from runstream.sender import events, refusals
from runstream.sender.definitions import RunDefinition
from runstream.sender.header import Header
from runstream.sender.state import RunState, WriterState
from runstream.sender.tally import Tally
from runstream.v1 import run_pb2


@dataclass(slots=True)
class _Reported:
    """What was said of a run, and what of that is acknowledged."""

    started: bool = False
    ended: tuple[int, bool] | None = None  # (seq_end, observed)
    drained: tuple[int, Tally, Tally, int, int] | None = (
        None  # (seq_end, logged, rejected, lost, refused records)
    )
    refused: int = 0  # records that were told of while the writer lived
    acked: set[str] = field(default_factory=set)


class Lifecycle:
    """Makes the events of one writer for all its runs."""

    def __init__(
        self,
        header: Header,
        state: WriterState,
        runs: dict[int, RunDefinition],
        held: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """`held` says of a run whether some of its logs are not delivered yet."""
        self._held = held
        self._header = header
        self._state = state
        self._runs = runs
        self._reported: dict[int, _Reported] = {}
        self._to_check: set[int] = set()
        self._for_logs: set[int] = set()  # of these, those whose drain waits for nothing but logs
        self.seq_end: int | None = None  # once the writer is dead, or a copy was read to its end
        self.read_ns = 0  # ordering time up to seq_end, whatever of it is acknowledged by now
        self.observed = False  # it was seen dead on its own machine
        self._pending = 0

    @property
    def settled(self) -> bool:
        """Whether everything that was said is acknowledged, and nothing is left to say."""
        return not self._pending and not self._to_check

    @property
    def told(self) -> bool:
        """Whether everything that was said is acknowledged, and what is left to say waits for logs alone: a
        process that has said that it ends may still write some until it is gone."""
        return not self._pending and self._to_check <= self._for_logs

    @property
    def idle(self) -> bool:
        """Whether nothing is to be looked at."""
        return not self._to_check

    def touch(self, runs: Iterable[int]) -> None:
        """Something happened to these runs."""
        found = {index for index in runs if index in self._runs}
        self._to_check |= found
        self._for_logs -= found

    def touch_all(self) -> None:
        """Something happened to the writer."""
        self._to_check.update(self._runs)
        self._for_logs.clear()

    def restart(self, state: WriterState) -> None:
        """Other data is at the server: say everything again."""
        self._state = state
        self._reported.clear()
        self._pending = 0
        self.touch_all()

    def due(self, idle: bool, most: int) -> list[tuple[list[run_pb2.RunEvent], int]]:
        """Events to send now, by run, with the run's index. `idle`: nothing of the writer is under way."""
        result = []
        for index in sorted(self._to_check):
            run, reported = self._runs[index], self._reported.setdefault(index, _Reported())
            said: list[run_pb2.RunEvent] = []
            if not reported.started:
                reported.started = True
                said.append(events.writer_started(run, self._header))
            said += self._ended(run, reported)
            drained, waits = self._drained(run, reported, idle)
            said += drained
            if not waits:
                self._to_check.discard(index)
            if said:
                self._pending += 1
                result.append((said, index))
            if len(result) >= most:
                break
        return result

    def acknowledged(self, said: list[run_pb2.RunEvent], index: int) -> None:
        """The server has the events, or refused them for good."""
        self._pending -= 1
        for event in said:
            if event.WhichOneof("event") == "writer_drained":
                run = self._state.run(index)
                run.drained = max(run.drained or 0, event.writer_drained.seq_end)

    def _end(self) -> tuple[int, bool] | None:
        """Up to where the writer went, when it has ended or said that it does; and whether that was seen."""
        if self.seq_end is not None:
            return self.seq_end, self.observed
        if self._state.exit is not None:
            return int(self._state.exit["seq"]) + 1, False
        return None

    def _ended(self, run: RunDefinition, reported: _Reported) -> list[run_pb2.RunEvent]:
        end = self._end()
        if end is None or reported.ended == end:
            return []
        reported.ended = end
        return [events.writer_ended(run, self._state, end[0], self._time_ns(), end[1])]

    def _time_ns(self) -> int:
        """When the writer ended."""
        if self._state.exit is not None:
            return int(self._state.exit["ordering_ns"])
        if self._state.death is not None:
            return int(self._state.death["time_ns"])
        return max(self._state.time_ns, self.read_ns)

    def _drained(
        self, run: RunDefinition, reported: _Reported, idle: bool
    ) -> tuple[list[run_pb2.RunEvent], bool]:
        """The event, if it is time for it, and whether that time is still to come."""
        state = self._state
        delivered = state.runs.get(run.index) or RunState()
        end = self._end()
        if end is not None:
            reach = end[0]
        elif delivered.ended is not None:
            reach = delivered.ended + 1
        else:
            return self._refused(run, reported, idle)
        self._for_logs.discard(run.index)
        if state.acked_seq < reach:
            return [], True
        if self._held(run.index):
            self._for_logs.add(run.index)
            return [], True
        refused = refusals.records(delivered.refusals)
        counts = (delivered.logged, delivered.rejected, delivered.lost, refused)
        said = reported.drained
        if said is None and delivered.drained is not None and delivered.drained >= reach:
            said = reported.drained = (delivered.drained, *counts)  # in an earlier life of the sender
        if said is not None and said[0] >= reach:
            if said[1:] == counts:
                return [], False
            if not idle:
                return [], True
        reported.drained = (state.acked_seq, *counts)
        return [events.writer_drained(run, state, delivered, max(state.time_ns, 1))], False

    def _refused(
        self, run: RunDefinition, reported: _Reported, idle: bool
    ) -> tuple[list[run_pb2.RunEvent], bool]:
        """While the run goes on: the same event when something was refused. Of many refusals it is told
        when they have doubled, and in the end."""
        state = self._state
        delivered = state.runs.get(run.index) or RunState()
        refused = refusals.records(delivered.refusals)
        if refused <= reported.refused:
            return [], False
        if not idle and refused < 2 * reported.refused:
            return [], True
        reported.refused = refused
        return [events.writer_drained(run, state, delivered, max(state.time_ns, 1))], False
