"""What happens in a workspace: from events to rows of `experiment_attributes` and `share_events`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from runstream.v1 import workspace_pb2
from runstream_ingest import limits
from runstream_ingest.batch import check_name, parse
from runstream_ingest.errors import invalid, too_large, unsupported
from runstream_ingest.events import check_attribute

_KINDS: Final = {
    field.name: field.number
    for field in workspace_pb2.WorkspaceEvent.DESCRIPTOR.oneofs_by_name["event"].fields
}
_LATEST: Final = (1 << 64) - 1
_ID_BYTES: Final = 16
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class WorkspaceEvents:
    """Events of one record."""

    received_time_ns: int
    batch: workspace_pb2.WorkspaceEventBatch


def decode_workspace_events(data: bytes) -> workspace_pb2.WorkspaceEventBatch:
    """Reads a serialized `WorkspaceEventBatch` and checks it.

    :raises RecordRefused: it is no batch, or not one that is taken.
    """
    batch = parse(workspace_pb2.WorkspaceEventBatch(), data, "WorkspaceEventBatch")
    if len(batch.writer) != _ID_BYTES:
        raise invalid(f"writer has {len(batch.writer)} bytes; 16 make one")
    if not 1 <= len(batch.events) <= limits.EVENTS:
        refuse = too_large if batch.events else invalid
        raise refuse(f"a batch of {len(batch.events):,} events; 1 to {limits.EVENTS:,} are taken")
    check_name("a workspace's name", batch.workspace, limits.WORKSPACE_CHARACTERS)
    for event in batch.events:
        _check(event)
    return batch


def _check(event: workspace_pb2.WorkspaceEvent) -> None:
    match event.WhichOneof("event"):
        case "experiment_attribute_set":
            name = event.experiment_attribute_set.experiment
            check_name("an experiment's name", name, limits.EXPERIMENT_CHARACTERS)
            check_attribute(event.experiment_attribute_set.attribute)
        case "share_created":
            if len(event.share_created.share) != _ID_BYTES:
                raise invalid("a share's id has 16 bytes")
            if len(event.share_created.token_sha256) != _DIGEST_BYTES:
                raise invalid("a share's digest has 32 bytes")
        case "share_revoked":
            if len(event.share_revoked.share) != _ID_BYTES:
                raise invalid("a share's id has 16 bytes")
        case _:
            raise unsupported("an event of a kind that this server does not know")


def workspace_rows(contents: Iterable[WorkspaceEvents]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `experiment_attributes` and of `share_events`."""
    attributes: list[dict[str, Any]] = []
    shares: list[dict[str, Any]] = []
    for content in contents:
        for event in content.batch.events:
            if event.HasField("experiment_attribute_set"):
                attributes.append(_attribute_row(content, event))
            else:
                shares.append(_share_row(content, event))
    return attributes, shares


def _attribute_row(content: WorkspaceEvents, event: workspace_pb2.WorkspaceEvent) -> dict[str, Any]:
    attribute = event.experiment_attribute_set.attribute
    return {
        "workspace": content.batch.workspace,
        "experiment": event.experiment_attribute_set.experiment,
        "kind": attribute.kind,
        "key": attribute.key,
        "writer": content.batch.writer,
        "seq": event.seq,
        "version": min(event.time_ns, content.received_time_ns),
        "value": attribute.value if attribute.HasField("value") else None,
        "removed": int(attribute.removed),
        "precedence": _LATEST - content.received_time_ns,
    }


def _share_row(content: WorkspaceEvents, event: workspace_pb2.WorkspaceEvent) -> dict[str, Any]:
    kind = event.WhichOneof("event")
    assert kind is not None  # decode_workspace_events
    created = event.share_created if kind == "share_created" else None
    return {
        "workspace": content.batch.workspace,
        "share": getattr(event, kind).share,
        "kind": _KINDS[kind],
        "writer": content.batch.writer,
        "seq": event.seq,
        "time": min(event.time_ns, content.received_time_ns),
        "token_sha256": bytes(_DIGEST_BYTES) if created is None else created.token_sha256,
        "expires": 0 if created is None else created.expires_time_ns,
        "event": event.SerializeToString(),
        "precedence": _LATEST - content.received_time_ns,
    }
