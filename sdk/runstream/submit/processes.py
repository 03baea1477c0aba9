"""The processes of a submitted script: one for each rank, each with a process group of its own."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_LOOK_S: Final = 0.05


class Ranks:
    """Starts them together, and ends them together."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> None:
        """Start the next rank. What it prints goes to a file, through nobody. Raises OSError."""
        with open(log, "ab", buffering=0) as output:
            self._processes.append(
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                )
            )

    def failed(self) -> tuple[int, int] | None:
        """A rank that ended badly, and its exit code; negative: the signal that ended it."""
        for rank, process in enumerate(self._processes):
            if process.poll():
                return rank, int(process.returncode)
        return None

    def over(self) -> bool:
        """Whether all have ended."""
        return not [process for process in self._processes if process.poll() is None]

    def end(self, grace_s: float) -> None:
        """End all that is left of the groups: ask, and after the grace kill. Returns when it is gone."""
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while self._are_there() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        self._send(signal.SIGKILL)
        for process in self._processes:
            process.wait()

    def end_leftovers(self, grace_s: float) -> None:
        """End what the ranks have left running in their groups when they ended themselves."""
        if self._are_there():
            self.end(grace_s)

    def _send(self, number: int) -> None:
        for process in self._processes:
            try:
                os.killpg(process.pid, number)
            except (ProcessLookupError, PermissionError):
                continue  # all of the group are gone

    def _are_there(self) -> bool:
        there = False
        for process in self._processes:
            process.poll()
            try:
                os.killpg(process.pid, 0)
                there = there or _any_lives(process.pid)
            except (ProcessLookupError, PermissionError):
                continue
        return there


def _any_lives(group: int) -> bool:
    """Whether a group has more than zombies, which somebody else is to reap."""
    if sys.platform != "linux":
        return True
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            state, _, its_group = text.rpartition(")")[2].split()[:3]
            if its_group == str(group) and state not in "ZX":
                return True
    return False


def _end_with_parent() -> None:
    """Nobody would be there to cancel a script whose supervisor was killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def told(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
