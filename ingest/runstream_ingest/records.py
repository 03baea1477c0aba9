"""Records of the event log: made by the service, read by the writers."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final, Literal

import zstandard
from google.protobuf.message import DecodeError

from runstream.internal.v1 import twin_pb2
from runstream.v1 import event_pb2
from runstream_ingest import limits, wire
from runstream_ingest.errors import malformed, too_large, unsupported

FORMAT: Final = 1
"""Version of `LogRecord` that is written, and the newest that is read."""

POINTS: Final = "points"
RUNS: Final = "runs"
ARTIFACTS: Final = "artifacts"
LOGS: Final = "logs"
DEAD: Final = ".dead"
"""What follows a topic's name in the name of its dead-letter topic."""

Kind = Literal["points", "run_events", "artifact", "compressed_points", "logs", "workspace_events"]

_MESSAGES: Final[dict[int, Kind]] = {
    4: "points",
    5: "run_events",
    6: "artifact",
    11: "logs",
    20: "workspace_events",
}
_COMPRESSED: Final = 7


@dataclass(frozen=True, slots=True)
class Received:
    """A payload from the log, checksum verified and decompressed."""

    received_time_ns: int
    kind: Literal["points", "run_events", "artifact", "logs", "workspace_events"]
    payload: bytes


def encode_log_record(
    kind: Kind,
    payload: bytes,
    *,
    received_time_ns: int,
    principal: str,
    compression: event_pb2.Compression.ValueType = event_pb2.COMPRESSION_UNSPECIFIED,
    crc32: int | None = None,
) -> bytes:
    """The value under which a payload is stored."""
    record = twin_pb2.LogRecord(
        format=FORMAT, received_time_ns=received_time_ns, principal=principal, compression=compression
    )
    setattr(record, kind, payload)
    if crc32 is not None:
        record.crc32 = crc32
    return record.SerializeToString()


def decode_log_record(value: bytes) -> Received:
    """Reads a record's value.

    :raises RecordRefused: it is no record, damaged, or newer than this server.
    """
    record = twin_pb2.LogRecord()
    try:
        record.ParseFromString(value)
    except DecodeError as error:
        raise malformed(f"not a LogRecord: {error}") from None
    if record.format > FORMAT:
        raise unsupported(f"a LogRecord of format {record.format}; this server knows {FORMAT}")
    if record.format == 0:
        raise malformed("a LogRecord without a format")
    if record.received_time_ns < 0:
        raise malformed("a LogRecord that was received before 1970")
    kind = record.WhichOneof("payload")
    if kind is None or kind == "dead_letter":
        raise unsupported("a LogRecord without a payload that this server knows")
    payload: bytes = getattr(record, kind)
    if record.ByteSize() != len(value):  # another program wrote it
        found = wire.chosen(value, _MESSAGES, (_COMPRESSED,))
        if found is not None:
            payload = found[1]
    check_crc(payload, record.crc32 if record.HasField("crc32") else None)
    if kind == "compressed_points":
        return Received(record.received_time_ns, "points", decompress(payload, record.compression))
    return Received(record.received_time_ns, kind, payload)


def check_crc(payload: bytes, crc32: int | None) -> None:
    """Verifies a checksum if there is one.

    :raises RecordRefused: the bytes are others than the client's.
    """
    if crc32 is not None and zlib.crc32(payload) != crc32:
        raise malformed("the checksum is not that of the payload: damaged on the way, send it again")


def decompress(data: bytes, compression: event_pb2.Compression.ValueType) -> bytes:
    """Decompresses a payload, which can't take more memory than a batch may.

    :raises RecordRefused: it is not one whole frame, too large, or of an unknown compression.
    """
    if compression != event_pb2.COMPRESSION_ZSTD:
        raise unsupported(f"compression {compression}; this server knows {event_pb2.COMPRESSION_ZSTD} (zstd)")
    try:
        size = zstandard.frame_content_size(data)
        if size < 0:
            raise malformed("the zstd frame does not tell its content size")
        if size > limits.BATCH_BYTES:
            raise too_large(f"a batch of {size:,} bytes; at most {limits.BATCH_BYTES:,} are taken: split it")
        decompressor = zstandard.ZstdDecompressor(max_window_size=limits.BATCH_BYTES)
        return decompressor.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise malformed(f"not one zstd frame: {error}") from None


def encode_dead_letter(letter: event_pb2.DeadLetter, received_time_ns: int) -> bytes:
    """The value under which a refused record is kept."""
    return twin_pb2.LogRecord(
        format=FORMAT, received_time_ns=received_time_ns, dead_letter=letter
    ).SerializeToString()
