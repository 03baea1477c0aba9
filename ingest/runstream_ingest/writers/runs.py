"""Runs: from events to rows of the tables `run_events`, `attributes` and `models`; with them what happens in
workspaces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runstream.v1 import run_pb2
from runstream_ingest import records
from runstream_ingest.batch import Description
from runstream_ingest.errors import unsupported
from runstream_ingest.events import check_event, decode_events, describe
from runstream_ingest.records import Received
from runstream_ingest.writers.columns import to_table
from runstream_ingest.writers.sink import Rows
from runstream_ingest.writers.workspaces import WorkspaceEvents, decode_workspace_events, workspace_rows
from runstream_store.tables.schema import NO_RANK

_KINDS: Final = {
    field.name: field.number for field in run_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["event"].fields
}
_LATEST: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Events:
    """Events of one record."""

    received_time_ns: int
    batch: run_pb2.RunEventBatch


class RunsSink:
    """Sink of the topic `runs`."""

    topic = records.RUNS
    consumer = "runs"

    def decode(self, received: Received, /) -> tuple[Events | WorkspaceEvents, int]:
        """See `Sink`."""
        if received.kind == "workspace_events":
            of_workspace = decode_workspace_events(received.payload)
            return WorkspaceEvents(received.received_time_ns, of_workspace), len(of_workspace.events)
        if received.kind != "run_events":
            raise unsupported(f"a record of kind {received.kind} in topic {self.topic}")
        batch = decode_events(received.payload)
        for event in batch.events:
            check_event(event)
        return Events(received.received_time_ns, batch), len(batch.events)

    def build(self, contents: Sequence[Events | WorkspaceEvents], /) -> Rows:
        """See `Sink`."""
        events: list[dict[str, Any]] = []
        attributes: list[dict[str, Any]] = []
        models: list[dict[str, Any]] = []
        for content in contents:
            if isinstance(content, WorkspaceEvents):
                continue
            for event in content.batch.events:
                if event.HasField("attribute_set"):
                    attributes.append(_attribute_row(content, event))
                elif event.HasField("model_registered"):
                    models.append(_model_row(content, event))
                else:
                    events.append(_event_row(content, event))
        # Attributes first: who sees that a run ended sees what it had set before.
        experiments, shares = workspace_rows(one for one in contents if isinstance(one, WorkspaceEvents))
        rows = (
            ("attributes", attributes),
            ("models", models),
            ("experiment_attributes", experiments),
            ("share_events", shares),
            ("run_events", events),
        )
        return [(table, to_table(table, given)) for table, given in rows if given]

    def runs(self, content: Events | WorkspaceEvents, /) -> Iterable[tuple[str, str]]:
        """See `AboutRuns`."""
        if isinstance(content, WorkspaceEvents):
            return ()
        run = content.batch.events[0].run
        return ((run.workspace, run.run),)

    def rest(self) -> Rows:
        """See `Sink`: nothing is kept back."""
        return []

    def forget(self) -> None:
        """See `Sink`: there is nothing to forget."""

    def describe(self, received: Received, /) -> Description:
        """See `Sink`."""
        return describe(received.payload)


def _event_row(content: Events, event: run_pb2.RunEvent) -> dict[str, Any]:
    kind = event.WhichOneof("event")
    assert kind is not None  # decode_events
    said = getattr(event, kind)
    fields = said.DESCRIPTOR.fields_by_name
    return {
        "workspace": event.run.workspace,
        "run": event.run.run,
        "kind": _KINDS[kind],
        "writer": content.batch.writer,
        "seq": event.seq,
        "time": event.time_ns,
        "received_time": content.received_time_ns,
        "experiment": said.experiment if "experiment" in fields else "",
        "launch": said.launch if "launch" in fields else "",
        "restart": said.restart if "restart" in fields else 0,
        "role": said.role if "role" in fields else 0,
        "rank": said.rank if kind == "writer_started" and said.HasField("rank") else NO_RANK,
        "status": said.status if "status" in fields else 0,
        "outcome": said.outcome if "outcome" in fields else 0,
        "event": event.SerializeToString(),
        "precedence": _precedence(event, content.received_time_ns),
    }


def _precedence(event: run_pb2.RunEvent, received_time_ns: int) -> int:
    """Which of several deliveries of one event counts: the greatest."""
    if event.HasField("writer_ended"):
        ended = event.writer_ended
        return ended.seq_end * 4 + ended.exit_seen * 2 + ended.observed
    if event.HasField("writer_drained"):
        return event.writer_drained.seq_end
    return _LATEST - received_time_ns


def _attribute_row(content: Events, event: run_pb2.RunEvent) -> dict[str, Any]:
    attribute = event.attribute_set
    return {
        "workspace": event.run.workspace,
        "run": event.run.run,
        "kind": attribute.kind,
        "key": attribute.key,
        "writer": content.batch.writer,
        "seq": event.seq,
        "version": min(event.time_ns, content.received_time_ns),
        "value": attribute.value if attribute.HasField("value") else None,
        "removed": int(attribute.removed),
        "precedence": _LATEST - content.received_time_ns,
    }


def _model_row(content: Events, event: run_pb2.RunEvent) -> dict[str, Any]:
    return {
        "workspace": event.run.workspace,
        "name": event.model_registered.name,
        "run": event.run.run,
        "writer": content.batch.writer,
        "seq": event.seq,
        "time": event.time_ns,
        "received_time": content.received_time_ns,
        "path": event.model_registered.path,
        "model": event.model_registered.SerializeToString(),
        "precedence": _LATEST - content.received_time_ns,
    }
