"""Tells a child process which scripts there are and which runs they have: it looks at them from outside."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runstream.sender.tail import WriterTail
from runstream.spool import folder as places

log = logging.getLogger("runstream.sender")

_AGAIN_S = 30.0  # after the child has died
_MOST_WAITING = 4 << 20  # bytes that it has not read yet
_CODE = "from runstream.capture.observer import main; main()"


@dataclass(slots=True)
class _Told:
    """What was told of a writer."""

    begun: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)


class Observing:
    """The child, made when there is a script that wants to be looked at."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._child: subprocess.Popen[bytes] | None = None
        self._told: dict[str, _Told] = {}
        self._waiting = bytearray()
        self._not_before = 0.0

    def look(self, tail: WriterTail, now: float) -> None:
        """Tell what is new of a writer. Never raises."""
        header = tail.header
        here = header.host == places.machine().host and header.pid_ns == places.pid_namespace()
        if not header.observe or not here:
            return
        if self._child is not None and self._child.poll() is not None:
            self._child = None
            self._told.clear()
            self._waiting.clear()
            self._not_before = now + _AGAIN_S
        if now < self._not_before:
            return
        try:
            self._tell(tail)
            self._write()
        except OSError as error:
            log.warning("observer: %s", error)
            self._not_before = now + _AGAIN_S

    def _tell(self, tail: WriterTail) -> None:
        header, told = tail.header, self._told.setdefault(tail.header.writer.hex(), _Told())
        for index, run in tail.definitions.runs.items():
            if run.role != "main" or index in told.ended:
                continue
            if index not in told.begun:
                if not told.begun:
                    self._say(
                        "watch",
                        tail,
                        observe=header.observe,
                        pid=header.pid,
                        pid_start=header.pid_start,
                        workspace=run.workspace,
                        server=header.server,
                        credential=str(header.credential) if header.credential else None,
                        rank=header.rank,
                        local_rank=header.local_rank,
                        world_size=header.world_size,
                        version=header.version,
                    )
                told.begun.add(index)
                self._say("begin", tail, run=run.run, experiment=run.experiment)
            state = tail.state.runs.get(index)
            if state is not None and state.ended is not None:
                told.ended.add(index)
                self._say("end", tail, run=run.run)

    def _say(self, op: str, tail: WriterTail, **more: Any) -> None:
        if len(self._waiting) < _MOST_WAITING:
            said = {"op": op, "writer": tail.header.writer.hex(), **more}
            self._waiting += json.dumps(said).encode() + b"\n"

    def _write(self) -> None:
        if not self._waiting:
            return
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, str(self._root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
            assert self._child.stdin is not None
            os.set_blocking(self._child.stdin.fileno(), False)
        assert self._child.stdin is not None
        try:
            sent = os.write(self._child.stdin.fileno(), self._waiting)
        except BlockingIOError:
            return
        del self._waiting[:sent]

    def forget(self, tail: WriterTail) -> None:
        """The writer is gone."""
        self._told.pop(tail.header.writer.hex(), None)

    def close(self) -> None:
        """Let the child end."""
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()
            try:
                self._child.wait(2.0)
            except subprocess.TimeoutExpired:
                self._child.terminate()
            self._child = None
