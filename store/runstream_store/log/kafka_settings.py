"""The address of a Kafka log: brokers, prefix of the topics, and what is asked of topics and connections."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from runstream_store.errors import ConfigError

_DEFAULT_PORT: Final = 9092
_SECURITY: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_HOSTS: Final = re.compile(r"([^/?#]*)(.*)", re.DOTALL)
_PREFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")
_ODD: Final = re.compile(r"[^A-Za-z0-9.-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """A Kafka log. The fields are the options of the address, which have the same names."""

    brokers: tuple[str, ...]
    """`host:port` of brokers to ask first; they name the others."""
    prefix: str
    """Begins the names of all topics and groups."""
    partitions: int = 8
    """Of a topic that is made. More can be added to it later; fewer not."""
    replication: int = 3
    """Copies of a topic that is made. With 1 the log lasts no longer than one broker's disk."""
    min_insync_replicas: int = 0
    """Copies that must confirm an append; 0 means a majority."""
    retention_ms: int = 604_800_000
    """How long a topic that is made keeps records that were not trimmed; -1 for ever."""
    retention_bytes: int = -1
    """And how much of them in each partition; -1 for no limit."""
    max_record_bytes: int = 8 << 20
    """Greatest length of key and value together."""
    instance: str = ""
    """Name of this process in its groups, the same after a restart (`group.instance.id`). It then gets its
    partitions back at once, not after `session_timeout_ms`. At most one living process may have it."""
    session_timeout_ms: int = 10_000
    """After this silence of a consumer its partitions go to others."""
    append_timeout_ms: int = 30_000
    """How long an append waits for the brokers before it reports that they do not answer."""
    startup_timeout_ms: int = 60_000
    """How long to wait for brokers that are still starting."""
    security_protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    ssl_cafile: str = ""
    """Certificates of the authorities to trust, PEM; the system's when empty."""
    ssl_certfile: str = ""
    """Certificate of this client, PEM."""
    ssl_keyfile: str = ""
    """Its key."""
    ssl_check_hostname: bool = True
    """Whether a broker's certificate must name its host."""
    sasl_mechanism: str = "PLAIN"
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    sasl_username: str = ""
    """Who to log in as."""
    sasl_password_file: str = ""
    """File with the password: an address is seen by too many."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Reads `kafka://host[:port][,host[:port]…]/prefix[?option=value&…]`.

        :raises ConfigError: it makes no sense.
        """
        # Newer Pythons' urlsplit takes no list of hosts with an IPv6 address in it.
        hosts, rest = _HOSTS.match(url.partition("://")[2]).groups()  # type: ignore[union-attr]
        parts = urlsplit(rest)
        brokers = tuple(_broker(one) for one in hosts.split(",") if one)
        prefix = unquote(parts.path.removeprefix("/"))
        if not brokers or "@" in hosts or not _PREFIX.fullmatch(prefix):
            raise ConfigError(
                f"{_public(url)!r} is no address of a Kafka log: expected kafka://host:port[,host:port…]/prefix,"
                " the prefix of letters, digits, dots and hyphens"
            )
        values: dict[str, Any] = {}
        for name, text in parse_qsl(parts.query, keep_blank_values=True):
            field = cls.__dataclass_fields__.get(name)
            if field is None or name in ("brokers", "prefix"):
                raise ConfigError(f"a Kafka log has no option {name!r}")
            values[name] = _value(name, str(field.type), text)
        settings = cls(brokers=brokers, prefix=prefix, **values)
        settings._check()
        return settings

    def _check(self) -> None:
        for name, least in (
            ("partitions", 1),
            ("replication", 1),
            ("min_insync_replicas", 0),
            ("retention_ms", -1),
            ("retention_bytes", -1),
            ("max_record_bytes", 1),
            ("session_timeout_ms", 1),
            ("append_timeout_ms", 1),
            ("startup_timeout_ms", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} of a Kafka log is {getattr(self, name)}; at least {least}")
        if self.min_insync_replicas > self.replication:
            raise ConfigError("min_insync_replicas of a Kafka log is more than its replication")
        if self.security_protocol not in _SECURITY:
            raise ConfigError(f"security_protocol of a Kafka log is one of {', '.join(_SECURITY)}")
        if self.sasl_mechanism not in _MECHANISMS:
            raise ConfigError(f"sasl_mechanism of a Kafka log is one of {', '.join(_MECHANISMS)}")
        # What is stated and not used would leave a connection less safe than its owner believes.
        for begins, used, protocols in (
            ("ssl_", self.security_protocol.endswith("SSL"), "SSL or SASL_SSL"),
            ("sasl_", self.security_protocol.startswith("SASL"), "SASL_SSL or SASL_PLAINTEXT"),
        ):
            stated = [
                field.name
                for field in fields(self)
                if field.name.startswith(begins) and getattr(self, field.name) != field.default
            ]
            if stated and not used:
                raise ConfigError(f"{stated[0]} of a Kafka log needs security_protocol={protocols}")
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ConfigError("ssl_keyfile of a Kafka log is the key of ssl_certfile, which is not given")
        if self.security_protocol.startswith("SASL"):
            for name in ("sasl_username", "sasl_password_file"):
                if not getattr(self, name):
                    raise ConfigError(f"{name} of a Kafka log is needed to log in")

    def topic(self, name: str) -> str:
        """What Kafka calls a topic; characters that it does not take are written as `_` and their code."""
        return f"{self.prefix}.{_ODD.sub(_escape, name)}"

    def group(self, topic: str, name: str) -> str:
        """What Kafka calls a group of consumers of a topic."""
        return f"{self.topic(topic)}.{_ODD.sub(_escape, name)}"

    def topic_config(self) -> Mapping[str, str]:
        """Kafka's settings of a topic that is made."""
        return {
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "max.message.bytes": str(self.max_record_bytes + (64 << 10)),
            "min.insync.replicas": str(self.min_insync_replicas or self.replication // 2 + 1),
            "retention.bytes": str(self.retention_bytes),
            "retention.ms": str(self.retention_ms),
            "unclean.leader.election.enable": "false",
        }

    def connection(self) -> dict[str, Any]:
        """Arguments that all of aiokafka's clients take.

        :raises ConfigError: certificates or password can't be read.
        """
        found: dict[str, Any] = {
            "bootstrap_servers": list(self.brokers),
            "client_id": f"runstream-{self.prefix}",
            "security_protocol": self.security_protocol,
        }
        try:
            if self.security_protocol.endswith("SSL"):
                context = ssl.create_default_context(cafile=self.ssl_cafile or None)
                context.check_hostname = self.ssl_check_hostname
                if self.ssl_certfile:
                    context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile or None)
                found["ssl_context"] = context
            if self.security_protocol.startswith("SASL"):
                found["sasl_mechanism"] = self.sasl_mechanism
                found["sasl_plain_username"] = self.sasl_username
                found["sasl_plain_password"] = Path(self.sasl_password_file).read_text("utf-8").strip()
        except OSError as error:
            raise ConfigError(f"the credentials of the Kafka log can't be used: {error}") from error
        return found


def _broker(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return f"{text}:{_DEFAULT_PORT}"
    if not host or not port.isdigit():
        raise ConfigError(f"{text!r} is no address of a Kafka broker: expected host:port")
    return text


def _value(name: str, kind: str, text: str) -> object:
    if kind == "int":
        if not re.fullmatch(r"-?\d{1,18}", text):
            raise ConfigError(f"{name} of a Kafka log is a whole number, not {text!r}")
        return int(text)
    if kind == "bool":
        if text not in ("true", "false"):
            raise ConfigError(f"{name} of a Kafka log is true or false, not {text!r}")
        return text == "true"
    return text


def _escape(found: re.Match[str]) -> str:
    return "".join(f"_{byte:02x}" for byte in found[0].encode())


def _public(url: str) -> str:
    """Without what looks like a password."""
    return re.sub(r"//[^/@]*@", "//…@", url)
