"""Looks at processes that log, from outside: a child process of the sender.

It is told on standard input, a JSON object a line, which processes there are and which runs they have, and
keeps what it sees in spools of its own, which the sender delivers as any other. It ends when standard input
does. Nothing of this takes a thread or a moment of the processes that are looked at.
"""

import json
import os
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runstream.capture.source import Source, read_source
from runstream.capture.system import System
from runstream.spool import folder as places
from runstream.spool import layout
from runstream.spool.folder import WriterFolder
from runstream.spool.writer import Origin, Target, Writer

SAMPLE_S: Final = 5.0
_FIRST_S: Final = 1.0
_MOST_LINE: Final = 1 << 20
_IDLE_S: Final = 10.0  # without a process to look at
_TOGETHER_S: Final = 10.0  # runs of one process that begin within this share a spool


@dataclass(slots=True, eq=False)
class _Spool:
    """What is said of runs that began at about the same time. It ends with the last of them."""

    writer: Writer
    until: float
    """Takes runs that begin before."""
    runs: dict[str, int] = field(default_factory=dict)
    """Those that have not ended, and their numbers in it."""


class Observed:
    """One process."""

    def __init__(self, told: dict[str, Any], writer: Callable[[], Writer]) -> None:
        self.pid = int(told["pid"])
        self._start = told["pid_start"]
        self._told = told
        self._writer = writer
        self._runs: dict[str, dict[str, Any]] = {}
        self._spools: list[_Spool] = []
        self._source: Source | None = None
        self._first = ""
        self._itself = told["observe"]
        samples = "system" in self._itself["what"]
        self._system = System(self.pid, self._itself["folder"] or "/") if samples else None
        self._due = time.monotonic() + _FIRST_S
        if self._system is not None:
            self._system.sample(time.monotonic())

    @property
    def lives(self) -> bool:
        """Whether it is still that process."""
        return places.lives(self.pid, self._start)

    def begin(self, run: dict[str, Any]) -> None:
        """It has a run."""
        self._runs[run["run"]] = run
        if "source" in self._itself["what"]:
            self._say_source(run["run"])

    def end(self, run: str) -> None:
        """The run has ended."""
        self._runs.pop(run, None)
        for spool in self._spools:
            spool.runs.pop(run, None)

    def step(self, now: float) -> float:
        """Sample if it is time. When to come again."""
        self._end([spool for spool in self._spools if now >= spool.until and not spool.runs])
        if self._system is None or not self._runs:
            return now + SAMPLE_S
        if now >= self._due:
            self._due = now + SAMPLE_S
            figures = self._system.sample(now)
            time_ns = time.time_ns()
            for run in self._runs:
                writer, index = self._place(run)
                for name, value in figures.items():
                    series = writer.series(name, "", "")
                    writer.scalar(index, series, layout.DOUBLE, value, layout.NO_STEP, time_ns)
        return self._due

    def close(self) -> None:
        """Nothing more is said of it."""
        self._end(self._spools)

    def _end(self, spools: list[_Spool]) -> None:
        """Say goodbye where all has been said: until then nobody can tell whether more comes of a run."""
        self._spools = [spool for spool in self._spools if spool not in spools]
        for spool in spools:
            if not spool.writer.lost:
                spool.writer.exit({"outcome": "clean", "exit_code": 0, "error_message": "", "closed": True})
                spool.writer.close()

    def _place(self, run: str) -> tuple[Writer, int]:
        """Where something is said of a run, and its number there."""
        self._spools = [spool for spool in self._spools if not spool.writer.lost]
        for spool in self._spools:
            if run in spool.runs:
                return spool.writer, spool.runs[run]
        now = time.monotonic()
        if not self._spools or now >= self._spools[-1].until:
            self._spools.append(_Spool(self._writer(), now + _TOGETHER_S))
        spool = self._spools[-1]
        definition = {
            "workspace": self._told["workspace"],
            "run": run,
            "experiment": self._runs[run]["experiment"],
            "role": "attached",
            "launch": None,
            "restart": None,
            "time_ns": time.time_ns(),
        }
        spool.runs[run] = spool.writer.define_run(definition)
        return spool.writer, spool.runs[run]

    def _say_source(self, run: str) -> None:
        """Once in full; for further runs of the process, what is short, and which run has the rest."""
        if self._source is None:
            self._source = read_source(self._itself)
        (writer, index), now = self._place(run), time.time_ns()
        system = dict(self._source.system)
        if self._first:
            system["source_of"] = self._first
        else:
            self._first = run
            for path, content in self._source.files.items():
                writer.log(index, path, content, now)
        for kind, values in (("property", self._source.properties), ("system", system)):
            for key, value in values.items():
                said = {"kind": kind, "key": key, "value": value, "removed": False, "time_ns": now}
                writer.record(index, layout.ATTRIBUTE_SET, [[layout.json_bytes(said)]], now)


class Observer:
    """All of them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._observed: dict[str, Observed] = {}
        self._idle_since = time.monotonic()

    def take(self, line: bytes) -> None:
        """One thing that it is told."""
        told = json.loads(line)
        writer = str(told["writer"])
        if told["op"] == "watch":
            self._observed[writer] = Observed(told, lambda: self._writer(told))
        elif writer in self._observed:
            if told["op"] == "begin":
                self._observed[writer].begin(told)
            elif told["op"] == "end":
                self._observed[writer].end(told["run"])

    def _writer(self, told: dict[str, Any]) -> Writer:
        """A new spool for what is said of this process."""
        key = None
        if told["credential"]:
            key = Path(told["credential"]).read_text(encoding="utf-8").strip() or None
        target = Target(told["workspace"], told["server"], key)
        ranks = told["rank"], told["local_rank"], told["world_size"]
        origin = Origin(None, *ranks, drain=False, version=told["version"])
        return Writer(WriterFolder(self._root), target, origin)

    def step(self, now: float) -> float:
        """Look at all that are due. When to come again."""
        due = now + SAMPLE_S
        for writer, observed in list(self._observed.items()):
            try:
                if not observed.lives:
                    del self._observed[writer]
                    observed.close()
                    continue
                due = min(due, observed.step(now))
            except Exception as error:
                print(f"runstream observer: {error!r}", file=sys.stderr, flush=True)
        if self._observed:
            self._idle_since = now
        return due

    def idle(self, now: float) -> bool:
        """Whether there is nobody to look at."""
        return not self._observed and now - self._idle_since > _IDLE_S

    def close(self) -> None:
        """Say goodbye."""
        for observed in self._observed.values():
            observed.close()


def main() -> None:
    """Observe until standard input ends, or nobody is left."""
    observer = Observer(Path(sys.argv[1]))
    rest = b""
    while True:
        now = time.monotonic()
        pause = max(0.0, observer.step(now) - time.monotonic())
        if observer.idle(now):
            break
        if select.select([0], [], [], min(pause, 1.0))[0]:
            data = os.read(0, _MOST_LINE)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                try:
                    observer.take(line)
                except Exception as error:
                    print(f"runstream observer: {error!r}", file=sys.stderr, flush=True)
    observer.close()


if __name__ == "__main__":
    main()
