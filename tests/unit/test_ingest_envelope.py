"""Requests: read right however a client writes them; a record that can't be taken leaves the others alone."""

from __future__ import annotations

import zlib
from random import Random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from runstream.v1 import artifact_pb2, error_pb2, event_pb2, ingest_service_pb2, point_pb2, run_pb2
from runstream_ingest import limits, wire
from runstream_ingest.envelope import accept, decode_once_request, decode_request
from runstream_ingest.errors import RecordRefused, RequestMalformed
from runstream_ingest.records import decode_log_record
from runstream_store.log import NewRecord
from tests.batches import WRITER, Element, batches, make_batch
from tests.wire import GROUP, GROUP_END, field, split, tag, unusual, varint

MOST = 64 << 20
RECORD = ingest_service_pb2.PublishRecord
EVENTS = run_pb2.RunEventBatch(
    writer=WRITER,
    events=[
        run_pb2.RunEvent(
            run=point_pb2.RunRef(workspace="local", run="run"),
            seq=1,
            time_ns=5,
            run_started=run_pb2.RunStarted(experiment="e", launch="l"),
        )
    ],
)


def taken(record: ingest_service_pb2.PublishRecord) -> NewRecord:
    request = ingest_service_pb2.PublishRequest(records=[record])
    (incoming,) = decode_request(request.SerializeToString()).records
    return accept(incoming, received_time_ns=77, principal="me", most=MOST).record


def refused(record: ingest_service_pb2.PublishRecord) -> RecordRefused:
    with pytest.raises(RecordRefused) as caught:
        taken(record)
    return caught.value


def in_pieces(content: bytes, random: Random) -> list[bytes]:
    """A message as several, which are merged when they come in one field."""
    fields = [field(number, c) if kind == 2 else tag(number, kind) + c for number, kind, c in split(content)]
    cuts = sorted(random.randint(0, len(fields)) for _ in range(random.randrange(3)))
    return [b"".join(fields[a:b]) for a, b in zip([0, *cuts], [*cuts, len(fields)], strict=True)]


def strange_record(content: bytes, random: Random) -> bytes:
    """A PublishRecord with its payload in pieces, perhaps after another member of the oneof."""
    written = b""
    for number, kind, inner in split(content):
        if number in (1, 2, 3):
            if random.random() < 0.3:
                written += field(number % 3 + 1, b"\x0a\x00")
            for piece in in_pieces(inner, random):
                written += field(number, piece)
        else:
            written += field(number, inner) if kind == 2 else tag(number, kind) + inner
    return written


@given(st.lists(batches(), max_size=3), st.integers(0, 2**64 - 1), st.randoms(use_true_random=False))
def test_requests_may_be_written_in_unusual_ways(
    given: list[point_pb2.PointBatch], request_id: int, random: Random
) -> None:
    request = ingest_service_pb2.PublishRequest(
        request_id=request_id,
        records=[*(RECORD(points=batch) for batch in given), RECORD(run_events=EVENTS)],
        lease=ingest_service_pb2.Lease(writers=[b"a", b"b"]),
    )
    data = unusual(request.SerializeToString(), random, packed={}, nested={2: strange_record})
    read = decode_request(data)
    assert read.request_id == request_id
    assert read.lease == request.lease
    assert [incoming.kind for incoming in read.records] == ["points"] * len(given) + ["run_events"]
    for incoming, batch in zip(read.records, given, strict=False):
        assert point_pb2.PointBatch.FromString(incoming.payload) == batch
    assert run_pb2.RunEventBatch.FromString(read.records[-1].payload) == EVENTS


@given(st.binary(max_size=100))
def test_any_bytes_are_a_request_or_none(data: bytes) -> None:
    for decode in decode_request, decode_once_request:
        try:
            request = decode(data)
        except RequestMalformed:
            continue
        for incoming in request.records:
            with pytest.raises(RecordRefused):
                accept(incoming, received_time_ns=1, principal="", most=MOST)


@given(st.binary(max_size=60))
def test_the_wire_is_read_as_protobuf_reads_it(data: bytes) -> None:
    message = point_pb2.RunRef()  # two strings; all else is unknown to it
    try:
        message.ParseFromString(data)
    except Exception:
        return  # also refused: text that is not UTF-8
    found = list(wire.pieces(data))
    for number, name in (1, "workspace"), (2, "run"):
        texts = [content for n, content in found if n == number]
        assert getattr(message, name).encode() == (texts[-1] if texts else b"")


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",  # no length
        b"\x0a\x05abc",  # too short
        b"\x08" + b"\xff" * 11,  # a number without an end
        b"\x0d\x00",  # half a number
        b"\x02\x00",  # field number 0
        b"\x0e",  # wire type 6
        tag(1, GROUP),
        tag(1, GROUP_END),
        tag(1, GROUP) + tag(2, GROUP_END),
        tag(1, GROUP) * 200 + tag(1, GROUP_END) * 200,
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        list(wire.pieces(data))


def test_groups_and_long_numbers_are_skipped() -> None:
    group = tag(7, GROUP) + field(1, b"inner") + tag(8, GROUP) + tag(8, GROUP_END) + tag(7, GROUP_END)
    data = field(1, b"a") + group + tag(3, 0) + varint(1, longer=4) + field(2, b"b")
    assert list(wire.pieces(data)) == [(1, b"a"), (2, b"b")]


def test_a_payload_keeps_its_bytes_and_gets_its_stamp() -> None:
    batch = make_batch([Element()])
    payload = unusual(batch.SerializeToString(), Random(1))
    data = field(2, field(1, payload) + tag(6, 5) + zlib.crc32(payload).to_bytes(4, "little"))
    (incoming,) = decode_request(data).records
    accepted = accept(incoming, received_time_ns=77, principal="me", most=MOST)
    assert accepted.topic == "points"
    assert accepted.record.key == WRITER
    stored = event_pb2.LogRecord.FromString(accepted.record.value)
    assert (stored.format, stored.received_time_ns, stored.principal) == (1, 77, "me")
    assert stored.crc32 == zlib.crc32(payload)
    assert decode_log_record(accepted.record.value).payload == payload


def test_events_are_keyed_by_run() -> None:
    assert taken(RECORD(run_events=EVENTS)).key == b"local\0run"


def test_a_wrong_checksum_is_refused() -> None:
    batch = make_batch([Element()])
    right = zlib.crc32(batch.SerializeToString())
    taken(RECORD(points=batch, crc32=right))
    assert refused(RECORD(points=batch, crc32=right ^ 1)).code == error_pb2.ERROR_CODE_MALFORMED


def compressed(data: bytes, *, size: bool = True) -> ingest_service_pb2.PublishRecord:
    packed = zstandard.ZstdCompressor(level=1, write_content_size=size).compress(data)
    return RECORD(compressed_points=packed, compression=event_pb2.COMPRESSION_ZSTD)


def test_compressed_batches_are_taken() -> None:
    batch = make_batch([Element(value=float(i), offset=i) for i in range(100)])
    record = taken(compressed(batch.SerializeToString()))
    assert record.key == WRITER
    received = decode_log_record(record.value)
    assert received.kind == "points"
    assert received.payload == batch.SerializeToString()


def test_what_does_not_decompress_is_refused() -> None:
    batch = make_batch([Element()]).SerializeToString()
    frame = compressed(batch).compressed_points
    zstd = event_pb2.COMPRESSION_ZSTD
    cases = [
        (RECORD(compressed_points=frame), error_pb2.ERROR_CODE_UNSUPPORTED),
        (RECORD(compressed_points=frame, compression=9), error_pb2.ERROR_CODE_UNSUPPORTED),  # type: ignore[arg-type]
        (RECORD(compressed_points=frame[:-3], compression=zstd), error_pb2.ERROR_CODE_MALFORMED),
        (RECORD(compressed_points=frame + frame, compression=zstd), error_pb2.ERROR_CODE_MALFORMED),
        (RECORD(compressed_points=b"no frame", compression=zstd), error_pb2.ERROR_CODE_MALFORMED),
        (compressed(batch, size=False), error_pb2.ERROR_CODE_MALFORMED),
        (compressed(bytes(limits.BATCH_BYTES + 1)), error_pb2.ERROR_CODE_TOO_LARGE),  # a bomb: 500 bytes
        (compressed(b"\xff" * 100), error_pb2.ERROR_CODE_MALFORMED),
    ]
    for record, code in cases:
        assert refused(record).code == code


def test_what_can_not_be_taken_is_refused() -> None:
    other = run_pb2.RunEventBatch.FromString(EVENTS.SerializeToString())
    other.events.add(run=point_pb2.RunRef(workspace="local", run="another")).run_ended.error_code = "E"
    no_kind = run_pb2.RunEventBatch(writer=WRITER, events=[run_pb2.RunEvent(run=EVENTS.events[0].run)])
    cases = [
        (RECORD(), error_pb2.ERROR_CODE_UNSUPPORTED),
        (RECORD(artifact=artifact_pb2.ArtifactManifest(path="a")), error_pb2.ERROR_CODE_INVALID),
        (RECORD(run_events=run_pb2.RunEventBatch(writer=WRITER)), error_pb2.ERROR_CODE_INVALID),
        (RECORD(run_events=run_pb2.RunEventBatch(events=EVENTS.events)), error_pb2.ERROR_CODE_INVALID),
        (RECORD(run_events=other), error_pb2.ERROR_CODE_INVALID),
        (RECORD(run_events=no_kind), error_pb2.ERROR_CODE_UNSUPPORTED),
    ]
    for record, code in cases:
        assert refused(record).code == code


def test_a_record_larger_than_the_log_takes_is_refused() -> None:
    (incoming,) = decode_request(
        ingest_service_pb2.PublishRequest(
            records=[RECORD(points=make_batch([Element()] * 100))]
        ).SerializeToString()
    ).records
    with pytest.raises(RecordRefused) as caught:
        accept(incoming, received_time_ns=1, principal="", most=1000)
    assert caught.value.code == error_pb2.ERROR_CODE_TOO_LARGE


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"\xff", error_pb2.ERROR_CODE_MALFORMED),
        (b"", error_pb2.ERROR_CODE_MALFORMED),
        (event_pb2.LogRecord(format=2).SerializeToString(), error_pb2.ERROR_CODE_UNSUPPORTED),
        (event_pb2.LogRecord(format=1).SerializeToString(), error_pb2.ERROR_CODE_UNSUPPORTED),
        (
            event_pb2.LogRecord(format=1, points=point_pb2.PointBatch(), crc32=5).SerializeToString(),
            error_pb2.ERROR_CODE_MALFORMED,
        ),
        (
            event_pb2.LogRecord(
                format=1, received_time_ns=-1, points=point_pb2.PointBatch()
            ).SerializeToString(),
            error_pb2.ERROR_CODE_MALFORMED,
        ),
    ],
)
def test_log_records_are_checked(value: bytes, code: int) -> None:
    with pytest.raises(RecordRefused) as caught:
        decode_log_record(value)
    assert caught.value.code == code


@given(batches(), st.randoms(use_true_random=False))
def test_log_records_may_be_written_in_unusual_ways(batch: point_pb2.PointBatch, random: Random) -> None:
    record = event_pb2.LogRecord(format=1, received_time_ns=9, principal="p", points=batch)
    pieces = in_pieces(batch.SerializeToString(), random)
    record.ClearField("points")
    data = record.SerializeToString() + b"".join(field(4, piece) for piece in pieces)
    received = decode_log_record(data)
    assert received.received_time_ns == 9
    assert point_pb2.PointBatch.FromString(received.payload) == batch
