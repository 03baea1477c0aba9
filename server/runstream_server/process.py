"""A server process: its parts, and the order in which they start and end.

Parts start from the inside out (engines, writers, ports) and end in the opposite order: no new requests, no
more appends, the log into the tables, close. Whatever was acknowledged is in the event log, so an end at any
point loses nothing; the next start, or another writer, goes on from the positions in the tables.

What only some processes need is loaded by those: a writer that was killed is back the sooner.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from runstream_server.config import ServerConfig
from runstream_server.drain import wait_applied
from runstream_server.engines import Engines, open_engines
from runstream_server.identity import Identity
from runstream_server.lean import give_back
from runstream_server.operations import operations_app
from runstream_server.roles import Part
from runstream_server.web import App, WebServer
from runstream_store.errors import StoreError

if TYPE_CHECKING:
    from runstream_server.parts.ingest import IngestPart
    from runstream_server.parts.query import QueryPart
    from runstream_server.parts.writer import WriterPart
    from runstream_server.rpc import GrpcPort

_log = logging.getLogger("runstream.server")
_GRACE_S = 2.0  # for requests under way at the end
_CHECK_S = 5.0


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
        self._writer: WriterPart | None = None
        self._grpc: GrpcPort | None = None
        self._web: WebServer | None = None
        self._engines: Engines | None = None
        self.epoch = b""

    async def start(self) -> None:
        """Returns when it listens. After an exception, or when cancelled, `stop` closes what was opened."""
        engines = self._engines = await open_engines(self._config, self._closing)
        self.epoch = await engines.log.epoch("points")
        if Part.WRITER in self._parts:
            from runstream_server.parts.writer import WriterPart

            self._writer = WriterPart(engines, self._closing)
            if Part.INGEST in self._parts:  # else others go on appending
                self._closing.push_async_callback(self._apply_rest, engines, self._writer)
        await self._start_ports(engines)

    async def _apply_rest(self, engines: Engines, writer: WriterPart) -> None:
        if not any(task.done() for task in writer.tasks):  # a dead writer applies nothing
            await wait_applied(engines.log, engines.hot, writer.consumers, self._config.drain_s)

    async def _start_ports(self, engines: Engines) -> None:
        ingest: IngestPart | None = None
        if Part.INGEST in self._parts:
            from runstream_server.parts.ingest import IngestPart

            ingest = IngestPart(engines, self._identity, self.epoch, self._closing)
        query: QueryPart | None = None
        if Part.QUERY in self._parts:
            from runstream_server.parts.query import QueryPart

            query = QueryPart(engines, self._identity)
            query.start_purger(self._config.purge_after_days, self._closing)
        app: App = operations_app(self._wrong) if query is None else query.app()
        self._web = WebServer(app, self._http)
        await self._web.start()
        self._closing.push_async_callback(self._web.stop, _GRACE_S)
        if self._grpc_port is not None:
            from runstream_server.rpc import GrpcPort

            self._grpc = GrpcPort([part for part in (ingest, query) if part is not None])
            await self._grpc.start(self._config.host, self._grpc_port)
            self._closing.push_async_callback(self._grpc.stop, _GRACE_S)
        if ingest is not None:
            self._closing.push_async_callback(ingest.drain, _GRACE_S)
        resting = asyncio.create_task(give_back(self._work), name="give-back")
        self._closing.callback(resting.cancel)
        if self._grpc is not None:
            await self._grpc.say_ready()
            self._closing.push_async_callback(self._grpc.say_ending)

    async def _wrong(self) -> str:
        """What keeps this process from its work; empty when nothing does."""
        if self._writer is not None and (paused := self._writer.wrong()):
            return paused
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
        written = self._writer.rows if self._writer else 0
        calls = self._grpc.activity.calls if self._grpc else 0
        return written + calls + (self._web.requests if self._web else 0)

    async def ended(self) -> None:
        """Waits until a part ends by itself, which none should, and raises what it died of."""
        if self._writer is None:
            await asyncio.Event().wait()
            return
        done, _ = await asyncio.wait(self._writer.tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise RuntimeError(f"{next(iter(done)).get_name()} ended by itself")

    def idle_s(self) -> float:
        """Seconds since the last request ended; 0 while there is one."""
        web, grpc = self._web, self._grpc
        if web is None or grpc is None or web.busy or grpc.activity.busy:
            return 0.0
        return time.monotonic() - max(web.last_request, grpc.activity.last_call)

    async def stop(self) -> None:
        """Ends all parts. May be called after a failed start."""
        await self._closing.aclose()
