"""The end of a run, as the process that started it says it."""

import time
from time import time_ns
from types import TracebackType
from typing import Final, Literal, Self

from runstream.core import delivery, exit
from runstream.core.handle import RunHandle
from runstream.errors import DeadlineError
from runstream.spool import layout

_FINAL: Final = ("Completed", "Failed", "Canceled")


class RunLifecycle(RunHandle):
    """Ends a run, and waits for what it logged to arrive."""

    def complete(self) -> None:
        """End the run well. Waits a while for the delivery, but never longer than the bound for it."""
        self._end("Completed", "", "")

    def fail(self, error_details: str | BaseException | None = None, error_code: str | None = None) -> None:
        """End the run as failed. An exception gives its type, message and traceback."""
        if error_details is None:
            message = ""
        elif isinstance(error_details, BaseException):
            message = exit.describe(type(error_details), error_details, error_details.__traceback__)
        elif isinstance(error_details, str):
            message = error_details
        else:
            raise TypeError(f"error_details is a text or an exception, not {type(error_details).__name__}")
        self._end("Failed", message, "UserError" if error_code is None else str(error_code))

    def cancel(self) -> None:
        """End the run as canceled."""
        self._end("Canceled", "", "")

    def _end(self, status: str, message: str, code: str) -> None:
        state = self._state
        if state.decides() and state.status in _FINAL:
            status = state.status  # the first end counts
        elif state.decides():
            now = time_ns()
            content: dict[str, object] = {
                "status": status,
                "error_message": message[:100_000],
                "error_code": code,
            }
            state.keep(lambda channel: channel.event(layout.RUN_ENDED, content, now, last_words=True))
        state.status = status
        delivery.drain_at_complete()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        if self._state.status in _FINAL:
            return False
        if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.complete()
        elif isinstance(error, KeyboardInterrupt):
            self.cancel()
        elif isinstance(error, SystemExit):
            self.fail(f"exit code {error.code}")
        else:
            self.fail(error)
        return False

    def flush(self, timeout_seconds: float = 300) -> None:
        """Wait until the server has acknowledged everything that this process has logged.

        A server that can't be reached is told in a line, and nothing is waited for. Raises DeadlineError when
        it took too long.
        """
        start = time.monotonic()
        _, _, problem = delivery.flush(timeout_seconds)
        if problem is None:
            return
        if problem.get("error") == "timeout":
            raise DeadlineError(
                f"not all that was logged is acknowledged after {time.monotonic() - start:.0f} s; "
                "it is kept and on its way"
            )
        delivery.tell_undelivered(problem)
