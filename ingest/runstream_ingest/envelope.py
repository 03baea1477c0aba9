"""Requests: from bytes to records of the event log.

Only what costs little is checked here: sizes, checksums, that a batch is a batch, whose it is, that its
columns fit together. What is wrong within is found by the writers. A payload keeps the bytes its client sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from google.protobuf.message import DecodeError

from runstream.internal.v1 import twin_pb2
from runstream.v1 import event_pb2, ingest_service_pb2
from runstream_ingest import limits, records, wire
from runstream_ingest.artifacts import decode_manifest
from runstream_ingest.batch import decode_points
from runstream_ingest.errors import RecordRefused, RequestMalformed, too_large, unsupported
from runstream_ingest.events import decode_events
from runstream_ingest.logs import decode_logs
from runstream_store.log import NewRecord

_RECORDS: Final = 2  # PublishRequest.records
_ONCE_RECORDS: Final = 1  # PublishOnceRequest.records
_MESSAGES: Final[dict[int, records.Kind]] = {1: "points", 2: "run_events", 3: "artifact", 7: "logs"}
_COMPRESSED: Final = 4

_KEY_SEPARATOR: Final = b"\0"


@dataclass(frozen=True, slots=True)
class Incoming:
    """One record of a request, unchecked."""

    kind: records.Kind | None
    """None when it has no payload that this server knows."""
    payload: bytes
    compression: event_pb2.Compression.ValueType
    crc32: int | None


@dataclass(frozen=True, slots=True)
class Request:
    """A request, unchecked."""

    request_id: int
    records: list[Incoming]
    lease: ingest_service_pb2.Lease | None
    size: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A record that passed the checks."""

    topic: str
    record: NewRecord


def decode_request(data: bytes) -> Request:
    """Reads a serialized `PublishRequest`.

    :raises RequestMalformed: it is none.
    """
    request = twin_pb2.PublishRequest()
    try:
        request.ParseFromString(data)
        incoming = _incoming(data, request, _RECORDS)
    except (DecodeError, wire.WireError) as error:
        raise RequestMalformed(f"not a PublishRequest: {error}") from None
    lease = request.lease if request.HasField("lease") else None
    return Request(request.request_id, incoming, lease, len(data))


def decode_once_request(data: bytes) -> Request:
    """Reads a serialized `PublishOnceRequest`.

    :raises RequestMalformed: it is none.
    """
    request = twin_pb2.PublishOnceRequest()
    try:
        request.ParseFromString(data)
        incoming = _incoming(data, request, _ONCE_RECORDS)
    except (DecodeError, wire.WireError) as error:
        raise RequestMalformed(f"not a PublishOnceRequest: {error}") from None
    return Request(0, incoming, None, len(data))


def accept(incoming: Incoming, *, received_time_ns: int, principal: str, most: int) -> Accepted:
    """Checks a record and makes of it one for the log.

    :param most: greatest size of a record that the log takes.
    :raises RecordRefused: it can't be taken.
    """
    records.check_crc(incoming.payload, incoming.crc32)
    match incoming.kind:
        case "points":
            topic, key = records.POINTS, decode_points(incoming.payload).writer
        case "compressed_points":
            batch = records.decompress(incoming.payload, incoming.compression)
            topic, key = records.POINTS, decode_points(batch).writer
        case "run_events":
            run = decode_events(incoming.payload).events[0].run
            topic, key = records.RUNS, _KEY_SEPARATOR.join((run.workspace.encode(), run.run.encode()))
        case "artifact":
            run = decode_manifest(incoming.payload).run
            topic = records.ARTIFACTS
            key = _KEY_SEPARATOR.join((run.workspace.encode(), run.run.encode()))
        case "logs":
            topic, key = records.LOGS, decode_logs(incoming.payload).writer
        case _:
            raise unsupported("a record without a payload that this server knows")
    value = records.encode_log_record(
        incoming.kind,
        incoming.payload,
        received_time_ns=received_time_ns,
        principal=principal,
        compression=incoming.compression,
        crc32=incoming.crc32,
    )
    if len(key) + len(value) > most:
        raise too_large(f"a record of {len(value):,} bytes; the event log takes {most:,}: split it")
    return Accepted(topic, NewRecord(key, value))


def check_size(request: Request) -> RecordRefused | None:
    """What is wrong with the size of a request as a whole; None when nothing is."""
    if request.size <= limits.REQUEST_BYTES:
        return None
    return too_large(
        f"a request of {request.size:,} bytes; at most {limits.REQUEST_BYTES:,} are taken: "
        "send its records in several requests"
    )


def _incoming(
    data: bytes, request: twin_pb2.PublishRequest | twin_pb2.PublishOnceRequest, field: int
) -> list[Incoming]:
    if request.ByteSize() == len(data):
        return [_usual(record) for record in request.records]
    return [_unusual(content) for number, content in wire.pieces(data) if number == field]


def _usual(record: twin_pb2.PublishRecord) -> Incoming:
    kind = record.WhichOneof("payload")
    return Incoming(
        kind,
        b"" if kind is None else cast(bytes, getattr(record, kind)),
        record.compression,
        record.crc32 if record.HasField("crc32") else None,
    )


def _unusual(content: bytes) -> Incoming:
    """Reads a record that its client wrote in an unusual way: a payload may be in several pieces."""
    record = twin_pb2.PublishRecord()
    record.ParseFromString(content)
    found = wire.chosen(content, _MESSAGES, (_COMPRESSED,))
    crc32 = record.crc32 if record.HasField("crc32") else None
    if found is None:
        return Incoming(None, b"", record.compression, crc32)
    return Incoming(
        _MESSAGES.get(found[0], "compressed_points"),
        found[1],
        record.compression,
        crc32,
    )
