"""Descriptions of series: rows of the table `series`, where the newest description of each wins.

Batches repeat the descriptions of their series. A row is made at once where a description is new or another
than before, so that readers see it with the points; that the same one was seen again, later, is kept back
until the applied position is saved. So the table says the same whenever, and however often, the log is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from runstream_ingest.batch import Columns
from runstream_ingest.writers.columns import to_table
from runstream_store.tables.schema import SCHEMAS

_MOST_KNOWN = 100_000

Series = tuple[str, str, str, str]
"""Workspace, run, metric, column."""


class Descriptions:
    """Turns the descriptions of batches into as few rows as are needed."""

    def __init__(self) -> None:
        self._known: dict[Series, tuple[str, int]] = {}  # text, and latest time of an element with it
        self._waiting: dict[Series, tuple[str, int]] = {}

    def take(self, batches: Sequence[Columns]) -> pa.Table | None:
        """The rows that must be stored with these batches; None when there are none."""
        rows: list[tuple[Series, str, int]] = []
        for batch in batches:
            for series, text, time in _descriptions(batch):
                known, seen = self._known.get(series, (None, -(2**63)))
                if known != text:
                    rows.append((series, text, time))
                elif time > seen:
                    self._waiting[series] = (text, time)
                if known is None or time > seen:
                    self._known[series] = (text, time)
        return _table(rows)

    def rest(self) -> pa.Table | None:
        """The rows that were kept back; None when there are none."""
        rows = [(series, text, time) for series, (text, time) in self._waiting.items()]
        self._waiting.clear()
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()  # all is stored; at worst rows are stored again
        return _table(rows)

    def forget(self) -> None:
        """Rows that were given may not have been stored: gives them again when they come again."""
        self._known.clear()


def _descriptions(batch: Columns) -> Iterator[tuple[Series, str, int]]:
    """Each description with the latest time of its elements in each run of the batch."""
    described = [index for index, (_, _, text) in enumerate(batch.series) if text]
    if not described:
        return
    pair = np.zeros(batch.count, np.int64)
    if batch.series_index is not None:
        pair += batch.series_index
    if batch.run_index is not None:
        pair += batch.run_index.astype(np.int64) * len(batch.series)
    pairs, where = np.unique(pair, return_inverse=True)
    latest = np.full(len(pairs), np.iinfo(np.int64).min)
    np.maximum.at(latest, where, batch.time_ns)
    for found, time in zip(pairs.tolist(), latest.tolist(), strict=True):
        run, series = divmod(found, len(batch.series))
        metric, column, text = batch.series[series]
        if text:
            yield (*batch.runs[run], metric, column), text, time


def _table(rows: Sequence[tuple[Series, str, int]]) -> pa.Table | None:
    if not rows:
        return None
    names = [field.name for field in SCHEMAS["series"]]
    return to_table(
        "series",
        [dict(zip(names, (*series, text, time), strict=True)) for series, text, time in rows],
    )
