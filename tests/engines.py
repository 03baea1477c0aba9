"""Real servers for tests, each started once: fixtures that `conftest.py` brings in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from deploy.engines.clickhouse import ClickHouse
from deploy.engines.kafka import Kafka
from deploy.engines.process import EngineMissing
from deploy.engines.redis import Redis
from deploy.engines.s3 import S3

T = TypeVar("T", Kafka, Redis, ClickHouse, S3)


@contextmanager
def running(make: Callable[[], T]) -> Iterator[T]:
    """A server while it is needed. Where its program is missing the test is skipped, if it may be."""
    try:
        server = make()
    except EngineMissing as missing:
        if os.environ.get("RUNSTREAM_REQUIRE_ENGINES"):
            raise
        pytest.skip(str(missing))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker. Tests have their own prefixes."""
    folder = tmp_path_factory.mktemp("kafka")
    with running(lambda: Kafka(folder, settings={"log.retention.check.interval.ms": "500"})) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A server. Tests have their own prefixes."""
    folder = tmp_path_factory.mktemp("redis")
    with running(lambda: Redis(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A server with a bucket. Tests have their own prefixes."""
    folder = tmp_path_factory.mktemp("s3")
    with running(lambda: S3(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a ClickHouse server, without a database: a real one if the environment names it."""
    if real := os.environ.get("RUNSTREAM_TEST_CLICKHOUSE_URL"):
        yield real.rstrip("/")
        return
    folder = tmp_path_factory.mktemp("clickhouse")
    with running(lambda: ClickHouse(folder)) as server:
        yield server.url
