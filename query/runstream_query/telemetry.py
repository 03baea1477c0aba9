"""What Prometheus is told about reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Histogram

from runstream_query.errors import QueryServiceError

REQUESTS: Final = Counter(
    "runstream_query_requests",
    "Requests that ended, by method, protocol and status.",
    ("method", "protocol", "code"),
)
SECONDS: Final = Histogram(
    "runstream_query_seconds",
    "Time from a request to the end of its answer, seconds. A stream that is read slowly takes long.",
    ("method",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)


@contextmanager
def observe(method: str, protocol: str) -> Iterator[None]:
    """Counts a request and its time."""
    start = time.perf_counter()
    code = "OK"
    try:
        yield
    except QueryServiceError as error:
        code = error.code
        raise
    except GeneratorExit:
        code = "CANCELED"
        raise
    except BaseException as error:
        code = getattr(error, "code", None) or "INTERNAL"
        code = str(getattr(code, "name", code))
        raise
    finally:
        REQUESTS.labels(method, protocol, code).inc()
        SECONDS.labels(method).observe(time.perf_counter() - start)
