"""What makes two rows the same row.

Everything that is logged is named where it is logged, so storing it twice is storing it once. Each table is
sorted by the identity of its rows; of rows with one identity the one with the greatest version stays.
Comparisons (a sync twice, a replay,
`verify`) go by identity, never by counts.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Identity(NamedTuple):
    """Of one element, as in `points`; cells of one table row share everything but the column."""

    workspace: str
    run: str
    metric: str
    column: str
    step: int
    writer: bytes
    seq: int
    idx: int


KEYS: Final[dict[str, tuple[str, ...]]] = {
    "points": Identity._fields,
    "series": ("workspace", "run", "metric", "column"),
    "run_events": ("workspace", "run", "kind", "writer", "seq"),
    "attributes": ("workspace", "run", "kind", "key", "writer", "seq"),
    "artifacts": ("workspace", "run", "path", "writer", "seq"),
    "models": ("workspace", "name", "run", "writer", "seq"),
    "logs": ("workspace", "run", "path", "writer", "offset"),
    "experiment_attributes": ("workspace", "experiment", "kind", "key", "writer", "seq"),
    "share_events": ("workspace", "share", "kind", "writer", "seq"),
    "dead_letters": ("topic", "partition", "epoch", "offset", "workspace", "run"),
    "applied": ("consumer", "topic", "partition", "epoch"),
}
"""Columns of each table that are the identity of a row: its sorting key."""

VERSIONS: Final[dict[str, str]] = {
    "series": "version",
    "run_events": "precedence",
    "attributes": "precedence",
    "artifacts": "precedence",
    "models": "precedence",
    "logs": "size",
    "experiment_attributes": "precedence",
    "share_events": "precedence",
    "applied": "offset",
}
"""Column whose greatest value decides which row of an identity stays. In the other tables all are equal."""
