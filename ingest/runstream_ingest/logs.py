"""Checks of logs, on the way in and by the writer."""

from __future__ import annotations

from typing import Final

from runstream.v1 import log_pb2
from runstream_ingest import limits
from runstream_ingest.artifacts import check_path
from runstream_ingest.batch import Description, check_name, known_runs, parse
from runstream_ingest.errors import RecordRefused, invalid, too_large

_MOST_OFFSET: Final = 1 << 63


def decode_logs(data: bytes) -> log_pb2.LogBatch:
    """Reads a serialized `LogBatch` and checks it.

    :raises RecordRefused: it is none, or not one that is taken.
    """
    batch = parse(log_pb2.LogBatch(), data, "LogBatch")
    check_name("a workspace's name", batch.run.workspace, limits.WORKSPACE_CHARACTERS)
    check_name("a run id", batch.run.run, limits.RUN_CHARACTERS)
    check_path(batch.path)
    if len(batch.writer) != 16:
        raise invalid(f"writer has {len(batch.writer)} bytes; 16 make one")
    if batch.rank >= 1 << 31:
        raise invalid(f"rank {batch.rank:,} is no rank")
    if not 1 <= len(batch.pieces) <= limits.LOG_PIECES:
        refuse = too_large if batch.pieces else invalid
        raise refuse(f"a batch of {len(batch.pieces):,} pieces; 1 to {limits.LOG_PIECES:,} are taken")
    before = -1
    for piece in batch.pieces:
        if not 1 <= len(piece.data) <= limits.LOG_PIECE_BYTES:
            refuse = too_large if piece.data else invalid
            raise refuse(f"a piece of {len(piece.data):,} bytes; 1 to {limits.LOG_PIECE_BYTES:,} are taken")
        if not before < piece.offset < _MOST_OFFSET:
            raise invalid(f"a piece at {piece.offset:,} after one at {before:,}: offsets rise, below 2^63")
        if piece.time_ns < 0:
            raise invalid("a piece from before 1970")
        before = piece.offset
    return batch


def describe(data: bytes) -> Description:
    """What a batch that was refused is about, as far as it can be told. It has no elements."""
    try:
        batch = parse(log_pb2.LogBatch(), data, "LogBatch")
    except RecordRefused:
        return Description()
    return Description(runs=known_runs([batch.run]), writer=batch.writer if len(batch.writer) == 16 else b"")
