"""What a request selects, checked and as SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from runstream.v1 import point_pb2, query_service_pb2
from runstream_query.errors import InvalidArgument
from runstream_query.sql import Clause, nanoseconds
from runstream_store.tables.schema import NO_STEP

MAX_RUNS: Final = 10_000
MAX_NAMES: Final = 100_000
MAX_TIMEOUT_MS: Final = 300_000

DECLARATION: Final = point_pb2.VALUE_TYPE_DECLARATION
"""Types from here on are no elements."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The elements that a request wants."""

    runs: Mapping[str, tuple[str, ...]]
    """Runs by workspace, both in the order of the tables."""
    metrics: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    min_step: int | None = None
    max_step: int | None = None
    min_time_ns: int | None = None
    max_time_ns: int | None = None
    attempt: int = 0
    """Only this attempt, from 1; 0 for what counts of all."""
    writers: tuple[tuple[str, bytes], ...] | None = None
    """Run and id of the attempt's writers, when they are known."""

    def elements(self) -> Clause:
        """The condition on single elements: rank, step, time, attempt."""
        parts: list[str] = []
        params: dict[str, object] = {}

        def add(sql: str, name: str, value: object) -> None:
            parts.append(sql)
            params[name] = value

        if self.ranks:
            add("p.rank IN {ranks:Array(Int32)}", "ranks", list(self.ranks))
        if self.min_step is not None:
            # No step is the smallest number: it is not at least anything.
            add("p.step >= {min_step:Int64}", "min_step", max(self.min_step, NO_STEP + 1))
        if self.max_step is not None:
            parts.append(f"p.step > {NO_STEP}")
            add("p.step <= {max_step:Int64}", "max_step", self.max_step)
        if self.min_time_ns is not None:
            add(f"p.logged_time >= {nanoseconds('min_time')}", "min_time", self.min_time_ns)
        if self.max_time_ns is not None:
            add(f"p.logged_time <= {nanoseconds('max_time')}", "max_time", self.max_time_ns)
        if self.writers is not None:
            add(
                "(p.run, hex(p.writer)) IN {writers:Array(Tuple(String, String))}",
                "writers",
                [(run, writer.hex().upper()) for run, writer in self.writers],
            )
        return Clause(" AND ".join(parts), params)

    def series(self, workspace: str, runs: Iterable[str]) -> Clause:
        """The condition on workspace, run and metric."""
        clause = Clause(
            "p.workspace = {workspace:String} AND p.run IN {runs:Array(String)}",
            {"workspace": workspace, "runs": list(runs)},
        )
        if self.metrics:
            clause &= Clause("p.metric IN {metrics:Array(String)}", {"metrics": list(self.metrics)})
        return clause


def checked_run(ref: Any) -> tuple[str, str]:
    """Workspace and run id of a RunRef.

    :raises InvalidArgument: one is missing.
    """
    if not ref.workspace or not ref.run:
        raise InvalidArgument("a run is named by its workspace and its id; one is missing")
    return ref.workspace, ref.run


def checked_selection(message: query_service_pb2.MetricSelection) -> Selection:
    """The selection of a request.

    :raises InvalidArgument: it selects nothing, or too much.
    """
    if not message.runs:
        raise InvalidArgument("selection.runs is empty: name at least one run")
    if len(message.runs) > MAX_RUNS:
        raise InvalidArgument(f"selection.runs names {len(message.runs):,} runs; at most {MAX_RUNS:,} a call")
    if len(message.metrics) > MAX_NAMES:
        raise InvalidArgument(f"selection.metrics has {len(message.metrics):,} names; at most {MAX_NAMES:,}")
    if any(rank >= 2**31 for rank in message.ranks):
        raise InvalidArgument("selection.ranks: a rank is at most 2147483647")
    runs: dict[str, set[str]] = {}
    for ref in message.runs:
        workspace, run = checked_run(ref)
        runs.setdefault(workspace, set()).add(run)
    return Selection(
        runs={
            workspace: tuple(sorted(runs[workspace])) for workspace in sorted(runs)
        },  # by code point, as in UTF-8
        metrics=tuple(dict.fromkeys(message.metrics)),
        ranks=tuple(sorted(set(message.ranks))),
        min_step=message.min_step if message.HasField("min_step") else None,
        max_step=message.max_step if message.HasField("max_step") else None,
        min_time_ns=message.min_time_ns if message.HasField("min_time_ns") else None,
        max_time_ns=message.max_time_ns if message.HasField("max_time_ns") else None,
        attempt=message.attempt,
    )
