"""Spool folders written byte by byte, in whatever order and state a test wants. Made from docs/formats.md."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

from runstream.spool import folder as places

NO_STEP = -(2**63)
DOUBLE, INT64, BOOL, NONE, RECORD, ABANDONED = 1, 2, 3, 4, 64, 65
START_NS = 1_700_000_000_000_000_000


def start_of(segment: int) -> int:
    return 2048 * (2**segment - 1) if segment < 8 else 2048 * 127 + 262_144 * (segment - 7)


def segment_of(seq: int) -> int:
    return next(k for k in range(10_000) if seq < start_of(k + 1))


def block(*columns: tuple[int, int, int, bytes], first_idx: int = 0) -> bytes:
    """Columns are (series, layout, count, data)."""
    payload = struct.pack("<II", len(columns), first_idx)
    for series, layout, count, data in columns:
        payload += struct.pack("<IIII", series, layout, count, len(data)) + data + bytes(-len(data) % 8)
    return payload


def doubles(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


# A lock of this very process would not be seen by a sender in it: another one holds it.
_HOLD = """
import fcntl, os, sys
fcntl.lockf(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


def hold_lock(path: Path) -> subprocess.Popen[bytes]:
    """A process that has taken a lock."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def release_lock(process: subprocess.Popen[bytes]) -> None:
    """It is killed."""
    process.kill()
    process.communicate()


class SpoolMaker:
    """A writer's folder."""

    def __init__(
        self, root: Path, *, engine: str = "mmap", writer: bytes | None = None, **header: Any
    ) -> None:
        self.writer = writer or os.urandom(16)
        self.engine = engine
        machine = places.machine()
        self.path = root / machine.folder / self.writer.hex()
        self.path.mkdir(mode=0o700, parents=True)
        (self.path / "lock").touch(0o600)
        self._holder: subprocess.Popen[bytes] | None = None
        self.names = self.path / "names.records"
        self.time_ns = START_NS
        content = {
            "format": 1,
            "writer": self.writer.hex(),
            "engine": engine,
            "pid": 2**30,
            "pid_start": 1,
            "pid_ns": places.pid_namespace(),
            "host": machine.host,
            "boot_id": machine.boot_id,
            "user": "u",
            "started_time_ns": START_NS,
            "parent": None,
            "rank": None,
            "local_rank": None,
            "world_size": None,
            "server": None,
            "credential": None,
            "version": "0",
            "drain": False,
            **header,
        }
        self.header = content
        made = self.path / ".writer.json"
        made.write_text(json.dumps(content))
        made.rename(self.path / "writer.json")

    def live(self) -> None:
        """A process holds the lock from now on."""
        self._holder = hold_lock(self.path / "lock")

    def die(self) -> None:
        """The process is killed."""
        if self._holder is not None:
            release_lock(self._holder)
            self._holder = None

    # ------------------------------------------------------------------------------ definitions

    def run(self, index: int = 0, run: str = "run", **more: Any) -> None:
        content = {
            "workspace": "ws",
            "run": run,
            "experiment": "exp",
            "role": "main",
            "launch": "launch",
            "restart": 0,
            "time_ns": START_NS,
            **more,
        }
        self.append(self.names, self.record_bytes(32, index, json.dumps(content).encode()))

    def series(self, index: int = 0, metric: str = "m", column: str = "", description: str = "") -> None:
        content = {"metric": metric, "column": column, "description": description}
        self.append(self.names, self.record_bytes(33, index, json.dumps(content).encode()))

    # ----------------------------------------------------------------------------------- calls

    def record_bytes(self, kind: int, seq: int, payload: bytes, flags: int = 0) -> bytes:
        head = struct.pack("<IHHQ", len(payload), kind, flags, seq)
        crc = zlib.crc32(head + payload, zlib.crc32(self.writer))
        return struct.pack("<II", 0x31435352, crc) + head + payload + bytes(-len(payload) % 8)

    def append(self, path: Path, data: bytes) -> None:
        with open(path, "ab") as file:
            file.write(data)

    def records_path(self, seq: int) -> Path:
        return self.path / f"{segment_of(seq):08d}.records"

    def segment(self, number: int) -> Path:
        path = self.path / f"{number:08d}.slots"
        if not path.exists():
            with open(path, "wb") as file:
                file.truncate(32 * (start_of(number + 1) - start_of(number)))
        return path

    def slot(
        self,
        seq: int,
        value: float | int = 0.0,
        *,
        kind: int = DOUBLE,
        run: int = 0,
        series: int = 0,
        step: int | None = None,
        time_ns: int | None = None,
        commit: bool = True,
    ) -> bytes:
        """Store a slot; without `commit` all but its time."""
        if time_ns is None:
            self.time_ns += 1000
            time_ns = self.time_ns
        data = struct.pack(
            "<dqQq" if kind == DOUBLE else "<qqQq",
            value,
            NO_STEP if step is None else step,
            kind << 56 | run << 32 | series,
            time_ns if commit else 0,
        )
        if self.engine == "mmap":
            with open(self.segment(segment_of(seq)), "r+b") as file:
                file.seek(32 * (seq - start_of(segment_of(seq))))
                file.write(data)
        elif kind != RECORD and commit:
            self.append(self.records_path(seq), self.record_bytes(4, seq, data, 1))
        return data

    def scalar(self, seq: int, value: Any, **more: Any) -> None:
        if isinstance(value, bool):
            self.slot(seq, int(value), kind=BOOL, **more)
        elif value is None:
            self.slot(seq, 0, kind=NONE, **more)
        elif isinstance(value, int):
            self.slot(seq, value, kind=INT64, **more)
        elif isinstance(value, str):
            self.call(seq, 1, value.encode(), **more)
        else:
            self.slot(seq, value, **more)

    def call(self, seq: int, kind: int, *payloads: bytes, **more: Any) -> None:
        """A call whose content is in records."""
        if self.engine == "mmap":
            for payload in payloads:
                self.append(self.records_path(seq), self.record_bytes(kind, seq, payload))
            self.slot(seq, sum(map(len, payloads)), kind=RECORD, **more)
        else:
            slot = self.slot(seq, sum(map(len, payloads)), kind=RECORD, **more)
            for payload in payloads:
                self.append(self.records_path(seq), self.record_bytes(kind, seq, slot + payload, 1))

    def event(self, seq: int, record: int, run: int = 0, /, **content: Any) -> None:
        self.call(seq, record, json.dumps(content).encode(), run=run)

    def exit(self, seq: int, outcome: str = "clean", **more: Any) -> None:
        content = {
            "outcome": outcome,
            "exit_code": 0,
            "error_message": "",
            "time_ns": START_NS,
            "dropped": {},
        }
        self.event(seq, 19, 0xFFFFFF, **{**content, **more})
