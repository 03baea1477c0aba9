"""The ingest port: who is let in, what is refused and how, and that nobody is harmed by what others send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from runstream.v1 import error_pb2, ingest_service_pb2, point_pb2
from runstream_ingest import limits
from runstream_ingest.commands import send_command
from runstream_store.errors import LogFull, LogUnavailable
from runstream_store.log import EventLog
from tests.batches import WRITER, Element, make_batch
from tests.faulty import FaultyLog
from tests.pipeline import METADATA, Pipeline, as_records, pipeline, until

pytestmark = pytest.mark.usefixtures("kept_tables")

REQUEST = ingest_service_pb2.PublishRequest
RECORD = ingest_service_pb2.PublishRecord
METHOD = "/runstream.v1.IngestService/Publish"


def points(seq: int = 0, count: int = 1) -> point_pb2.PointBatch:
    return make_batch([Element(offset=i, value=float(i)) for i in range(count)], first_seq=seq)


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Pipeline]:
    async with pipeline(tmp_path) as made:
        yield made


async def status(awaitable: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value.code(), caught.value.details() or ""


async def alive(made: Pipeline) -> None:
    await made.applied(await made.publish_points(points(seq=10**6)))


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer wrong"),),
        (("authorization", "Basic token-of-the-tests"),),
        (("authorization", "token-of-the-tests"),),
        (("x-authorization", "Bearer token-of-the-tests"),),
    ],
)
async def test_without_the_right_token_nobody_gets_in(
    made: Pipeline, metadata: tuple[tuple[str, str], ...]
) -> None:
    call = made.stub.Publish(metadata=metadata)
    code, _ = await status(call.read())
    assert code == grpc.StatusCode.UNAUTHENTICATED
    once = ingest_service_pb2.PublishOnceRequest(records=as_records([points()]))
    code, details = await status(made.stub.PublishOnce(once, metadata=metadata))
    assert code == grpc.StatusCode.UNAUTHENTICATED
    assert "Bearer" in details
    epoch = await made.log.epoch("points")
    assert epoch
    assert await made.log.bounds("points", 0) == (0, 0)


async def test_an_api_key_gets_in_until_it_is_revoked(made: Pipeline) -> None:
    token = made.keys.add("laptop")
    metadata = (("authorization", f"Bearer {token}"),)
    await until(lambda: asyncio.to_thread(lambda: made.servicer._auth.who(token)), "the key to be known")
    call = made.stub.Publish(metadata=metadata)
    await call.write(REQUEST(request_id=1, records=as_records([points()])))
    assert cast(ingest_service_pb2.PublishResponse, await call.read()).request_id == 1
    made.keys.revoke("laptop")
    await until(lambda: asyncio.to_thread(lambda: made.servicer._auth.who(token) is None), "the revocation")
    await call.write(REQUEST(request_id=2, records=as_records([points()])))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert (await made.log.bounds("points", 0))[1] == 1


async def test_one_request_can_be_sent_alone(made: Pipeline) -> None:
    wrong = points()
    wrong.writer = b"?"
    request = ingest_service_pb2.PublishOnceRequest(records=as_records([points(), wrong, points(1)]))
    response = await made.stub.PublishOnce(request, metadata=METADATA)
    assert [(error.record, error.code) for error in response.errors] == [(1, error_pb2.ERROR_CODE_INVALID)]
    assert [(p.topic, p.partition, p.offset) for p in response.positions] == [("points", 0, 1)]


async def test_a_refused_record_leaves_the_others_and_the_stream_alone(made: Pipeline) -> None:
    call: Any = made.channel.stream_stream(METHOD)(metadata=METADATA)
    response = ingest_service_pb2.PublishResponse()
    garbage = [b"\xff\xff\xff", b"", b"\x0a\x10" + WRITER, points().SerializeToString()[:-4]]
    for n, content in enumerate(garbage):
        record = b"\x0a" + bytes([len(content)]) + content  # PublishRecord.points
        request = REQUEST(request_id=n, records=as_records([points(2 * n)])).SerializeToString()
        request += b"\x12" + bytes([len(record)]) + record
        request += REQUEST(records=as_records([points(2 * n + 1)])).SerializeToString()
        await call.write(request)
        response = ingest_service_pb2.PublishResponse.FromString(await call.read())
        assert response.request_id == n
        (error,) = response.errors
        assert error.record == 1
        assert error.code in (error_pb2.ERROR_CODE_MALFORMED, error_pb2.ERROR_CODE_INVALID)
        assert error.reason
        assert not error.retryable
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF
    await made.applied(response)
    assert len(await made.rows("points")) == 2 * len(garbage)


async def test_what_is_no_request_ends_its_own_stream_only(made: Pipeline) -> None:
    other = made.stub.Publish(metadata=METADATA)
    await other.write(REQUEST(request_id=1))
    await other.read()
    call: Any = made.channel.stream_stream(METHOD)(metadata=METADATA)
    await call.write(b"\xff\xff\xff\xff")
    code, details = await status(call.read())
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "PublishRequest" in details
    await other.write(REQUEST(request_id=2, records=as_records([points()])))
    assert cast(ingest_service_pb2.PublishResponse, await other.read()).positions[0].offset == 0
    other.cancel()


async def test_a_request_that_is_too_large_is_told_so(made: Pipeline) -> None:
    large = points(count=limits.REQUEST_BYTES // 24)
    call = made.stub.Publish(metadata=METADATA)
    await call.write(REQUEST(request_id=1, records=as_records([large, large])))
    response = cast(ingest_service_pb2.PublishResponse, await call.read())
    assert [(error.record, error.code, error.retryable) for error in response.errors] == [
        (0, error_pb2.ERROR_CODE_TOO_LARGE, False),
        (1, error_pb2.ERROR_CODE_TOO_LARGE, False),
    ]
    assert "4,194,304" in response.errors[0].reason
    await call.write(REQUEST(request_id=2, records=as_records([points()])))
    assert not cast(ingest_service_pb2.PublishResponse, await call.read()).errors
    await call.write(REQUEST(request_id=3, records=as_records([large] * 7)))
    code, _ = await status(call.read())
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    await alive(made)


async def test_garbage_on_the_port_harms_nobody(made: Pipeline) -> None:
    host, port = made.address.split(":")
    stream = made.stub.Publish(metadata=METADATA)
    await stream.write(REQUEST(request_id=1))
    await stream.read()
    for garbage in (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(range(256)) * 200,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 5000,
        b"",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(garbage)
        if not garbage:
            writer.write_eof()
        try:
            async with asyncio.timeout(5):
                await reader.read()
        except (TimeoutError, ConnectionError):
            pass
        writer.close()
    await stream.write(REQUEST(request_id=2, records=as_records([points()])))
    assert cast(ingest_service_pb2.PublishResponse, await stream.read()).request_id == 2
    stream.cancel()
    await alive(made)


async def test_leases_are_renewed_and_commands_come_with_the_next_answer(made: Pipeline) -> None:
    other = bytes(16)
    call = made.stub.Publish(metadata=METADATA)
    lease = ingest_service_pb2.Lease(writers=[WRITER, b"no writer"])
    await call.write(REQUEST(request_id=1, lease=lease))
    assert not cast(ingest_service_pb2.PublishResponse, await call.read()).commands
    later = time.time_ns() + 15 * 10**9
    assert await made.hot.lease_alive([WRITER], later) == [True]
    for writer in other, WRITER:
        command = ingest_service_pb2.Command(writer=writer, cancel_run="run")
        await send_command(made.hot, command)
    await made.hot.publish("commands", b"\xff")
    await asyncio.sleep(0.05)
    await call.write(REQUEST(request_id=2))
    response = cast(ingest_service_pb2.PublishResponse, await call.read())
    assert [(command.writer, command.cancel_run) for command in response.commands] == [(WRITER, "run")]
    await call.write(REQUEST(request_id=3))
    assert not cast(ingest_service_pb2.PublishResponse, await call.read()).commands
    await call.done_writing()


@asynccontextmanager
async def faulty(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Pipeline, FaultyLog]]:
    """A pipeline without writers, over a log that fails."""
    logs: list[FaultyLog] = []

    def change(made: Pipeline) -> None:
        logs.append(FaultyLog(made.log))
        made.log = cast(EventLog, logs[0])
        made.ingest_settings = replace(made.ingest_settings, **settings)

    async with pipeline(tmp_path, change, write=False) as made:
        try:
            yield made, logs[0]
        finally:
            logs[0].open.set()


@pytest.mark.parametrize("failure", [LogFull("no space"), LogUnavailable("gone")])
async def test_a_log_that_takes_nothing_is_told_as_retryable(tmp_path: Path, failure: Exception) -> None:
    async with faulty(tmp_path) as (made, log):
        log.failure = failure
        wrong = points()
        wrong.writer = b"?"
        response = await made.publish(*as_records([points(), wrong]))
        assert [(error.code, error.retryable) for error in response.errors] == [
            (error_pb2.ERROR_CODE_UNAVAILABLE, True),
            (error_pb2.ERROR_CODE_INVALID, False),
        ]
        assert str(failure) in response.errors[0].reason
        assert not response.positions
        log.failure = None
        assert (await made.publish_points(points())).positions


async def test_above_the_budget_no_stream_is_read(tmp_path: Path) -> None:
    size = 100_000
    async with faulty(tmp_path, budget_bytes=5 * size) as (made, log):
        log.open.clear()
        calls = [made.stub.Publish(metadata=METADATA) for _ in range(3)]
        batch = points(count=size // 20)

        async def send(call: Any) -> None:
            for n in range(20):
                await call.write(REQUEST(request_id=n, records=as_records([batch])))
            await call.done_writing()

        sending = [asyncio.create_task(send(call)) for call in calls]
        await until(lambda: asyncio.sleep(0, log.waiting >= 3), "appends under way")
        await asyncio.sleep(0.2)
        assert log.waiting <= 6  # of 80 kB
        assert made.servicer._budget.used <= 5 * size
        log.open.set()
        answers = [[response.request_id async for response in call] for call in calls]
        await asyncio.gather(*sending)
        assert answers == [list(range(20))] * 3
        assert made.servicer._budget.used == 0


async def test_a_drain_answers_what_came_and_takes_no_more(tmp_path: Path) -> None:
    async with faulty(tmp_path) as (made, log):
        log.open.clear()
        call = made.stub.Publish(metadata=METADATA)
        idle = made.stub.Publish(metadata=METADATA)
        await idle.write(REQUEST(request_id=1))
        await idle.read()
        for n in range(5):
            await call.write(REQUEST(request_id=n, records=as_records([points(n)])))
        await until(lambda: asyncio.sleep(0, log.waiting == 5), "appends under way")
        draining = asyncio.create_task(made.servicer.drain())
        await asyncio.sleep(0.05)
        assert not draining.done()
        code, _ = await status(made.publish_points(points()))
        assert code == grpc.StatusCode.UNAVAILABLE
        log.open.set()
        responses = [cast(ingest_service_pb2.PublishResponse, await call.read()) for _ in range(5)]
        assert [response.request_id for response in responses] == [0, 1, 2, 3, 4]
        assert all(response.positions for response in responses)
        for stream in call, idle:
            code, details = await status(stream.read())
            assert code == grpc.StatusCode.UNAVAILABLE
            assert "connect again" in details
        await draining


async def test_a_client_that_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    async with faulty(tmp_path) as (made, log):
        log.open.clear()
        call = made.stub.Publish(metadata=METADATA)
        await call.write(REQUEST(request_id=1, records=as_records([points()])))
        await until(lambda: asyncio.sleep(0, log.waiting == 1), "the append")
        call.cancel()
        await until(lambda: asyncio.sleep(0, made.servicer.stats.streams == 0), "the stream's end")
        log.open.set()
        await until(lambda: asyncio.sleep(0, made.servicer._budget.used == 0), "the request's end")
        assert (await made.log.bounds("points", 0))[1] == 1
