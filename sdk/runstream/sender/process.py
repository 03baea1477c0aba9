"""The sender as a process: lock, log, signals."""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from runstream import __version__, home
from runstream.sender.start import SENDER_BYTE


def main() -> None:
    """Serve a spool root until there is nothing left to do."""
    parser = argparse.ArgumentParser(prog="python -m runstream.sender", description=__doc__)
    parser.add_argument("--spool", required=True, type=Path, help="root of the spools to deliver")
    root = parser.parse_args().spool.absolute()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(process)d %(message)s"
    )
    path = home.sender_lock(root)
    descriptor = take_lock(path)
    if descriptor is not None:
        serve(root, lambda: same_file(descriptor, path))


def same_file(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to an open file, which somebody may have removed or replaced."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
    except OSError:  # out of reach for a moment
        return True


def take_lock(path: Path) -> int | None:
    """Take the sender's lock for as long as the descriptor is open. None when another sender has it."""
    if sys.platform == "win32":
        import msvcrt

        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return None
        return descriptor
    else:
        import fcntl

        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(20):
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, SENDER_BYTE)
            except OSError:
                time.sleep(0.05)  # one that hands over is about to end
            else:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, __version__.encode(), 0)  # a newer client asks for a newer sender
                return descriptor
        os.close(descriptor)
        return None


def serve(root: Path, appointed: Callable[[], bool]) -> None:
    """Serve with the lock held."""
    # Imported late: a second sender ends before it has loaded gRPC.
    from runstream.sender.control import Control
    from runstream.sender.service import Sender
    from runstream.sender.settings import SenderSettings

    _raise_limits()
    sender = Sender(root, SenderSettings.read(), appointed)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sender.stop())
    control = Control(home.sender_socket(root), sender.ask)
    logging.getLogger("runstream.sender").info("serving %s", root)
    try:
        sender.run()
    finally:
        control.close()


def _raise_limits() -> None:
    """Each spool needs a few descriptors, and there may be a thousand."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
        except (ValueError, OSError):
            pass
