"""A whole cluster on this machine: engines and services as processes, no containers.

`python -m deploy.cluster --data DIR` starts Kafka, Redis, the ClickHouse endpoint, S3, and the services on
them; prints where they are; ends all at Ctrl-C or SIGTERM. Each process can be ended and started again by
itself, on the same port, and all data stay in the folder.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from deploy.engines.clickhouse import ClickHouse
from deploy.engines.kafka import Kafka
from deploy.engines.process import HOST, Engine, EngineFailed, EngineMissing, exchange, free_ports
from deploy.engines.redis import Redis
from deploy.engines.s3 import S3

_HEALTH: Final = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


class Cluster:
    """Engines and services; each can be ended, and started again, by itself."""

    def __init__(
        self,
        folder: Path,
        *,
        brokers: int = 1,
        ingests: int = 1,
        writers: int = 1,
        queries: int = 1,
        log_options: str = "",
        kafka_settings: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """
        :param folder: data and logs; may be used again.
        :param log_options: more of the Kafka log's address: `partitions=4&retention_ms=…`.
        :param kafka_settings: of each broker.
        :param settings: more of the services' environment.
        """
        self.folder = folder.absolute()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.kafka = Kafka(self.folder / "kafka", brokers=brokers, settings=kafka_settings)
        self.redis = Redis(self.folder / "redis", install=True)
        self.clickhouse = ClickHouse(self.folder / "clickhouse")
        self.s3 = S3(self.folder / "s3")
        self.token = self._token()
        numbers = {"writer": writers, "ingest": ingests, "query": queries}
        ports = iter(free_ports(2 * sum(numbers.values())))
        places = [
            (role, number, next(ports), next(ports))
            for role, count in numbers.items()
            for number in range(1, count + 1)
        ]
        self.grpc = [f"{HOST}:{grpc}" for role, _, grpc, _ in places if role == "ingest"]
        """Where scripts may send to."""
        self.http = [f"http://{HOST}:{http}" for role, _, _, http in places if role == "query"]
        """Where they read, and the pages are."""
        options = f"&{log_options}" if log_options else ""
        self.settings = {
            "RUNSTREAM_LOG_URL": f"{self.kafka.url}/runstream?replication={brokers}{options}",
            "RUNSTREAM_TABLES_URL": f"{self.clickhouse.url}/runstream",
            "RUNSTREAM_HOT_URL": f"{self.redis.url}/0",
            "RUNSTREAM_OBJECTS_URL": self.s3.url,
            "RUNSTREAM_KEYS_FILE": str(self.folder / "keys.json"),
            "RUNSTREAM_TOKEN_FILE": str(self.folder / "token"),
            "RUNSTREAM_PUBLIC_URL": self.http[0] if self.http else "",
            "RUNSTREAM_LOG_LEVEL": "info",
            **(settings or {}),
        }
        """Environment of the services."""
        self.services: dict[str, list[Engine]] = {role: [] for role in numbers}
        for role, number, grpc, http in places:
            self.services[role].append(self._service(role, number, grpc, http))

    def start(self) -> Self:
        """Returns when everything answers.

        :raises EngineFailed: something does not; the rest is ended.
        """
        try:
            _together(engine.start for engine in (self.kafka, self.redis, self.clickhouse, self.s3))
            for service in self._all():
                service.spawn()
            for service in self._all():
                service.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends everything in order: services first."""
        for role in ("ingest", "writer", "query"):
            _together(service.stop for service in self.services[role])
        _together(engine.stop for engine in (self.kafka, self.redis, self.clickhouse, self.s3))

    def engines(self) -> dict[str, str]:
        """What the engines say they are, by their role."""
        return {
            "event log": self.kafka.version(),
            "tables": self.clickhouse.version(),
            "hot state": self.redis.version(),
            "objects": self.s3.version(),
        }

    def client(self) -> dict[str, str]:
        """Environment of scripts that log to it."""
        return {"RUNSTREAM_SERVER": self.grpc[0], "RUNSTREAM_API_KEY": self.token}

    @property
    def login(self) -> str:
        """The link that signs a browser in."""
        return f"{self.http[0]}/login?token={self.token}"

    def _all(self) -> Iterator[Engine]:
        for services in self.services.values():
            yield from services

    def _token(self) -> str:
        path = self.folder / "token"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(32) + "\n")
        return path.read_text("ascii").strip()

    def _service(self, role: str, number: int, grpc: int, http: int) -> Engine:
        command = [sys.executable, "-m", "runstream.cli", role, "--http-port", str(http)]
        if role != "writer":
            command += ["--grpc-port", str(grpc)]
        # Of the caller's settings none: this cluster is what it is everywhere.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")}
        settings = dict(self.settings)
        if role == "writer":  # it has its partitions back at once when it is started again
            settings["RUNSTREAM_LOG_URL"] += f"&instance=writer-{number}"
        return Engine(
            f"{role} {number}",
            command,
            self.folder / f"{role}-{number}.log",
            lambda: b" 200 " in exchange(http, _HEALTH, 10.0).partition(b"\r\n")[0],
            start_s=120.0,
            environment={**kept, "RUNSTREAM_HOME": str(self.folder / "home"), **settings},
            folder=self.folder,
        )


def _together(actions: Iterable[Callable[[], object]]) -> None:
    """Does all at the same time, and raises what one of them raised once all have ended."""
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(action) for action in actions]
    for one in done:
        one.result()


def main() -> int:
    """Runs a cluster until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m deploy.cluster", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data and logs")
    parser.add_argument("--brokers", type=int, choices=[1, 3], default=1, help="of Kafka (1)")
    for role in ("ingests", "writers", "queries"):
        parser.add_argument(f"--{role}", type=int, default=1, help="processes (1)")
    given = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    print(f"starting engines and services, logs in {given.data} …", flush=True)
    try:
        made = Cluster(
            given.data,
            brokers=given.brokers,
            ingests=given.ingests,
            writers=given.writers,
            queries=given.queries,
        ).start()
    except (EngineMissing, EngineFailed) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        lines = [f"  {role:10}{version}" for role, version in made.engines().items()]
        lines += [
            f"  {name:10}{', '.join(where)}" for name, where in (("gRPC", made.grpc), ("HTTP", made.http))
        ]
        lines.append(f"  sign in   {made.login}")
        lines.append("Scripts find it with")
        found = {**made.client(), "RUNSTREAM_HTTP_SERVER": made.http[0]}
        lines += [f"  export {name}={shlex.quote(value)}" for name, value in found.items()]
        print("\n".join([*lines, "Ctrl-C ends all of it."]), flush=True)
        ended.wait()
        print("ending …", flush=True)
    finally:
        made.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
