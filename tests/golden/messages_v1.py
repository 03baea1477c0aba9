"""Golden bytes of the messages, version 1: `python -m tests.golden.messages_v1` writes them, once for ever.

The content is fixed. A later release reads the same from the same bytes; it need not write the same bytes.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

from google.protobuf.message import Message

from runstream.v1 import (
    artifact_pb2,
    error_pb2,
    event_pb2,
    ingest_service_pb2,
    log_pb2,
    model_pb2,
    point_pb2,
    run_pb2,
)

FOLDER = Path(__file__).with_name("messages-v1")
WRITER = bytes(range(0xA0, 0xB0))
TIME = 1_763_900_000_123_456_789
RUN = point_pb2.RunRef(workspace="local", run="diabetes_1763900000_abcdef01")


def point_batch() -> point_pb2.PointBatch:
    """Two runs, three series, each kind of element."""
    batch = point_pb2.PointBatch(writer=WRITER, first_seq=2**40, count=12, rank=3)
    batch.runs.extend([RUN, point_pb2.RunRef(workspace="local", run="zweiter Lauf")])
    batch.series.add(metric="loss")
    batch.series.add(metric="table", column="größe", description="a column")
    batch.series.add(metric=" trailing ")
    batch.run_index.extend([0] * 6 + [1] * 6)
    batch.series_index.extend([0, 1, 2] * 4)
    batch.seq_offset.extend([0, 1, 1, 2, 3, 4, 5, 5, 6, 7, 8, 2**32 - 1])
    batch.idx.extend([0, 0, 1, 0, 0, 0, 0, 2**32 - 1, 0, 0, 0, 0])
    batch.step.extend([-(2**63), -1, 0, 1, 2**62, *range(7)])
    batch.type.extend([1, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8])
    batch.doubles.extend([0.1, -0.0, math.inf, -math.inf])
    batch.integers.extend([2**63 - 1, -(2**63), 1, 0, 1])
    batch.strings.extend(["Grüße 🎉\0", str(10**40)])
    batch.time_ns.extend(TIME + i for i in range(12))
    batch.logged_time_ns.extend(TIME - i for i in range(12))
    return batch


def run_event_batch() -> run_pb2.RunEventBatch:
    """Each kind of event."""
    position = run_pb2.LogPosition(topic="points", partition=2, offset=77, epoch=bytes(range(16)))
    events = [
        run_pb2.RunEvent(
            run_started=run_pb2.RunStarted(
                experiment="diabetes", launch="l-1", display_name="brave_fox", run_type="t", restart=1
            )
        ),
        run_pb2.RunEvent(
            writer_started=run_pb2.WriterStarted(
                role=run_pb2.WRITER_ROLE_MAIN,
                launch="l-1",
                rank=0,
                local_rank=0,
                world_size=2,
                host="node",
                pid=4711,
                restart=1,
            )
        ),
        run_pb2.RunEvent(
            attribute_set=run_pb2.AttributeSet(kind=run_pb2.ATTRIBUTE_KIND_TAG, key="größe", value="")
        ),
        run_pb2.RunEvent(
            attribute_set=run_pb2.AttributeSet(kind=run_pb2.ATTRIBUTE_KIND_PARAM, key="gone", removed=True)
        ),
        run_pb2.RunEvent(
            run_ended=run_pb2.RunEnded(
                status=run_pb2.RUN_STATUS_FAILED, error_message="it failed", error_code="UserError"
            )
        ),
        run_pb2.RunEvent(
            writer_ended=run_pb2.WriterEnded(
                role=run_pb2.WRITER_ROLE_MAIN,
                launch="l-1",
                outcome=run_pb2.WRITER_OUTCOME_EXCEPTION,
                exit_code=1,
                error_message="ValueError: no",
                seq_end=100,
                observed=True,
                exit_seen=True,
            )
        ),
        run_pb2.RunEvent(
            writer_drained=run_pb2.WriterDrained(
                seq_end=100, positions=[position], logged=90, rejected=5, dropped=3, lost=2
            )
        ),
    ]
    for seq, event in enumerate(events):
        event.run.CopyFrom(RUN)
        event.seq = seq
        event.time_ns = TIME + seq
    return run_pb2.RunEventBatch(writer=WRITER, events=events)


def frame(data: bytes) -> bytes:
    """One zstd frame with its content size and one raw block: the same from every release of zstd."""
    assert 256 <= len(data) < 65_792
    block = (len(data) << 3 | 1).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\x60" + (len(data) - 256).to_bytes(2, "little") + block + data


def publish_request() -> ingest_service_pb2.PublishRequest:
    """Each kind of record that is sent, and a lease."""
    points = point_batch()
    data = points.SerializeToString()
    return ingest_service_pb2.PublishRequest(
        request_id=2**40,
        records=[
            ingest_service_pb2.PublishRecord(points=points, crc32=zlib.crc32(data)),
            ingest_service_pb2.PublishRecord(run_events=run_event_batch()),
            ingest_service_pb2.PublishRecord(
                compressed_points=frame(data),
                compression=event_pb2.COMPRESSION_ZSTD,
            ),
        ],
        lease=ingest_service_pb2.Lease(writers=[WRITER, bytes(16)]),
    )


def log_record() -> event_pb2.LogRecord:
    """Points as the log keeps them."""
    points = point_batch()
    return event_pb2.LogRecord(
        format=1,
        received_time_ns=TIME + 10**9,
        principal="laptop",
        points=points,
        crc32=zlib.crc32(points.SerializeToString()),
    )


def dead_letter_record() -> event_pb2.LogRecord:
    """A dead letter as the log keeps it."""
    return event_pb2.LogRecord(
        format=1,
        received_time_ns=TIME + 10**9,
        dead_letter=event_pb2.DeadLetter(
            position=run_pb2.LogPosition(topic="points", offset=5, epoch=bytes(range(16))),
            record=log_record().SerializeToString(),
            code=error_pb2.ERROR_CODE_INVALID,
            reason="a boolean that is neither 0 nor 1",
            runs=[RUN],
            elements=12,
            writer=WRITER,
            first_seq=2**40,
            seq_end=2**40 + 2**32,
        ),
    )


def model_event_batch() -> run_pb2.RunEventBatch:
    """A registration of a model."""
    model = model_pb2.ModelRegistered(
        name="größe",
        path="outputs/model",
        description="a ridge",
        tags={"alpha": "0.4"},
        properties={"mse": "1.5"},
        framework="ScikitLearn",
        framework_version="1.7",
    )
    event = run_pb2.RunEvent(run=RUN, seq=2**40, time_ns=TIME, model_registered=model)
    return run_pb2.RunEventBatch(writer=WRITER, events=[event])


def cancel_event_batch() -> run_pb2.RunEventBatch:
    """Somebody asks for a run's end."""
    asked = run_pb2.CancelRequested(reason="größe")
    event = run_pb2.RunEvent(run=RUN, seq=2**41, time_ns=TIME, cancel_requested=asked)
    return run_pb2.RunEventBatch(writer=WRITER, events=[event])


def artifact_record() -> event_pb2.LogRecord:
    """A file's manifest as the log keeps it."""
    chunks = [
        artifact_pb2.Chunk(sha256=bytes(range(32)), size=64 << 20),
        artifact_pb2.Chunk(sha256=bytes(range(1, 33)), size=5),
    ]
    return event_pb2.LogRecord(
        format=1,
        received_time_ns=TIME + 10**9,
        principal="laptop",
        artifact=artifact_pb2.ArtifactManifest(
            run=RUN,
            path="outputs/größe.bin",
            size=(64 << 20) + 5,
            sha256=bytes(range(2, 34)),
            media_type="application/octet-stream",
            chunks=chunks,
            time_ns=TIME,
            writer=WRITER,
            seq=7,
        ),
    )


def piece_record() -> event_pb2.LogRecord:
    """Pieces of a log as the log keeps them."""
    return event_pb2.LogRecord(
        format=1,
        received_time_ns=TIME + 10**9,
        principal="laptop",
        logs=log_pb2.LogBatch(
            writer=WRITER,
            run=RUN,
            path="logs/user_log.txt",
            rank=3,
            pieces=[
                log_pb2.LogPiece(offset=0, time_ns=TIME, data="größe 1\n".encode()),
                log_pb2.LogPiece(offset=1 << 40, time_ns=TIME + 1, data=bytes(range(256))),
            ],
        ),
    )


MESSAGES: dict[str, Message] = {
    "point_batch": point_batch(),
    "run_event_batch": run_event_batch(),
    "publish_request": publish_request(),
    "log_record": log_record(),
    "dead_letter_record": dead_letter_record(),
    "model_event_batch": model_event_batch(),
    "cancel_event_batch": cancel_event_batch(),
    "artifact_record": artifact_record(),
    "piece_record": piece_record(),
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, message in MESSAGES.items():
        path = FOLDER / f"{name}.bin"
        if path.exists():
            print(f"{path} is there: golden bytes are never written again")
            continue
        path.write_bytes(message.SerializeToString(deterministic=True))
