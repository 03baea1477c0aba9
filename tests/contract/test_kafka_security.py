"""A Kafka log over TLS, with a password."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from deploy.engines.kafka import Kafka, Secure
from runstream_store.errors import ConfigError, StoreError
from runstream_store.log import NewRecord, open_log
from tests.engines import running

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def server(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    secure = Secure(certificate / "both.pem", {"anna": "open sesame"})
    with running(lambda: Kafka(tmp_path_factory.mktemp("kafka"), secure=secure)) as started:
        yield started


def address(server: Kafka, certificate: Path, password: str, ca: str, mechanism: str = "PLAIN") -> str:
    return (
        f"kafka://127.0.0.1:{server.secure_ports[0]}/{mechanism}?replication=1&partitions=1&startup_timeout_ms=5000"
        f"&security_protocol=SASL_SSL&ssl_cafile={ca}&sasl_mechanism={mechanism}"
        f"&sasl_username=anna&sasl_password_file={certificate / password}"
    )


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_records_pass(server: Kafka, certificate: Path, mechanism: str) -> None:
    async def start(partitions: Collection[int]) -> dict[int, int]:
        return {}

    log = await open_log(address(server, certificate, "password", str(certificate / "cert.pem"), mechanism))
    try:
        (position,) = await log.append("points", [NewRecord(b"k", b"v")])
        consumer = await log.subscribe("points", "g", start)
        (record,) = await consumer.fetch(1000, 30.0)
        assert (record.position, record.value) == (position, b"v")
    finally:
        await log.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_refused(server: Kafka, certificate: Path, mechanism: str) -> None:
    with pytest.raises(StoreError, match="none takes the certificate or password"):
        await open_log(address(server, certificate, "wrong", str(certificate / "cert.pem"), mechanism))


async def test_an_unknown_authority_is_refused(server: Kafka, certificate: Path) -> None:
    with pytest.raises(StoreError):
        await open_log(address(server, certificate, "password", ""))


async def test_a_missing_password_is_told(server: Kafka, certificate: Path) -> None:
    with pytest.raises(ConfigError, match="nothing"):
        await open_log(address(server, certificate, "nothing", ""))
