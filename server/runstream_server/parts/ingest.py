"""Ingest: takes what senders send, into the event log and the object storage."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import grpc.aio
from prometheus_client import REGISTRY

from runstream.home import files_socket
from runstream_ingest.chunk_service import SERVICE as CHUNK_SERVICE
from runstream_ingest.chunk_service import ChunkServicer, ChunkStats, add_chunk_service
from runstream_ingest.chunk_store import ChunkStore
from runstream_ingest.handover import Handover
from runstream_ingest.service import SERVICE as INGEST_SERVICE
from runstream_ingest.service import IngestServicer, IngestSettings, add_ingest_service
from runstream_server.engines import Engines
from runstream_server.figures import Figures, ingest_figures
from runstream_server.identity import Identity

_log = logging.getLogger("runstream.server")


class IngestPart:
    """The services that senders call."""

    def __init__(self, engines: Engines, identity: Identity, epoch: bytes, closing: AsyncExitStack) -> None:
        """`closing` ends them.

        :param epoch: of the log that all ingest processes share: a sender knows by it that it is the same
            server, wherever it arrives.
        """
        self._epoch = epoch
        self._chunks = ChunkStore(engines.objects)
        self._ingest = IngestServicer(
            engines.log,
            identity.authenticator,
            IngestSettings(version=identity.version, http_url=identity.advertised_url, server_id=epoch),
            engines.hot,
            self._chunks,
        )
        closing.push_async_callback(self._ingest.close)
        self._chunk_servicer = ChunkServicer(self._chunks, identity.authenticator)
        Figures(ingest_figures(self._ingest.stats, self._chunk_servicer.stats), REGISTRY)
        self._take_files(self._chunk_servicer.stats, closing)

    @property
    def names(self) -> tuple[str, ...]:
        """Of its services."""
        return INGEST_SERVICE, CHUNK_SERVICE

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds them to the gRPC port."""
        add_ingest_service(server, self._ingest)
        add_chunk_service(server, self._chunk_servicer)

    def _take_files(self, stats: ChunkStats, closing: AsyncExitStack) -> None:
        """Files of senders on this machine, where that is of use and possible."""
        if not self._chunks.takes_files:
            return
        handover = Handover(self._chunks, stats, files_socket(self._epoch))
        try:
            handover.start()
        except OSError as error:
            _log.warning("files of this machine come by gRPC, which is slower", extra={"reason": error})
        else:
            closing.push_async_callback(handover.close)

    async def drain(self, grace_s: float) -> None:
        """Takes no new requests, and waits for those under way."""
        try:
            await asyncio.wait_for(self._ingest.drain(), grace_s)
        except TimeoutError:
            _log.warning("requests under way are cut off; their senders send them again")
