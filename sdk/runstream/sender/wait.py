"""Waits for what other processes of this user have logged on this machine.

A reader that logged nothing itself has no position to wait for. But a script that ended a moment ago may have
left something that its sender is just delivering.
"""

import time
from pathlib import Path

from runstream.sender.ask import NoSenderError, ask
from runstream.sender.start import ensure_sender
from runstream.spool.folder import spool_root
from runstream.spool.listing import find_writers


def wait_arrived(server: str, timeout_s: float, root: Path | None = None, *, files: bool = False) -> bool:
    """Wait until all that is in a spool at this moment, and goes to a server, is in its log. False when that
    takes longer, or the server can't be reached; what goes elsewhere is not waited for. Never raises.

    Starts the sender when there is something for it.

    :param server: its gRPC address, host:port.
    :param root: the spool; None for that of this user.
    :param files: also for files that wait to be uploaded.
    """
    deadline = time.monotonic() + timeout_s
    try:
        root = root or spool_root()
        if next(find_writers(root), None) is None:
            return True
        ensure_sender(root)
        while (left := deadline - time.monotonic()) > 0:
            request = {
                "op": "arrive",
                "server": server,
                "files": files,
                "timeout_ms": max(1, int(left * 1000)),
            }
            try:
                answer = ask(str(root), request, left + 1.0)
            except NoSenderError:  # it is only starting
                answer = {"error": "no_sender"}
            if answer.get("error") not in ("no_sender", "malformed"):
                return bool(answer.get("ok"))
            time.sleep(0.02)
    except OSError:  # also TimeoutError
        pass
    return False
