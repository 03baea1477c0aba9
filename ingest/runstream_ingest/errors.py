"""Errors of ingest and of the writers.

::

    IngestError
    ├── RecordRefused    one record can't be taken, and why; told to its sender, or kept as a dead letter
    ├── RequestMalformed the bytes are no request at all
    └── LogSetBack       the log is older than what was applied of it; a person must look

Errors of the store (`runstream_store.errors`) pass through.
"""

from __future__ import annotations

from runstream.v1.error_pb2 import ErrorCode


class IngestError(Exception):
    """Any error of this package."""


class RecordRefused(IngestError):
    """One record can't be taken. The rest of its request is unharmed."""

    def __init__(self, code: ErrorCode.ValueType, reason: str, *, retryable: bool = False) -> None:
        """
        :param code: why, for programs.
        :param reason: one sentence for a person.
        :param retryable: the same bytes may be accepted later.
        """
        super().__init__(reason)
        self.code = code
        self.reason = reason if len(reason) <= 1000 else reason[:999] + "…"
        self.retryable = retryable


class RequestMalformed(IngestError):
    """The bytes are no request, so that there is no record to answer for."""


class LogSetBack(IngestError):
    """The event log is not the one that was applied, or an older copy of it. The writer stops."""


def malformed(reason: str) -> RecordRefused:
    """The bytes are not the message they claim to be."""
    return RecordRefused(ErrorCode.ERROR_CODE_MALFORMED, reason)


def invalid(reason: str) -> RecordRefused:
    """A field is outside of its range."""
    return RecordRefused(ErrorCode.ERROR_CODE_INVALID, reason)


def too_large(reason: str) -> RecordRefused:
    """More than is taken in one record."""
    return RecordRefused(ErrorCode.ERROR_CODE_TOO_LARGE, reason)


def unsupported(reason: str) -> RecordRefused:
    """A version or a kind that this server does not know."""
    return RecordRefused(ErrorCode.ERROR_CODE_UNSUPPORTED, reason)


def unavailable(reason: str) -> RecordRefused:
    """Not now."""
    return RecordRefused(ErrorCode.ERROR_CODE_UNAVAILABLE, reason, retryable=True)
