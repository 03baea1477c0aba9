"""Keeps aiokafka from flooding the log: while a broker is away it says so a hundred times a second."""

from __future__ import annotations

import logging
import time
from typing import Final

_LOGGERS: Final = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.consumer.subscription_state",
    "aiokafka.coordinator.assignors.sticky.sticky_assignor",
    "aiokafka.producer.sender",
)
_EVERY_S: Final = 30.0


class _Seldom(logging.Filter):
    """Lets each message through once in a while, and news of normal life not at all."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.INFO:
            return False
        if record.levelno < logging.INFO:
            return True
        kind = record.name, str(record.msg)
        now = time.monotonic()
        if now - self._said_at.get(kind, float("-inf")) < _EVERY_S:
            return False
        self._said_at[kind] = now
        return True


_SELDOM: Final = _Seldom()


def calm() -> None:
    """Has aiokafka repeat itself less. May be called again."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_SELDOM)
