"""Columns of the tables as Arrow types: what `Tables.insert` takes.

Text may also come as `dictionary(int32, string)`, which is the fast way for names that repeat.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

NO_STEP: Final = -(2**63)
"""In `points.step`: none."""
NO_RANK: Final = -1
"""In a rank column: none."""

NAME: Final = pa.dictionary(pa.int32(), pa.string())
TIME: Final = pa.timestamp("ns", "UTC")
ID: Final = pa.binary(16)

SCHEMAS: Final[dict[str, pa.Schema]] = {
    "points": pa.schema(
        [
            ("workspace", NAME),
            ("run", NAME),
            ("metric", NAME),
            ("column", NAME),
            ("step", pa.int64()),
            ("writer", ID),
            ("seq", pa.uint64()),
            ("idx", pa.uint32()),
            ("type", pa.uint8()),
            ("value", pa.float64()),
            ("text", NAME),
            ("rank", pa.int32()),
            ("time", TIME),
            ("logged_time", TIME),
        ]
    ),
    "series": pa.schema(
        [
            ("workspace", pa.string()),
            ("run", pa.string()),
            ("metric", pa.string()),
            ("column", pa.string()),
            ("description", pa.string()),
            ("version", TIME),
        ]
    ),
    "run_events": pa.schema(
        [
            ("workspace", pa.string()),
            ("run", pa.string()),
            ("kind", pa.uint8()),
            ("writer", ID),
            ("seq", pa.uint64()),
            ("time", TIME),
            ("received_time", TIME),
            ("experiment", pa.string()),
            ("launch", pa.string()),
            ("restart", pa.uint32()),
            ("role", pa.uint8()),
            ("rank", pa.int32()),
            ("status", pa.uint8()),
            ("outcome", pa.uint8()),
            ("event", pa.binary()),
            ("precedence", pa.uint64()),
        ]
    ),
    "attributes": pa.schema(
        [
            ("workspace", pa.string()),
            ("run", pa.string()),
            ("kind", pa.uint8()),
            ("key", pa.string()),
            ("writer", ID),
            ("seq", pa.uint64()),
            ("version", TIME),
            pa.field("value", pa.string(), nullable=True),
            ("removed", pa.uint8()),
            ("precedence", pa.uint64()),
        ]
    ),
    "artifacts": pa.schema(
        [
            ("workspace", pa.string()),
            ("run", pa.string()),
            ("path", pa.string()),
            ("writer", ID),
            ("seq", pa.uint64()),
            ("time", TIME),
            ("received_time", TIME),
            ("size", pa.uint64()),
            ("sha256", pa.string()),
            ("media_type", pa.string()),
            ("manifest", pa.binary()),
            ("precedence", pa.uint64()),
        ]
    ),
    "models": pa.schema(
        [
            ("workspace", pa.string()),
            ("name", pa.string()),
            ("run", pa.string()),
            ("writer", ID),
            ("seq", pa.uint64()),
            ("time", TIME),
            ("received_time", TIME),
            ("path", pa.string()),
            ("model", pa.binary()),
            ("precedence", pa.uint64()),
        ]
    ),
    "logs": pa.schema(
        [
            ("workspace", pa.string()),
            ("run", pa.string()),
            ("path", pa.string()),
            ("writer", ID),
            ("offset", pa.uint64()),
            ("size", pa.uint32()),
            ("rank", pa.int32()),
            ("time", TIME),
            ("received_time", TIME),
            ("data", pa.binary()),
        ]
    ),
    "experiment_attributes": pa.schema(
        [
            ("workspace", pa.string()),
            ("experiment", pa.string()),
            ("kind", pa.uint8()),
            ("key", pa.string()),
            ("writer", ID),
            ("seq", pa.uint64()),
            ("version", TIME),
            pa.field("value", pa.string(), nullable=True),
            ("removed", pa.uint8()),
            ("precedence", pa.uint64()),
        ]
    ),
    "share_events": pa.schema(
        [
            ("workspace", pa.string()),
            ("share", ID),
            ("kind", pa.uint8()),
            ("writer", ID),
            ("seq", pa.uint64()),
            ("time", TIME),
            ("token_sha256", pa.binary(32)),
            ("expires", pa.int64()),
            ("event", pa.binary()),
            ("precedence", pa.uint64()),
        ]
    ),
    "dead_letters": pa.schema(
        [
            ("topic", pa.string()),
            ("partition", pa.uint32()),
            ("epoch", ID),
            ("offset", pa.uint64()),
            ("workspace", pa.string()),
            ("run", pa.string()),
            ("writer", ID),
            ("first_seq", pa.uint64()),
            ("seq_end", pa.uint64()),
            ("code", pa.uint8()),
            ("reason", pa.string()),
            ("elements", pa.uint64()),
            ("received_time", TIME),
            ("digest", pa.uint64()),
            ("digested", pa.uint8()),
            ("events", pa.uint64()),
        ]
    ),
    "applied": pa.schema(
        [
            ("consumer", pa.string()),
            ("topic", pa.string()),
            ("partition", pa.uint32()),
            ("epoch", ID),
            ("offset", pa.uint64()),
            ("check", pa.uint32()),
        ]
    ),
}
