"""Plain downloads of logs: `GET /w/<workspace>/r/<run>/logs/<path>`, as far as the log is at that moment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from runstream.v1 import log_service_pb2, point_pb2
from runstream_query.access import Access, Sharing
from runstream_query.barrier import Barrier
from runstream_query.errors import NotFound
from runstream_query.files import SANDBOX, Send, begin
from runstream_query.log_service import Over
from runstream_query.logs import Log, LogReader, Places
from runstream_query.selection import checked_run
from runstream_query.services import translated, translated_stream

_BYTES: Final = 1 << 20


class LogDownloads:
    """Answers downloads of logs. They are text, whatever their bytes are, in the sandbox of `files`."""

    def __init__(self, reader: LogReader, barrier: Barrier, over: Over, access: Access) -> None:
        self._reader = reader
        self._barrier = barrier
        self._over = over
        self._access = access

    @staticmethod
    def takes(segments: Sequence[str]) -> bool:
        """Whether a path is a log's."""
        return len(segments) > 5 and (segments[0], segments[2], segments[4]) == ("w", "r", "logs")

    async def answer(
        self,
        method: str,
        segments: Sequence[str],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        authorization: str | None,
        send: Send,
    ) -> None:
        """Sends a log.

        :raises QueryServiceError: there is none, and nothing was sent.
        """
        run = point_pb2.RunRef(workspace=segments[1], run=segments[3])
        request = log_service_pb2.ReadLogRequest(run=run, path="/".join(segments[5:]))
        await translated(self._access.enter(authorization, request, Sharing.BY_RUNS))
        workspace, name = checked_run(run)
        await translated(self._barrier.reach_logs(request.barrier))
        await translated(self._over(workspace, name))
        found = await translated(self._reader.logs(workspace, name, request.path))
        if all(log.path != request.path for log in found):
            raise NotFound(f"run {name!r} has no log {request.path!r}; ListLogs tells which there are")
        how = "attachment" if "download" in query else "inline"
        filename = quote(request.path.rpartition("/")[2], safe="", errors="replace")
        fixed = [
            *SANDBOX,
            (b"cache-control", b"private, no-cache"),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-disposition", f"{how}; filename*=UTF-8''{filename}".encode()),
        ]
        await begin(send, 200, fixed)  # without a length: the log may be growing
        if method != "HEAD":
            async for data in translated_stream(self._read(Log(workspace, name, request.path))):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body"})

    async def _read(self, log: Log) -> AsyncGenerator[Any, None]:
        places: Places = {}
        more = True
        while more:
            page = await self._reader.page(log, places, _BYTES)
            places, more = page.places, page.more
            for part in page.parts:
                yield part.data
