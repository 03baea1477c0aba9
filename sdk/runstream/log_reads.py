"""Logs: the log service over HTTP, in the Connect protocol. `Client` has these methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from runstream.v1.log_service_pb2 import ListLogsResponse, LogPart, ReadLogResponse

_SERVICE: Final = "/runstream.v1.LogService/"
_WAIT_S: Final = 30.0
_PAGE_BYTES: Final = 1 << 20
_FOLLOW_MS: Final = 10_000


class LogReads:
    """Reads what runs have printed, and the text files that they write while they run.

    All raise NotFoundError for a run that the server doesn't know.
    """

    def _call(self, path: str, request: Message, response: type[Any], wait_s: float = 0.0) -> Any:
        """See `Client`."""
        raise NotImplementedError

    def list_logs(
        self, workspace: str, run: str, prefix: str = "", *, positions: Iterable[Any] = ()
    ) -> ListLogsResponse:
        """The logs of a run whose paths begin with `prefix`, and whether nothing more will come.

        :param positions: what must be readable first.
        """
        from runstream.v1 import log_service_pb2 as messages

        request = messages.ListLogsRequest(prefix=prefix)
        request.run.workspace, request.run.run = workspace, run
        _bar(request.barrier, positions)
        found: ListLogsResponse = self._call(
            _SERVICE + "ListLogs", request, messages.ListLogsResponse, _WAIT_S
        )
        return found

    def read_log_page(
        self,
        workspace: str,
        run: str,
        path: str,
        *,
        token: str = "",
        tail_lines: int | None = None,
        tail_bytes: int | None = None,
        ranks: Iterable[int] = (),
        wait_ms: int = 0,
        page_bytes: int = _PAGE_BYTES,
        positions: Iterable[Any] = (),
    ) -> ReadLogResponse:
        """A page of a log, from its beginning, or where the page with this token ended, or of its end.

        :param wait_ms: how long the server waits for there to be something.
        """
        from runstream.v1 import log_service_pb2 as messages

        request = messages.ReadLogRequest(
            path=path, page_token=token, ranks=ranks, wait_ms=wait_ms, page_bytes=page_bytes
        )
        request.run.workspace, request.run.run = workspace, run
        if tail_lines is not None:
            request.tail_lines = tail_lines
        elif tail_bytes is not None:
            request.tail_bytes = tail_bytes
        _bar(request.barrier, positions)
        page: ReadLogResponse = self._call(
            _SERVICE + "ReadLog", request, messages.ReadLogResponse, _WAIT_S + wait_ms / 1000
        )
        return page

    def read_log(
        self, workspace: str, run: str, path: str, *, follow: bool = False, **first: Any
    ) -> Iterator[LogPart]:
        """A log as it is now; with `follow` until the run is over. Parameters as of `read_log_page`."""
        token = ""
        while True:
            wait_ms = _FOLLOW_MS if follow else 0
            page = self.read_log_page(workspace, run, path, token=token, wait_ms=wait_ms, **first)
            yield from page.parts
            token = page.next_page_token
            if not token or not (page.more or follow):
                return


def _bar(barrier: Any, positions: Iterable[Any]) -> None:
    """Fills in what a read waits for."""
    from runstream.client import LogPosition

    for position in positions:
        given: Mapping[str, Any] = LogPosition.of(position)._asdict()
        barrier.positions.add(**given)
    barrier.timeout_ms = round(_WAIT_S * 1000)
