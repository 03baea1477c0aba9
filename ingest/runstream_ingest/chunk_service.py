"""ChunkService: takes the content of files, checks it, stores it.

A chunk is gathered in memory, its digest computed there, and then put under that digest: nothing is staged,
nothing read back, and nobody sees what is not what its name says. What is in memory is bounded for all
streams together; above that no stream is read.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from runstream.v1 import artifact_pb2, chunk_service_pb2, error_pb2
from runstream_ingest import limits, wire
from runstream_ingest.artifacts import check_chunk
from runstream_ingest.chunk_store import ChunkStore
from runstream_ingest.errors import RecordRefused, RequestMalformed, invalid, malformed, unavailable
from runstream_store.credentials import Authenticator
from runstream_store.errors import StoreError

logger = logging.getLogger(__name__)

SERVICE: Final = chunk_service_pb2.DESCRIPTOR.services_by_name["ChunkService"].full_name

_BUDGET_BYTES: Final = 96 * limits.MiB  # one of the largest, and many small ones
_FIND: Final = 1_000
_SILENCE_S: Final = 60.0  # in the middle of a chunk
_SMALL: Final = 64 << 10
_GROUP: Final = 1_000  # small chunks that are stored together
_UNDER_WAY: Final = 4  # groups of small chunks, or large ones, of one stream

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(slots=True)
class ChunkStats:
    """What the service has done since its start."""

    streams: int = 0
    """Open streams."""
    chunks: int = 0
    """Chunks that came whole and are stored."""
    bytes: int = 0
    """Bytes of them."""
    refused: int = 0
    """Chunks that were refused."""


class ChunkServicer:
    """Implements `runstream.v1.ChunkService` over serialized messages."""

    def __init__(self, chunks: ChunkStore, auth: Authenticator, *, budget_bytes: int = _BUDGET_BYTES) -> None:
        """`budget_bytes`: of chunks in memory."""
        self.stats = ChunkStats()
        self._chunks = chunks
        self._auth = auth
        self._budget = limits.ByteBudget(budget_bytes)

    async def find_chunks(self, data: bytes, context: Context) -> bytes:
        """Says which chunks are missing."""
        await self._enter(context)
        try:
            request = chunk_service_pb2.FindChunksRequest.FromString(data)
            if not 1 <= len(request.chunks) <= _FIND:
                raise invalid(f"{len(request.chunks):,} chunks; 1 to {_FIND:,} are taken")
            for chunk in request.chunks:
                check_chunk(chunk)
            missing = await self._chunks.missing(request.chunks)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a FindChunksRequest: {error}")
        except RecordRefused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.reason)
        except StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"the object storage does not answer: {error}")
        return chunk_service_pb2.FindChunksResponse(missing=missing).SerializeToString()

    async def put_chunks(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Stores the chunks of a stream."""
        await self._enter(context)
        stream = _Stream(self._chunks, self._budget, self.stats)
        reading = asyncio.create_task(stream.read(requests), name="put-chunks")
        self.stats.streams += 1
        try:
            while results := await stream.results():
                yield chunk_service_pb2.PutChunksResponse(results=results).SerializeToString()
            await reading
        except RequestMalformed as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"no part of a chunk came for {_SILENCE_S:.0f} s"
            )
        finally:
            self.stats.streams -= 1
            reading.cancel()
            stream.close()

    async def _enter(self, context: Context) -> None:
        for name, value in context.invocation_metadata() or ():
            if name == "authorization" and isinstance(value, str) and self._auth.authenticate(value):
                return
        await context.abort(
            grpc.StatusCode.UNAUTHENTICATED, "no such credential: send `authorization: Bearer`"
        )


class _Stream:
    """One PutChunks stream."""

    def __init__(self, chunks: ChunkStore, budget: limits.ByteBudget, stats: ChunkStats) -> None:
        self._chunks = chunks
        self._budget = budget
        self._stats = stats
        self._coming: _Coming | None = None
        self._results: asyncio.Queue[chunk_service_pb2.ChunkResult | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_UNDER_WAY)
        self._whole: list[_Coming] = []  # small ones, to be stored together
        self._storing: set[asyncio.Task[None]] = set()

    async def results(self) -> list[chunk_service_pb2.ChunkResult]:
        """What became of chunks since the last call; empty at the end."""
        first = await self._results.get()
        results = [] if first is None else [first]
        while first is not None and not self._results.empty():
            following = self._results.get_nowait()
            if following is None:
                self._results.put_nowait(None)
                break
            results.append(following)
        return results

    async def read(self, requests: AsyncIterator[bytes]) -> None:
        """Takes the stream's parts.

        :raises RequestMalformed: they are no parts of chunks.
        :raises TimeoutError: a chunk does not go on.
        """
        try:
            iterator = aiter(requests)
            while True:
                try:
                    async with asyncio.timeout(_SILENCE_S if self._coming else None):
                        data = await anext(iterator)
                except StopAsyncIteration:
                    break
                if len(data) > limits.REQUEST_BYTES + _SMALL:
                    raise RequestMalformed(f"a request of {len(data):,} bytes; 4 MiB are taken")
                for part in _parts(data):
                    await self._take(part)
                await self._store_whole()
            if self._coming is not None:
                raise RequestMalformed("the stream ended in the middle of a chunk")
            if self._storing:
                await asyncio.wait(self._storing)
        finally:
            self._results.put_nowait(None)

    async def _take(self, part: _Part) -> None:
        coming = self._coming
        if coming is None:
            try:
                check_chunk(part.chunk)
            except RecordRefused as error:
                raise RequestMalformed(error.reason) from None
            if not self._budget.take_now(part.chunk.size):
                await self._store_whole()  # who waits for bytes must not keep those that others wait for
                await self._budget.take(part.chunk.size)
            self._coming = coming = _Coming(part.chunk)
        coming.add(part)
        if coming.whole:
            self._coming = None
            self._whole.append(coming)
            if coming.chunk.size > _SMALL or len(self._whole) >= _GROUP:
                await self._store_whole()

    async def _store_whole(self) -> None:
        """Begins to store what is whole."""
        if self._whole:
            await self._room.acquire()  # they are given back by `close` when the stream ends meanwhile
            whole, self._whole = self._whole, []
            task = asyncio.create_task(self._store(whole), name="store-chunks")
            self._storing.add(task)
            task.add_done_callback(self._storing.discard)

    async def _store(self, whole: list[_Coming]) -> None:
        results = [chunk_service_pb2.ChunkResult(sha256=coming.chunk.sha256) for coming in whole]
        size = sum(coming.chunk.size for coming in whole)
        try:
            digests = (
                [c.digest() for c in whole] if size <= _SMALL else await asyncio.to_thread(_digests, whole)
            )
            good = []
            for coming, result, digest in zip(whole, results, digests, strict=True):
                if digest == coming.chunk.sha256:
                    good.append(coming)
                else:  # its name says what it should be
                    damaged = "the bytes have another digest: damaged on the way, send them again"
                    _refuse(result, malformed(damaged))
            await self._chunks.put([(coming.chunk.sha256, coming.data) for coming in good])
            self._stats.chunks += len(good)
            self._stats.bytes += sum(coming.chunk.size for coming in good)
        except StoreError as error:
            logger.warning("chunks could not be stored: %s", error)
            for result in results:
                _refuse(result, unavailable(f"the object storage takes nothing now: {error}"))
        except Exception as error:  # a fault of ours: the client keeps the file until it is repaired
            logger.exception("chunks could not be stored")
            for result in results:
                _refuse(result, unavailable(f"the server failed at this chunk: {error!r}"))
        finally:
            self._room.release()
            self._budget.give(size)
        self._stats.refused += sum(r.code != error_pb2.ERROR_CODE_UNSPECIFIED for r in results)
        for result in results:
            self._results.put_nowait(result)

    def close(self) -> None:
        """Gives back what unfinished chunks hold. What is being stored goes on."""
        coming = [*self._whole, *([self._coming] if self._coming else [])]
        self._budget.give(sum(one.chunk.size for one in coming))
        self._coming, self._whole = None, []


@dataclass(frozen=True, slots=True)
class _Part:
    """Some bytes of a chunk."""

    chunk: artifact_pb2.Chunk
    offset: int
    data: wire.Buffer


def _parts(data: bytes) -> list[_Part]:
    """The parts of a PutChunksRequest. Large ones are not copied.

    :raises RequestMalformed: it is none.
    """
    found = []
    try:
        if len(data) < _SMALL:
            request = chunk_service_pb2.PutChunksRequest.FromString(data)
            return [_Part(part.chunk, part.offset, part.data) for part in request.parts]
        for number, content in wire.views(data):
            if number == 1:
                split = wire.trailing(content, 3)
                head, rest = split if split is not None else (content, None)
                part = chunk_service_pb2.ChunkPart.FromString(bytes(head))
                found.append(_Part(part.chunk, part.offset, part.data if rest is None else rest))
    except (DecodeError, wire.WireError) as error:
        raise RequestMalformed(f"not a PutChunksRequest: {error}") from None
    return found


class _Coming:
    """A chunk that is being gathered."""

    def __init__(self, chunk: artifact_pb2.Chunk) -> None:
        self.chunk = chunk
        self.data = bytearray(chunk.size)
        self._filled = 0

    def add(self, part: _Part) -> None:
        """Takes the next part.

        :raises RequestMalformed: it is not the next one.
        """
        data = part.data
        if part.chunk != self.chunk or part.offset != self._filled or not data:
            name = self.chunk.sha256.hex()
            raise RequestMalformed(f"parts of a chunk come in order: expected {name} at {self._filled:,}")
        end = self._filled + len(data)
        if end > self.chunk.size:
            raise RequestMalformed(f"chunk {self.chunk.sha256.hex()} has more bytes than its size")
        self.data[self._filled : end] = data
        self._filled = end

    @property
    def whole(self) -> bool:
        """Whether all parts are there."""
        return self._filled == self.chunk.size

    def digest(self) -> bytes:
        """Of what came."""
        return hashlib.sha256(self.data).digest()


def _digests(whole: list[_Coming]) -> list[bytes]:
    return [coming.digest() for coming in whole]


def _refuse(result: chunk_service_pb2.ChunkResult, why: RecordRefused) -> None:
    result.code, result.reason, result.retryable = why.code, why.reason, True


def add_chunk_service(server: grpc.aio.Server, servicer: ChunkServicer) -> None:
    """Registers the service, beside IngestService."""
    handlers: dict[str, Any] = {
        "FindChunks": grpc.unary_unary_rpc_method_handler(servicer.find_chunks),
        "PutChunks": grpc.stream_stream_rpc_method_handler(servicer.put_chunks),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
