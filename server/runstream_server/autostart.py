"""The server that a sender starts when nothing is configured: one per user, quiet, gone after a while.

It is told apart from one that a person started by `--autostarted`: its output goes to a file, its ports are
chosen once and kept, and it ends when nobody has used it for RUNSTREAM_IDLE_EXIT_S.
"""

from __future__ import annotations

import os

from runstream.home import home, read_discovery
from runstream_server.config import ServerConfig
from runstream_server.errors import DataFolderInUse, ServerError
from runstream_server.telemetry import configure_logging
from runstream_server.up import run
from runstream_store.ownership import OwnedByOther, Ownership

_LOG_BYTES = 1 << 20


def run_autostarted(config: ServerConfig) -> int:
    """As `up.run`; ends at once, and well, when this user has a server already."""
    folder = home()
    try:
        lock = Ownership(folder / "autostart.lock")
    except OwnedByOther:
        return 0
    try:
        found = read_discovery()
        if found is not None and found.alive():
            return 0
        _detach(folder / "server.log")
        return run(config)
    except DataFolderInUse:
        return 0
    except ServerError as error:
        configure_logging(config.log_level, config.log_format)
        print(f"runstream: {error}", flush=True)
        return 1
    finally:
        lock.release()


def _detach(log: os.PathLike[str]) -> None:
    """No terminal, no folder of anybody, output to the file, which is begun anew when it has grown."""
    os.chdir("/")
    os.umask(0o077)
    try:
        os.setsid()
    except PermissionError:  # the sender did it already
        pass
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if os.fstat(descriptor).st_size > _LOG_BYTES:
        os.ftruncate(descriptor, 0)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, source in ((0, null), (1, descriptor), (2, descriptor)):
        os.dup2(source, number)
    os.close(descriptor)
    os.close(null)
