"""Waits for what other processes of this user have logged on this machine.

A reader that logged nothing itself has no position to wait for. But a script that ended a moment ago may have
left something that its sender is just delivering.
"""

import time

from runstream.sender.ask import NoSenderError, ask
from runstream.sender.start import ensure_sender
from runstream.spool.folder import spool_root
from runstream.spool.listing import find_writers


def wait_delivered(timeout_s: float) -> bool:
    """Wait until nothing that was logged here before is undelivered. False when that takes longer.

    Starts the sender when there is something for it. Never raises.
    """
    deadline = time.monotonic() + timeout_s
    try:
        root = spool_root()
        if next(find_writers(root), None) is None:
            return True
        ensure_sender(root)
        while time.monotonic() < deadline:
            try:
                info = ask(str(root), {"op": "info"}, max(0.01, deadline - time.monotonic()))
            except NoSenderError:  # it is only starting
                info = {}
            if info.get("connected") and not info["undelivered"]:
                return True
            time.sleep(0.02)
    except OSError:  # also TimeoutError
        pass
    return False
