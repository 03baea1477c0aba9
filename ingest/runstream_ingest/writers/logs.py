"""Logs: from pieces to rows of the table `logs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runstream.v1 import log_pb2
from runstream_ingest import records
from runstream_ingest.batch import Description
from runstream_ingest.errors import unsupported
from runstream_ingest.logs import decode_logs, describe
from runstream_ingest.records import Received
from runstream_ingest.writers.columns import to_table
from runstream_ingest.writers.sink import Rows
from runstream_store.tables.schema import NO_RANK


@dataclass(frozen=True, slots=True)
class Pieces:
    """The batch of one record."""

    received_time_ns: int
    batch: log_pb2.LogBatch


class LogsSink:
    """Sink of the topic `logs`."""

    topic = records.LOGS
    consumer = "logs"

    def decode(self, received: Received, /) -> tuple[Pieces, int]:
        """See `Sink`."""
        if received.kind != "logs":
            raise unsupported(f"a record of kind {received.kind} in topic {self.topic}")
        batch = decode_logs(received.payload)
        return Pieces(received.received_time_ns, batch), len(batch.pieces)

    def build(self, contents: Sequence[Pieces], /) -> Rows:
        """See `Sink`."""
        return [("logs", to_table("logs", [row for content in contents for row in _rows(content)]))]

    def rest(self) -> Rows:
        """See `Sink`: nothing is kept back."""
        return []

    def forget(self) -> None:
        """See `Sink`: there is nothing to forget."""

    def describe(self, received: Received, /) -> Description:
        """See `Sink`."""
        return describe(received.payload)


def _rows(content: Pieces) -> list[dict[str, Any]]:
    batch = content.batch
    same = {
        "workspace": batch.run.workspace,
        "run": batch.run.run,
        "path": batch.path,
        "writer": batch.writer,
        "rank": batch.rank if batch.HasField("rank") else NO_RANK,
        "received_time": content.received_time_ns,
    }
    return [
        {**same, "offset": piece.offset, "size": len(piece.data), "time": piece.time_ns, "data": piece.data}
        for piece in batch.pieces
    ]
