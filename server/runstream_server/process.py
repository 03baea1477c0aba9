"""A server process: its parts, and the order in which they start and end.

Parts start from the inside out (engines, writers, ports) and end in the opposite order: no new requests, no
more appends, the log into the tables, close. Whatever was acknowledged is in the event log, so an end at any
point loses nothing; the next start, or another writer, goes on from the positions in the tables.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import grpc.aio
from prometheus_client import REGISTRY

from runstream.home import files_socket
from runstream_ingest.chunk_service import SERVICE as CHUNK_SERVICE
from runstream_ingest.chunk_service import ChunkServicer, ChunkStats, add_chunk_service
from runstream_ingest.chunk_store import ChunkStore
from runstream_ingest.handover import Handover
from runstream_ingest.service import SERVICE as INGEST_SERVICE
from runstream_ingest.service import IngestServicer, IngestSettings, add_ingest_service
from runstream_ingest.writers.loop import WriterLoop
from runstream_query.access import Access
from runstream_query.http import build_app
from runstream_query.purger import Purger, PurgeSettings
from runstream_query.rpc import add_services
from runstream_query.settings import QuerySettings
from runstream_query.summariser import Summariser
from runstream_server import parts
from runstream_server.config import ServerConfig
from runstream_server.drain import wait_applied
from runstream_server.engines import Engines, open_engines
from runstream_server.errors import AddressTaken
from runstream_server.figures import Figures, ingest_figures, writer_figures
from runstream_server.identity import Identity
from runstream_server.lean import give_back
from runstream_server.listen import authority
from runstream_server.operations import operations_app
from runstream_server.roles import Part
from runstream_server.rpc import Activity, add_health, add_reflection, new_server, set_health
from runstream_server.web import App, WebServer
from runstream_store.errors import StoreError

_log = logging.getLogger("runstream.server")
_GRACE_S = 2.0  # for requests under way at the end
_CHECK_S = 5.0
_OF_FILES = ("runs", "artifacts")  # topics with what refers to files


class ServerProcess:
    """The parts of a role in this process. `start`, then `ended` or `stop`."""

    def __init__(
        self, config: ServerConfig, identity: Identity, grpc_port: int | None, http: socket.socket
    ) -> None:
        """`http` is bound and listens."""
        self._config = config
        self._parts = config.role.parts
        self._identity = identity
        self._grpc_port = grpc_port
        self._http = http
        self._closing = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: dict[str, WriterLoop[Any]] = {}
        self._activity = Activity()
        self._web: WebServer | None = None
        self._engines: Engines | None = None
        self.epoch = b""

    async def start(self) -> None:
        """Returns when it listens. After an exception, or when cancelled, `stop` closes what was opened."""
        engines = self._engines = await open_engines(self._config, self._closing)
        self.epoch = await engines.log.epoch("points")
        if Part.WRITER in self._parts:
            self._start_writers(engines)
        await self._start_ports(engines)

    def _start_writers(self, engines: Engines) -> None:
        summariser = Summariser(engines.tables, engines.hot)
        summarising = asyncio.create_task(summariser.run(), name="summaries")
        self._tasks.append(summarising)
        self._closing.push_async_callback(_cancel, summarising)  # after the writers, which wait for it
        consumers = []
        for sink in parts.sinks():
            writer = self._writers[sink.topic] = WriterLoop(
                engines.log, engines.tables, engines.hot, sink, derived=summariser
            )
            task = asyncio.create_task(writer.run(), name=f"writer-{sink.topic}")
            self._tasks.append(task)
            self._closing.push_async_callback(_stop_writer, writer, task)
            consumers.append((sink.consumer, sink.topic))
        Figures(writer_figures({topic: writer.stats for topic, writer in self._writers.items()}), REGISTRY)
        if Part.INGEST in self._parts:  # else others go on appending
            self._closing.push_async_callback(self._apply_rest, engines, consumers)

    async def _apply_rest(self, engines: Engines, consumers: Sequence[tuple[str, str]]) -> None:
        if not any(task.done() for task in self._tasks):  # a dead writer applies nothing
            await wait_applied(engines.log, engines.hot, consumers, self._config.drain_s)

    async def _start_ports(self, engines: Engines) -> None:
        server = new_server(self._activity)
        health = add_health(server)
        served: list[str] = []
        ingest = None
        if Part.INGEST in self._parts:
            ingest = self._add_ingest(server, engines)
            served += (INGEST_SERVICE, CHUNK_SERVICE)
        app: App
        if Part.QUERY in self._parts:
            queries = parts.queries(
                engines, QuerySettings(public_url=self._identity.http_url, hosts=self._identity.hosts)
            )
            shares = parts.shares(engines, queries)
            services = parts.services(engines, queries, shares)
            self._start_purger(engines)
            access = Access(self._identity.authenticator, shares)
            add_services(server, services, access)
            served += (service.descriptor.full_name for service in services)
            app = build_app(queries, services, access, parts.downloads(engines, queries, access))
        else:
            app = operations_app(self._wrong)
        self._web = WebServer(app, self._http)
        await self._web.start()
        self._closing.push_async_callback(self._web.stop, _GRACE_S)
        if self._grpc_port is not None:
            add_reflection(server, served)
            await self._listen(server, self._grpc_port)
        if ingest is not None:
            self._closing.push_async_callback(_drain, ingest)
        resting = asyncio.create_task(give_back(self._work), name="give-back")
        self._closing.callback(resting.cancel)
        await set_health(health, served)
        self._closing.push_async_callback(health.enter_graceful_shutdown)

    def _start_purger(self, engines: Engines) -> None:
        sinks = [(sink.consumer, sink.topic) for sink in parts.sinks() if sink.topic in _OF_FILES]
        applied = partial(wait_applied, engines.log, engines.hot, sinks)
        settings = PurgeSettings(after_s=self._config.purge_after_days * 86_400)
        purger = asyncio.create_task(
            Purger(engines.tables, engines.objects, settings, applied).run(), name="purger"
        )
        self._closing.push_async_callback(_cancel, purger)

    def _add_ingest(self, server: grpc.aio.Server, engines: Engines) -> IngestServicer:
        chunks = ChunkStore(engines.objects)
        ingest = IngestServicer(
            engines.log,
            self._identity.authenticator,
            IngestSettings(
                version=self._identity.version,
                http_url=self._identity.advertised_url,
                # Of the log that all ingest processes share: the same wherever a sender arrives.
                server_id=self.epoch,
            ),
            engines.hot,
            chunks,
        )
        self._closing.push_async_callback(ingest.close)
        chunk_servicer = ChunkServicer(chunks, self._identity.authenticator)
        Figures(ingest_figures(ingest.stats, chunk_servicer.stats), REGISTRY)
        add_ingest_service(server, ingest)
        add_chunk_service(server, chunk_servicer)
        self._take_files(chunks, chunk_servicer.stats)
        return ingest

    def _take_files(self, chunks: ChunkStore, stats: ChunkStats) -> None:
        """Files of senders on this machine, where that is of use and possible."""
        if not chunks.takes_files:
            return
        handover = Handover(chunks, stats, files_socket(self.epoch))
        try:
            handover.start()
        except OSError as error:
            _log.warning("files of this machine come by gRPC, which is slower", extra={"reason": error})
        else:
            self._closing.push_async_callback(handover.close)

    async def _listen(self, server: grpc.aio.Server, port: int) -> None:
        address = authority(self._config.host, port)
        try:
            server.add_insecure_port(address)
        except RuntimeError:  # taken since it was looked at
            raise AddressTaken(f"something else took {address} just now. Start again.") from None
        await server.start()
        self._closing.push_async_callback(server.stop, _GRACE_S)

    async def _wrong(self) -> str:
        """What keeps this process from its work; empty when nothing does."""
        paused = [f"{topic}: {w.stats.paused}" for topic, w in self._writers.items() if w.stats.paused]
        if paused:
            return "; ".join(paused)
        assert self._engines is not None
        try:
            async with asyncio.timeout(_CHECK_S):
                await self._engines.log.epoch("points")
        except StoreError as error:
            return f"the event log does not answer: {error}"
        except TimeoutError:
            return f"the event log does not answer within {_CHECK_S:.0f} s"
        return ""

    def _work(self) -> int:
        """A number that rises with all that is written and read."""
        written = sum(writer.stats.rows for writer in self._writers.values())
        return written + self._activity.calls + (self._web.requests if self._web else 0)

    async def ended(self) -> None:
        """Waits until a part ends by itself, which none should, and raises what it died of."""
        if not self._tasks:
            await asyncio.Event().wait()
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise RuntimeError(f"{next(iter(done)).get_name()} ended by itself")

    def idle_s(self) -> float:
        """Seconds since the last request ended; 0 while there is one."""
        web = self._web
        if web is None or web.busy or self._activity.busy:
            return 0.0
        return time.monotonic() - max(web.last_request, self._activity.last_call)

    async def stop(self) -> None:
        """Ends all parts. May be called after a failed start."""
        await self._closing.aclose()


async def _stop_writer(writer: WriterLoop[Any], task: asyncio.Task[None]) -> None:
    writer.stop()
    await asyncio.wait([task])


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _drain(ingest: IngestServicer) -> None:
    try:
        await asyncio.wait_for(ingest.drain(), _GRACE_S)
    except TimeoutError:
        _log.warning("requests under way are cut off; their senders send them again")
