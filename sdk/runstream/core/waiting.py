"""Waiting for the end of a run."""

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from runstream.core.notices import say
from runstream.core.record import FINAL
from runstream.errors import ActivityFailedError, ExperimentExecutionError, ServiceError

if TYPE_CHECKING:
    from runstream.core.run import Run

_FIRST_S: Final = 0.2
_LONGEST_S: Final = 10.0
_WITH_OUTPUT_S: Final = 1.0
_NEARLY_OVER: Final = (*FINAL, "CancelRequested", "Finalizing")


def wait(run: "Run", *, show: bool, to_the_end: bool) -> None:
    """Return when the run is over.

    :param show: print its log, and where it can be seen.
    :param to_the_end: also wait while it is being canceled or finalized.
    :raises ExperimentExecutionError: Ctrl-C ended the wait.
    :raises ServiceError: no server answers, and this process does not know the run's end by itself.
    """
    state = run._state
    if state.decides() and state.status not in FINAL:
        say(
            f"{run.id} was started by this process, which now waits for its end: call complete() before",
            once=f"wait {run.id}",
        )
    over = FINAL if to_the_end else _NEARLY_OVER
    follower = run._follower() if show else None
    if show:
        print(f"RunId: {run.id}\nWeb View: {run.get_portal_url()}", flush=True)
    pause, answered = _FIRST_S, False
    try:
        while True:
            try:
                status = run.get_status()
                answered = True
            except ServiceError as error:
                if not error.retryable or not answered:
                    raise
                say(f"{error}: still waiting for {run.id}", once=f"unreachable {run.id}")
                status = ""
            if follower is not None:
                follower.show()
            if status in over or state.silent:
                break
            time.sleep(pause)
            pause = min(pause * 1.5, _WITH_OUTPUT_S if show else _LONGEST_S)
        if follower is not None:
            follower.end()
    except KeyboardInterrupt:
        raise ExperimentExecutionError(
            f"the wait was ended; run {run.id} goes on. run.cancel() ends it, "
            "run.wait_for_completion() waits for it again"
        ) from None
    if show:
        _print_summary(run, status)


def _print_summary(run: "Run", status: str) -> None:
    print(
        f"\nExecution Summary\n=================\nRunId: {run.id}\nStatus: {status}\n"
        f"Web View: {run.get_portal_url()}",
        file=sys.stdout,
        flush=True,
    )


def raise_if_failed(run_id: str, details: dict[str, Any]) -> None:
    """Raises ActivityFailedError with what the run said when it failed."""
    if details["status"] != "Failed":
        return
    error = details.get("error", {}).get("error", {})
    message = error.get("message") or "it gave no reason"
    raise ActivityFailedError(f"run {run_id} failed ({error.get('code') or 'unknown'}): {message}")
