"""The query services on both ports, the pages, and what removes deleted runs for good."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import grpc.aio

from runstream_ingest.writers.artifacts import ArtifactsSink
from runstream_ingest.writers.runs import RunsSink
from runstream_query.access import Access
from runstream_query.artifact_service import ArtifactServicer, artifact_service
from runstream_query.artifacts import ArtifactReader
from runstream_query.event_writer import EventWriter
from runstream_query.files import Downloads
from runstream_query.health_service import HealthServicer, health_service
from runstream_query.http import build_app
from runstream_query.kept import KeptFiles
from runstream_query.log_files import LogDownloads
from runstream_query.log_service import LogServicer, log_service
from runstream_query.logs import LogReader
from runstream_query.model_service import ModelServicer, model_service
from runstream_query.models import ModelReader
from runstream_query.purger import Purger, PurgeSettings
from runstream_query.rpc import add_services
from runstream_query.run_service import RunServicer, run_service
from runstream_query.service import QueryServicer, query_service
from runstream_query.services import Service
from runstream_query.settings import QuerySettings
from runstream_query.shares import Shares
from runstream_server.drain import cancel, log_ends, wait_in_tables
from runstream_server.engines import Engines
from runstream_server.identity import Identity
from runstream_server.web import App

_OF_FILES = (RunsSink, ArtifactsSink)
"""What brings in what refers to files."""


class QueryPart:
    """What answers reads."""

    def __init__(self, engines: Engines, identity: Identity) -> None:
        self._engines = engines
        queries = self._queries = QueryServicer(
            engines.tables,
            engines.hot,
            QuerySettings(public_url=identity.http_url, hosts=identity.hosts),
            epochs=engines.log.epoch,
            ends=partial(log_ends, engines.log),
        )
        timeout_s = queries.settings.query_timeout_s
        self._artifacts = ArtifactReader(engines.tables, engines.objects, timeout_s)
        self._models = ModelReader(engines.tables, timeout_s)
        self._logs = LogReader(engines.tables, timeout_s)
        self._kept = KeptFiles(queries.runs, self._models)
        self._shares = Shares(engines.tables, queries.barrier.catch_up)
        self._access = Access(identity.authenticator, self._shares)
        self._services = self._make_services()

    def _make_services(self) -> tuple[Service, ...]:
        """New services go here."""
        engines, queries = self._engines, self._queries
        timeout_s = queries.settings.query_timeout_s
        return (
            health_service(
                HealthServicer(engines.log, engines.tables, engines.objects, engines.hot, timeout_s)
            ),
            query_service(queries),
            log_service(LogServicer(self._logs, queries.barrier, queries.over)),
            artifact_service(ArtifactServicer(self._artifacts, queries.barrier, self._kept)),
            model_service(ModelServicer(self._models, self._artifacts, queries.barrier)),
            run_service(
                RunServicer(
                    EventWriter(engines.log),
                    queries.runs,
                    queries.barrier,
                    self._shares,
                    engines.hot,
                    queries.settings.public_url,
                )
            ),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of its services."""
        return tuple(service.descriptor.full_name for service in self._services)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds the services to the gRPC port."""
        add_services(server, self._services, self._access)

    def app(self) -> App:
        """What the HTTP port answers: the services, downloads and pages."""
        queries = self._queries
        downloads = (
            Downloads(self._artifacts, queries.barrier, self._kept, self._access),
            LogDownloads(self._logs, queries.barrier, queries.over, self._access),
        )
        return build_app(queries, self._services, self._access, downloads)

    def start_purger(self, after_days: float, closing: AsyncExitStack) -> None:
        """Removes what was deleted so long ago, from now on; `closing` ends that."""
        engines = self._engines
        consumers = [(sink.consumer, sink.topic) for sink in _OF_FILES]
        applied = partial(wait_in_tables, engines.log, engines.tables, consumers)
        settings = PurgeSettings(after_s=after_days * 86_400)
        purger = asyncio.create_task(
            Purger(engines.tables, engines.objects, settings, applied).run(), name="purger"
        )
        closing.push_async_callback(cancel, purger)
