"""The parts of the one-process server, and the order in which they start and end.

Parts start from the inside out (engines, writers, ports) and end in the opposite order: no new requests, no
more appends, the log into the tables, close. Whatever was acknowledged is in the event log, so an end at any
point loses nothing; the next start goes on from the positions in the tables.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import REGISTRY

from runstream_ingest.service import IngestServicer, IngestSettings, add_ingest_service
from runstream_ingest.writers.loop import WriterLoop
from runstream_ingest.writers.points import PointsSink
from runstream_ingest.writers.runs import RunsSink
from runstream_query.access import Access
from runstream_query.http import build_app
from runstream_query.rpc import add_services
from runstream_query.service import QueryServicer, query_service
from runstream_query.settings import QuerySettings
from runstream_server.config import ServerConfig
from runstream_server.drain import log_ends, wait_applied
from runstream_server.errors import AddressTaken
from runstream_server.figures import Figures, figures
from runstream_server.lean import give_back
from runstream_server.listen import authority
from runstream_server.rpc import Activity, add_health, add_reflection, new_server, set_health
from runstream_server.web import WebServer
from runstream_store.credentials import Authenticator
from runstream_store.hot import HotState, open_hot
from runstream_store.log import EventLog, open_log
from runstream_store.tables import Tables, open_tables
from runstream_store.tables.applied import applied_source

_log = logging.getLogger("runstream.server")
_SERVICES = ("runstream.v1.IngestService", "runstream.v1.QueryService")
_CONSUMERS = (("points", "points"), ("runs", "runs"))  # consumer and topic of each writer
_GRACE_S = 2.0  # for requests under way at the end


@dataclass(frozen=True, slots=True)
class Identity:
    """What this server is, and what opens it."""

    server_id: bytes
    authenticator: Authenticator
    version: str
    http_url: str
    """Base of links, as people reach the HTTP port."""
    advertised_url: str
    """What senders are told; empty when they know better."""
    hosts: tuple[str, ...]
    """Names by which the HTTP port may be asked for."""


class OneProcess:
    """Everything in this process. `start`, then `ended` or `stop`."""

    def __init__(self, config: ServerConfig, identity: Identity, grpc_port: int, http: socket.socket) -> None:
        """`http` is bound and listens."""
        self._config = config
        self._identity = identity
        self._grpc_port = grpc_port
        self._http = http
        self._parts = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: dict[str, WriterLoop[Any]] = {}
        self._activity = Activity()
        self._web: WebServer | None = None
        self.epoch = b""

    async def start(self) -> None:
        """Returns when it listens. After an exception `stop` closes what was opened."""
        config = self._config
        log = await open_log(config.log_url)
        self._parts.push_async_callback(log.close)
        tables = await open_tables(config.tables_url)
        self._parts.push_async_callback(tables.close)
        await tables.migrate()
        hot = await open_hot(config.hot_url, source=applied_source(tables))
        self._parts.push_async_callback(hot.close)
        self.epoch = await log.epoch("points")
        self._start_writers(log, tables, hot)
        await self._start_ports(log, tables, hot)

    def _start_writers(self, log: EventLog, tables: Tables, hot: HotState) -> None:
        self._writers = {
            "points": WriterLoop(log, tables, hot, PointsSink()),
            "runs": WriterLoop(log, tables, hot, RunsSink()),
        }
        for topic, writer in self._writers.items():
            task = asyncio.create_task(writer.run(), name=f"writer-{topic}")
            self._tasks.append(task)
            self._parts.push_async_callback(_stop_writer, writer, task)
        self._parts.push_async_callback(self._apply_rest, log, hot)

    async def _apply_rest(self, log: EventLog, hot: HotState) -> None:
        if not any(task.done() for task in self._tasks):  # a dead writer applies nothing
            await wait_applied(log, hot, _CONSUMERS, self._config.drain_s)

    async def _start_ports(self, log: EventLog, tables: Tables, hot: HotState) -> None:
        identity = self._identity
        ingest = IngestServicer(
            log,
            identity.authenticator,
            IngestSettings(
                version=identity.version,
                http_url=identity.advertised_url,
                server_id=identity.server_id,
            ),
            hot,
        )
        self._parts.push_async_callback(ingest.close)
        table = figures(ingest.stats, {topic: writer.stats for topic, writer in self._writers.items()})
        Figures(table, REGISTRY)
        settings = QuerySettings(public_url=identity.http_url, hosts=identity.hosts)
        query = QueryServicer(
            tables,
            hot,
            settings,
            epochs=log.epoch,
            ends=partial(log_ends, log),
        )
        access = Access(identity.authenticator)
        services = (query_service(query),)
        server = new_server(self._activity)
        health = add_health(server)
        add_ingest_service(server, ingest)
        add_services(server, services, access)
        add_reflection(server, _SERVICES)
        address = authority(self._config.host, self._grpc_port)
        try:
            server.add_insecure_port(address)
        except RuntimeError:  # taken since it was looked at
            raise AddressTaken(f"something else took {address} just now. Start again.") from None
        self._web = WebServer(build_app(query, services, access), self._http)
        await self._web.start()
        self._parts.push_async_callback(self._web.stop, _GRACE_S)
        await server.start()
        self._parts.push_async_callback(server.stop, _GRACE_S)
        self._parts.push_async_callback(_drain, ingest)
        resting = asyncio.create_task(give_back(self._work), name="give-back")
        self._parts.callback(resting.cancel)
        await set_health(health, _SERVICES)
        self._parts.push_async_callback(health.enter_graceful_shutdown)

    def _work(self) -> int:
        """A number that rises with all that is written and read."""
        written = sum(writer.stats.rows for writer in self._writers.values())
        return written + self._activity.calls + (self._web.requests if self._web else 0)

    async def ended(self) -> None:
        """Waits until a part ends by itself, which none should, and raises what it died of."""
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
        await self._parts.aclose()


async def _stop_writer(writer: WriterLoop[Any], task: asyncio.Task[None]) -> None:
    writer.stop()
    await asyncio.wait([task])


async def _drain(ingest: IngestServicer) -> None:
    try:
        await asyncio.wait_for(ingest.drain(), _GRACE_S)
    except TimeoutError:
        _log.warning("requests under way are cut off; their senders send them again")
