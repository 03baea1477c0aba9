"""The event log: ordered, durable records between ingest and the writers."""

from __future__ import annotations

from runstream_store.errors import ConfigError
from runstream_store.log.protocol import (
    Capabilities,
    Consumer,
    EventLog,
    Lost,
    NewRecord,
    Start,
    StoredRecord,
)

__all__ = [
    "Capabilities",
    "Consumer",
    "EventLog",
    "Lost",
    "NewRecord",
    "Start",
    "StoredRecord",
    "open_log",
    "shared",
]


def shared(url: str) -> bool:
    """Whether several processes may use the log at this address at the same time."""
    return _scheme(url) == "kafka"


async def open_log(url: str) -> EventLog:
    """Opens the event log at an address, which chooses the engine.

    `sqlite:///<absolute path>`
        A file, made when missing. One process at a time.
    `kafka://<host>:<port>[,<host>:<port>…]/<prefix>[?option=value…]`
        Topics of a Kafka cluster, made when missing. The options are the fields of `KafkaSettings`.

    :raises ConfigError: there is no such engine.
    :raises LogLocked: another process has the file open.
    :raises LogCorrupt: the file is no event log.
    :raises LogUnavailable: no broker answered in time.
    """
    scheme = _scheme(url)
    if scheme == "sqlite":
        from runstream_store.log.sqlite import SqliteLog

        return await SqliteLog.open(url)
    if scheme == "kafka":
        from runstream_store.log.kafka import KafkaLog

        return await KafkaLog.open(url)
    raise ConfigError(f"no event log for {url!r}: expected sqlite:///<path> or kafka://<brokers>/<prefix>")


def _scheme(url: str) -> str:
    """Of an address that need not be one of a single host."""
    return url.partition("://")[0].lower()
