"""The attempts of a run: the launches that have logged to it."""

from typing import TYPE_CHECKING, Final, NamedTuple

from runstream.core.record import iso_time

if TYPE_CHECKING:
    from runstream.v1.query_service_pb2 import Run

_CLEAN: Final = 1  # runstream.v1.WriterOutcome


class Attempt(NamedTuple):
    """Times are UTC in ISO 8601, None for none."""

    number: int
    """From 1, in the order of their starts."""
    started_utc: str | None
    ended_utc: str | None
    """None while one of its processes goes on."""
    ranks: tuple[int, ...]
    """Of its processes, rising; empty when they have none."""
    failed: int
    """How many of its processes did not end cleanly."""


def attempts_of(run: "Run") -> list[Attempt]:
    """From the server's message. Writers that belong to no launch are in none."""
    numbers = sorted({writer.attempt for writer in run.writers if writer.attempt})
    found = []
    for number in numbers:
        writers = [writer for writer in run.writers if writer.attempt == number]
        ends = [writer.ended_time_ns for writer in writers]
        found.append(
            Attempt(
                number,
                iso_time(min(writer.started_time_ns for writer in writers)),
                iso_time(max(ends) if all(ends) else 0),
                tuple(sorted({w.started.rank for w in writers if w.started.HasField("rank")})),
                sum(w.HasField("ended") and w.ended.outcome != _CLEAN for w in writers),
            )
        )
    return found


def no_attempt(run_id: str, number: int, attempts: list[Attempt]) -> str:
    """What is said of one that is not there."""
    known = ", ".join(str(attempt.number) for attempt in attempts)
    has = f"its attempts are {known}" if len(attempts) > 1 else f"its only one is {known}" if known else ""
    return f"run {run_id} has no attempt {number}: {has or 'it was never launched'}"
