"""IngestService: checks what comes, makes it durable in the event log, answers in order.

Requests are handled as bytes, since the generated classes would touch every element. Many requests of a
stream are under way at the same time; their appends share the log's commits. Above the byte budget no stream
is read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import grpc

from runstream.v1 import error_pb2, ingest_service_pb2, run_pb2
from runstream_ingest import limits
from runstream_ingest.artifacts import decode_manifest
from runstream_ingest.chunk_store import ChunkStore
from runstream_ingest.commands import Commands, Mailbox
from runstream_ingest.envelope import (
    Accepted,
    Incoming,
    Request,
    accept,
    check_size,
    decode_once_request,
    decode_request,
)
from runstream_ingest.errors import RecordRefused, RequestMalformed, too_large, unavailable, unsupported
from runstream_store.credentials import Authenticator, Principal
from runstream_store.errors import RecordTooLarge, StoreError
from runstream_store.hot import HotState
from runstream_store.log import EventLog
from runstream_store.position import Position

logger = logging.getLogger(__name__)

SERVICE: Final = ingest_service_pb2.DESCRIPTOR.services_by_name["IngestService"].full_name

GRPC_OPTIONS: Final = (
    # Beyond REQUEST_BYTES a request is answered with typed errors; only beyond this the stream ends.
    ("grpc.max_receive_message_length", 4 * limits.REQUEST_BYTES),
)
"""What the gRPC server must be made with."""

Context = grpc.aio.ServicerContext[bytes, bytes]

_UNAUTHENTICATED: Final = (
    "no such credential: send `authorization: Bearer <token>` "
    "with the token of this server or with one of its API keys"
)
_DRAINING: Final = "the server is shutting down: connect again"


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How the ingest service behaves."""

    version: str = ""
    """Version of runstream that clients are told."""
    http_url: str = ""
    """Base address of the HTTP port that clients are told; empty when there is none."""
    server_id: bytes = b""
    """Identity of the server's data that clients are told: 16 bytes."""
    budget_bytes: int = 64 * limits.MiB
    """Requests in memory, for all streams together."""
    stream_requests: int = 64
    """Requests of one stream that may be under way."""
    failure_pause_s: float = 0.25
    """How long an answer waits after the event log has failed, so that no client retries without a pause."""


@dataclass(slots=True)
class IngestStats:
    """What the service has done since its start."""

    streams: int = 0
    """Open streams."""
    requests: int = 0
    records: int = 0
    """Records that were acknowledged."""
    bytes: int = 0
    """Bytes of all requests."""
    refused: int = 0
    """Records that were refused for good."""
    postponed: int = 0
    """Records that the sender was asked to send again."""


class IngestServicer:
    """Implements `runstream.v1.IngestService` over serialized messages."""

    def __init__(
        self,
        log: EventLog,
        auth: Authenticator,
        settings: IngestSettings,
        hot: HotState,
        chunks: ChunkStore | None = None,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.stats = IngestStats()
        self._log = log
        self._auth = auth
        self._settings = settings
        self._hot = hot
        self._chunks = chunks
        self._clock_ns = clock_ns
        self._budget = limits.ByteBudget(settings.budget_bytes)
        self._commands = Commands(hot)
        self._draining = asyncio.Event()
        self._working: set[asyncio.Task[ingest_service_pb2.PublishResponse]] = set()

    async def publish(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Answers a stream of requests, in order."""
        token, principal = await self._enter(context)
        mailbox = self._commands.open_mailbox()
        answers: asyncio.Queue[asyncio.Task[ingest_service_pb2.PublishResponse] | None] = asyncio.Queue()
        room = asyncio.Semaphore(self._settings.stream_requests)

        async def read() -> None:
            try:
                async for data in requests:
                    if self._auth.who(token) is None:
                        return
                    await room.acquire()
                    await self._budget.take(len(data))
                    answers.put_nowait(self._start(data, principal, mailbox))
            finally:
                answers.put_nowait(None)

        reading = asyncio.create_task(read(), name="publish")
        reading.add_done_callback(_look)
        stopping = asyncio.create_task(self._draining.wait())
        stopping.add_done_callback(lambda _: reading.cancel())
        self.stats.streams += 1
        first = True
        try:
            while (answer := await answers.get()) is not None:
                response = await asyncio.shield(answer)  # what was begun is finished
                room.release()
                if first:
                    response.server.CopyFrom(self._server())
                    first = False
                yield response.SerializeToString()
        except RequestMalformed as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            self.stats.streams -= 1
            mailbox.close()
            stopping.cancel()
            reading.cancel()
        if self._draining.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, _DRAINING)
        if self._auth.who(token) is None:  # revoked meanwhile
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, _UNAUTHENTICATED)

    async def publish_once(self, data: bytes, context: Context) -> bytes:
        """Answers one request."""
        _, principal = await self._enter(context)
        await self._budget.take(len(data))
        try:
            request = decode_once_request(data)
            response = await self._answer(request, principal)
        except RequestMalformed as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            self._budget.give(len(data))
        return ingest_service_pb2.PublishOnceResponse(
            positions=response.positions, errors=response.errors
        ).SerializeToString()

    async def drain(self) -> None:
        """Takes no more requests, and waits until all that came are answered.

        The streams end with UNAVAILABLE after their last answer. Stop the gRPC server afterwards.
        """
        self._draining.set()
        while self._working or self.stats.streams:  # noqa: ASYNC110  (two counts; this is no hot path)
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Frees what the service holds. Call it after `drain`, or when that took too long."""
        self._draining.set()
        await self._commands.close()

    async def _enter(self, context: Context) -> tuple[str, Principal]:
        """Lets a call in: its token and whose that is."""
        if self._draining.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, _DRAINING)
        for name, value in context.invocation_metadata() or ():
            if name == "authorization" and isinstance(value, str):
                principal = self._auth.authenticate(value)
                if principal is not None:
                    return value.partition(" ")[2].strip(), principal
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, _UNAUTHENTICATED)
        raise AssertionError  # abort raises

    def _server(self) -> ingest_service_pb2.ServerInfo:
        settings = self._settings
        return ingest_service_pb2.ServerInfo(
            version=settings.version, http_url=settings.http_url, server_id=settings.server_id
        )

    def _start(
        self, data: bytes, principal: Principal, mailbox: Mailbox
    ) -> asyncio.Task[ingest_service_pb2.PublishResponse]:
        """Begins the work on a request, whose bytes are in the budget. It goes on when the stream breaks."""
        task = asyncio.create_task(self._work(data, principal, mailbox), name="request")
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        task.add_done_callback(_look)
        return task

    async def _work(
        self, data: bytes, principal: Principal, mailbox: Mailbox
    ) -> ingest_service_pb2.PublishResponse:
        try:
            request = decode_request(data)
            response = await self._answer(request, principal)
            if request.lease is not None:
                writers = [w for w in request.lease.writers[: limits.LEASES] if len(w) == 16]
                await self._hot.renew_leases(writers, self._clock_ns())
                mailbox.serve(writers)
            response.commands.extend(mailbox.take())
            return response
        finally:
            self._budget.give(len(data))

    async def _answer(self, request: Request, principal: Principal) -> ingest_service_pb2.PublishResponse:
        """Does what a request asks. Never raises because of a record."""
        response = ingest_service_pb2.PublishResponse(request_id=request.request_id)
        refused: dict[int, RecordRefused] = {}
        topics: dict[str, list[tuple[int, Accepted]]] = {}
        problem = check_size(request)
        for index, incoming in enumerate(request.records):
            try:
                if problem is not None:
                    raise problem
                accepted = await self._accept(incoming, principal)
                topics.setdefault(accepted.topic, []).append((index, accepted))
            except RecordRefused as error:
                refused[index] = error
        for positions, failed in await asyncio.gather(*(self._append(*topic) for topic in topics.items())):
            response.positions.extend(_last(positions))
            refused.update(failed)
        if any(error.retryable for error in refused.values()) and not self._draining.is_set():
            await asyncio.sleep(self._settings.failure_pause_s)
        for index, why in sorted(refused.items()):
            response.errors.append(
                error_pb2.RecordError(record=index, code=why.code, reason=why.reason, retryable=why.retryable)
            )
        self._count(request, refused.values())
        return response

    async def _accept(self, incoming: Incoming, principal: Principal) -> Accepted:
        now, most = self._clock_ns(), self._log.capabilities.max_record_bytes
        try:
            if incoming.kind == "compressed_points":  # takes milliseconds, and more for a bomb
                return await asyncio.to_thread(
                    accept, incoming, received_time_ns=now, principal=principal.name, most=most
                )
            accepted = accept(incoming, received_time_ns=now, principal=principal.name, most=most)
            if incoming.kind == "artifact":
                await self._require_chunks(incoming.payload)
            return accepted
        except RecordRefused:
            raise
        except Exception as error:  # a fault of ours: the client keeps the record until it is repaired
            logger.exception("a record could not be checked")
            raise unavailable(f"the server failed at this record: {error!r}") from error

    async def _require_chunks(self, payload: bytes) -> None:
        """What is listed can be read: a manifest is taken when all its chunks are stored."""
        if self._chunks is None:
            raise unsupported("this server keeps no files")
        try:
            await self._chunks.require(decode_manifest(payload))
        except StoreError as error:
            raise unavailable(f"the object storage does not answer: {error}") from error

    async def _append(
        self, topic: str, items: list[tuple[int, Accepted]]
    ) -> tuple[list[Position], dict[int, RecordRefused]]:
        """Appends records; where they are, or why they are not there."""
        try:
            return await self._log.append(topic, [accepted.record for _, accepted in items]), {}
        except RecordTooLarge as error:
            return [], {index: too_large(str(error)) for index, _ in items}
        except StoreError as error:
            logger.warning("topic %s: %s", topic, error)
            return [], {index: unavailable(f"the event log takes nothing now: {error}") for index, _ in items}

    def _count(self, request: Request, refused: Iterable[RecordRefused]) -> None:
        stats = self.stats
        stats.requests += 1
        stats.bytes += request.size
        stats.records += len(request.records)
        for error in refused:
            stats.records -= 1
            if error.retryable:
                stats.postponed += 1
            else:
                stats.refused += 1


def add_ingest_service(server: grpc.aio.Server, servicer: IngestServicer) -> None:
    """Registers the service. The server must be made with `GRPC_OPTIONS`."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Publish": grpc.stream_stream_rpc_method_handler(servicer.publish),
        "PublishOnce": grpc.unary_unary_rpc_method_handler(servicer.publish_once),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def _look(task: asyncio.Task[Any]) -> None:
    """Takes note of a task's exception, which is told to the stream if that still listens."""
    if not task.cancelled():
        task.exception()


def _last(positions: list[Position]) -> list[run_pb2.LogPosition]:
    """The last position in each partition."""
    last: dict[tuple[str, int], Position] = {}
    for position in positions:
        place = (position.topic, position.partition)
        if place not in last or last[place].offset < position.offset:
            last[place] = position
    return [log_position(position) for position in last.values()]


def log_position(position: Position) -> run_pb2.LogPosition:
    """A position as it is sent."""
    return run_pb2.LogPosition(
        topic=position.topic,
        partition=position.partition,
        offset=position.offset,
        epoch=position.epoch,
    )
