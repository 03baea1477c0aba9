"""What holds for all tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.engines import clickhouse_server, kafka_server, redis_server, s3_server
from tests.server import Place

__all__ = ["clickhouse_server", "kafka_server", "place", "redis_server", "s3_server"]

# The machine may be busy: no test fails because of its duration.
settings.register_profile("runstream", deadline=None)
settings.load_profile("runstream")


@pytest.fixture(scope="session", autouse=True)
def away_from_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that a test leaves behind goes to the places of whoever runs the tests, or starts a server."""
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNSTREAM_HOME", str(root))
        patch.setenv("RUNSTREAM_SPOOL", str(root / "spool"))
        patch.setenv("RUNSTREAM_AUTOSTART", "0")
        yield


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A user of his own. When the test fails, what his servers said is shown."""
    root = Path(tempfile.mkdtemp(prefix="runstream-test-"))
    made = Place(root)
    try:
        yield made
    finally:
        made.close()
        if made.log.exists():
            print(f"servers of {request.node.name}:\n{made.log.read_text()}")
        shutil.rmtree(root, ignore_errors=True)
