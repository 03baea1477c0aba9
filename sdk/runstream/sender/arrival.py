"""Arrivals: readers that wait for what other processes of this user have logged on this machine."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from runstream.sender.stream import Publisher
from runstream.sender.tail import WriterTail

_MOST_WAIT_S = 300.0


class Arrival:
    """One reader's wish that all which is in the spools now, and goes to its server, is in the log."""

    def __init__(self, request: dict[str, Any], answer: "Future[dict[str, Any]]") -> None:
        """Raises ValueError, KeyError or TypeError when the request is malformed."""
        self._server = str(request["server"])
        self._deadline = time.monotonic() + min(float(request.get("timeout_ms", 5_000)) / 1000, _MOST_WAIT_S)
        self._with_files = bool(request.get("files"))
        self._files: dict[WriterTail, set[int]] = {}
        self._answer = answer
        self._polls_left = 2  # a commit is taken in the poll after the one that saw it
        self._ends: dict[WriterTail, int] | None = None
        self._attempts: dict[Publisher, int] = {}

    def polled(self) -> None:
        """The spools were looked at."""
        self._polls_left = max(self._polls_left - 1, 0)

    def check(
        self, served: Mapping[WriterTail, Publisher], publishers: Sequence[Publisher], now: float
    ) -> bool:
        """Answer if it can be answered now."""
        if self._polls_left:
            return False
        if self._ends is None:
            self._ends = {tail: tail.reader.seen for tail in served}
            if self._with_files:
                self._files = {tail: set(tail.uploads.look(thoroughly=True)) for tail in served}
            for publisher in publishers:
                self._attempts[publisher] = publisher.attempts
                publisher.dial_now()
        waiting = [
            tail
            for tail, end in self._ends.items()
            if tail in served
            and self._concerns(served[tail])
            and not (tail.delivered(end) and tail.uploads.settled(self._files.get(tail, set())))
        ]
        hopeless = [tail for tail in waiting if self._failed(served[tail])]
        if not waiting:
            self._answer.set_result({"ok": True, "undelivered": 0})
        elif now >= self._deadline or len(hopeless) == len(waiting):
            error = "timeout" if now >= self._deadline else "unreachable"
            self._answer.set_result({"ok": False, "error": error, "undelivered": len(waiting)})
        else:
            return False
        return True

    def end(self) -> None:
        """The sender ends; another one follows."""
        self._answer.set_result({"ok": False, "error": "no_sender", "undelivered": 0})

    def _concerns(self, publisher: Publisher) -> bool:
        """Whether it delivers to the server that is read. One that has not dialled yet may."""
        return publisher.target is None or publisher.target.grpc == self._server

    def _failed(self, publisher: Publisher) -> bool:
        return not publisher.ready and publisher.attempts > self._attempts.get(publisher, 0)
