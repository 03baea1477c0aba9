"""Batches of points: whatever a client may legally write is read right, all else is refused with a reason."""

from __future__ import annotations

from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream.v1 import error_pb2, point_pb2
from runstream_ingest import limits
from runstream_ingest.batch import Columns, check_elements, decode_points, describe
from runstream_ingest.errors import RecordRefused
from runstream_ingest.writers.points import build_block
from tests.batches import (
    BIG,
    BOOL,
    DOUBLE,
    INT64,
    NONE,
    STRING,
    WRITER,
    Element,
    batches,
    comparable,
    expected_rows,
    make_batch,
)
from tests.wire import unusual


def rows(*read: Columns) -> list[tuple[Any, ...]]:
    table = build_block(read)
    table.validate(full=True)
    for name in "time", "logged_time":
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table.column(name).cast(pa.int64()))
    return [comparable(row) for row in table.to_pylist()]


def expected(*given: point_pb2.PointBatch) -> list[tuple[Any, ...]]:
    return [comparable(row) for batch in given for row in expected_rows(batch)]


def refused(batch: point_pb2.PointBatch | bytes) -> RecordRefused:
    data = batch if isinstance(batch, bytes) else batch.SerializeToString()
    with pytest.raises(RecordRefused) as caught:
        check_elements(decode_points(data))
    assert caught.value.reason
    assert not caught.value.retryable
    return caught.value


@given(st.lists(batches(), min_size=1, max_size=3))
def test_rows_are_what_the_batches_say(given: list[point_pb2.PointBatch]) -> None:
    read = [decode_points(batch.SerializeToString()) for batch in given]
    for batch in read:
        check_elements(batch)
    assert rows(*read) == expected(*given)


@given(batches(), st.randoms(use_true_random=False))
def test_unusual_encodings_say_the_same(batch: point_pb2.PointBatch, random: Random) -> None:
    data = unusual(batch.SerializeToString(), random)
    assert rows(decode_points(data)) == expected(batch)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        check_elements(decode_points(data))
    except RecordRefused:
        describe(data)


@given(batches(), st.data())
def test_damaged_batches_are_read_or_refused(batch: point_pb2.PointBatch, data: st.DataObject) -> None:
    damaged = bytearray(batch.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        read = decode_points(bytes(damaged))
        check_elements(read)
        rows(read)
    except RecordRefused:
        describe(bytes(damaged))


def test_integers_keep_what_a_double_does_not_hold() -> None:
    values = [2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**62, 2**62 + 1, 0]
    batch = make_batch([Element(INT64, value, offset=i) for i, value in enumerate(values)])
    read = build_block([decode_points(batch.SerializeToString())]).to_pylist()
    assert [row["text"] for row in read] == [
        "",
        str(2**53 + 1),
        str(-(2**53) - 1),
        str(2**63 - 1),
        "",
        "",
        str(2**62 + 1),
        "",
    ]
    assert [int(row["value"]) if not row["text"] else int(row["text"]) for row in read] == values


ONE = Element(DOUBLE, 1.0)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"writer": b"short"}, error_pb2.ERROR_CODE_INVALID),
        ({"writer": b""}, error_pb2.ERROR_CODE_INVALID),
        ({"count": 0}, error_pb2.ERROR_CODE_INVALID),
        ({"count": 3}, error_pb2.ERROR_CODE_MALFORMED),
        ({"count": limits.ELEMENTS + 1}, error_pb2.ERROR_CODE_TOO_LARGE),
        ({"rank": 2**31}, error_pb2.ERROR_CODE_INVALID),
        ({"runs": []}, error_pb2.ERROR_CODE_INVALID),
        ({"series": []}, error_pb2.ERROR_CODE_INVALID),
        ({"runs": [point_pb2.RunRef(workspace="local")]}, error_pb2.ERROR_CODE_INVALID),
        ({"runs": [point_pb2.RunRef(run="run")]}, error_pb2.ERROR_CODE_INVALID),
        ({"runs": [point_pb2.RunRef(workspace="w" * 256, run="run")]}, error_pb2.ERROR_CODE_INVALID),
        ({"runs": [point_pb2.RunRef(workspace="w", run="r" * 257)]}, error_pb2.ERROR_CODE_INVALID),
        (
            {"runs": [point_pb2.RunRef(workspace="a", run="r"), point_pb2.RunRef(workspace="b", run="r")]},
            error_pb2.ERROR_CODE_INVALID,
        ),
        ({"series": [point_pb2.Series(metric="")]}, error_pb2.ERROR_CODE_INVALID),
        ({"series": [point_pb2.Series(metric="m" * 1001)]}, error_pb2.ERROR_CODE_INVALID),
        ({"series": [point_pb2.Series(metric="m", column="c" * 1001)]}, error_pb2.ERROR_CODE_INVALID),
        ({"series": [point_pb2.Series(metric="m", description="d" * 5001)]}, error_pb2.ERROR_CODE_INVALID),
        ({"run_index": [0, 1]}, error_pb2.ERROR_CODE_INVALID),
        ({"series_index": [0, 2**32 - 1]}, error_pb2.ERROR_CODE_INVALID),
        ({"seq_offset": [0]}, error_pb2.ERROR_CODE_MALFORMED),
        ({"seq_offset": [0, 1, 2]}, error_pb2.ERROR_CODE_MALFORMED),
        ({"type": [1, 0]}, error_pb2.ERROR_CODE_INVALID),
        ({"type": [1, 9]}, error_pb2.ERROR_CODE_INVALID),
        ({"type": [1, 2**32 - 1]}, error_pb2.ERROR_CODE_INVALID),
        ({"type": [1, 2]}, error_pb2.ERROR_CODE_MALFORMED),
        ({"doubles": [1.0]}, error_pb2.ERROR_CODE_MALFORMED),
        ({"integers": [1]}, error_pb2.ERROR_CODE_MALFORMED),
        ({"time_ns": []}, error_pb2.ERROR_CODE_MALFORMED),
        ({"logged_time_ns": [1]}, error_pb2.ERROR_CODE_MALFORMED),
        ({"type": [1, 3], "doubles": [1.0], "integers": [2]}, error_pb2.ERROR_CODE_INVALID),
        ({"type": [1, 3], "doubles": [1.0], "integers": [-1]}, error_pb2.ERROR_CODE_INVALID),
        ({"type": [1, 5], "doubles": [1.0], "integers": [0]}, error_pb2.ERROR_CODE_INVALID),
        (
            {"type": [1, 5], "doubles": [1.0], "integers": [-1], "strings": ["a"]},
            error_pb2.ERROR_CODE_INVALID,
        ),
        (
            {"type": [1, 6], "doubles": [1.0], "integers": [0], "strings": ["0x10"]},
            error_pb2.ERROR_CODE_INVALID,
        ),
        (
            {"type": [1, 6], "doubles": [1.0], "integers": [0], "strings": ["nan"]},
            error_pb2.ERROR_CODE_INVALID,
        ),
        (
            {"type": [1, 5], "doubles": [1.0], "integers": [0], "strings": ["x" * (limits.TEXT_BYTES + 1)]},
            error_pb2.ERROR_CODE_TOO_LARGE,
        ),
        ({"first_seq": 2**64 - 1}, error_pb2.ERROR_CODE_INVALID),
    ],
)
def test_what_is_wrong_is_refused_by_its_kind(change: dict[str, Any], code: int) -> None:
    batch = make_batch([ONE, Element(DOUBLE, 2.0, offset=1)])
    for name, value in change.items():
        if isinstance(value, list):
            batch.ClearField(name)  # type: ignore[arg-type]
            getattr(batch, name).extend(value)
        else:
            setattr(batch, name, value)
    assert refused(batch).code == code


def test_too_many_entries_are_refused() -> None:
    batch = make_batch([ONE])
    batch.series.extend([point_pb2.Series(metric="m")] * limits.SERIES)
    assert refused(batch).code == error_pb2.ERROR_CODE_INVALID
    assert refused(bytes(limits.BATCH_BYTES + 1)).code == error_pb2.ERROR_CODE_TOO_LARGE


def test_a_batch_of_the_greatest_size_is_read() -> None:
    data = make_batch([ONE]).SerializeToString()
    large = point_pb2.PointBatch.FromString(data)
    large.count = limits.ELEMENTS
    large.ClearField("time_ns")
    large.time_ns.extend([1] * limits.ELEMENTS)
    large.ClearField("doubles")
    large.type.extend([NONE] * limits.ELEMENTS)
    assert build_block([decode_points(large.SerializeToString())]).num_rows == limits.ELEMENTS


def test_what_was_refused_is_described() -> None:
    elements = [Element(DOUBLE, 1.0, run=i % 2, offset=i) for i in range(5)]
    batch = make_batch(elements, first_seq=7, runs=[("w", "a"), ("w", "b")])
    batch.doubles.append(1.0)
    refused(batch)
    about = describe(batch.SerializeToString())
    assert about.runs == [("w", "a"), ("w", "b")]
    assert about.by_run == {("w", "a"): 3, ("w", "b"): 2}
    assert (about.elements, about.writer, about.first_seq, about.seq_end) == (5, WRITER, 7, 12)


def test_texts_of_several_batches_keep_their_own() -> None:
    given = [
        make_batch([Element(STRING, f"{name}{i}", offset=i) for i in range(3)] + [Element(BOOL, 1, offset=3)])
        for name in "ab"
    ]
    given.append(make_batch([Element(BIG, 10**30)]))
    read = [decode_points(batch.SerializeToString()) for batch in given]
    assert rows(*read) == expected(*given)
