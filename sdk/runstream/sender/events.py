"""Run events: from the records of a spool, and those that the sender itself states."""

import json
from typing import Any

from runstream import digest
from runstream.sender import refusals
from runstream.sender.definitions import RunDefinition
from runstream.sender.header import Header
from runstream.sender.state import RunState, WriterState
from runstream.sender.tally import Tally
from runstream.spool import layout
from runstream.v1 import model_pb2, point_pb2, run_pb2

_MOST_MESSAGE = 100_000  # characters of an error message

_STATUS = {
    "Completed": run_pb2.RUN_STATUS_COMPLETED,
    "Failed": run_pb2.RUN_STATUS_FAILED,
    "Canceled": run_pb2.RUN_STATUS_CANCELED,
}
_ROLE = {
    "main": run_pb2.WRITER_ROLE_MAIN,
    "worker": run_pb2.WRITER_ROLE_WORKER,
    "attached": run_pb2.WRITER_ROLE_ATTACHED,
}
_OUTCOME = {
    "clean": run_pb2.WRITER_OUTCOME_CLEAN,
    "exception": run_pb2.WRITER_OUTCOME_EXCEPTION,
    "interrupted": run_pb2.WRITER_OUTCOME_INTERRUPTED,
}
_ATTRIBUTE = {
    "tag": run_pb2.ATTRIBUTE_KIND_TAG,
    "property": run_pb2.ATTRIBUTE_KIND_PROPERTY,
    "param": run_pb2.ATTRIBUTE_KIND_PARAM,
    "system": run_pb2.ATTRIBUTE_KIND_SYSTEM,
}


def parse(payload: bytes | memoryview) -> dict[str, Any]:
    """The JSON object of an event's record. Raises ValueError when it is none."""
    content = json.loads(bytes(payload))
    if not isinstance(content, dict):
        raise ValueError("an event is a JSON object")
    return content


def counts(content: object) -> dict[int, int]:
    """`dropped` of an event: run index → calls."""
    if not isinstance(content, dict):
        return {}
    return {int(index): int(count) for index, count in content.items()}


def reference(run: RunDefinition) -> point_pb2.RunRef:
    """The run's name on the wire."""
    return point_pb2.RunRef(workspace=run.workspace, run=run.run)


def of_record(
    kind: int, content: dict[str, Any], run: RunDefinition, seq: int, time_ns: int
) -> run_pb2.RunEvent | None:
    """The event that a record states of a run; None for records that concern the sender alone."""
    event = run_pb2.RunEvent(run=reference(run), seq=seq, time_ns=time_ns)
    if kind == layout.RUN_STARTED:
        event.run_started.CopyFrom(
            run_pb2.RunStarted(
                experiment=content.get("experiment") or run.experiment,
                launch=content.get("launch") or run.launch,
                display_name=content.get("display_name") or "",
                parent=content.get("parent") or "",
                run_type=content.get("run_type") or "",
                restart=run.restart,
            )
        )
    elif kind == layout.RUN_ENDED:
        event.run_ended.CopyFrom(
            run_pb2.RunEnded(
                status=_STATUS.get(content.get("status") or "", run_pb2.RUN_STATUS_COMPLETED),
                error_message=(content.get("error_message") or "")[:_MOST_MESSAGE],
                error_code=content.get("error_code") or "",
                drain_follows=True,
            )
        )
    elif kind == layout.ATTRIBUTE_SET:
        removed = bool(content.get("removed"))
        value = content.get("value")
        event.attribute_set.CopyFrom(
            run_pb2.AttributeSet(
                kind=_ATTRIBUTE[content["kind"]],
                key=content["key"],
                value=None if removed or value is None else str(value),
                removed=removed,
            )
        )
    elif kind == layout.MODEL_REGISTERED:
        event.model_registered.CopyFrom(
            model_pb2.ModelRegistered(
                name=str(content["name"]),
                path=str(content["path"]),
                description=str(content.get("description") or ""),
                tags=_labels(content.get("tags")),
                properties=_labels(content.get("properties")),
                framework=str(content.get("framework") or ""),
                framework_version=str(content.get("framework_version") or ""),
            )
        )
    else:
        return None
    return event


def _labels(content: object) -> dict[str, str]:
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}


def writer_started(run: RunDefinition, header: Header) -> run_pb2.RunEvent:
    """States that the writer logs to the run."""
    return run_pb2.RunEvent(
        run=reference(run),
        seq=run.index,
        time_ns=run.time_ns or header.started_time_ns,
        writer_started=run_pb2.WriterStarted(
            role=_role(run),
            launch=run.launch,
            rank=header.rank,
            local_rank=header.local_rank,
            world_size=header.world_size or 0,
            host=header.host,
            pid=header.pid,
            restart=run.restart,
        ),
    )


def writer_ended(
    run: RunDefinition, state: WriterState, seq_end: int, time_ns: int, observed: bool
) -> run_pb2.RunEvent:
    """States how the writer ended, as far as it is known."""
    said = state.exit or {}
    return run_pb2.RunEvent(
        run=reference(run),
        seq=run.index,
        time_ns=time_ns,
        writer_ended=run_pb2.WriterEnded(
            role=_role(run),
            launch=run.launch,
            outcome=_OUTCOME.get(said.get("outcome") or "", run_pb2.WRITER_OUTCOME_KILLED),
            exit_code=said.get("exit_code"),
            error_message=(said.get("error_message") or "")[:_MOST_MESSAGE],
            seq_end=seq_end,
            observed=observed,
            exit_seen=state.exit is not None,
            drain_follows=True,
        ),
    )


def writer_drained(
    run: RunDefinition, state: WriterState, delivered: RunState, time_ns: int
) -> run_pb2.RunEvent:
    """States that all that the writer logged for the run, up to `acked_seq`, is in the log."""
    dropped = state.dropped.get(run.index, 0)
    return run_pb2.RunEvent(
        run=reference(run),
        seq=run.index,
        time_ns=time_ns,
        writer_drained=drained(state, delivered, dropped, topics=("points",)),
    )


def drained(
    state: WriterState, delivered: RunState, dropped: int, topics: tuple[str, ...] | None
) -> run_pb2.WriterDrained:
    """What was delivered of a writer for a run, with the positions in some topics, or in all."""
    return run_pb2.WriterDrained(
        seq_end=state.acked_seq,
        positions=[
            run_pb2.LogPosition(
                topic=p.topic, partition=p.partition, offset=p.offset, epoch=bytes.fromhex(p.epoch)
            )
            for p in state.positions.values()
            if topics is None or p.topic in topics
        ],
        logged=delivered.logged.elements,
        rejected=delivered.rejected.elements,
        dropped=dropped,
        lost=delivered.lost,
        refusals=refusals.messages(delivered.refusals),
        first_seq=state.first_seq,
        logged_digest=delivered.logged.digest if delivered.proven else None,
        rejected_digest=delivered.rejected.digest,
        events=delivered.logged.events,
        events_digest=delivered.logged.events_digest,
        rejected_events=delivered.rejected.events,
        rejected_events_digest=delivered.rejected.events_digest,
    )


def batch(writer: bytes, events: list[run_pb2.RunEvent]) -> bytes:
    """Events of one run, serialized."""
    return run_pb2.RunEventBatch(writer=writer, events=events).SerializeToString()


def tally(events: list[run_pb2.RunEvent]) -> Tally:
    """What these events of one run count as."""
    return Tally(events=len(events), events_digest=digest.of_seqs([event.seq for event in events]))


def single_events(data: bytes) -> list[tuple[bytes, Tally]]:
    """A refused batch as batches of one event; [] when it has only one."""
    message = run_pb2.RunEventBatch.FromString(data)
    if len(message.events) < 2:
        return []
    return [(batch(message.writer, [event]), tally([event])) for event in message.events]


def _role(run: RunDefinition) -> run_pb2.WriterRole.ValueType:
    return _ROLE.get(run.role, run_pb2.WRITER_ROLE_ATTACHED)
