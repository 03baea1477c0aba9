"""Apache Kafka without ZooKeeper, one or three brokers, from its jars on Maven Central."""

from __future__ import annotations

import base64
import fcntl
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from deploy.engines.process import CACHE, HOST, Engine, EngineFailed, EngineMissing, exchange, free_ports

_POM: Final = Path(__file__).with_name("kafka.pom.xml")
_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_LOGIN: Final = "org.apache.kafka.common.security"
_SCRAM: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_HEAP: Final = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC")
_QUICK: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")

_LOGGING: Final = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
"""


def jars() -> Path:
    """The folder with the jars; fetched on first use.

    :raises EngineMissing: Java or Maven is not there, or the jars can't be fetched.
    """
    for need in ("java", "mvn"):
        if shutil.which(need) is None:
            raise EngineMissing(f"{need} is not installed: apt-get install default-jre-headless maven")
    folder = CACHE / "kafka-4.2.0"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "kafka.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not folder.exists():
            coming = CACHE / f"kafka-{os.getpid()}"
            command = ["mvn", "-q", "-B", "-f", str(_POM), _COPY, f"-DoutputDirectory={coming}"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                shutil.rmtree(coming, ignore_errors=True)
                raise EngineMissing(f"Kafka's jars can't be fetched:\n{done.stdout[-2000:]}")
            coming.rename(folder)
    return folder


@dataclass(frozen=True)
class Secure:
    """A second port of each broker that takes only TLS and a password (SASL_SSL, PLAIN or SCRAM)."""

    certificate: Path
    """Key and certificates, PEM."""
    passwords: Mapping[str, str]
    """By user."""


class Kafka:
    """A cluster of brokers, each of which is also a controller."""

    def __init__(
        self,
        folder: Path,
        *,
        brokers: int = 1,
        ports: tuple[int, ...] = (),
        settings: Mapping[str, str] | None = None,
        secure: Secure | None = None,
    ) -> None:
        """`folder` holds data and logs, and may be used again; `settings` are added to each broker's."""
        self.ports = list(ports) or free_ports(brokers)
        assert len(self.ports) == brokers
        self.servers = ",".join(f"{HOST}:{port}" for port in self.ports)
        more = [port for port in free_ports(3 * brokers) if port not in self.ports]
        self._voters, self.secure_ports = more[:brokers], more[brokers : 2 * brokers]
        self._secure = secure
        self._folder = folder.absolute()
        self._settings = dict(settings or {})
        self._jars = f"{jars()}/*"
        self.engines = [self._broker(number) for number in range(1, brokers + 1)]

    @property
    def url(self) -> str:
        """The address of the log on it, without a prefix."""
        return f"kafka://{self.servers}"

    def start(self) -> Self:
        """Returns when all brokers know each other.

        :raises EngineFailed: they do not, or the folder has the data of more or fewer brokers.
        """
        there = len(list(self._folder.glob("broker-*/data/meta.properties")))
        if there not in (0, len(self.ports)):
            raise EngineFailed(
                f"{self._folder} has the data of {there} broker(s), and {len(self.ports)} are to start:"
                f" start {there}, or choose another folder"
            )
        self._format()
        try:
            for engine in self.engines:
                engine.spawn()
            for engine in self.engines:
                engine.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends all brokers."""
        if len(self.engines) > 1:  # in order each waits for a majority that is going away, too
            for engine in self.engines:
                engine.kill()
        for engine in self.engines:
            engine.stop()

    def version(self) -> str:
        """What the brokers said at their start that they are."""
        found = re.findall(r"Kafka version: (\S+)", self.engines[0].log.read_text(errors="replace"))
        return f"Apache Kafka {found[-1] if found else 'of unknown version'}, {len(self.ports)} broker(s)"

    def _broker(self, number: int) -> Engine:
        folder = self._folder / f"broker-{number}"
        port = self.ports[number - 1]
        command = [
            *("java", *_HEAP, f"-Dlog4j2.configurationFile={self._folder}/log4j2.properties"),
            *("-cp", self._jars, "kafka.Kafka", str(folder / "server.properties")),
        ]
        return Engine(
            f"kafka broker {number}",
            command,
            folder / "broker.log",
            lambda: _knows(port, len(self.ports)),
            start_s=90.0,
        )

    def _format(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "log4j2.properties").write_text(_LOGGING)
        name = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode().replace("-", "A")
        for number in range(1, len(self.ports) + 1):
            folder = self._folder / f"broker-{number}"
            properties = folder / "server.properties"
            folder.mkdir(exist_ok=True)
            properties.write_text("".join(f"{key}={value}\n" for key, value in self._properties(number)))
            if (folder / "data" / "meta.properties").exists():
                continue
            command = ["java", *_QUICK, "-cp", self._jars, "kafka.tools.StorageTool", "format"]
            for user, word in self._secure.passwords.items() if self._secure else ():
                for mechanism in _SCRAM:
                    command += ["--add-scram", f"{mechanism}=[name={user},password={word}]"]
            done = subprocess.run([*command, "-t", name, "-c", properties], capture_output=True, text=True)
            if done.returncode:
                raise EngineFailed(f"kafka broker {number} can't be set up:\n{done.stdout}{done.stderr}")

    def _properties(self, number: int) -> list[tuple[str, str]]:
        brokers = len(self.ports)
        voters = ",".join(f"{index}@{HOST}:{port}" for index, port in enumerate(self._voters, 1))
        client = f"PLAINTEXT://{HOST}:{self.ports[number - 1]}"
        found = {
            "process.roles": "broker,controller",
            "node.id": str(number),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": ("CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL"),
            "listeners": f"{client},CONTROLLER://{HOST}:{self._voters[number - 1]}",
            "advertised.listeners": client,
            "log.dirs": str(self._folder / f"broker-{number}" / "data"),
            "auto.create.topics.enable": "false",
            "default.replication.factor": str(brokers),
            "offsets.topic.replication.factor": str(brokers),
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": str(brokers),
            "transaction.state.log.min.isr": str(brokers // 2 + 1),
            "share.coordinator.state.topic.replication.factor": str(brokers),
            "share.coordinator.state.topic.min.isr": str(brokers // 2 + 1),
            "broker.session.timeout.ms": "3000",  # so long a killed one is kept from coming back
            "broker.heartbeat.interval.ms": "500",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.cleaner.dedupe.buffer.size": str(16 << 20),
            "socket.request.max.bytes": str(128 << 20),
            **self._settings,
        }
        if self._secure is not None:
            port = f",SASL_SSL://{HOST}:{self.secure_ports[number - 1]}"
            users = " ".join(f'user_{user}="{word}"' for user, word in self._secure.passwords.items())
            found["listeners"] += port
            found["advertised.listeners"] += port
            found["ssl.keystore.type"] = "PEM"
            found["ssl.keystore.location"] = str(self._secure.certificate)
            found["sasl.enabled.mechanisms"] = ",".join(("PLAIN", *_SCRAM))
            login = "listener.name.sasl_ssl.{}.sasl.jaas.config"
            found[login.format("plain")] = f"{_LOGIN}.plain.PlainLoginModule required {users};"
            for mechanism in _SCRAM:
                found[login.format(mechanism.lower())] = f"{_LOGIN}.scram.ScramLoginModule required;"
        return list(found.items())


def _knows(port: int, brokers: int) -> bool:
    """Whether a broker answers, and knows so many others and a controller."""
    # Metadata, version 1: the length, api key, version, correlation id, client's name, and no topics.
    body = struct.pack(">hhih", 3, 1, 0, -1) + struct.pack(">i", 0)
    answer = exchange(port, struct.pack(">i", len(body)) + body)
    if len(answer) < 12:
        return False
    (count,) = struct.unpack_from(">i", answer, 8)
    at = 12
    for _ in range(count):
        (length,) = struct.unpack_from(">h", answer, at + 4)
        at += 4 + 2 + length + 4
        (rack,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack, 0)
    (controller,) = struct.unpack_from(">i", answer, at)
    return bool(count == brokers and controller >= 0)
