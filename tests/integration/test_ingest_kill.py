"""kill -9 of the server in the middle of a stream: what was acknowledged is there, once."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest

from runstream.v1 import ingest_service_pb2, ingest_service_pb2_grpc, point_pb2
from tests.batches import Element, comparable, expected_rows, make_batch
from tests.pipeline import METADATA, PATIENCE_S, as_records, open_pipeline, pipeline

ROUNDS = 6
BATCHES = 4_000


def batch(n: int) -> point_pb2.PointBatch:
    """The n-th batch of a writer: among them repeated steps, equal points, blocks, texts and empty lists."""
    if n % 5 == 4:
        elements = [Element(n % 3 + 5, str(n), idx=i, step=n) for i in range(n % 4)] or [Element(7, None)]
    else:
        elements = [Element(1, float(i % 3), offset=i, step=i % 2) for i in range(1 + n % 40)]
    elements = [element for element in elements if element.kind != 6 or element.value.isdigit()]
    return make_batch(elements, first_seq=100 * n, writer=bytes([n % 2]) * 16)


class Server:
    """The process that is killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __aenter__(self) -> Server:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.ingest_process",
            str(self._folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            self.address = (await self._process.stdout.readline()).decode().strip()
        assert self.address, "the server did not start"
        return self

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    async def __aexit__(self, *exc: object) -> None:
        if self._process.returncode is None:
            await self.kill()


async def send(
    address: str, unacknowledged: list[int], acknowledged: set[int], enough: asyncio.Event
) -> None:
    """Sends batches until the server is gone; notes which it acknowledged."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = ingest_service_pb2_grpc.IngestServiceStub(channel)
        call = stub.Publish(metadata=METADATA)

        async def write() -> None:
            for n in unacknowledged:
                request = ingest_service_pb2.PublishRequest(request_id=n, records=as_records([batch(n)]))
                await call.write(request)

        writing = asyncio.create_task(write())
        try:
            while True:
                response = await call.read()
                assert isinstance(response, ingest_service_pb2.PublishResponse)
                assert not response.errors
                acknowledged.add(response.request_id)
                enough.set()
        except grpc.aio.AioRpcError:
            pass  # the server was killed
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


@pytest.mark.faults
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    random = Random(20261123)
    acknowledged: set[int] = set()
    for round_ in range(ROUNDS):
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(Server(tmp_path))
            left = [n for n in range(BATCHES) if n not in acknowledged]
            if round_ % 2:  # as a sender that did not hear the last answers, and more
                left = sorted({*left, *random.sample(sorted(acknowledged), len(acknowledged) // 3)})
            enough = asyncio.Event()
            sending = asyncio.create_task(send(server.address, left, acknowledged, enough))
            async with asyncio.timeout(PATIENCE_S):
                await enough.wait()
            await asyncio.sleep(random.uniform(0, 0.4))
            await server.kill()
            await sending
    assert len(acknowledged) > ROUNDS

    made = await open_pipeline(tmp_path)
    try:
        made.write()
        await made.serve()
        await made.applied(await made.publish_points(batch(BATCHES)))
        found = sorted(comparable(row) for row in await made.rows("points"))
    finally:
        await made.close()
    sent = {n: [comparable(row) for row in expected_rows(batch(n))] for n in range(BATCHES + 1)}
    wanted = {row for n in (*acknowledged, BATCHES) for row in sent[n]}
    possible = {row for rows in sent.values() for row in rows}
    assert len(found) == len(set(found))  # once
    assert wanted <= set(found)  # all
    assert set(found) <= possible  # and nothing else

    async with pipeline(tmp_path) as again:  # a further start finds nothing to do
        assert sorted(comparable(row) for row in await again.rows("points")) == found
