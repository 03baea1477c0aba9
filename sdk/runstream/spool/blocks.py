"""Payloads of BLOCK records: the elements of a list, a row or a table, copied as a whole."""

import sys
from array import array
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple, cast

from runstream.integers import to_decimal
from runstream.spool import layout
from runstream.spool.layout import Bytes

Scalar = float | int | bool | str | None

# The format allows a payload of 1 GiB; readers like smaller ones.
_MAX_PART: Final = 16 << 20
_INT64: Final = range(-(2**63), 2**63)
_WIDTHS: Final = {layout.LAYOUT_DOUBLE: 8, layout.LAYOUT_INT64: 8, layout.LAYOUT_BOOL: 1}
_U32: Final = Struct("<I")


class Column(NamedTuple):
    """Elements of one series: numbers of one type as bytes, or scalars of any types."""

    layout: int
    rows: int
    data: memoryview | Sequence[Scalar]


class TextTooLongError(ValueError):
    """A text is longer than the format allows."""


DECLARATION: Final = Column(layout.LAYOUT_DECLARATION, 0, ())
TABLE_DECLARATION: Final = Column(layout.LAYOUT_TABLE_DECLARATION, 0, ())


def column(values: Sequence[Scalar]) -> Column:
    """The most compact column for values of the five exact Python types."""
    count = len(values)
    if not count:
        return DECLARATION
    types = set(map(type, values))
    if types == {float}:
        return Column(layout.LAYOUT_DOUBLE, count, _bytes(array("d", cast(Sequence[float], values))))
    if types == {int}:
        try:
            return Column(layout.LAYOUT_INT64, count, _bytes(array("q", cast(Sequence[int], values))))
        except OverflowError:
            pass
    if types == {bool}:
        return Column(layout.LAYOUT_BOOL, count, memoryview(bytes(cast(Sequence[bool], values))))
    return Column(layout.LAYOUT_MIXED, count, values)


def _bytes(numbers: "array[float] | array[int]") -> memoryview:
    if sys.byteorder == "big":
        numbers.byteswap()
    return memoryview(numbers).cast("B")


def encode(columns: Sequence[tuple[int, Column]]) -> list[list[Bytes]]:
    """Payloads for (series, column) pairs of equal counts. Several when one would be too large."""
    rows = max((found.rows for _, found in columns), default=0)
    row_bytes = sum(_WIDTHS.get(found.layout, 9) for _, found in columns)  # without texts
    parts: list[list[Bytes]] = []
    waiting = [(0, rows)]
    while waiting:
        first, end = waiting.pop()
        if (end - first) * row_bytes <= _MAX_PART or end - first <= 1:
            pieces = _payload(columns, first, end)
            if sum(map(len, pieces)) <= _MAX_PART or end - first <= 1:
                parts.append(pieces)
                continue
        middle = (first + end) // 2
        waiting += [(middle, end), (first, middle)]
    return parts


def _payload(columns: Sequence[tuple[int, Column]], first: int, end: int) -> list[Bytes]:
    pieces: list[Bytes] = [layout.BLOCK_HEADER.pack(len(columns), first)]
    for series, found in columns:
        if found.rows:
            data = _data(found, first, end)
            count = end - first
        else:
            data, count = [], 0
        size = sum(map(len, data))
        pieces.append(layout.COLUMN_HEADER.pack(series, found.layout, count, size))
        pieces += data
        pieces.append(b"\0" * (-size % 8))
    return pieces


def _data(found: Column, first: int, end: int) -> list[Bytes]:
    if isinstance(found.data, memoryview):
        width = _WIDTHS[found.layout]
        # A copy: another thread may change the caller's array between checksum and write.
        return [bytes(found.data[first * width : end * width])]
    return _mixed(found.data[first:end])


def _mixed(values: Sequence[Scalar]) -> list[Bytes]:
    types = bytearray()
    words = bytearray()
    texts: list[bytes] = []
    put_integer, put_double = Struct("<q").pack, Struct("<d").pack
    for value in values:
        if isinstance(value, str):
            kind, word = layout.STRING, put_integer(len(texts))
            texts.append(layout.utf8(value))
        elif value is None:
            kind, word = layout.NONE, put_integer(0)
        elif isinstance(value, bool):
            kind, word = layout.BOOL, put_integer(value)
        elif isinstance(value, float):
            kind, word = layout.DOUBLE, put_double(value)
        elif value in _INT64:
            kind, word = layout.INT64, put_integer(value)
        else:
            kind, word = layout.BIG_INTEGER, put_integer(len(texts))
            texts.append(decimal(value))
        types.append(kind)
        words += word
    ends = bytearray()
    total = 0
    for text in texts:
        if len(text) > layout.MOST_TEXT_BYTES:
            raise TextTooLongError(f"a text of {len(text):,} bytes")
        total += len(text)
        ends += _U32.pack(total)
    return [types, b"\0" * (-len(types) % 8), words, _U32.pack(len(texts)), ends, *texts]


def decimal(value: int) -> bytes:
    """Decimal text of an integer of any size."""
    return to_decimal(value).encode()
