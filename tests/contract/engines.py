"""Where the suites find each engine of the store."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from deploy.engines.kafka import Kafka
from deploy.engines.redis import Redis
from deploy.engines.s3 import S3
from runstream_store.log import EventLog, open_log
from runstream_store.log.kafka_settings import KafkaSettings
from runstream_store.tables import Tables, open_tables


@dataclass(frozen=True)
class LogEngine:
    """A place for an event log. Opening it again is a restart."""

    url: str
    recreate: Callable[[], Awaitable[None]]
    """Makes all topics anew, while the log is closed."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Abilities that the engine lacks, and why that is all right."""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[EventLog]:
        log = await open_log(self.url)
        try:
            yield log
        finally:
            await log.close()


@dataclass(frozen=True)
class TablesEngine:
    """A place for tables. Opening it again is a restart."""

    url: str
    missing: Mapping[str, str] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def open(self, *, migrated: bool = True) -> AsyncIterator[Tables]:
        tables = await open_tables(self.url)
        try:
            if migrated:
                await tables.migrate()
            yield tables
        finally:
            await tables.close()


def sqlite(folder: Path) -> LogEngine:
    async def recreate() -> None:
        shutil.rmtree(folder / "log")

    return LogEngine(
        url=f"sqlite://{folder}/log/log.sqlite",
        recreate=recreate,
        missing={
            "partitions": "one process reads it, and one partition is enough for that",
            "many_processes": "the file belongs to one process",
        },
    )


def chdb(folder: Path) -> TablesEngine:
    return TablesEngine(
        url=f"chdb://{folder}/tables", missing={"many_processes": "the folder belongs to one process"}
    )


def clickhouse(server: str) -> TablesEngine:
    """A database of its own on a server."""
    return TablesEngine(url=f"{server.rstrip('/')}/test_{os.urandom(8).hex()}")


def kafka(server: Kafka, *, partitions: int) -> LogEngine:
    """Topics of its own on a broker."""
    url = f"{server.url}/test-{os.urandom(8).hex()}?replication=1&partitions={partitions}"

    async def recreate() -> None:
        await delete_topics(url)

    return LogEngine(url=f"{url}&session_timeout_ms=6000", recreate=recreate)


async def delete_topics(url: str) -> None:
    """Removes all topics of a Kafka log."""
    settings = KafkaSettings.parse(url)
    client = AIOKafkaAdminClient(bootstrap_servers=list(settings.brokers))
    await client.start()
    try:
        topics = [name for name in await client.list_topics() if name.startswith(f"{settings.prefix}.")]
        if topics:
            await client.delete_topics(topics)
    finally:
        await client.close()


def redis(server: Redis) -> str:
    """Keys of its own on a server."""
    return f"{server.url}/0?prefix=test-{os.urandom(8).hex()}"


def s3(server: S3) -> str:
    """Objects of its own in a bucket."""
    place, _, options = server.url.partition("?")
    return f"{place}/test-{os.urandom(8).hex()}?{options}"


LOGS = ["sqlite", "kafka"]
HOTS = ["memory", "redis"]
OBJECTS = ["folder", "s3"]
TABLES = ["chdb", "clickhouse"]
