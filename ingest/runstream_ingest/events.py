"""Batches of run events, with all their checks."""

from __future__ import annotations

from typing import Final

from runstream import digest
from runstream.v1 import model_pb2, run_pb2
from runstream_ingest import limits
from runstream_ingest.artifacts import check_path
from runstream_ingest.batch import Description, check_name, known_runs, parse
from runstream_ingest.errors import RecordRefused, invalid, too_large, unsupported

_END_STATUSES: Final = frozenset(
    (run_pb2.RUN_STATUS_COMPLETED, run_pb2.RUN_STATUS_FAILED, run_pb2.RUN_STATUS_CANCELED)
)
_SENDERS_OWN: Final = frozenset(("writer_started", "writer_ended", "writer_drained"))
"""Events that have no sequence number of the spool."""
_GREATEST_SEQ_END: Final = (1 << 62) - 1
"""`run_events.precedence` needs two bits beside it."""


def decode_events(data: bytes) -> run_pb2.RunEventBatch:
    """Reads a serialized `RunEventBatch` and checks whose it is.

    :raises RecordRefused: it is no batch, or not one that is taken.
    """
    batch = parse(run_pb2.RunEventBatch(), data, "RunEventBatch")
    if len(batch.writer) != 16:
        raise invalid(f"writer has {len(batch.writer)} bytes; 16 make one")
    if not 1 <= len(batch.events) <= limits.EVENTS:
        refuse = too_large if batch.events else invalid
        raise refuse(f"a batch of {len(batch.events):,} events; 1 to {limits.EVENTS:,} are taken")
    first = batch.events[0].run
    check_name("a workspace's name", first.workspace, limits.WORKSPACE_CHARACTERS)
    check_name("a run id", first.run, limits.RUN_CHARACTERS)
    for event in batch.events:
        if event.run.run != first.run or event.run.workspace != first.workspace:
            raise invalid("events of several runs in one batch: send a batch for each run")
        if event.WhichOneof("event") is None:
            raise unsupported("an event of a kind that this server does not know")
    return batch


def check_event(event: run_pb2.RunEvent) -> None:
    """Checks what an event says: what `decode_events` leaves to the writers.

    :raises RecordRefused: a field is out of its range.
    """
    kind = event.WhichOneof("event")
    if kind == "run_started":
        check_name("an experiment's name", event.run_started.experiment, limits.EXPERIMENT_CHARACTERS)
        check_name("a launch", event.run_started.launch, limits.LAUNCH_CHARACTERS)
    elif kind == "run_ended":
        if event.run_ended.status not in _END_STATUSES:
            raise invalid(f"a run can't end with status {event.run_ended.status}")
        _check_error(event.run_ended.error_message)
    elif kind == "attribute_set":
        check_attribute(event.attribute_set)
    elif kind == "model_registered":
        _check_model(event.model_registered)
    elif kind == "writer_started":
        check_name("a launch", event.writer_started.launch, limits.LAUNCH_CHARACTERS, least=0)
        if event.writer_started.HasField("rank") and event.writer_started.rank >= 1 << 31:
            raise invalid(f"rank {event.writer_started.rank:,} is no rank")
        _check_byte("role", event.writer_started.role)
    elif kind == "writer_ended":
        check_name("a launch", event.writer_ended.launch, limits.LAUNCH_CHARACTERS, least=0)
        _check_error(event.writer_ended.error_message)
        _check_byte("role", event.writer_ended.role)
        _check_byte("outcome", event.writer_ended.outcome)
        if event.writer_ended.seq_end > _GREATEST_SEQ_END:
            raise invalid(f"seq_end {event.writer_ended.seq_end:,} is no number of calls")


def describe(data: bytes) -> Description:
    """What a batch that was refused is about, as far as it can be told. It has no elements."""
    try:
        batch = parse(run_pb2.RunEventBatch(), data, "RunEventBatch")
    except RecordRefused:
        return Description()
    runs = known_runs(event.run for event in batch.events)
    seqs = sorted({event.seq for event in batch.events if event.WhichOneof("event") not in _SENDERS_OWN})
    return Description(
        runs=runs,
        digests={runs[0]: digest.of_seqs(seqs)} if len(runs) == 1 else {},
        events=len(seqs),
        writer=batch.writer if len(batch.writer) == 16 else b"",
        first_seq=seqs[0] if seqs else 0,
        seq_end=min(seqs[-1] + 1, (1 << 64) - 1) if seqs else 0,
    )


def check_attribute(attribute: run_pb2.AttributeSet) -> None:
    """Checks what is set.

    :raises RecordRefused: a field is out of its range.
    """
    if attribute.kind not in run_pb2.AttributeKind.values() or not attribute.kind:
        raise invalid(f"attribute kind {attribute.kind} is unknown")
    check_name("an attribute's key", attribute.key, limits.KEY_CHARACTERS)
    if len(attribute.value.encode()) > limits.TEXT_BYTES:
        raise too_large(f"an attribute's value of more than {limits.TEXT_BYTES:,} bytes")
    if attribute.removed and attribute.HasField("value"):
        raise invalid("an attribute that is removed and has a value")


def _check_model(model: model_pb2.ModelRegistered) -> None:
    check_name("a model's name", model.name, limits.MODEL_CHARACTERS)
    check_path(model.path)
    check_name("a framework", model.framework, limits.MODEL_CHARACTERS, least=0)
    check_name("a framework's version", model.framework_version, limits.MODEL_CHARACTERS, least=0)
    if len(model.description) > limits.DESCRIPTION_CHARACTERS:
        raise too_large(f"a description of {len(model.description):,} characters")
    for what, given in (("tag", model.tags), ("property", model.properties)):
        if len(given) > limits.MODEL_LABELS:
            raise too_large(f"a model with {len(given):,} of kind {what}; {limits.MODEL_LABELS:,} are taken")
        for key in given:
            check_name(f"a {what}'s key", key, limits.KEY_CHARACTERS)
        if sum(len(value.encode()) for value in given.values()) > limits.TEXT_BYTES:
            raise too_large(f"values of kind {what} with more than {limits.TEXT_BYTES:,} bytes")


def _check_error(message: str) -> None:
    if len(message) > limits.ERROR_CHARACTERS:
        raise too_large(f"an error message of {len(message):,} characters")


def _check_byte(what: str, value: int) -> None:
    if not 0 <= value < 256:  # an enum is open: newer values pass, what fits no column does not
        raise invalid(f"{what} {value} is unknown")
