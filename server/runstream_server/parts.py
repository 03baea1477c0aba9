"""What the parts hold: a sink for each topic, the services of the gRPC and HTTP ports. New ones go here."""

from __future__ import annotations

from functools import partial
from typing import Any

from runstream_ingest.writers.artifacts import ArtifactsSink
from runstream_ingest.writers.logs import LogsSink
from runstream_ingest.writers.points import PointsSink
from runstream_ingest.writers.runs import RunsSink
from runstream_ingest.writers.sink import Sink
from runstream_query.access import Access
from runstream_query.artifact_service import ArtifactServicer, artifact_service
from runstream_query.artifacts import ArtifactReader
from runstream_query.event_writer import EventWriter
from runstream_query.files import Downloads
from runstream_query.health_service import HealthServicer, health_service
from runstream_query.kept import KeptFiles
from runstream_query.log_files import LogDownloads
from runstream_query.log_service import LogServicer, log_service
from runstream_query.logs import LogReader
from runstream_query.model_service import ModelServicer, model_service
from runstream_query.models import ModelReader
from runstream_query.run_service import RunServicer, run_service
from runstream_query.service import QueryServicer, query_service
from runstream_query.services import Service
from runstream_query.settings import QuerySettings
from runstream_query.shares import Shares
from runstream_server.drain import log_ends
from runstream_server.engines import Engines


def sinks() -> tuple[Sink[Any], ...]:
    """What a writer process does: a sink for each topic."""
    return (
        PointsSink(),
        RunsSink(),
        ArtifactsSink(),
        LogsSink(),
    )


def queries(engines: Engines, settings: QuerySettings) -> QueryServicer:
    """What answers the pages, and the query service."""
    return QueryServicer(
        engines.tables,
        engines.hot,
        settings,
        epochs=engines.log.epoch,
        ends=partial(log_ends, engines.log),
    )


def services(engines: Engines, queries: QueryServicer, shares: Shares) -> tuple[Service, ...]:
    """What a query process answers on both ports."""
    artifacts = artifact_reader(engines, queries)
    models = model_reader(engines, queries)
    kept = KeptFiles(queries.runs, models)
    timeout_s = queries.settings.query_timeout_s
    return (
        health_service(HealthServicer(engines.log, engines.tables, engines.objects, engines.hot, timeout_s)),
        query_service(queries),
        log_service(LogServicer(log_reader(engines, queries), queries.barrier, queries.over)),
        artifact_service(ArtifactServicer(artifacts, queries.barrier, kept)),
        model_service(ModelServicer(models, artifacts, queries.barrier)),
        run_service(
            RunServicer(
                EventWriter(engines.log),
                queries.runs,
                queries.barrier,
                shares,
                engines.hot,
                queries.settings.public_url,
            )
        ),
    )


def shares(engines: Engines, queries: QueryServicer) -> Shares:
    """What knows the links that are shared."""
    return Shares(engines.tables, queries.barrier.catch_up)


def downloads(engines: Engines, queries: QueryServicer, access: Access) -> tuple[Downloads, LogDownloads]:
    """What answers plain downloads of files and of logs."""
    kept = KeptFiles(queries.runs, model_reader(engines, queries))
    return (
        Downloads(artifact_reader(engines, queries), queries.barrier, kept, access),
        LogDownloads(log_reader(engines, queries), queries.barrier, queries.over, access),
    )


def artifact_reader(engines: Engines, queries: QueryServicer) -> ArtifactReader:
    """What reads files."""
    return ArtifactReader(engines.tables, engines.objects, queries.settings.query_timeout_s)


def model_reader(engines: Engines, queries: QueryServicer) -> ModelReader:
    """What reads models."""
    return ModelReader(engines.tables, queries.settings.query_timeout_s)


def log_reader(engines: Engines, queries: QueryServicer) -> LogReader:
    """What reads logs."""
    return LogReader(engines.tables, queries.settings.query_timeout_s)
