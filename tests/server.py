"""A `runstream up` of its own for a test: private home, spool and data, free ports, its output kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from runstream.client import Client

T = TypeVar("T")
PATIENCE_S = 90.0  # for waits that should take moments: the machine may be busy


def wait_for(condition: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S) -> T:
    """The first true value of a condition; fails when none comes."""
    deadline = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.02)


class Place:
    """A user of his own: home, spool and data under one folder, and the environment that says so."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.spool = root / "spool"
        self.data = root / "data"
        self.work = root / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.servers: list[subprocess.Popen[bytes]] = []
        self._server: Server | None = None
        self.settings: dict[str, str] = {}
        """More of the environment, for scripts and servers."""

    def environment(self, **more: str) -> dict[str, str]:
        """For scripts and servers of this place."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")}
        return {
            **kept,
            "RUNSTREAM_HOME": str(self.home),
            "RUNSTREAM_SPOOL": str(self.spool),
            "RUNSTREAM_DATA": str(self.data),
            "RUNSTREAM_AUTOSTART": "0",
            "RUNSTREAM_SENDER_OBSERVE": "0",  # what is written beside is of interest to few tests
            **self.settings,
            **more,
        }

    def discovery(self) -> dict[str, str] | None:
        """What the discovery file says."""
        try:
            content = json.loads((self.home / "server.json").read_text())
        except (OSError, ValueError):
            return None
        assert isinstance(content, dict)
        return content

    @property
    def log(self) -> Path:
        """What the servers of this place printed."""
        return self.root / "server.out"

    def launch(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """`runstream up` without waiting for it."""
        with open(self.log, "ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "runstream.cli", "up", *options],
                env=self.environment(**environment),
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.servers.append(process)
        return process

    def up(self, *options: str, **environment: str) -> Server:
        """`runstream up` that listens."""
        chosen = list(options)
        for option in ("--grpc-port", "--http-port"):
            if option not in chosen:
                chosen += [option, "0"]
        process = self.launch(*chosen, **environment)

        def listens() -> dict[str, str] | None:
            nonlocal process
            if process.poll() is not None:
                said = self.log.read_text()
                # Between its choice of a port and its use somebody may take it; it says what to do.
                assert said.endswith("just now. Start again.\n"), f"the server ended:\n{said}"
                process = self.launch(*chosen, **environment)
            found = self.discovery()
            return found if found is not None and int(found["pid"]) == process.pid else None

        found = wait_for(listens, f"the server to listen; it said:\n{self.log.read_text()}")
        self._server = Server(process, found)
        return self._server

    def join(self, host: Place) -> None:
        """The server of another place is found as if it was this user's; scripts work in a workspace of their
        own there."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        shutil.copy2(host.home / "server.json", self.home)
        self._server = host.server
        self.settings["RUNSTREAM_WORKSPACE"] = f"workspace-{os.urandom(6).hex()}"

    @property
    def server(self) -> Server:
        """The one that its scripts find."""
        assert self._server is not None
        return self._server

    @property
    def workspace(self) -> str:
        """Where its scripts work."""
        return self.settings.get("RUNSTREAM_WORKSPACE", "local")

    def client(self) -> Client:
        """What reads from the server."""
        from runstream.client import Client

        return Client(self.server.http, self.server.token)

    def runstream(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The command line."""
        return self.python(["-m", "runstream.cli", *arguments], environment)

    def script(self, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A script, to its end."""
        return self.python(["-c", code, *arguments], environment)

    def popen(self, code: str, **environment: str) -> subprocess.Popen[str]:
        """A script that goes on, with pipes to and from it."""
        return subprocess.Popen(
            [sys.executable, "-u", "-c", code],
            env=self.environment(**environment),
            cwd=self.work,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def python(
        self, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """An interpreter in this place."""
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment(**environment),
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )

    def sender(self) -> int:
        """Process id of the sender. Raises NoSenderError when none runs."""
        from runstream.sender.ask import ask

        before = os.environ.get("RUNSTREAM_HOME")
        os.environ["RUNSTREAM_HOME"] = str(self.home)
        try:
            return int(ask(str(self.spool), {"op": "info"}, 5.0)["pid"])
        finally:
            if before is None:
                del os.environ["RUNSTREAM_HOME"]
            else:
                os.environ["RUNSTREAM_HOME"] = before

    def close(self) -> None:
        """End what was started here: servers, and the sender."""
        for process in self.servers:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.end_sender()

    def end_sender(self) -> None:
        """Ask the sender to end, and wait until it has."""
        from runstream.sender.ask import NoSenderError

        try:
            pid = self.sender()
            os.kill(pid, signal.SIGTERM)
        except (NoSenderError, OSError):
            return  # there is none
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the sender to end")


class Server:
    """A server that listens."""

    def __init__(self, process: subprocess.Popen[bytes], discovery: Mapping[str, str]) -> None:
        self.process = process
        self.grpc = discovery["grpc"]
        self.http = discovery["http"]
        self.token = discovery["token"]
        self.discovery = discovery

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)
