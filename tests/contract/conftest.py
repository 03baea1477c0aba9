"""Every engine of the store, so that one suite holds for all of them.

`@pytest.mark.needs("ability")` marks a test of what not all engines can do: where it is missing the test must
fail, and the engine says why it is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from runstream_store.hot import HotState, open_hot
from runstream_store.log import EventLog
from runstream_store.objects import Objects, open_objects
from runstream_store.tables import Tables
from tests.contract.engines import (
    HOTS,
    LOGS,
    OBJECTS,
    TABLES,
    LogEngine,
    TablesEngine,
    chdb,
    clickhouse,
    delete_topics,
    kafka,
    redis,
    s3,
    sqlite,
)
from tests.tables import command, empty

START_NS = 1_700_000_000_000_000_000

_ENGINE_MARKS = {"kafka": pytest.mark.engine, "redis": pytest.mark.engine, "s3": pytest.mark.engine}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(ability): of the engine; where it is missing the test must fail"
    )


def _expect(request: pytest.FixtureRequest, missing: Mapping[str, str]) -> None:
    for mark in request.node.iter_markers("needs"):
        reason = missing.get(mark.args[0])
        if reason is not None:
            request.applymarker(pytest.mark.xfail(reason=f"{mark.args[0]}: {reason}", strict=True))


@pytest.fixture(params=[pytest.param(name, marks=_ENGINE_MARKS.get(name, ())) for name in LOGS])
async def log_engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LogEngine]:
    if request.param == "sqlite":
        engine = sqlite(tmp_path)
    else:
        needed = {mark.args[0] for mark in request.node.iter_markers("needs")}
        server = request.getfixturevalue("kafka_server")
        engine = kafka(server, partitions=4 if "partitions" in needed else 1)
    _expect(request, engine.missing)
    yield engine
    if request.param == "kafka":
        await delete_topics(engine.url)


@pytest.fixture
async def log(log_engine: LogEngine) -> AsyncIterator[EventLog]:
    async with log_engine.open() as opened:
        yield opened


@pytest.fixture(params=TABLES)
async def tables_engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TablesEngine]:
    if request.param == "chdb":
        engine = chdb(tmp_path)
    else:
        engine = clickhouse(request.getfixturevalue("clickhouse_server"))
    _expect(request, engine.missing)
    yield engine
    if request.param == "clickhouse":
        async with engine.open(migrated=False) as tables:
            await command(tables, f"DROP DATABASE {engine.url.rpartition('/')[2]}")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=TABLES)
async def migrated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Tables]:
    """Tables for a module: the migrations take longer than most of its tests."""
    if request.param == "chdb":
        engine = chdb(tmp_path_factory.mktemp("tables"))
    else:
        engine = clickhouse(request.getfixturevalue("clickhouse_server"))
    async with engine.open() as opened:
        yield opened
        if request.param == "clickhouse":
            await command(opened, f"DROP DATABASE {engine.url.rpartition('/')[2]}")


@pytest_asyncio.fixture(loop_scope="module")
async def tables(migrated: Tables) -> AsyncIterator[Tables]:
    """Empty tables."""
    yield migrated
    await empty(migrated)


@pytest.fixture(params=[pytest.param(name, marks=_ENGINE_MARKS.get(name, ())) for name in HOTS])
def hot_url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    return redis(request.getfixturevalue("redis_server"))


@pytest.fixture
async def hot(hot_url: str) -> AsyncIterator[HotState]:
    state = await open_hot(hot_url, now_ns=START_NS)
    try:
        yield state
    finally:
        await state.close()


@pytest.fixture(params=[pytest.param(name, marks=_ENGINE_MARKS.get(name, ())) for name in OBJECTS])
def objects_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return f"file://{tmp_path}/objects"
    return s3(request.getfixturevalue("s3_server"))


@pytest.fixture
async def objects(objects_url: str) -> AsyncIterator[Objects]:
    opened = await open_objects(objects_url)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of this machine that it signed itself, its key, and passwords."""
    folder = tmp_path_factory.mktemp("certificate")
    if shutil.which("openssl") is None and not os.environ.get("RUNSTREAM_REQUIRE_ENGINES"):
        pytest.skip("no openssl")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    both = (folder / "key.pem").read_text() + (folder / "cert.pem").read_text()
    (folder / "both.pem").write_text(both)
    (folder / "password").write_text("open sesame\n")
    (folder / "wrong").write_text("open barley\n")
    return folder
