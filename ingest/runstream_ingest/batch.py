"""Batches of points: from the bytes of a record to NumPy columns, with all their checks.

A batch is read with the private twin, whose columns are `bytes`: a view each, whatever their length. The
twin misreads what a client may legally send (unpacked elements, a column in pieces), so its reading counts
only when nothing was left over: no unknown fields, the serialized size is that of the input, and every column
fits `count`. Otherwise the public message reads it, element by element but right. Nothing else in the server
loops over points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from numpy.typing import NDArray

from runstream import digest
from runstream.internal.v1 import twin_pb2
from runstream.v1 import point_pb2
from runstream_ingest import limits
from runstream_ingest.errors import RecordRefused, invalid, malformed, too_large

DOUBLE: Final = point_pb2.VALUE_TYPE_DOUBLE
INT64: Final = point_pb2.VALUE_TYPE_INT64
BOOL: Final = point_pb2.VALUE_TYPE_BOOL
STRING: Final = point_pb2.VALUE_TYPE_STRING
BIG_INTEGER: Final = point_pb2.VALUE_TYPE_BIG_INTEGER
DECLARATION: Final = point_pb2.VALUE_TYPE_DECLARATION
GREATEST_TYPE: Final = point_pb2.VALUE_TYPE_TABLE_DECLARATION

HAS_INTEGER: Final = np.zeros(GREATEST_TYPE + 1, np.bool_)
"""By type: whether the element has a place in `integers`."""
HAS_INTEGER[[INT64, BOOL, STRING, BIG_INTEGER]] = True

_COLUMNS: Final[dict[str, np.dtype[Any]]] = {
    "run_index": np.dtype("<u4"),
    "series_index": np.dtype("<u4"),
    "seq_offset": np.dtype("<u4"),
    "idx": np.dtype("<u4"),
    "step": np.dtype("<i8"),
    "type": np.dtype("<u4"),
    "doubles": np.dtype("<f8"),
    "integers": np.dtype("<i8"),
    "time_ns": np.dtype("<i8"),
    "logged_time_ns": np.dtype("<i8"),
}
M = TypeVar("M", bound=Message)

_PER_ELEMENT: Final = tuple(name for name in _COLUMNS if name not in ("doubles", "integers"))


@dataclass(frozen=True, slots=True)
class Description:
    """What a refused record was about, as far as it can be told."""

    runs: list[tuple[str, str]] = field(default_factory=list)
    """Workspace and run."""
    elements: int = 0
    events: int = 0
    """Events, without those of senders."""
    writer: bytes = b""
    first_seq: int = 0
    seq_end: int = 0
    by_run: dict[tuple[str, str], int] = field(default_factory=dict)
    """Elements of each run, when that can be told."""
    digests: dict[tuple[str, str], int] = field(default_factory=dict)
    """Digest of the identities of each run, when that can be told."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch of points that has passed all checks. A column that is None has its default (`point.proto`)."""

    writer: bytes
    first_seq: int
    count: int
    rank: int
    """-1 for none."""
    runs: list[tuple[str, str]]
    """Workspace and run."""
    series: list[tuple[str, str, str]]
    """Metric, column, description."""
    run_index: NDArray[np.uint32] | None
    series_index: NDArray[np.uint32] | None
    seq_offset: NDArray[np.uint32] | None
    idx: NDArray[np.uint32] | None
    step: NDArray[np.int64] | None
    type: NDArray[np.uint8] | None
    doubles: NDArray[np.float64]
    integers: NDArray[np.int64]
    strings: list[str]
    time_ns: NDArray[np.int64]
    logged_time_ns: NDArray[np.int64] | None


def decode_points(data: bytes) -> Columns:
    """Reads a serialized `PointBatch` and checks everything but the values of its elements.

    :raises RecordRefused: it is no batch, or not one that is taken.
    """
    if len(data) > limits.BATCH_BYTES:
        raise too_large(f"a batch of {len(data):,} bytes; at most {limits.BATCH_BYTES:,} are taken: split it")
    twin = parse(twin_pb2.PointBatch(), data, "PointBatch")
    if twin.ByteSize() == len(data) and not len(UnknownFieldSet(twin)):
        columns = _views(twin)
        if columns is not None and _misfit(twin.count, columns) is None:
            return _checked(twin, columns)
    public = parse(point_pb2.PointBatch(), data, "PointBatch")
    columns = {name: np.asarray(getattr(public, name), kind) for name, kind in _COLUMNS.items()}
    problem = _misfit(public.count, columns)
    if problem is not None:
        raise problem
    return _checked(public, columns)


def check_elements(batch: Columns) -> None:
    """Checks the values of the elements: what `decode_points` leaves to the writers.

    :raises RecordRefused: an element is out of its range.
    """
    last = batch.count - 1 if batch.seq_offset is None else int(batch.seq_offset.max())
    if batch.first_seq + last >= 1 << 64:
        raise invalid("sequence numbers go beyond 64 bits")
    for text in batch.strings:
        if len(text) > limits.TEXT_BYTES // 4 and len(text.encode()) > limits.TEXT_BYTES:
            raise too_large(f"a text of more than {limits.TEXT_BYTES:,} bytes")
    if batch.type is None or not len(batch.integers):
        return
    kinds = batch.type[HAS_INTEGER[batch.type]]
    booleans = batch.integers[kinds == BOOL]
    if len(booleans) and (booleans.min() < 0 or booleans.max() > 1):
        raise invalid("a boolean that is neither 0 nor 1")
    texts = batch.integers[(kinds == STRING) | (kinds == BIG_INTEGER)]
    if len(texts) and (texts.min() < 0 or texts.max() >= len(batch.strings)):
        raise invalid(f"a text index outside of the {len(batch.strings)} texts")
    for index in np.unique(batch.integers[kinds == BIG_INTEGER]):
        if not _is_integer(batch.strings[index]):
            raise invalid("a BIG_INTEGER whose text is no decimal integer")


def describe(data: bytes) -> Description:
    """What a batch that was refused is about, as far as it can be told."""
    try:
        twin = parse(twin_pb2.PointBatch(), data, "PointBatch")
    except RecordRefused:
        return Description()
    last = twin.count - 1
    with suppress(ValueError):  # no column, or no whole one
        last = int(np.frombuffer(twin.seq_offset, "<u4").max())
    runs = known_runs(twin.runs)
    counts_of, digests = _contents(data)
    by_run: dict[tuple[str, str], int] = {}
    if len(runs) > 1 and len(twin.runs) == len(runs):
        with suppress(ValueError):
            index = np.frombuffer(twin.run_index, "<u4")
            counts = np.bincount(index[index < len(runs)], minlength=len(runs))
            by_run = dict(zip(runs, counts.tolist(), strict=True))
    return Description(
        runs=runs,
        by_run=counts_of or by_run,
        digests=digests,
        elements=sum(counts_of.values()) or twin.count,
        writer=twin.writer if len(twin.writer) == 16 else b"",
        first_seq=twin.first_seq,
        seq_end=min(twin.first_seq + last + 1, (1 << 64) - 1),
    )


def _contents(data: bytes) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """Elements and digest of each run of a batch whose columns are in order; nothing of another."""
    try:
        batch = decode_points(data)
    except RecordRefused:
        return {}, {}
    seq = np.arange(batch.count, dtype=np.uint64) if batch.seq_offset is None else batch.seq_offset
    parts = digest.mix(seq + np.uint64(batch.first_seq), batch.idx)
    factors = np.array([digest.factor(metric, column) for metric, column, _ in batch.series], np.uint64)
    parts *= factors[0] if batch.series_index is None else factors[batch.series_index]
    counted = np.ones(batch.count, np.bool_) if batch.type is None else batch.type < DECLARATION
    counts: dict[tuple[str, str], int] = {}
    digests: dict[tuple[str, str], int] = {}
    index = np.zeros(batch.count, np.uint32) if batch.run_index is None else batch.run_index
    for number in np.unique(index).tolist()[: limits.DEAD_LETTER_RUNS]:
        run, mine = batch.runs[number], index == number
        counts[run] = counts.get(run, 0) + int(np.count_nonzero(counted & mine))
        digests[run] = (digests.get(run, 0) + int(parts[mine].sum())) & digest.MASK
    return counts, digests


def known_runs(refs: Iterable[point_pb2.RunRef]) -> list[tuple[str, str]]:
    """The first of the runs that are named, each once."""
    runs: dict[tuple[str, str], None] = {}
    for ref in refs:
        runs[ref.workspace[: limits.WORKSPACE_CHARACTERS], ref.run[: limits.RUN_CHARACTERS]] = None
        if len(runs) == limits.DEAD_LETTER_RUNS:
            break
    return list(runs)


def parse(message: M, data: bytes, name: str) -> M:
    """Parses bytes into a message, and returns it.

    :raises RecordRefused: they are not this message.
    """
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise malformed(f"not a {name}: {error}") from None
    return message


def check_name(what: str, text: str, most: int, *, least: int = 1) -> None:
    """Checks the length of a name.

    :raises RecordRefused: it is too short or too long.
    """
    if not least <= len(text) <= most:
        given = "is empty" if not text else f"has {len(text):,} characters"
        raise invalid(f"{what} {given}; {least} to {most:,} are taken")


def _views(twin: twin_pb2.PointBatch) -> dict[str, NDArray[Any]] | None:
    """The twin's columns, without a copy; None when one is cut within an element."""
    columns: dict[str, NDArray[Any]] = {}
    for name, kind in _COLUMNS.items():
        content: bytes = getattr(twin, name)
        if len(content) % kind.itemsize:
            return None
        columns[name] = np.frombuffer(content, kind)
    return columns


def _misfit(count: int, columns: dict[str, NDArray[Any]]) -> RecordRefused | None:
    """What is wrong with the lengths of the columns, None when they fit."""
    if not 1 <= count <= limits.ELEMENTS:
        refuse = too_large if count else invalid
        return refuse(f"a batch of {count:,} elements; 1 to {limits.ELEMENTS:,} are taken")
    for name in _PER_ELEMENT:
        length = len(columns[name])
        if length != count and (length or name == "time_ns"):
            return malformed(f"column {name} has {length:,} elements where count says {count:,}")
    doubles, integers = count, 0
    types = columns["type"]
    if len(types):
        if types.min() == 0 or types.max() > GREATEST_TYPE:
            return invalid("an element of an unknown type")
        doubles = int(np.count_nonzero(types == DOUBLE))
        integers = int(np.count_nonzero(HAS_INTEGER[types])) if doubles != count else 0
    for name, wanted in ("doubles", doubles), ("integers", integers):
        if len(columns[name]) != wanted:
            return malformed(
                f"column {name} has {len(columns[name]):,} elements where the types need {wanted:,}"
            )
    return None


def _checked(batch: twin_pb2.PointBatch | point_pb2.PointBatch, columns: dict[str, NDArray[Any]]) -> Columns:
    if len(batch.writer) != 16:
        raise invalid(f"writer has {len(batch.writer)} bytes; 16 make one")
    rank = batch.rank if batch.HasField("rank") else -1
    if rank >= 1 << 31:
        raise invalid(f"rank {rank:,} is no rank")
    types = columns["type"]
    return Columns(
        writer=batch.writer,
        first_seq=batch.first_seq,
        count=batch.count,
        rank=rank,
        runs=_runs(batch.runs),
        series=_series(batch.series),
        run_index=_index("run_index", columns, len(batch.runs)),
        series_index=_index("series_index", columns, len(batch.series)),
        seq_offset=_given(columns["seq_offset"]),
        idx=_given(columns["idx"]),
        step=_given(columns["step"]),
        type=types.astype(np.uint8) if len(types) else None,
        doubles=columns["doubles"],
        integers=columns["integers"],
        strings=list(batch.strings),
        time_ns=columns["time_ns"],
        logged_time_ns=_given(columns["logged_time_ns"]),
    )


def _runs(refs: Sequence[point_pb2.RunRef]) -> list[tuple[str, str]]:
    if not 1 <= len(refs) <= limits.RUNS:
        raise invalid(f"a batch names {len(refs):,} runs; 1 to {limits.RUNS:,} are taken")
    runs = [(ref.workspace, ref.run) for ref in refs]
    for workspace, run in runs:
        check_name("a workspace's name", workspace, limits.WORKSPACE_CHARACTERS)
        check_name("a run id", run, limits.RUN_CHARACTERS)
        if workspace != runs[0][0]:
            raise invalid("runs of several workspaces in one batch: send a batch for each")
    return runs


def _series(named: Sequence[point_pb2.Series]) -> list[tuple[str, str, str]]:
    if not 1 <= len(named) <= limits.SERIES:
        raise invalid(f"a batch names {len(named):,} series; 1 to {limits.SERIES:,} are taken")
    series = [(one.metric, one.column, one.description) for one in named]
    for metric, column, description in series:
        if not 1 <= len(metric) <= limits.METRIC_CHARACTERS:
            check_name("a metric's name", metric, limits.METRIC_CHARACTERS)
        if len(column) > limits.METRIC_CHARACTERS:
            check_name("a column's name", column, limits.METRIC_CHARACTERS, least=0)
        if len(description) > limits.DESCRIPTION_CHARACTERS:
            check_name("a description", description, limits.DESCRIPTION_CHARACTERS, least=0)
    return series


def _index(name: str, columns: dict[str, NDArray[Any]], size: int) -> NDArray[Any] | None:
    column = _given(columns[name])
    if column is not None and column.max() >= size:
        raise invalid(f"column {name} points outside of its {size:,} entries")
    return column


def _given(column: NDArray[Any]) -> NDArray[Any] | None:
    return column if len(column) else None


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit()
