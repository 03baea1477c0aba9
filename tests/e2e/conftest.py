"""A browser, and a server with runs in it, for the tests of the portal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e import browser as chromium
from tests.e2e.browser import Visit
from tests.server import Place, Server

expect.set_options(timeout=60_000)  # the machine may be busy
SEED = Path(__file__).with_name("seed.py")


@dataclass
class Site:
    """A server with the runs of `seed.py`."""

    place: Place
    server: Server
    ids: dict[str, Any]

    @property
    def full(self) -> str:
        """Path of the run with every kind of metric."""
        return f"/w/local/r/{self.ids['full']}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.running() as found:
        yield found


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = Place(tmp_path_factory.mktemp("portal"))
    try:
        server = place.up()
        done = place.python([str(SEED)], {})
        assert done.returncode == 0, done.stderr
        yield Site(place, server, json.loads(done.stdout.splitlines()[-1]))
    finally:
        place.close()


@pytest.fixture
def visitor(browser: Browser, site: Site) -> Iterator[Visit]:
    with chromium.visit(browser, site.server.http, site.server.token) as found:
        yield found
