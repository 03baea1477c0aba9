"""A small IngestService for the sender's tests, made from the public stubs: keeps what it acknowledged."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NamedTuple

import grpc
import zstandard

from runstream.v1 import (
    error_pb2,
    event_pb2,
    ingest_service_pb2,
    ingest_service_pb2_grpc,
    point_pb2,
    run_pb2,
)

Request = ingest_service_pb2.PublishRequest
Response = ingest_service_pb2.PublishResponse
NO_STEP = -(2**63)


class Identity(NamedTuple):
    workspace: str
    run: str
    writer: str
    seq: int
    idx: int
    metric: str
    column: str


class Value(NamedTuple):
    kind: int
    value: Any
    step: int | None
    time_ns: int
    logged_time_ns: int


class Conflict(AssertionError):
    """The same identity came with another content."""


class Log:
    """What is durable at a server. Survives the server."""

    def __init__(self) -> None:
        self.server_id = os.urandom(16)
        self.epoch = os.urandom(16)
        self.lock = threading.Lock()
        self.elements: dict[Identity, Value] = {}
        self.events: dict[tuple[str, str, str, int], run_pb2.RunEvent] = {}
        self.arrivals: list[tuple[str, run_pb2.RunEvent]] = []
        self.logs: dict[tuple[str, str], dict[tuple[str, int], bytes]] = {}
        self.offsets = {"points": 0, "runs": 0, "logs": 0}
        self.sizes: list[int] = []
        self.repeated = 0
        self.leases: list[set[str]] = []
        self.same_times = True

    def store(self, record: ingest_service_pb2.PublishRecord) -> str:
        """Keep a record. Its topic."""
        kind = record.WhichOneof("payload")
        if kind == "run_events":
            batch = record.run_events
            assert len({(event.run.workspace, event.run.run) for event in batch.events}) == 1
            for event in batch.events:
                what = event.WhichOneof("event")
                assert what is not None
                self.events[event.run.run, what, batch.writer.hex(), event.seq] = event
                self.arrivals.append((batch.writer.hex(), event))
            topic = "runs"
        elif kind == "logs":
            pieces = self.logs.setdefault((record.logs.run.run, record.logs.path), {})
            for piece in record.logs.pieces:
                key = record.logs.writer.hex(), piece.offset
                pieces[key] = max(pieces.get(key, b""), piece.data, key=len)
            topic = "logs"
        else:
            if kind == "compressed_points":
                data = zstandard.ZstdDecompressor().decompress(record.compressed_points)
                points = point_pb2.PointBatch.FromString(data)
            else:
                points = record.points
            self.sizes.append(points.count)
            for identity, value in elements(points):
                known = self.elements.setdefault(identity, value)
                self.repeated += known is not value
                if (known.kind, repr(known.value), known.step) != (value.kind, repr(value.value), value.step):
                    raise Conflict(f"{identity}: {known} and {value}")
            topic = "points"
        self.offsets[topic] += 1
        return topic

    def values(self, metric: str, run: str | None = None, column: str = "") -> list[Any]:
        with self.lock:
            elements = list(self.elements.items())
        found = [
            (key.writer, key.seq, key.idx, value.value)
            for key, value in elements
            if key.metric == metric and key.column == column and run in (None, key.run)
        ]
        return [value for *_, value in sorted(found, key=lambda row: row[:3])]

    def text(self, run: str, path: str) -> bytes:
        """A log as a reader gives it, one writer after the other."""
        with self.lock:
            pieces = sorted(self.logs.get((run, path), {}).items())
        found, by, end = b"", "", 0
        for (writer, offset), data in pieces:
            if writer != by:
                by, end = writer, 0
            found += data[max(0, end - offset) :]
            end = max(end, offset + len(data))
        return found

    def of_kind(self, kind: str) -> list[run_pb2.RunEvent]:
        with self.lock:
            return [event for (_, what, _, _), event in self.events.items() if what == kind]


def elements(batch: point_pb2.PointBatch) -> Iterator[tuple[Identity, Value]]:
    """One by one, as point.proto says."""
    count = batch.count
    assert 1 <= count <= 1_048_576
    assert len(batch.writer) == 16
    for name in ("run_index", "series_index", "seq_offset", "idx", "step", "type", "logged_time_ns"):
        assert len(getattr(batch, name)) in (0, count), name
    assert len(batch.time_ns) == count
    assert len({run.workspace for run in batch.runs}) == 1
    doubles, integers = iter(batch.doubles), iter(batch.integers)
    for i in range(count):
        run = batch.runs[batch.run_index[i] if batch.run_index else 0]
        series = batch.series[batch.series_index[i] if batch.series_index else 0]
        kind = batch.type[i] if batch.type else 1
        value: Any = None
        if kind == 1:
            value = next(doubles)
        elif kind in (2, 3):
            value = next(integers)
            value = bool(value) if kind == 3 else value
        elif kind in (5, 6):
            text = batch.strings[next(integers)]
            value = text if kind == 5 else int(text)
        elif kind in (7, 8):
            value = "DECLARATION" if kind == 7 else "TABLE"
        else:
            assert kind == 4
        step = batch.step[i] if batch.step else NO_STEP
        identity = Identity(
            run.workspace,
            run.run,
            batch.writer.hex(),
            batch.first_seq + (batch.seq_offset[i] if batch.seq_offset else i),
            batch.idx[i] if batch.idx else 0,
            series.metric,
            series.column,
        )
        yield (
            identity,
            Value(
                kind,
                value,
                None if step == NO_STEP else step,
                batch.time_ns[i],
                batch.logged_time_ns[i] if batch.logged_time_ns else batch.time_ns[i],
            ),
        )
    assert next(doubles, None) is None
    assert next(integers, None) is None


Refuse = Callable[[ingest_service_pb2.PublishRecord], "error_pb2.RecordError | None"]


class Ingest(ingest_service_pb2_grpc.IngestServiceServicer):
    """The service. Its behaviour can be changed while it runs."""

    def __init__(self, log: Log, token: str | None) -> None:
        self.log = log
        self.token = token
        self.refuse: Refuse = lambda record: None
        self.answer: Callable[[int], bool] = lambda number: True  # False: store, and say nothing
        self.hold = threading.Event()
        self.hold.set()
        self.streams = 0
        self.commands: list[tuple[bytes, str]] = []  # to cancel: writer, run; sent with the next answer

    def Publish(
        self, request_iterator: Iterator[Request], context: grpc.ServicerContext
    ) -> Iterator[Response]:
        if self.token is not None:
            metadata = dict(context.invocation_metadata())
            if metadata.get("authorization") != f"Bearer {self.token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        self.streams += 1
        first = True
        for request in request_iterator:
            self.hold.wait()
            response = self._respond(request)
            if first:
                response.server.version = "test"
                response.server.http_url = "http://127.0.0.1:1"
                response.server.server_id = self.log.server_id
                first = False
            if request.request_id == 0 or self.answer(request.request_id):
                yield response

    def PublishOnce(
        self, request: ingest_service_pb2.PublishOnceRequest, context: grpc.ServicerContext
    ) -> ingest_service_pb2.PublishOnceResponse:
        raise NotImplementedError("senders use the stream")

    def _respond(self, request: Request) -> Response:
        assert request.ByteSize() <= 4 << 20
        response = Response(request_id=request.request_id)
        if request.HasField("lease"):
            self.log.leases.append({writer.hex() for writer in request.lease.writers})
        with self.log.lock:
            topics = set()
            for index, record in enumerate(request.records):
                data = record.compressed_points
                if data:
                    assert zlib.crc32(data) == record.crc32
                error = self.refuse(record)
                if error is not None:
                    error.record = index
                    response.errors.append(error)
                else:
                    topics.add(self.log.store(record))
            for topic in topics:
                response.positions.add(
                    topic=topic, partition=0, offset=self.log.offsets[topic], epoch=self.log.epoch
                )
        while self.commands:
            writer, run = self.commands.pop()
            response.commands.add(writer=writer, cancel_run=run)
        return response


class IngestServer:
    """The service on a port of this machine. Can be stopped and started again on the same log."""

    def __init__(self, log: Log | None = None, token: str | None = None, port: int = 0) -> None:
        self.log = log or Log()
        self.service = Ingest(self.log, token)
        self.port = port
        self._server: grpc.Server | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        pool = futures.ThreadPoolExecutor(16)
        self._server = grpc.server(
            pool, options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 16 << 20)]
        )
        ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(self.service, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    def __enter__(self) -> IngestServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.service.hold.set()
        self.stop()


def refusal(code: int, *, retryable: bool = False, reason: str = "no") -> error_pb2.RecordError:
    return error_pb2.RecordError(code=code, reason=reason, retryable=retryable)  # type: ignore[arg-type]


ZSTD = event_pb2.COMPRESSION_ZSTD
