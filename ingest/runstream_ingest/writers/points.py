"""Points: from batches to blocks of the table `points`, and descriptions to `series`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runstream_ingest import records
from runstream_ingest.batch import (
    BIG_INTEGER,
    BOOL,
    DOUBLE,
    HAS_INTEGER,
    INT64,
    Columns,
    Description,
    check_elements,
    decode_points,
    describe,
)
from runstream_ingest.errors import unsupported
from runstream_ingest.records import Received
from runstream_ingest.writers.columns import numbers, texts
from runstream_ingest.writers.descriptions import Descriptions
from runstream_ingest.writers.sink import Rows
from runstream_store.tables.schema import NO_STEP, SCHEMAS

if TYPE_CHECKING:
    Ints = NDArray[np.int64]

_SCHEMA: Final = SCHEMAS["points"]
_EXACT: Final = 1 << 53
"""Integers up to here are exact as a double."""


class PointsSink:
    """Sink of the topic `points`."""

    topic = records.POINTS
    consumer = "points"

    def __init__(self) -> None:
        self._descriptions = Descriptions()

    def decode(self, received: Received, /) -> tuple[Columns, int]:
        """See `Sink`."""
        if received.kind != "points":
            raise unsupported(f"a record of kind {received.kind} in topic {self.topic}")
        batch = decode_points(received.payload)
        check_elements(batch)
        return batch, batch.count

    def build(self, contents: Sequence[Columns], /) -> Rows:
        """See `Sink`. Descriptions come first: the rows of a block are there when the points are."""
        rows: Rows = []
        described = self._descriptions.take(contents)
        if described is not None:
            rows.append(("series", described))
        rows.append(("points", build_block(contents)))
        return rows

    def runs(self, content: Columns, /) -> Iterable[tuple[str, str]]:
        """See `AboutRuns`."""
        return content.runs

    def rest(self) -> Rows:
        """See `Sink`."""
        rest = self._descriptions.rest()
        return [] if rest is None else [("series", rest)]

    def forget(self) -> None:
        """See `Sink`."""
        self._descriptions.forget()

    def describe(self, received: Received, /) -> Description:
        """See `Sink`."""
        return describe(received.payload)


def build_block(batches: Sequence[Columns]) -> pa.Table:
    """One block of the table `points` of all elements, in the order given."""
    block = _Block(sum(batch.count for batch in batches))
    for batch in batches:
        block.add(batch)
    return block.table()


class _Codes:
    """A dictionary that grows: names and their codes."""

    def __init__(self, *names: str) -> None:
        self._codes = {name: code for code, name in enumerate(names)}
        self._encode = self._codes.setdefault

    def encode(self, names: Iterable[str]) -> NDArray[np.int32]:
        """The code of each name."""
        codes, encode = self._codes, self._encode
        return np.array([encode(name, len(codes)) for name in names], np.int32)

    def column(self, indices: NDArray[np.int32]) -> pa.Array:
        """The names of an array of codes."""
        return pa.DictionaryArray.from_arrays(numbers(pa.int32(), indices), texts(self._codes), safe=False)


class _Block:
    """Columns of a block, filled batch by batch."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._at = 0
        self._names = {name: _Codes() for name in ("workspace", "run", "metric", "column")}
        self._names["text"] = _Codes("")  # a dictionary with repeats is refused
        self._indices = {name: np.empty(rows, np.int32) for name in self._names}
        self._indices["text"][:] = 0
        self._columns: dict[str, NDArray[Any]] = {
            "step": np.empty(rows, np.int64),
            "seq": np.empty(rows, np.uint64),
            "idx": np.empty(rows, np.uint32),
            "type": np.empty(rows, np.uint8),
            "value": np.empty(rows, np.float64),
            "rank": np.empty(rows, np.int32),
            "time": np.empty(rows, np.int64),
            "logged_time": np.empty(rows, np.int64),
        }
        self._writer = np.empty((rows, 2), np.uint64)  # 16 bytes each

    def add(self, batch: Columns) -> None:
        """Copies a batch into the next rows."""
        part = slice(self._at, self._at + batch.count)
        self._at += batch.count
        self._add_names(batch, part)
        columns = {name: column[part] for name, column in self._columns.items()}
        columns["step"][:] = NO_STEP if batch.step is None else batch.step
        # All unsigned: NumPy adds an int64 and an uint64 as doubles.
        columns["seq"][:] = (
            np.arange(batch.count, dtype=np.uint64) if batch.seq_offset is None else batch.seq_offset
        )
        columns["seq"] += np.uint64(batch.first_seq)
        columns["idx"][:] = 0 if batch.idx is None else batch.idx
        columns["type"][:] = DOUBLE if batch.type is None else batch.type
        columns["rank"][:] = batch.rank
        columns["time"][:] = batch.time_ns
        columns["logged_time"][:] = batch.time_ns if batch.logged_time_ns is None else batch.logged_time_ns
        self._writer[part] = np.frombuffer(batch.writer, np.uint64)
        if batch.type is None:
            columns["value"][:] = batch.doubles
        else:
            self._add_values(batch, batch.type, columns["value"], self._indices["text"][part])

    def table(self) -> pa.Table:
        """The block."""
        columns = {name: numbers(_SCHEMA.field(name).type, column) for name, column in self._columns.items()}
        columns["writer"] = numbers(_SCHEMA.field("writer").type, self._writer)
        for name, codes in self._names.items():
            columns[name] = codes.column(self._indices[name])
        return pa.table([columns[name] for name in _SCHEMA.names], schema=_SCHEMA)

    def _add_names(self, batch: Columns, part: slice) -> None:
        workspaces, runs = zip(*batch.runs, strict=True)
        metrics, columns, _ = zip(*batch.series, strict=True)
        for name, given, index in (
            ("workspace", workspaces, batch.run_index),
            ("run", runs, batch.run_index),
            ("metric", metrics, batch.series_index),
            ("column", columns, batch.series_index),
        ):
            codes = self._names[name].encode(given)
            target = self._indices[name][part]
            if index is None or len(codes) == 1:
                target[:] = codes[0]
            else:
                np.take(codes, index, out=target, mode="clip")  # checked before; "raise" would copy

    def _add_values(
        self,
        batch: Columns,
        types: NDArray[np.uint8],
        value: NDArray[np.float64],
        text: NDArray[np.int32],
    ) -> None:
        """Fills value and text of a batch that has not only doubles."""
        value[:] = np.nan
        value[types == DOUBLE] = batch.doubles
        if not len(batch.integers):
            return
        rows = np.flatnonzero(HAS_INTEGER[types])
        kinds = types[rows]
        number = (kinds == INT64) | (kinds == BOOL)
        integers = batch.integers[number]
        value[rows[number]] = integers
        large = np.flatnonzero((integers > _EXACT) | (integers < -_EXACT))
        if len(large):
            self._add_inexact(integers[large], rows[number][large], text)
        if not number.all():
            codes = self._names["text"].encode(batch.strings)
            text[rows[~number]] = codes[batch.integers[~number]]
            big = kinds == BIG_INTEGER
            if big.any():
                numbers = np.array([_number(string) for string in batch.strings])
                value[rows[big]] = numbers[batch.integers[big]]

    def _add_inexact(self, integers: Ints, rows: NDArray[np.intp], text: NDArray[np.int32]) -> None:
        """Gives those integers that a double does not hold their text."""
        with np.errstate(invalid="ignore"):  # 2^63 does not fit, and is then no match
            inexact = integers.astype(np.float64).astype(np.int64) != integers
        inexact |= integers == np.iinfo(np.int64).max  # where that conversion saturates it seems to match
        integers, rows = integers[inexact], rows[inexact]
        text[rows] = self._names["text"].encode(map(str, integers.tolist()))


def _number(text: str) -> float:
    """The double nearest to a decimal integer; NaN of what is none."""
    try:
        return float(text)  # not by way of int, which refuses very long ones
    except ValueError:
        return np.nan
