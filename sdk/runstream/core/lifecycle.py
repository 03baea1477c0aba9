"""The end of a run, as the process that started it says it, and as others ask for it."""

import time
from time import time_ns
from types import TracebackType
from typing import Literal, Self

from runstream.capture import console, folders
from runstream.core import changes, delivery, exit
from runstream.core.handle import RunHandle
from runstream.core.notices import say
from runstream.core.record import FINAL
from runstream.core.state import ATTACHED
from runstream.errors import DeadlineError, UserError
from runstream.spool import layout
from runstream.spool.cancel import canceled_runs


class RunLifecycle(RunHandle):
    """Ends a run, and waits for what it logged to arrive.

    How a run ended is said by the process that started it; of a submitted run by its launcher, from the
    script's exit code.
    """

    def start(self) -> None:
        """Does nothing: a run is running from its start on. For scripts that call it."""

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
        code = "UserError" if error_code is None else str(error_code)
        self._end("Failed", layout.clean(message), layout.clean(code))

    def cancel(self) -> None:
        """End the run as canceled.

        From another process than the one that started it, this asks the server for its end: the status is
        CancelRequested until the run's processes have ended. Then it raises ServiceError when no server
        answers, or when the run is over.
        """
        state = self._state
        if state.submitted:
            say(
                f"cancel() inside of the submitted run {self.id} does nothing: end the script instead",
                once=f"cancel {self.id}",
            )
        elif state.decides() or state.silent:
            self._end("Canceled", "", "")
        else:
            changes.cancel(self._experiment.workspace, state)

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked for the end of this run, which this process logs to.

        A look at a small file, and no question to a server: cheap enough for every epoch.
        """
        channel = self._state.channel
        return self._state.used and self.id in canceled_runs(channel.writer.folder.path)

    def _end(self, status: str, message: str, code: str) -> None:
        state = self._state
        if state.decides() and state.status not in FINAL:  # the first end counts
            now = time_ns()
            content: dict[str, object] = {
                "status": status,
                "error_message": message[:100_000],
                "error_code": code,
            }
            self._before_end()
            console.end(state)
            folders.end(state)
            state.keep(lambda channel: channel.event(layout.RUN_ENDED, content, now, last_words=True))
            state.status = status
            facts = state.facts
            facts.ended_ns, facts.error_message, facts.error_code = now, message[:100_000], code
            state.record = None
        elif state.role == ATTACHED and not state.silent:
            say(
                f"{self.id} was started elsewhere: its status is not set by this process",
                once=f"end {self.id}",
            )
        delivery.drain_at_complete()

    def _before_end(self) -> None:
        """What is to be kept before the end is said."""

    def __enter__(self) -> Self:
        """What is printed in the block is kept in the run's log."""
        console.begin(self._state)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        state = self._state
        console.end(state)
        if state.status in FINAL:
            return False
        if not state.decides():
            delivery.drain_at_complete()
        elif error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
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
        given: object = timeout_seconds
        if not (isinstance(given, int | float) and given >= 0):
            raise UserError(f"timeout_seconds is a number of seconds, not {given!r:.100}")
        start = time.monotonic()
        _, _, problem = delivery.flush(timeout_seconds, files=True)
        if problem is None:
            return
        if problem.get("error") == "timeout":
            raise DeadlineError(
                f"not all that was logged is acknowledged after {time.monotonic() - start:.0f} s; "
                "it is kept and on its way"
            )
        delivery.tell_undelivered(problem)
