"""Errors of the query service.

::

    QueryServiceError
    ├── InvalidArgument      the request is not one that this service can answer
    ├── Unauthenticated      no token, or nobody's
    ├── PermissionDenied     the caller may not do that
    ├── NotFound             there is no such run
    ├── DeadlineExceeded     what the request waits for did not come in time
    ├── FailedPrecondition   what the request waits for can never come
    ├── ResourceExhausted    the answer needs more than the server gives to one request
    └── Unavailable          the server cannot answer now (retryable)

`code` is the name of the status in gRPC, in capitals, and in the Connect protocol, in small letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from google.protobuf.message import Message

from runstream_store import errors as store


class QueryServiceError(Exception):
    """Any error that a caller is told of."""

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False
    details: Sequence[Message] = ()
    """What programs need to know beside the text, as messages of the contract."""


class InvalidArgument(QueryServiceError):
    """The request is not one that this service can answer."""

    code = "INVALID_ARGUMENT"


class Unauthenticated(QueryServiceError):
    """No token, or nobody's."""

    code = "UNAUTHENTICATED"


class PermissionDenied(QueryServiceError):
    """The caller may not do that."""

    code = "PERMISSION_DENIED"


class NotFound(QueryServiceError):
    """There is no such run."""

    code = "NOT_FOUND"


class DeadlineExceeded(QueryServiceError):
    """What the request waits for did not come in time."""

    code = "DEADLINE_EXCEEDED"


class FailedPrecondition(QueryServiceError):
    """What the request waits for can never come."""

    code = "FAILED_PRECONDITION"


class ResourceExhausted(QueryServiceError):
    """The answer needs more than the server gives to one request."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(QueryServiceError):
    """The server cannot answer now."""

    code = "UNAVAILABLE"
    retryable = True


def from_store(error: store.StoreError) -> QueryServiceError:
    """What a caller is told of an error of the engines."""
    if isinstance(error, store.QueryTimeout):
        return DeadlineExceeded("the tables took too long to answer; ask for less at once")
    if isinstance(error, store.QueryTooLarge):
        return ResourceExhausted(
            "the answer needs more memory than one request may have; ask for less at once"
        )
    if error.retryable or isinstance(error, store.ClosedError):
        return Unavailable(f"the tables do not answer now: {error}")
    return QueryServiceError(f"the tables refused the query: {error}")
