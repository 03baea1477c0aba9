"""A whole runstream of real processes for a benchmark: server, sender, scripts, and what each of them costs.

Scripts get `run` functions and speak over their pipes: what they print as a line of JSON is an answer, a line
that they read is the word to go on.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.server import Place, Server, wait_for

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")

PRELUDE: Final = """
import json, os, sys, time
from runstream import Experiment, Run, Workspace
experiment = Experiment(Workspace.from_config(), "bench")

def say(**content):
    print(json.dumps(content), flush=True)

def wait():
    return json.loads(sys.stdin.readline() or "null")
"""

# Waits until a run's metric "end" has a value for each of its writers, and says when that was.
READER: Final = (
    PRELUDE
    + """
say(ready=True)
while (what := wait()) is not None:
    run = Run(experiment, what["run"])
    ends = 0
    while ends < what["ends"]:
        found = run.get_metrics("end").get("end", [])
        ends = len(found) if isinstance(found, list) else 1
        if ends < what["ends"]:
            time.sleep(what.get("pause_s", 0.03))
    say(at=time.time())
"""
)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, 0.0 when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) * _TICK_S


def memory_mb(pid: int) -> float:
    """Private memory of a process, MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


class Script:
    """A Python process that is talked to."""

    def __init__(self, place: Place, code: str, *arguments: object, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=place.environment(**environment),
            cwd=place.work,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def answer(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a script ended with {self._process.wait()}")
        content = json.loads(line)
        assert isinstance(content, dict)
        return content

    def go(self, **content: object) -> None:
        """Lets it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(content) + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Lets it end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class System:
    """A server, and the sender that comes with the first script."""

    def __init__(self, place: Place, server: Server | None) -> None:
        self.place = place
        self.server = server

    def script(self, code: str, *arguments: object, **environment: str) -> Script:
        """A script in this place, with the words of `PRELUDE`."""
        return Script(self.place, PRELUDE + code, *arguments, **environment)

    def reader(self) -> Script:
        """The process that finds out when something can be read."""
        reader = Script(self.place, READER)
        reader.answer()
        return reader

    def sender(self) -> int:
        """The sender's pid. Its parent is the supervisor."""
        from runstream.sender.ask import NoSenderError, ask

        def look() -> int | None:
            try:
                return int(ask(str(self.place.spool), {"op": "info"}, 10.0)["pid"])
            except NoSenderError:  # it is only starting
                return None

        with self.environment():
            return wait_for(look, "the sender")

    @contextmanager
    def environment(self) -> Iterator[None]:
        """This process belongs to the place for a while."""
        before = {name: value for name, value in os.environ.items() if name.startswith("RUNSTREAM_")}
        for name in before:
            del os.environ[name]
        own = {name: v for name, v in self.place.environment().items() if name.startswith("RUNSTREAM_")}
        os.environ.update(own)
        try:
            yield
        finally:
            for name in own:
                del os.environ[name]
            os.environ.update(before)

    def folder_bytes(self, *paths: Path) -> int:
        """Bytes that files and folders take on the disk."""
        total = 0
        for path in paths:
            found = [path]
            for root, _, names in os.walk(path):  # which skips what is removed meanwhile
                found += [Path(root, name) for name in names]
            for one in found:
                try:
                    total += one.lstat().st_blocks * 512
                except OSError:
                    pass
        return total


@contextmanager
def system(
    *, server: bool = True, settings: Mapping[str, str] | None = None, **environment: str
) -> Iterator[System]:
    """A place of its own, with a server unless that comes later.

    :param settings: of scripts and server; `environment` is the server's alone.
    """
    with tempfile.TemporaryDirectory(prefix="runstream-bench-", ignore_cleanup_errors=True) as folder:
        place = Place(Path(folder))
        place.settings.update(settings or {})
        try:
            yield System(place, place.up(**environment) if server else None)
        finally:
            place.close()


class Costs:
    """CPU seconds of processes by part, from now on."""

    def __init__(self, **pids: int | Sequence[int]) -> None:
        self._pids = {part: [pid] if isinstance(pid, int) else list(pid) for part, pid in pids.items()}
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {part: sum(map(cpu_s, pids)) for part, pids in self._pids.items()}

    def used(self) -> dict[str, float]:
        """CPU seconds since this was made."""
        return {part: after - self._before[part] for part, after in self._now().items()}


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Median, least and greatest."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} … {max(values):{form}})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of all values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def verdict(value: float, target: float, *, most: bool = False) -> str:
    """Whether a figure reaches its target: at least that, or with `most` at most that."""
    met = value <= target if most else value >= target
    return f"target {'≤' if most else '≥'} {target:,g}: {'met' if met else 'MISSED'}"
