"""Somebody asked for the end of a run: its process is told, and interrupted if that is safe.

It gets what Ctrl-C would send, so it can tidy up; the run then ends as Canceled. A process that has other
runs going on is only told: `run.cancel_requested` says so, and its program decides.
"""

import logging
import os
import signal
import sys

from runstream.sender.header import Header
from runstream.sender.tail import WriterTail
from runstream.spool import folder as places
from runstream.spool.cancel import add_canceled_run

log = logging.getLogger("runstream.sender")


def cancel(tail: WriterTail, run_id: str) -> None:
    """Tell the process. The second time nothing happens. Never raises."""
    try:
        if not tail.lives or not add_canceled_run(tail.folder, run_id):
            return
        log.info("%s: run %s is to be canceled", tail.header.writer.hex(), run_id)
        if tail.header.interrupt and _only_run(tail) == run_id and _is_there(tail.header):
            os.kill(tail.header.pid, signal.SIGINT)
    except OSError as error:
        log.warning("%s can't be told that run %s is to be canceled: %s", tail.folder, run_id, error)


def _only_run(tail: WriterTail) -> str | None:
    """The run that the process began and has not ended, if it is one."""
    going_on = [
        run.run
        for index, run in tail.definitions.runs.items()
        if run.role == "main" and (index not in tail.state.runs or tail.state.runs[index].ended is None)
    ]
    return going_on[0] if len(set(going_on)) == 1 else None


def _is_there(header: Header) -> bool:
    """Whether the process id still is that of the process that made the writer."""
    return (
        sys.platform != "win32"
        and header.boot_id == places.machine().boot_id
        and header.pid_ns is not None
        and header.pid_ns == places.pid_namespace()
        and header.pid_start is not None
        and places.lives(header.pid, header.pid_start)
    )
