"""Flushes: scripts that wait until what they logged is in the log."""

import time
from concurrent.futures import Future
from typing import Any

from runstream.sender.stream import Publisher
from runstream.sender.tail import WriterTail

_MOST_WAIT_S = 3600.0


class Flush:
    """One script's wish, and whether it is fulfilled."""

    def __init__(self, request: dict[str, Any], answer: "Future[dict[str, Any]]") -> None:
        """Raises ValueError, KeyError or TypeError when the request is malformed."""
        self.writer = str(request["writer"])
        self._seq_end = int(request["seq_end"])
        self._deadline = time.monotonic() + min(float(request.get("timeout_ms", 30_000)) / 1000, _MOST_WAIT_S)
        self._logs = bool(request.get("logs"))  # wait for them too
        self._answer = answer
        self._polls_left = 2  # a commit is taken in the poll after the one that saw it
        self._attempts: int | None = None
        self._with_files = bool(request.get("files"))
        self._files: set[int] | None = None
        self.patient = False  # only files are waited for: whoever uploads them says when they are there

    def polled(self) -> None:
        """The spools were looked at."""
        self._polls_left = max(self._polls_left - 1, 0)

    def check(self, tail: WriterTail | None, publisher: Publisher | None, starting: bool, now: float) -> bool:
        """Answer if it can be answered now. `starting`: a server was just started and may come up."""
        if tail is None or publisher is None:
            self._fail("unknown_writer", "no such writer in this spool", 0)
        elif not self._polls_left and tail.delivered(self._seq_end) and self._rest(tail):
            positions = [
                {"topic": p.topic, "partition": p.partition, "offset": p.offset, "epoch": p.epoch}
                for p in tail.state.positions.values()
                if p.topic != "logs" or self._logs
            ]
            self._answer.set_result({"ok": True, "positions": positions, "http": publisher.http_url})
        elif now >= self._deadline:
            error = "timeout" if publisher.ready else "starting" if starting else "unreachable"
            self._fail(
                error, publisher.problem or "the server has not acknowledged in time", self._left(tail)
            )
        elif not publisher.ready and not starting and self._tried(publisher):
            self._fail("unreachable", publisher.problem or "", self._left(tail))
        else:
            return False
        return True

    def _rest(self, tail: WriterTail) -> bool:
        """Whether files and logs are in the log too, if that is wished."""
        return self._uploaded(tail) and (not self._logs or tail.logs_delivered())

    def _uploaded(self, tail: WriterTail) -> bool:
        """Whether the files are in the log that waited when this was asked, if that is wished too."""
        if not self._with_files:
            return True
        if self._files is None:
            self._files = set(tail.uploads.look(thoroughly=True))
        self.patient = True
        return tail.uploads.settled(self._files)

    def _left(self, tail: WriterTail) -> int:
        """How many calls, and files, are not acknowledged; the reader may not have got to all of them."""
        files = tail.uploads.pending if self._with_files else 0
        return max(self._seq_end - tail.state.acked_seq, 0) + files

    def _tried(self, publisher: Publisher) -> bool:
        """Whether an attempt that began after the wish has failed."""
        if self._attempts is None:
            self._attempts = publisher.attempts
            publisher.dial_now()
        return publisher.attempts > self._attempts

    def _fail(self, error: str, detail: str, undelivered: int) -> None:
        self._answer.set_result({"ok": False, "error": error, "detail": detail, "undelivered": undelivered})
