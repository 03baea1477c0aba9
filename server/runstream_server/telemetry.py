"""What the server says of itself on stderr: structured, and little."""

from __future__ import annotations

import json
import logging
import os
import sys
import time

# Attributes that every record has; what else a record has was given by `extra=`.
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}


def _stamp(created: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created)) + f".{int(created % 1 * 1000):03}Z"


class JsonLines(logging.Formatter):
    """An object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; fields that were given with it stand beside the message."""
        line: dict[str, object] = {
            "time": _stamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextLines(logging.Formatter):
    """A line for people, with key=value at its end."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        parts = [_stamp(record.created), record.levelname.lower(), f"{record.name}:", record.getMessage()]
        parts += [f"{key}={value}" for key, value in _fields(record).items()]
        text = " ".join(parts)
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure_logging(level: str, format: str) -> None:
    """Send all logging to stderr. Called once, by the process's command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if format == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    # gRPC's C core writes to stderr in its own form, from the import on.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR" if level == "debug" else "NONE")
