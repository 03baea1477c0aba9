"""What holds for all tests."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from tests.engines import clickhouse_server, kafka_server, redis_server, s3_server
from tests.server import Place

__all__ = ["clickhouse_server", "kafka_server", "place", "redis_server", "s3_server"]

# The machine may be busy: no test fails because of its duration.
settings.register_profile("runstream", deadline=None)
settings.load_profile("runstream")


def pytest_configure() -> None:
    """Scripts of tests find what others have compiled, and can be interrupted, also when the tests run in the
    background of a shell."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_LONGEST_FIRST = ("faults", "e2e", "compat", "integration", "contract", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that in the end no worker is left alone with it."""
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0]
        return _LONGEST_FIRST.index(folder) if folder in _LONGEST_FIRST else len(_LONGEST_FIRST)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: garbage collection need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def away_from_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that a test leaves behind goes to the places of whoever runs the tests, or starts a server."""
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNSTREAM_HOME", str(root))
        patch.setenv("RUNSTREAM_SPOOL", str(root / "spool"))
        patch.setenv("RUNSTREAM_AUTOSTART", "0")
        yield


@pytest.fixture(scope="session", autouse=True)
def brokers_that_start_soon() -> Iterator[None]:
    """No broker here lives long enough for Java's better compiler, which doubles what a start costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
        yield


@contextmanager
def _place() -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix="runstream-test-"))
    made = Place(root)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A user of his own. When the test fails, what his servers said is shown."""
    with _place() as made:
        yield made
        if made.log.exists():
            print(f"servers of {request.node.name}:\n{made.log.read_text()}")


@pytest.fixture(scope="session")
def host() -> Iterator[Place]:
    """A place whose server all tests share that do it no harm: each has a workspace of its own there. To
    start a server takes seconds."""
    with _place() as made:
        made.up()
        yield made


@pytest.fixture
def guest(place: Place, host: Place) -> Iterator[Place]:
    """A user of his own, with a workspace of his own at the server of `host`."""
    place.join(host)
    before = host.log.stat().st_size
    yield place
    print(f"the server meanwhile:\n{host.log.read_bytes()[before:].decode(errors='replace')}")


@pytest.fixture(scope="module")
def lodger(host: Place) -> Iterator[Place]:
    """The same, for all tests of a module."""
    with _place() as made:
        made.join(host)
        yield made


@pytest.fixture(scope="module")
def kept_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The pipelines of a module share one engine in this process."""
    from tests.pipeline import with_kept_tables

    with with_kept_tables(tmp_path_factory.mktemp("kept") / "tables"):
        yield
