"""Points that were read, as columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from runstream.integers import from_decimal

if TYPE_CHECKING:
    from runstream.internal.v1 import twin_pb2

NO_STEP: Final = -(2**63)
"""In `Series.step`: none."""

# runstream.v1.ValueType
DOUBLE: Final = 1
INT64: Final = 2
BOOL: Final = 3
NONE: Final = 4
STRING: Final = 5
BIG_INTEGER: Final = 6
DECLARATION: Final = 7
TABLE_DECLARATION: Final = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """Which element it is: see docs/formats.md."""

    writer: NDArray[np.uint8]
    """16 bytes an element."""
    seq: NDArray[np.uint64]
    idx: NDArray[np.uint32]
    rank: NDArray[np.int32]
    """-1: none."""


@dataclass(frozen=True, slots=True)
class Series:
    """Elements of one column of one metric of one run, in reading order."""

    workspace: str
    run: str
    metric: str
    column: str
    """Empty for scalars and lists."""
    row: NDArray[np.int64]
    """Row number in the metric; cells of one row have the same in all columns."""
    type: NDArray[np.uint8]
    """ValueType."""
    doubles: NDArray[np.float64]
    """Values of the elements of type DOUBLE."""
    integers: NDArray[np.int64]
    """Values of the elements of types INT64, BOOL, STRING and BIG_INTEGER; for the last two the index of the
    text."""
    strings: tuple[str, ...]
    """Texts."""
    step: NDArray[np.int64]
    """`NO_STEP` for none."""
    logged_time_ns: NDArray[np.int64]
    """When logged, Unix nanoseconds."""
    identity: Identity | None
    """Only when it was asked for."""
    declared: frozenset[int] = frozenset()
    """DECLARATION or TABLE_DECLARATION when that is all that was logged here, or that a table has no
    column."""

    def __len__(self) -> int:
        return len(self.type)

    def values(self) -> list[Any]:
        """The elements as Python values, each of the type with which it was logged."""
        if len(self.doubles) == len(self.type):
            plain: list[Any] = self.doubles.tolist()
            return plain
        if (self.type == INT64).all():
            whole: list[Any] = self.integers.tolist()
            return whole
        return list(self._mixed())

    def _mixed(self) -> Iterator[Any]:
        doubles = iter(self.doubles.tolist())
        integers = iter(self.integers.tolist())
        for kind in self.type.tolist():
            if kind == DOUBLE:
                yield next(doubles)
            elif kind == INT64:
                yield next(integers)
            elif kind == BOOL:
                yield bool(next(integers))
            elif kind == STRING:
                yield self.strings[next(integers)]
            elif kind == BIG_INTEGER:
                yield from_decimal(self.strings[next(integers)])
            else:
                yield None

    def numbers(self) -> NDArray[np.float64]:
        """The elements as doubles; NaN for what is no number."""
        numbers = np.full(len(self.type), np.nan)
        numbers[self.type == DOUBLE] = self.doubles
        textual = (self.type == STRING) | (self.type == BIG_INTEGER)
        whole = (self.type == INT64) | (self.type == BOOL)
        numbers[whole] = self.integers[whole[whole | textual]]
        return numbers


@dataclass(frozen=True, slots=True)
class Buckets:
    """One series, reduced. All arrays have an entry a bucket."""

    workspace: str
    run: str
    metric: str
    column: str
    by_step: bool
    """x is the step; else the row number, because the metric has points without a step."""
    first_x: NDArray[np.int64]
    last_x: NDArray[np.int64]
    min: NDArray[np.float64]
    """Smallest finite value; NaN for none."""
    max: NDArray[np.float64]
    """Largest finite value; NaN for none."""
    first: NDArray[np.float64]
    last: NDArray[np.float64]
    non_finite: NDArray[np.uint32]
    """1 has a NaN, 2 has +Infinity, 4 has -Infinity; added up."""
    last_time_ns: NDArray[np.int64]
    """When the last element was logged, Unix nanoseconds; 0 from a server that does not tell."""


@dataclass(slots=True)
class _Parts:
    """Chunks of one series."""

    chunks: list[twin_pb2.MetricChunk] = field(default_factory=list)
    declared: set[int] = field(default_factory=set)


class SeriesBuilder:
    """Puts chunks together."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str, str, str], _Parts] = {}

    def add(self, chunk: twin_pb2.MetricChunk) -> None:
        """Takes a chunk; those of a series come in its order."""
        key = chunk.run.workspace, chunk.run.run, chunk.metric, chunk.column
        parts = self._parts.setdefault(key, _Parts())
        if chunk.count == 1 and chunk.type:
            (kind,) = np.frombuffer(chunk.type, np.uint32).tolist()
            if kind in (DECLARATION, TABLE_DECLARATION):
                parts.declared.add(kind)
                return
        parts.chunks.append(chunk)

    def series(self) -> list[Series]:
        """All series, by run, metric and column."""
        return [_series(key, self._parts[key]) for key in sorted(self._parts)]


def _series(key: tuple[str, str, str, str], parts: _Parts) -> Series:
    chunks = parts.chunks
    with_identity = any(chunk.seq for chunk in chunks)
    strings: list[str] = []
    integers = []
    for chunk in chunks:
        of_chunk = np.frombuffer(chunk.integers, np.int64)
        if strings and chunk.strings:  # indexes count from the chunk's first text
            types = np.frombuffer(chunk.type, np.uint32)
            stored = types[(types != DOUBLE) & (types != NONE)]
            of_chunk = of_chunk + ((stored == STRING) | (stored == BIG_INTEGER)) * len(strings)
        integers.append(of_chunk)
        strings.extend(chunk.strings)
    return Series(
        *key,
        row=_join([_row(chunk) for chunk in chunks], np.int64),
        type=_join(
            [_default(chunk.type, np.uint32, chunk.count, DOUBLE).astype(np.uint8) for chunk in chunks],
            np.uint8,
        ),
        doubles=_join([np.frombuffer(chunk.doubles, np.float64) for chunk in chunks], np.float64),
        integers=_join(integers, np.int64),
        strings=tuple(strings),
        step=_join([_default(chunk.step, np.int64, chunk.count, NO_STEP) for chunk in chunks], np.int64),
        logged_time_ns=_join([np.frombuffer(chunk.logged_time_ns, np.int64) for chunk in chunks], np.int64),
        identity=_identity(chunks) if with_identity else None,
        declared=frozenset(parts.declared),
    )


def _identity(chunks: list[twin_pb2.MetricChunk]) -> Identity:
    writers = []
    for chunk in chunks:
        known = np.frombuffer(b"".join(chunk.writers), np.uint8).reshape(-1, 16)
        writers.append(known[_default(chunk.writer_index, np.uint32, chunk.count, 0)])
    return Identity(
        writer=np.concatenate(writers),
        seq=_join([np.frombuffer(chunk.seq, np.uint64) for chunk in chunks], np.uint64),
        idx=_join([_default(chunk.idx, np.uint32, chunk.count, 0) for chunk in chunks], np.uint32),
        rank=_join([_default(chunk.rank, np.int32, chunk.count, -1) for chunk in chunks], np.int32),
    )


def _row(chunk: twin_pb2.MetricChunk) -> NDArray[np.int64]:
    if chunk.row_offset:
        return np.frombuffer(chunk.row_offset, np.uint32).astype(np.int64) + chunk.first_row
    return np.arange(chunk.first_row, chunk.first_row + chunk.count, dtype=np.int64)


def _default(data: bytes, kind: Any, count: int, value: int) -> NDArray[Any]:
    """A column of a message; one that is empty has its default everywhere."""
    return np.frombuffer(data, kind) if data else np.full(count, value, kind)


def _join(parts: list[NDArray[Any]], kind: Any) -> NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def buckets_of(chunk: twin_pb2.BucketChunk) -> Buckets:
    """Buckets of a message."""
    return Buckets(
        workspace=chunk.run.workspace,
        run=chunk.run.run,
        metric=chunk.metric,
        column=chunk.column,
        by_step=chunk.axis == 1,
        first_x=np.frombuffer(chunk.first_x, np.int64),
        last_x=np.frombuffer(chunk.last_x, np.int64),
        min=np.frombuffer(chunk.min, np.float64),
        max=np.frombuffer(chunk.max, np.float64),
        first=np.frombuffer(chunk.first, np.float64),
        last=np.frombuffer(chunk.last, np.float64),
        non_finite=_default(chunk.non_finite, np.uint32, chunk.count, 0),
        last_time_ns=_default(chunk.last_time_ns, np.int64, chunk.count, 0),
    )
