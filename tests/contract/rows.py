"""Rows for the tables, and what the tables should make of them."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from runstream_store.identity import KEYS, VERSIONS
from runstream_store.tables import Tables
from runstream_store.tables.schema import NO_RANK, NO_STEP, SCHEMAS

WRITER: Final = bytes(range(240, 256))
START_NS: Final = 1_700_000_000_000_000_000

Row = dict[str, Any]

LONG: Final = "SELECT count() AS n FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
"""A query that takes hours."""


def points(first: int, count: int, *, run: str = "run", metric: str = "loss") -> pa.Table:
    """Scalars of one series with seq first, first + 1, …"""
    zeros = pa.array(np.zeros(count, np.int32))

    def same(text: str) -> pa.Array:
        return pa.DictionaryArray.from_arrays(zeros, pa.array([text]))

    seq = np.arange(first, first + count)
    time = pa.array(START_NS + seq * 1000).cast(pa.timestamp("ns", "UTC"))
    return pa.table(
        {
            "workspace": same("local"),
            "run": same(run),
            "metric": same(metric),
            "column": same(""),
            "step": pa.array(np.full(count, NO_STEP)),
            "writer": pa.array([WRITER] * count, pa.binary(16)),
            "seq": pa.array(seq.astype(np.uint64)),
            "idx": pa.array(np.zeros(count, np.uint32)),
            "type": pa.array(np.ones(count, np.uint8)),
            "value": pa.array(np.sin(seq)),
            "text": same(""),
            "rank": pa.array(np.full(count, NO_RANK, np.int32)),
            "time": time,
            "logged_time": time,
        },
        schema=SCHEMAS["points"],
    )


def table(name: str, rows: Sequence[Row]) -> pa.Table:
    """Rows as a block. Times are integers: Unix nanoseconds."""
    schema = SCHEMAS[name]
    columns = []
    for field in schema:
        values = [row[field.name] for row in rows]
        columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)


def plain(block: pa.Table) -> list[Row]:
    """Rows of a block, exactly comparable: times as integers, doubles and what is no UTF-8 as bytes."""
    columns = {}
    for field in block.schema:
        column = block.column(field.name)
        if pa.types.is_dictionary(field.type):
            column = column.cast(pa.string())
        if pa.types.is_timestamp(field.type):
            column = column.cast(pa.int64())
        elif field.name in ("event", "manifest", "model", "data"):
            column = column.cast(pa.binary())
        values = column.to_pylist()
        if pa.types.is_floating(field.type):
            values = [bits(value) for value in values]
        columns[field.name] = values
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def bits(value: float) -> bytes:
    """A double bit by bit, except that there is one NaN."""
    return struct.pack("<d", math.nan if math.isnan(value) else value)


def expected(name: str, rows: Sequence[Row]) -> list[Row]:
    """What FINAL should give: of each identity one row, that of the greatest version."""
    version = VERSIONS.get(name)
    kept: dict[tuple[object, ...], Row] = {}
    for row in plain(table(name, rows)):
        key = tuple(row[part] for part in KEYS[name])
        if key not in kept or version is None or row[version] > kept[key][version]:
            kept[key] = row
    return sorted(kept.values(), key=lambda row: ordered(name, row))


def ordered(name: str, row: Row) -> tuple[Any, ...]:
    """For sorting rows by identity, text as bytes."""
    parts = (row[part] for part in KEYS[name])
    return tuple(part.encode() if isinstance(part, str) else part for part in parts)


async def count(tables: Tables, what: str = "points FINAL") -> int:
    """How many rows there are."""
    found = await tables.query(f"SELECT count() AS n FROM {what}")
    return int(found.column("n")[0].as_py())
