"""A server program as a child process: free ports, readiness by asking it, its log kept, a clean stop."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / ".cache" / "engines"
HOST: Final = "127.0.0.1"
_LEAST_PORT: Final = 15_000
_GIVEN_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")

# The kernel means the thread, not the process, when it watches who started another: so it is one that stays.
_SPAWNER: Final = ThreadPoolExecutor(1, thread_name_prefix="spawner")


class EngineMissing(Exception):
    """The program is not installed; the message says how to get it."""


class EngineFailed(Exception):
    """The program did not start; the message has the end of its log."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on, below those that the kernel gives to connections: one of
    these would be taken before a slow program listens."""
    chance, ports = random.SystemRandom(), range(_LEAST_PORT, _given_from())
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            one = socket.socket()
            try:
                one.bind((HOST, chance.choice(ports)))
            except OSError:  # taken, perhaps by another of these
                one.close()
            else:
                sockets.append(one)
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _given_from() -> int:
    """The first port that the kernel gives to who asks for none."""
    try:
        return max(int(_GIVEN_PORTS.read_text("ascii").split()[0]), _LEAST_PORT + 2_000)
    except OSError:
        return 32_768


def exchange(port: int, request: bytes, timeout_s: float = 2.0) -> bytes:
    """Sends bytes to a port of this machine, and gives the first that come back.

    :raises OSError: nobody answers.
    """
    with socket.create_connection((HOST, port), timeout_s) as connection:
        connection.settimeout(timeout_s)
        connection.sendall(request)
        return connection.recv(65536)


class Engine:
    """One server process. It ends with the process that started it, however that ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        ready: Callable[[], bool],
        *,
        start_s: float = 60.0,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """`ready` asks the server; it may raise OSError as long as nobody listens.

        :param environment: of the process; this one's by default.
        :param folder: where it runs; here by default.
        """
        self.name = name
        self.log = log
        self._command = list(command)
        self._ready = ready
        self._start_s = start_s
        self._environment = None if environment is None else dict(environment)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Starts it, and does not wait for it."""
        assert not self.running()
        command = self._command
        if setpriv := shutil.which("setpriv"):  # else it outlives a starter that is killed
            command = [setpriv, "--pdeathsig", "KILL", *command]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = _SPAWNER.submit(
                subprocess.Popen[bytes],
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._environment,
                cwd=self._folder,
            ).result()

    def wait(self) -> None:
        """Waits until it answers.

        :raises EngineFailed: it ended, or does not answer in time.
        """
        assert self._process is not None
        deadline = time.monotonic() + self._start_s
        while True:
            try:
                if self._ready():
                    return
            except OSError:
                pass
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                what = "does not answer" if code is None else f"ended with {code}"
                self.kill()
                raise EngineFailed(f"{self.name} {what}; the end of {self.log}:\n{self.last_words()}")
            time.sleep(0.1)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        self.spawn()
        self.wait()

    def stop(self, patience_s: float = 20.0) -> int | None:
        """Ends it in order; by force when that takes too long. The exit code, if it was ever started."""
        self._end(signal.SIGTERM, patience_s)
        return None if self._process is None else self._process.returncode

    def kill(self) -> None:
        """`kill -9`."""
        self._end(signal.SIGKILL, 10.0)

    def pause(self) -> None:
        """Stops it from running, as on a machine that hangs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def last_words(self, lines: int = 30) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _end(self, how: signal.Signals, patience_s: float) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(patience_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
