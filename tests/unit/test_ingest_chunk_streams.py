"""Streams of chunks that break: what they hold of the byte budget that all streams share is given back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence

from runstream.v1 import artifact_pb2, chunk_service_pb2
from runstream_ingest.chunk_service import _UNDER_WAY, ChunkStats, _Stream
from runstream_ingest.chunk_store import ChunkStore
from runstream_ingest.limits import ByteBudget
from runstream_store.objects import Buffer

SIZE = 100


class Stuck(ChunkStore):
    """Stores nothing until it may."""

    def __init__(self) -> None:
        self.free = asyncio.Event()

    async def put(self, chunks: Sequence[tuple[bytes, Buffer]]) -> None:
        await self.free.wait()


async def requests(count: int) -> AsyncIterator[bytes]:
    """Small chunks, each in a request of its own, and then silence."""
    for number in range(count):
        data = bytes([number]) * SIZE
        chunk = artifact_pb2.Chunk(sha256=hashlib.sha256(data).digest(), size=SIZE)
        part = chunk_service_pb2.ChunkPart(chunk=chunk, data=data)
        yield chunk_service_pb2.PutChunksRequest(parts=[part]).SerializeToString()
    await asyncio.Event().wait()


async def test_a_stream_that_breaks_while_its_chunks_wait_for_others_gives_their_bytes_back() -> None:
    store, budget = Stuck(), ByteBudget(1 << 20)
    stream = _Stream(store, budget, ChunkStats())
    reading = asyncio.create_task(stream.read(requests(_UNDER_WAY + 2)))
    async with asyncio.timeout(60):
        while budget.used < (_UNDER_WAY + 1) * SIZE:  # noqa: ASYNC110  (nobody tells of a change)
            await asyncio.sleep(0)
        for _ in range(10):  # the one beyond those under way waits for its turn
            await asyncio.sleep(0)
        reading.cancel()
        stream.close()
        await asyncio.gather(reading, return_exceptions=True)
        assert budget.used == _UNDER_WAY * SIZE
        store.free.set()
        await asyncio.wait(list(stream._storing))
    assert budget.used == 0
