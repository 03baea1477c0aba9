"""Messages of version 1 are read as they always were, by the public classes and by ingest's own readers."""

from __future__ import annotations

import pyarrow as pa
import pytest

from runstream.v1 import event_pb2, run_pb2
from runstream_ingest.artifacts import decode_manifest
from runstream_ingest.batch import check_elements, decode_points
from runstream_ingest.envelope import accept, decode_request
from runstream_ingest.events import check_event, decode_events
from runstream_ingest.logs import decode_logs
from runstream_ingest.records import decode_log_record
from runstream_ingest.writers.points import build_block
from tests.batches import comparable, expected_rows
from tests.golden.messages_v1 import (
    FOLDER,
    MESSAGES,
    artifact_record,
    cancel_event_batch,
    log_record,
    model_event_batch,
    piece_record,
    point_batch,
    run_event_batch,
)

GOLDEN = {name: (FOLDER / f"{name}.bin").read_bytes() for name in MESSAGES}


def test_nothing_is_missing() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_bytes_say_the_same(name: str) -> None:
    wanted = MESSAGES[name]
    assert type(wanted).FromString(GOLDEN[name]) == wanted


def test_golden_points_become_the_same_rows() -> None:
    for data in GOLDEN["point_batch"], decode_log_record(GOLDEN["log_record"]).payload:
        batch = decode_points(data)
        check_elements(batch)
        table = build_block([batch])
        for name in "time", "logged_time":
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, table.column(name).cast(pa.int64()))
        assert [comparable(row) for row in table.to_pylist()] == [
            comparable(row) for row in expected_rows(point_batch())
        ]


def test_golden_events_are_taken() -> None:
    kinds = set()
    for name, expected in (
        ("run_event_batch", run_event_batch()),
        ("model_event_batch", model_event_batch()),
        ("cancel_event_batch", cancel_event_batch()),
    ):
        batch = decode_events(GOLDEN[name])
        assert batch == expected
        for event in batch.events:
            check_event(event)
        kinds |= {event.WhichOneof("event") for event in batch.events}
    assert kinds == {field.name for field in run_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["event"].fields}


def test_golden_manifests_are_taken() -> None:
    received = decode_log_record(GOLDEN["artifact_record"])
    assert received.kind == "artifact"
    assert decode_manifest(received.payload) == artifact_record().artifact


def test_golden_pieces_of_logs_are_taken() -> None:
    received = decode_log_record(GOLDEN["piece_record"])
    assert received.kind == "logs"
    assert decode_logs(received.payload) == piece_record().logs


def test_golden_requests_are_taken() -> None:
    request = decode_request(GOLDEN["publish_request"])
    stored = [
        accept(incoming, received_time_ns=1, principal="p", most=1 << 20).record
        for incoming in request.records
    ]
    points, events, compressed = (decode_log_record(record.value) for record in stored)
    assert points.payload == compressed.payload == point_batch().SerializeToString()
    assert run_pb2.RunEventBatch.FromString(events.payload) == run_event_batch()


def test_a_golden_dead_letter_holds_its_record() -> None:
    letter = event_pb2.LogRecord.FromString(GOLDEN["dead_letter_record"]).dead_letter
    assert event_pb2.LogRecord.FromString(letter.record) == log_record()
