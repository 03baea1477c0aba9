"""What a read waits for: positions of the log that the caller has written, and the last points of writers
that have ended.

A consumer is named like the topic it reads. A reader that cannot be sure to see what it asked for gets an
error, never older data as if it were new.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from runstream.v1 import run_pb2
from runstream_query.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument
from runstream_query.selection import MAX_TIMEOUT_MS
from runstream_query.sql import ask_rows
from runstream_query.status import (
    ATTRIBUTE_SET,
    RUN_ENDED,
    RUN_STARTED,
    WRITER_DRAINED,
    WRITER_ENDED,
    WRITER_STARTED,
)
from runstream_store.hot import HotState
from runstream_store.position import Position
from runstream_store.tables import Tables

CONSUMERS: Final = ("points", "runs", "artifacts", "logs")

Epochs = Callable[[str], Awaitable[bytes]]
"""Gives the epoch that a topic of the log has now."""

Ends = Callable[[str], Awaitable[list[Position]]]
"""Gives the last position that a topic of the log has now, one for each partition that has any."""

SUMMARIES: Final = "summaries"
"""Consumer of the positions up to which runs are summarised, and channel on which somebody asks for it."""
LIGHT_SUMMARIES: Final = "summaries.light"
"""The same, but for runs that take long to read and are put off."""
WANTED: Final = b"all"
LIGHT_WANTED: Final = b"light"
"""What is said on the channel."""

_CATCH_UP_S: Final = 2.0
_BUSY_S: Final = 0.02
_PATIENT_S: Final = 0.25

# What follows from these few rows is worked out here: the engine takes longer to understand a question than
# to answer it. `precedence` of an end is seq_end * 4 + 2 * exit_seen + observed, and of a drain seq_end.
_SAID: Final = f"""
SELECT e.run AS run, e.writer AS writer, e.kind AS kind, max(e.seq) AS seq, max(e.precedence) AS precedence,
    max(bitAnd(e.precedence, 1)) AS observed, argMax(hex(e.event), e.precedence) AS event,
    groupUniqArray((e.launch, e.restart)) AS launches
FROM run_events AS e
WHERE e.workspace = {{workspace:String}} AND e.run IN {{runs:Array(String)}} AND e.kind != {ATTRIBUTE_SET}
GROUP BY run, writer, kind
"""


@dataclass(frozen=True, slots=True)
class RunEnds:
    """What the writers of some runs of one workspace have said about their ends."""

    workspace: str
    positions: Mapping[str, tuple[Position, ...]]
    """By run: positions in the log that hold the last points of writers that have ended."""
    undrained: frozenset[str]
    """Runs with a writer that has ended, and of which more is to come into the log."""
    relaunched: tuple[str, ...]
    """Runs with more than one launch."""
    heard_of: frozenset[str]
    """Runs of which there is an event."""
    direct: frozenset[str]
    """Runs with a writer that has ended after all its points were acknowledged: they are in the log."""

    def direct_by(self, log_ends: Sequence[Position]) -> RunEnds:
        """The same, where the points of direct writers are held by these positions."""
        positions = {run: (*self.positions.get(run, ()), *log_ends) for run in self.direct}
        return replace(self, positions={**self.positions, **positions}, direct=frozenset())

    @staticmethod
    def joined(workspace: str, parts: Sequence[RunEnds]) -> RunEnds:
        """The same of all runs of several parts."""
        if len(parts) == 1:
            return parts[0]
        return RunEnds(
            workspace,
            {run: positions for part in parts for run, positions in part.positions.items()},
            frozenset[str]().union(*(part.undrained for part in parts)),
            tuple(run for part in parts for run in part.relaunched),
            frozenset[str]().union(*(part.heard_of for part in parts)),
            frozenset[str]().union(*(part.direct for part in parts)),
        )


@dataclass(slots=True)
class _Writer:
    """What one writer has said of one run."""

    run: str
    writer: bytes
    needs: int = 0
    """How far it must be drained."""
    said: int = 0
    """How far because it ended the run."""
    ended: bool = False
    """It ended the run, or itself."""
    direct: bool = False
    """What it logged was in the log when it said so."""
    unobserved: bool = False
    """Of its end is known only what a copy of its spool tells."""
    drained: int = 0
    event: str = ""
    """The drain, in hexadecimal."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes what it said of one kind."""
        kind = row["kind"]
        if kind == RUN_ENDED:
            self.ended = True
            if event_of(row["event"]).run_ended.drain_follows:
                self.said = row["seq"] + 1
                self.needs = max(self.needs, self.said)
            else:
                self.direct = True
        elif kind == WRITER_ENDED:
            self.ended, self.unobserved = True, not row["observed"]
            if event_of(row["event"]).writer_ended.drain_follows:
                self.needs = max(self.needs, row["precedence"] // 4)
            else:
                self.direct = True
        elif kind == WRITER_DRAINED:
            self.drained, self.event = row["precedence"], row["event"]


async def run_ends(
    tables: Tables, hot: HotState, workspace: str, runs: Iterable[str], timeout_s: float
) -> RunEnds:
    """Reads what the writers of some runs have said."""
    params = {"workspace": workspace, "runs": list(runs)}
    writers: dict[tuple[str, bytes], _Writer] = {}
    launches: dict[str, set[tuple[str, int]]] = {}
    for row in await ask_rows(tables, _SAID, params, timeout_s):
        key = row["run"], row["writer"]
        writers.setdefault(key, _Writer(*key)).add(row)
        if row["kind"] in (RUN_STARTED, WRITER_STARTED):
            pairs = (tuple(pair.values()) for pair in row["launches"])
            launches.setdefault(row["run"], set()).update(pair for pair in pairs if pair[0])
    doubtful = [writer for writer in writers.values() if writer.unobserved]
    alive = await hot.lease_alive([writer.writer for writer in doubtful], time.time_ns())
    for writer, lives in zip(doubtful, alive, strict=True):
        if lives:  # only a copy of its spool has ended
            writer.needs, writer.ended = writer.said, writer.said > 0
            writer.direct = False
    positions: dict[str, list[Position]] = {}
    undrained: set[str] = set()
    for writer in writers.values():
        if not writer.ended:
            continue
        if writer.drained < writer.needs:
            undrained.add(writer.run)
        positions.setdefault(writer.run, []).extend(_positions(writer.event))
    return RunEnds(
        workspace,
        {run: tuple(of_run) for run, of_run in positions.items()},
        frozenset(undrained),
        tuple(run for run, of_run in launches.items() if len(of_run) > 1),
        frozenset(run for run, _ in writers),
        frozenset(writer.run for writer in writers.values() if writer.ended and writer.direct),
    )


def event_of(text: str) -> run_pb2.RunEvent:
    """A RunEvent from the tables; it comes in hexadecimal, because engines give texts as UTF-8."""
    return run_pb2.RunEvent.FromString(bytes.fromhex(text))


def _positions(event: str) -> list[Position]:
    drained = event_of(event).writer_drained
    return [Position(p.topic, p.partition, p.offset, p.epoch) for p in drained.positions]


class Barrier:
    """Waits, on behalf of reads, until the tables are far enough."""

    def __init__(
        self, hot: HotState, epochs: Epochs | None, default_timeout_ms: int, ends: Ends | None = None
    ) -> None:
        """
        :param epochs: how to ask the log for its epochs; None where there is no log to ask.
        :param ends: how to ask it for its ends.
        """
        self._ends = ends
        self._hot = hot
        self._epochs = epochs
        self._default_ms = default_timeout_ms

    def deadline(self, message: Any) -> float:
        """When a read with this ReadBarrier gives up, on the monotonic clock.

        :raises InvalidArgument: its timeout is too long.
        """
        if message.timeout_ms > MAX_TIMEOUT_MS:
            raise InvalidArgument(f"barrier.timeout_ms is {message.timeout_ms}; at most {MAX_TIMEOUT_MS}")
        return time.monotonic() + (message.timeout_ms or self._default_ms) / 1000

    async def reach(self, message: Any, deadline: float) -> None:
        """Waits for the positions of a ReadBarrier. Raises as its two steps do."""
        await self.reach_points(await self.reach_runs(message, deadline), deadline)

    async def reach_artifacts(self, message: Any) -> None:
        """Waits for the positions of a ReadBarrier, and a little for all files whose upload was acknowledged.

        Raises as `reach`.
        """
        deadline = self.deadline(message)
        await self.reach_points(await self.reach_runs(message, deadline), deadline)
        await self._catch_up("artifacts", deadline)

    async def reach_logs(self, message: Any | None) -> None:
        """Waits for the positions of a ReadBarrier, and a little for all logs that were acknowledged.

        Raises as `reach`.
        """
        deadline = time.monotonic() + _CATCH_UP_S
        if message is not None:
            deadline = self.deadline(message)
            await self.reach_points(await self.reach_runs(message, deadline), deadline)
        await self._catch_up("logs", deadline)

    async def applied(self, consumer: str) -> list[Position]:
        """How far the tables are with a topic: differs from before when something was added."""
        return list(await self._hot.applied_positions(consumer))

    async def reach_points(self, positions: Sequence[Position], deadline: float) -> None:
        """The second step: waits until points are there.

        :raises DeadlineExceeded: they were not reached in time.
        """
        await self._wait(positions, deadline, "what was just logged")

    async def reach_runs(self, message: Any, deadline: float) -> list[Position]:
        """The first step: checks the positions of a ReadBarrier, waits for events of runs. Returns the rest.

        :raises DeadlineExceeded: they were not reached in time.
        :raises FailedPrecondition: they belong to a log that is no more.
        :raises InvalidArgument: they are no positions.
        """
        positions = [Position(p.topic, p.partition, p.offset, p.epoch) for p in message.positions]
        for position in positions:
            if position.topic not in CONSUMERS:
                raise InvalidArgument(f"barrier.positions: no reader waits for topic {position.topic!r}")
            if len(position.epoch) != 16:
                raise InvalidArgument(f"barrier.positions: an epoch has 16 bytes, not {len(position.epoch)}")
            if await self.gone(position):
                raise FailedPrecondition(
                    f"the position {position.offset} of topic {position.topic!r} belongs to an event log"
                    f" (epoch {position.epoch.hex()}) that this server does not have: its log was made anew,"
                    " or the position is of another server. What was written there can't be waited for:"
                    " log again, or read without the position"
                )
        runs = [position for position in positions if position.topic == "runs"]
        await self._wait(runs, deadline, "what was just logged")
        if message.all_events and self._ends is not None:
            await self._wait(await self._ends("runs"), deadline, "all that the log has of runs")
        else:
            await self._catch_up("runs", deadline)
        return [position for position in positions if position.topic != "runs"]

    async def _catch_up(self, topic: str, deadline: float) -> None:
        """Waits for what is in the log by now: for the events of runs, if they are the topic.

        A run whose end was acknowledged is then known to have ended, also to who asks without a position. It
        is not waited for long: when the writer stands still, reads go on, and ReadInfo.as_of tells how far
        it is.
        """
        if self._ends is not None:
            left = max(0.0, min(deadline - time.monotonic(), _CATCH_UP_S))
            await self._hot.wait_applied(topic, await self._ends(topic), left)

    async def reach_ends(self, deadline: float) -> None:
        """Waits for the events and points that are in the log by now: who then finds nothing of a run may
        say that there is nothing.

        :raises DeadlineExceeded: it was not reached in time.
        """
        if self._ends is not None:
            for topic in ("runs", "points"):
                await self._wait(await self._ends(topic), deadline, "what is in the log")

    async def points_now(self) -> list[Position]:
        """Up to where there are points in the log. Those of a direct writer that is known to have ended are
        below."""
        return [] if self._ends is None else await self._ends("points")

    async def catch_up(self) -> None:
        """Waits for the events of runs that are in the log by now, but not for long."""
        await self._catch_up("runs", time.monotonic() + _CATCH_UP_S)

    async def reach_summaries(self, message: Any, deadline: float) -> None:
        """Waits until the summaries of runs hold what a barrier names; without a position for what the log
        holds of the runs' events, but not for long unless the barrier asks for all of them.

        :raises DeadlineExceeded: it did not come in time.
        """
        positions = [
            Position(p.topic, p.partition, p.offset, p.epoch)
            for p in message.positions
            if p.topic in ("points", "runs")
        ]
        if positions and not await self._hot.wait_applied(SUMMARIES, positions, 0.0):
            await self._hot.publish(SUMMARIES, WANTED)
            left = max(0.0, deadline - time.monotonic())
            if not await self._hot.wait_applied(SUMMARIES, positions, left):
                raise DeadlineExceeded(
                    "the summaries of runs do not hold what was just logged yet; try again, or with a"
                    " longer timeout"
                )
        if self._ends is not None and (message.all_events or not positions):
            left = max(0.0, deadline - time.monotonic())
            if not message.all_events:
                left = min(left, _CATCH_UP_S)
            if not await self._light_summaries(await self._ends("runs"), left) and message.all_events:
                raise DeadlineExceeded(
                    "the summaries of runs do not hold all that the log has of them yet; try again, or"
                    " with a longer timeout"
                )

    async def _light_summaries(self, ends: Sequence[Position], left: float) -> bool:
        """Waits for events of runs to be summarised; only when it takes longer is that asked for."""
        if await self._hot.wait_applied(LIGHT_SUMMARIES, ends, min(left, _BUSY_S)):
            return True
        await self._hot.publish(SUMMARIES, LIGHT_WANTED)
        return await self._hot.wait_applied(LIGHT_SUMMARIES, ends, left)

    async def unsettled(self, ends: RunEnds) -> list[str]:
        """The runs with a writer that has ended, and whose last points are not in the tables."""
        runs = set(ends.undrained)
        for run, positions in ends.positions.items():
            if run not in runs and not await self._holds(positions):
                runs.add(run)
        return sorted(runs)

    async def approach(self, ends: RunEnds, runs: Iterable[str], deadline: float, waited: int) -> None:
        """Waits a little for these unsettled runs: until known positions are applied, or for more to be
        known.

        :param waited: how often this was done before.
        :raises DeadlineExceeded: it is too late.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            names = ", ".join(repr(run) for run in list(runs)[:3])
            raise DeadlineExceeded(
                f"the last points of {names} have not reached the tables, though the run has ended: its"
                " sender may be unable to reach the server. Try again, or read what is there with"
                " allow_settling"
            )
        nap = min(left, _PATIENT_S, _BUSY_S * 2 ** min(waited, 10))
        by_consumer: dict[str, list[Position]] = {}
        for run in runs:
            if run not in ends.undrained:
                for position in ends.positions.get(run, ()):
                    if not await self._holds((position,)):
                        by_consumer.setdefault(position.topic, []).append(position)
        if not by_consumer:
            await asyncio.sleep(nap)
        for consumer, positions in by_consumer.items():
            await self._hot.wait_applied(consumer, positions, nap)

    async def _holds(self, positions: Iterable[Position]) -> bool:
        """Whether the tables hold all of these positions. Those of a log that is no more say nothing."""
        return not await self.awaited(positions)

    async def awaited(self, positions: Iterable[Position]) -> list[Position]:
        """Those that the tables don't hold yet. Positions of a log that is no more say nothing."""
        found = []
        for position in positions:
            applied = await self._hot.applied(
                position.topic, position.topic, position.partition, position.epoch
            )
            if (applied is None or applied < position.offset) and not await self.gone(position):
                found.append(position)
        return found

    async def as_of(self) -> list[Position]:
        """How far the tables are, one position for each topic and partition: of its newest log."""
        found: dict[tuple[str, int], Position] = {}
        for consumer in CONSUMERS:
            for position in await self._hot.applied_positions(consumer):
                place = position.topic, position.partition
                if place not in found or not await self.gone(position):
                    found[place] = position
        return list(found.values())

    async def gone(self, position: Position) -> bool:
        """Whether nothing is known of a position's log, and the log of today is another."""
        if self._epochs is None or position.epoch == await self._epochs(position.topic):
            return False
        known = await self._hot.applied(position.topic, position.topic, position.partition, position.epoch)
        return known is None or known < position.offset

    async def _wait(self, positions: Sequence[Position], deadline: float, what: str) -> None:
        by_consumer: dict[str, list[Position]] = {}
        for position in positions:
            by_consumer.setdefault(position.topic, []).append(position)
        for consumer, of_consumer in by_consumer.items():
            left = max(0.0, deadline - time.monotonic())
            if not await self._hot.wait_applied(consumer, of_consumer, left):
                raise DeadlineExceeded(
                    f"the tables do not hold {what} yet; try again, or with a longer timeout"
                )
