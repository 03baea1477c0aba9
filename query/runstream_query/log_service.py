"""LogService: what each call does, whatever protocol it came by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from runstream.v1 import log_service_pb2 as messages
from runstream_query import tokens
from runstream_query.barrier import Barrier
from runstream_query.errors import InvalidArgument
from runstream_query.logs import Log, LogReader, Page
from runstream_query.selection import checked_run
from runstream_query.services import Service

Over = Callable[[str, str], Awaitable[bool]]
"""Says of a workspace's run whether it has ended and all that its writers logged is in the tables.

:raises NotFound: nothing is known of it.
"""

_BYTES: Final = 1 << 20
_MOST_BYTES: Final = 3 << 20
_MOST_WAIT_MS: Final = 60_000
_MOST_LINES: Final = 1_000_000
_LOOK_S: Final = 0.1  # between looks at how far the tables are
_BLIND_S: Final = 1.0  # and between looks at the log, whatever they say
_OVER_S: Final = 1.0  # between looks at whether the run is over


class LogServicer:
    """Answers requests."""

    def __init__(self, reader: LogReader, barrier: Barrier, over: Over) -> None:
        self._reader = reader
        self._barrier = barrier
        self._over = over

    async def list_logs(self, request: messages.ListLogsRequest) -> messages.ListLogsResponse:
        """The logs of a run."""
        workspace, run = checked_run(request.run)
        await self._barrier.reach_logs(request.barrier)
        ended = await self._over(workspace, run)
        if ended:  # between the two something may have come
            await self._barrier.reach_logs(request.barrier)
        found = await self._reader.logs(workspace, run, request.prefix)
        return messages.ListLogsResponse(logs=found, ended=ended)

    async def read_log(self, request: messages.ReadLogRequest) -> messages.ReadLogResponse:
        """A page of a log."""
        if request.wait_ms > _MOST_WAIT_MS:
            raise InvalidArgument(f"wait_ms is {request.wait_ms:,}; at most {_MOST_WAIT_MS:,}")
        following = _Following(self._reader, self._barrier, self._over, request)
        await following.begin()
        page = await following.next(request.wait_ms / 1000)
        token = "" if page is None else following.token
        return messages.ReadLogResponse(
            parts=page.parts if page else (), next_page_token=token, more=page.more if page else False
        )

    async def watch_log(
        self, request: messages.WatchLogRequest
    ) -> AsyncGenerator[messages.WatchLogResponse, None]:
        """Streams a log."""
        following = _Following(self._reader, self._barrier, self._over, request.request)
        await following.begin()
        while (page := await following.next(_MOST_WAIT_MS / 1000)) is not None:
            if page.parts:
                yield messages.WatchLogResponse(parts=page.parts, page_token=following.token)
        yield messages.WatchLogResponse()


class _Following:
    """One reader of one log, and where he is."""

    def __init__(
        self, reader: LogReader, barrier: Barrier, over: Over, request: messages.ReadLogRequest
    ) -> None:
        workspace, run = checked_run(request.run)
        if not request.path:
            raise InvalidArgument("path is empty: ListLogs tells which logs there are")
        if any(rank >= 2**31 for rank in request.ranks):
            raise InvalidArgument("ranks: a rank is at most 2147483647")
        self._most = request.page_bytes or _BYTES
        if self._most > _MOST_BYTES:
            raise InvalidArgument(f"page_bytes is {self._most:,}; at most {_MOST_BYTES:,}")
        if request.tail_lines > _MOST_LINES:
            raise InvalidArgument(f"tail_lines is {request.tail_lines:,}; at most {_MOST_LINES:,}")
        ranks = tuple(sorted(set(request.ranks)))
        self._log = Log(workspace, run, request.path, ranks)
        self._bound_to = tokens.digest("ReadLog", workspace, run, request.path, repr(ranks))
        self._request = request
        self._reader = reader
        self._barrier = barrier
        self._over = over
        self._places: dict[str, int] = {}

    async def begin(self) -> None:
        """Waits for what is to be waited for, and finds where to begin.

        :raises NotFound: there is no such run.
        """
        request = self._request
        if request.page_token:
            (places,) = tokens.decode(self._bound_to, request.page_token, dict)
            if not all(isinstance(place, int) and 0 <= place < 1 << 64 for place in places.values()):
                raise InvalidArgument("page_token is not a token of this version")
            self._places = places
            return
        await self._barrier.reach_logs(request.barrier)
        await self._over(self._log.workspace, self._log.run)
        start = request.WhichOneof("start")
        if start == "offset":
            self._places = await self._reader.skip(self._log, request.offset)
        elif start == "tail_bytes":
            self._places = await self._reader.tail(self._log, request.tail_bytes)
        elif start == "tail_lines":
            self._places = await self._reader.tail_lines(self._log, request.tail_lines)

    @property
    def token(self) -> str:
        """To go on here."""
        return tokens.encode(self._bound_to, [self._places])

    async def next(self, wait_s: float) -> Page | None:
        """What comes next; empty when nothing came in time; None when nothing will come."""
        deadline = time.monotonic() + wait_s
        looked_over = 0.0
        over = False
        while True:
            now = time.monotonic()
            if now - looked_over >= _OVER_S:
                over = await self._over(self._log.workspace, self._log.run)
                looked_over = now
                if over:  # before what is read now, so that it is all
                    await self._barrier.reach_logs(None)
            before = await self._barrier.applied("logs")
            page = await self._reader.page(self._log, self._places, self._most)
            self._places = page.places
            if page.parts:
                return page
            if over:
                return None
            if (left := deadline - time.monotonic()) <= 0:
                return page
            await self._news(before, min(left, _BLIND_S))

    async def _news(self, before: object, patience_s: float) -> None:
        """Waits until the tables hold more than they did."""
        deadline = time.monotonic() + patience_s
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(_LOOK_S, left))
            if await self._barrier.applied("logs") != before:
                return


def log_service(servicer: LogServicer) -> Service:
    """The service, to be mounted."""
    return Service(
        messages.DESCRIPTOR.services_by_name["LogService"],
        servicer,
        shared=frozenset(("ListLogs", "ReadLog")),
    )
