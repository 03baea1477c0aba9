"""Arrow columns from Python and NumPy values, over their memory.

`pyarrow.array` does the same for lists, but imports pandas when that is installed: 1.6 seconds in which the
whole server stands still, and 50 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runstream_store.tables.schema import SCHEMAS

_NUMPY: Final = {
    pa.uint8(): np.uint8,
    pa.uint32(): np.uint32,
    pa.int32(): np.int32,
    pa.int64(): np.int64,
    pa.uint64(): np.uint64,
}


def numbers(kind: pa.DataType, values: NDArray[Any]) -> pa.Array:
    """A column of fixed-width values over the same memory: the bits are what they are, there are no nulls."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def texts(values: Iterable[str | None], kind: pa.DataType | None = None) -> pa.Array:
    """A column of texts; None is a null."""
    return binaries([None if value is None else value.encode() for value in values], kind or pa.string())


def binaries(values: Sequence[bytes | None], kind: pa.DataType) -> pa.Array:
    """A column of bytes of any length; None is a null."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([0 if value is None else len(value) for value in values], out=offsets[1:])
    content = b"".join(value for value in values if value is not None)
    there = None
    if None in values:
        bits = np.packbits([value is not None for value in values], bitorder="little")
        there = pa.py_buffer(bits)
    return pa.Array.from_buffers(kind, len(values), [there, pa.py_buffer(offsets), pa.py_buffer(content)])


def to_table(table: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows of a table, given as dictionaries; times are Unix nanoseconds."""
    schema = SCHEMAS[table]
    return pa.table(
        [_column(field.type, [row[field.name] for row in rows]) for field in schema], schema=schema
    )


def _column(kind: pa.DataType, values: list[Any]) -> pa.Array:
    if pa.types.is_string(kind):
        return texts(values)
    if pa.types.is_binary(kind):
        return binaries(values, kind)
    if pa.types.is_timestamp(kind):
        return numbers(kind, np.array(values, np.int64))
    if pa.types.is_fixed_size_binary(kind):
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(b"".join(values))])
    return numbers(kind, np.array(values, _NUMPY[kind]))
