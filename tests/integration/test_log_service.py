"""Logs over gRPC and HTTP: whatever is sent again, in whatever pieces, is read once and in order."""

from __future__ import annotations

import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote

import grpc
import pytest

from runstream.v1 import (
    error_pb2,
    ingest_service_pb2,
    ingest_service_pb2_grpc,
    log_pb2,
    log_service_pb2,
    log_service_pb2_grpc,
    point_pb2,
    run_pb2,
)
from tests.server import Place, Server

T0 = 1_700_000_000_000_000_000
PATH = "logs/user_log.txt"


@pytest.fixture(scope="module")
def server(host: Place) -> Server:
    return host.server


class Logs:
    """A program that writes and reads logs of a run of its own."""

    def __init__(self, server: Server) -> None:
        self.channel = grpc.insecure_channel(server.grpc)
        self.metadata = (("authorization", f"Bearer {server.token}"),)
        self.ingest = ingest_service_pb2_grpc.IngestServiceStub(self.channel)
        self.service = log_service_pb2_grpc.LogServiceStub(self.channel)
        self.run = point_pb2.RunRef(workspace="ws", run=f"run-{os.urandom(4).hex()}")
        self.main = os.urandom(16)
        self.event(1, run_started=run_pb2.RunStarted(experiment="e", launch="l"))

    def publish(self, **payload: object) -> list[error_pb2.RecordError]:
        record = ingest_service_pb2.PublishRecord(**payload)  # type: ignore[arg-type]
        request = ingest_service_pb2.PublishOnceRequest(records=[record])
        return list(self.ingest.PublishOnce(request, metadata=self.metadata).errors)

    def event(self, seq: int, **event: object) -> None:
        said = run_pb2.RunEvent(run=self.run, seq=seq, time_ns=T0, **event)  # type: ignore[arg-type]
        assert not self.publish(run_events=run_pb2.RunEventBatch(writer=self.main, events=[said]))

    def end(self) -> None:
        self.event(2, run_ended=run_pb2.RunEnded(status=run_pb2.RUN_STATUS_COMPLETED))
        self.event(0, writer_drained=run_pb2.WriterDrained(seq_end=3))

    def write(
        self, writer: bytes, *pieces: tuple[int, int, bytes], path: str = PATH, rank: int | None = None
    ) -> None:
        batch = log_pb2.LogBatch(
            writer=writer,
            run=self.run,
            path=path,
            rank=rank,
            pieces=[log_pb2.LogPiece(offset=o, time_ns=T0 + t, data=d) for o, t, d in pieces],
        )
        assert not self.publish(logs=batch)

    def read(self, **request: object) -> log_service_pb2.ReadLogResponse:
        wanted = log_service_pb2.ReadLogRequest(run=self.run, path=PATH)
        wanted.MergeFrom(log_service_pb2.ReadLogRequest(**request))  # type: ignore[arg-type]
        answer = self.service.ReadLog(wanted, metadata=self.metadata)
        assert isinstance(answer, log_service_pb2.ReadLogResponse)
        return answer

    def text(self, **request: object) -> bytes:
        return b"".join(part.data for part in self.read(**request).parts)

    def list(self) -> log_service_pb2.ListLogsResponse:
        wanted = log_service_pb2.ListLogsRequest(run=self.run)
        answer = self.service.ListLogs(wanted, metadata=self.metadata)
        assert isinstance(answer, log_service_pb2.ListLogsResponse)
        return answer


@pytest.fixture
def logs(server: Server) -> Iterator[Logs]:
    made = Logs(server)
    yield made
    made.channel.close()


W = [bytes([n]) * 16 for n in range(4)]


def test_pieces_that_come_again_are_read_once(logs: Logs) -> None:
    logs.write(W[0], (0, 0, b"one\n"), (4, 1, b"two\n"))
    for _ in range(2):
        logs.write(W[0], (4, 1, b"two\nthree\n"), (14, 2, b"four\n"))
        logs.write(W[0], (6, 1, b"o\nth"))
    assert logs.text() == b"one\ntwo\nthree\nfour\n"
    (found,) = logs.list().logs
    assert (found.path, found.size, found.writers) == (PATH, 19, 1)


def test_any_pieces_in_any_order_give_the_same_text(logs: Logs) -> None:
    seed = 20261126
    chance = random.Random(seed)
    content = b"".join(b"%06d\n" % n for n in range(300))
    cuts = [(chance.randrange(len(content)), chance.randrange(1, 200)) for _ in range(200)]
    cuts += [(at, 97) for at in range(0, len(content), 97)]
    chance.shuffle(cuts)
    for start in range(0, len(cuts), 40):
        pieces = {at: content[at : at + size] for at, size in cuts[start : start + 40]}
        logs.write(W[0], *[(at, at, pieces[at]) for at in sorted(pieces)])
    assert logs.text() == content
    for at in (0, 1, 7, 700, len(content) - 1, len(content), len(content) + 5):
        assert logs.text(offset=at) == content[at:], f"seed {seed}"
        assert logs.text(tail_bytes=at) == content[max(0, len(content) - at) :], f"seed {seed}"
    found, token = b"", ""
    while True:
        page = logs.read(page_bytes=100, page_token=token)
        found += b"".join(part.data for part in page.parts)
        token = page.next_page_token
        if not page.more:
            break
    assert found == content


def test_lines_of_several_writers_are_in_order_of_time(logs: Logs) -> None:
    logs.write(W[0], (0, 0, b"a0\n"), (3, 20, b"a1\n"), (6, 10, b"a2\n"), (1000, 50, b"a3\n"), rank=0)
    logs.write(W[1], (0, 5, b"b0\n"), (3, 15, b"b1\n"), (6, 40, b"b2\n"), rank=1)
    parts = logs.read().parts
    assert b"".join(part.data for part in parts) == b"a0\nb0\nb1\na1\na2\nb2\na3\n"
    assert [part.rank for part in parts] == [0, 1, 0, 1, 0]
    assert logs.text(ranks=[1]) == b"b0\nb1\nb2\n"
    assert logs.text(tail_lines=1) == b"a3\n"
    assert logs.text(tail_lines=4) == b"a1\na2\nb2\na3\n"
    assert logs.text(tail_lines=100) == b"a0\nb0\nb1\na1\na2\nb2\na3\n"
    assert logs.text(tail_bytes=7) == b"\nb2\na3\n"
    assert logs.text(offset=7) == b"1\na1\na2\nb2\na3\n"


def test_what_comes_late_is_not_passed_over(logs: Logs) -> None:
    logs.write(W[0], (0, 100, b"late clock\n"))
    first = logs.read()
    logs.write(W[1], (0, 1, b"earlier\n"))
    second = logs.read(page_token=first.next_page_token)
    assert [part.data for part in second.parts] == [b"earlier\n"]
    assert not logs.read(page_token=second.next_page_token).parts
    assert second.next_page_token


def test_bytes_are_bytes(logs: Logs) -> None:
    content = bytes(range(256)) * 40 + b"\x1b[31m\xff\xfe\0" + b"x" * 100_000
    logs.write(W[0], (0, 0, content))
    assert logs.text() == content


def test_a_follower_sees_lines_and_then_the_end(logs: Logs) -> None:
    seen: list[bytes] = []
    tokens: list[str] = []

    def follow() -> None:
        wanted = log_service_pb2.ReadLogRequest(run=logs.run, path=PATH)
        for message in logs.service.WatchLog(
            log_service_pb2.WatchLogRequest(request=wanted), metadata=logs.metadata, timeout=60
        ):
            seen.extend(part.data for part in message.parts)
            tokens.append(message.page_token)

    thread = threading.Thread(target=follow)
    thread.start()
    lines = [b"line %d\n" % n for n in range(5)]
    for number, line in enumerate(lines):
        logs.write(W[0], (number * 100, number, line))
        deadline = time.monotonic() + 60
        while b"".join(seen) != b"".join(lines[: number + 1]):
            assert time.monotonic() < deadline, seen
            time.sleep(0.01)
    assert not logs.list().ended
    logs.end()
    thread.join(60)
    assert not thread.is_alive()
    assert tokens[-1] == ""
    assert all(tokens[:-1])
    assert logs.list().ended
    assert logs.text(page_token=tokens[1]) == b"".join(lines[2:])
    last = logs.read()
    assert not logs.read(page_token=last.next_page_token, wait_ms=60_000).next_page_token


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"writer": b"short"}, "16 make one"),
        ({"path": "../escape"}, "empty part"),
        ({"path": "a\nb"}, "control character"),
        ({"pieces": []}, "pieces"),
        ({"pieces": [log_pb2.LogPiece(offset=0, data=b"")]}, "0 bytes"),
        ({"pieces": [log_pb2.LogPiece(offset=0, data=bytes((1 << 20) + 1))]}, "1,048,577"),
        ({"pieces": [log_pb2.LogPiece(offset=5, data=b"a"), log_pb2.LogPiece(offset=5, data=b"b")]}, "rise"),
    ],
)
def test_what_is_no_log_is_refused(logs: Logs, change: dict[str, object], says: str) -> None:
    usual: dict[str, object] = {
        "writer": W[0],
        "run": logs.run,
        "path": PATH,
        "pieces": [log_pb2.LogPiece(offset=0, time_ns=T0, data=b"x")],
    }
    (error,) = logs.publish(logs=log_pb2.LogBatch(**{**usual, **change}))  # type: ignore[arg-type]
    assert says in error.reason
    assert not error.retryable


def test_a_log_is_downloaded_over_http(server: Server, logs: Logs) -> None:
    path = "logs/a b/größe.txt"
    wild = b"<script>alert(1)</script>\n\xff\n" * 100_000  # several pages, and no UTF-8
    step = 1 << 19
    logs.write(W[0], *((at, at, wild[at : at + step]) for at in range(0, len(wild), step)), path=path)
    logs.list()  # waits until it is in the tables

    def get(path: str, token: str = server.token, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(
            f"{server.http}/w/ws/r/{path}", headers={"authorization": f"Bearer {token}"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {}, error.read()

    address = f"{logs.run.run}/logs/{quote(path)}"
    code, headers, body = get(address)
    assert (code, body) == (200, wild)
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["content-disposition"].startswith("inline")
    assert get(address + "?download")[1]["content-disposition"].startswith("attachment")
    assert get(address, method="HEAD")[::2] == (200, b"")
    assert get(address, token="wrong")[0] == 401
    code, _, body = get(f"{logs.run.run}/logs/logs/a")  # only the beginning of a path
    assert (code, b"has no log 'logs/a'" in body) == (404, True)
    assert get("nobody/logs/x")[0] == 404


def test_an_unknown_run_and_wrong_requests_are_errors(logs: Logs) -> None:
    def code(**request: object) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as caught:
            logs.read(**request)
        return caught.value.code()

    assert code(run=point_pb2.RunRef(run="nobody")) == grpc.StatusCode.NOT_FOUND
    assert code(page_bytes=1 << 30) == grpc.StatusCode.INVALID_ARGUMENT
    assert code(page_token="x") == grpc.StatusCode.INVALID_ARGUMENT
    assert code(wait_ms=10**9) == grpc.StatusCode.INVALID_ARGUMENT
    assert not logs.read().parts  # a log that is not there yet
