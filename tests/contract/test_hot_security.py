"""Hot state in a Redis that takes only TLS and a password."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis as Client
from redis import RedisError

from deploy.engines.process import HOST, Engine, EngineMissing, free_ports
from deploy.engines.redis import program
from runstream_store.hot import open_hot
from runstream_store.position import Position

pytestmark = pytest.mark.engine

LONG_S = 30.0  # never reached when all is well


@pytest.fixture(scope="module")
def port(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    (found,) = free_ports(1)
    folder = tmp_path_factory.mktemp("redis")
    options = {
        "port": "0",
        "tls-port": str(found),
        "tls-cert-file": str(certificate / "cert.pem"),
        "tls-key-file": str(certificate / "key.pem"),
        "tls-ca-cert-file": str(certificate / "cert.pem"),
        "tls-auth-clients": "no",
        "requirepass": "sesame",
        "bind": HOST,
        "dir": str(folder),
    }
    try:
        command = [program(), *(word for name, value in options.items() for word in (f"--{name}", value))]
    except EngineMissing as missing:
        pytest.skip(str(missing))

    def ready() -> bool:
        try:
            return bool(Client(HOST, found, password="sesame", ssl=True, ssl_cert_reqs="none").ping())
        except RedisError:
            return False

    engine = Engine("redis", command, folder / "redis.log", ready)
    engine.start()
    yield found
    engine.stop()


async def test_what_one_tells_others_learn(port: int, certificate: Path) -> None:
    url = f"rediss://:sesame@{HOST}:{port}/0?ssl_ca_certs={certificate / 'cert.pem'}"
    one, other = await open_hot(url), await open_hot(url)
    position = Position("points", 3, 5, bytes(16))
    await one.set_applied("points", position)
    assert await other.wait_applied("points", [position], LONG_S)
    assert await other.problem() == ""
    await one.close()
    await other.close()


@pytest.mark.parametrize(
    ("password", "trusts", "why"),
    [("barley", True, "invalid username-password"), ("sesame", False, "CERTIFICATE_VERIFY_FAILED")],
)
async def test_why_it_is_not_reached_is_told(
    port: int, certificate: Path, caplog: pytest.LogCaptureFixture, password: str, trusts: bool, why: str
) -> None:
    trusted = f"?ssl_ca_certs={certificate / 'cert.pem'}" if trusts else ""
    with caplog.at_level(logging.WARNING):
        hot = await open_hot(f"rediss://:{password}@{HOST}:{port}/0{trusted}")
    assert why in caplog.text
    assert why in await hot.problem()
    await hot.close()
