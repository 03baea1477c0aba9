"""Starts this user's server when none is configured, none is found, and one is installed."""

import importlib.util
import logging
import os
import subprocess
import sys

from runstream import home
from runstream.sender.header import Header
from runstream.sender.stream import Publisher

log = logging.getLogger("runstream.sender")

_STARTS_WITHIN_S = 30.0
_AGAIN_S = 60.0
# Where a server beside the script would be of no use, or a nuisance to the others.
_NOT_UNDER = ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST", "CI")


class Autostart:
    """At most one server, started when a writer waits for one."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled and not any(os.environ.get(name) for name in _NOT_UNDER)
        self._wanted = False
        self._server: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._not_before = 0.0

    def consider(self, header: Header) -> None:
        """A writer is there. One of a single process may want a server."""
        if header.server is None and (header.world_size or 1) == 1:
            self._wanted = True

    @property
    def may_start(self) -> bool:
        """Whether a server will be started when none is found."""
        return self._enabled and self._wanted and importlib.util.find_spec("runstream_server") is not None

    def starting(self, now: float) -> bool:
        """Whether a server was started a moment ago and may still come up."""
        return (
            self._server is not None
            and self._server.poll() is None
            and now - self._started_at < _STARTS_WITHIN_S
        )

    def step(self, publisher: Publisher, now: float) -> None:
        """Start a server if it is time to."""
        if self._server is not None and self._server.poll() is not None:
            if self._server.returncode != 0:
                log.error(
                    "the server ended with %d; see %s", self._server.returncode, home.home() / "server.log"
                )
            self._server = None
        if (
            not self._enabled
            or not self._wanted
            or publisher.ready
            or not publisher.attempts  # one that runs is found first
            or now < self._not_before
            or self._server is not None
        ):
            return
        found = home.read_discovery()
        if found is not None and found.alive():
            return  # it is there and does not answer yet
        self._not_before = now + _AGAIN_S
        if importlib.util.find_spec("runstream_server") is None:
            self._enabled = False
            return
        self._started_at = now
        self._server = _start()
        publisher.dial_now()


def _start() -> "subprocess.Popen[bytes] | None":
    log.info("starting a server for this user")
    command = [sys.executable, "-P", "-c", "from runstream.cli import main; main()", "up", "--autostarted"]
    try:
        with open(home.home() / "server.log", "ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
    except OSError as error:
        log.error("no server could be started: %s", error)
        return None
