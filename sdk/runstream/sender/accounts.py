"""What a sender knows of one run's writers here, for whoever asks what became of all that was logged."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from runstream.sender import events
from runstream.sender.definitions import RunDefinition
from runstream.sender.state import RunState
from runstream.sender.stream import Publisher
from runstream.sender.tail import WriterTail


def of_run(writers: Iterable[tuple[WriterTail, Publisher]], workspace: str, run: str) -> list[dict[str, Any]]:
    """One account for each writer that has logged to the run, as JSON."""
    found = []
    for tail, publisher in writers:
        tail.definitions.read_on()
        definitions = [
            one for one in tail.definitions.runs.values() if (one.workspace, one.run) == (workspace, run)
        ]
        if definitions:
            found.append(_account(tail, publisher, definitions))
    return found


def _account(tail: WriterTail, publisher: Publisher, definitions: list[RunDefinition]) -> dict[str, Any]:
    delivered = RunState()
    dropped = 0
    for definition in definitions:
        of_one = tail.state.runs.get(definition.index) or RunState()
        delivered.logged = delivered.logged.plus(of_one.logged)
        delivered.rejected = delivered.rejected.plus(of_one.rejected)
        delivered.proven &= of_one.proven
        delivered.lost += of_one.lost
        delivered.refusals = {**delivered.refusals, **of_one.refusals}
        dropped += tail.state.dropped.get(definition.index, 0)
    said = events.drained(tail.state, delivered, dropped, topics=None)
    return {
        "writer": tail.header.writer.hex(),
        "undelivered": tail.undelivered,
        "said": base64.b64encode(said.SerializeToString()).decode(),
        "connected": publisher.ready,
        "problem": publisher.problem or "",
    }
