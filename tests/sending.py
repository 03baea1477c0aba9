"""A sender inside of the test, stepped by it, and what its server must hold afterwards."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from runstream.sender.service import Sender
from runstream.sender.settings import SenderSettings
from tests import spools
from tests.publish import Identity, IngestServer, Log

PATIENCE_S = 60.0


class Sending:
    """A private home and spool, a server that keeps what it gets, and a sender."""

    def __init__(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, server: IngestServer | None = None
    ) -> None:
        self.root = root
        self.spool = root / "spool"
        self.spool.mkdir(mode=0o700, exist_ok=True)
        for name in ("RUNSTREAM_SERVER", "RUNSTREAM_API_KEY", "RUNSTREAM_HTTP_SERVER"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("RUNSTREAM_HOME", str(root / "home"))
        monkeypatch.setenv("RUNSTREAM_SPOOL", str(self.spool))
        monkeypatch.setenv("RUNSTREAM_AUTOSTART", "0")
        self.server = server or IngestServer()
        self.log: Log = self.server.log
        self.settings = SenderSettings(autostart=False, observe=False)
        self.sender = Sender(self.spool, self.settings)

    def restart(self, *, settings: SenderSettings | None = None) -> None:
        """As if the sender was killed: nothing is saved."""
        sender = self.sender
        for tail, publisher, found, *_ in sender._found.values():
            tail.close()
            found.lock.close()
            publisher.close()
        self.sender = Sender(self.spool, settings or self.settings)

    def until(self, condition: Callable[[], object], what: str = "the condition") -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
            pause = self.sender.step(time.monotonic())
            self.sender._wake.wait(min(pause, 0.01))
            self.sender._wake.clear()

    def steps(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def drain(self) -> None:
        """Until every writer is dead, delivered and removed."""
        self.until(
            lambda: not self.sender._found and not list(self.spool.glob("*/*/writer.json")),
            "everything delivered",
        )
        assert_proven(self.log)

    def close(self) -> None:
        self.sender._close()
        self.server.service.hold.set()
        self.server.stop()


def expected(*read: spools.Spool) -> dict[Identity, tuple[object, int | None]]:
    """What a server must hold of these spools: by the plain reader."""
    found: dict[Identity, tuple[object, int | None]] = {}
    for spool in read:
        workspaces = {run["run"]: run["workspace"] for run in spool.runs.values()}
        for call in spool.calls.values():
            for metric, column, idx, value in call.elements:
                assert call.run is not None
                identity = Identity(
                    workspaces[call.run],
                    call.run,
                    spool.header["writer"],
                    call.seq,
                    max(idx, 0),
                    metric,
                    column,
                )
                found[identity] = (value, call.step)
    return found


def digest(identities: Iterable[Identity]) -> int:
    """As docs/formats.md says, element by element."""
    total = 0
    for one in identities:
        x = ((one.seq + 1) * 0x9E3779B97F4A7C15 + one.idx * 0xC2B2AE3D27D4EB4F) % 2**64
        y = (x ^ x >> 32) * 0xD6E8FEB86659FD93 % 2**64
        name = f"{one.metric}\0{one.column}".encode()
        factor = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") | 1
        total += (y ^ y >> 29) * factor
    return total % 2**64


def assert_proven(log: Log) -> None:
    """What each writer is said to have logged is what the server holds of it, by identity."""
    of_run: dict[tuple[str, str], list[int]] = {}
    for run, kind, writer, seq in log.events:
        if not kind.startswith("writer_"):
            of_run.setdefault((run, writer), []).append(seq)
    for run, kind, writer, _ in log.events:
        if kind != "writer_drained":
            continue
        said = log.events[run, kind, writer, _].writer_drained
        held = [one for one in log.elements if (one.run, one.writer) == (run, writer)]
        held = [one for one in held if said.first_seq <= one.seq < said.seq_end]
        seqs = [seq for seq in of_run.get((run, writer), ()) if said.first_seq <= seq < said.seq_end]
        assert said.HasField("logged_digest")
        assert said.logged - said.rejected == sum(log.elements[one].kind < 7 for one in held)
        assert (said.logged_digest - said.rejected_digest) % 2**64 == digest(held)
        assert said.events - said.rejected_events == len(seqs)
        events = digest_of_seqs(seqs)
        assert (said.events_digest - said.rejected_events_digest) % 2**64 == events


def digest_of_seqs(seqs: Iterable[int]) -> int:
    """The digest of events."""
    total = 0
    for seq in seqs:
        x = (seq + 1) * 0x9E3779B97F4A7C15 % 2**64
        y = (x ^ x >> 32) * 0xD6E8FEB86659FD93 % 2**64
        total += y ^ y >> 29
    return total % 2**64


def assert_holds(log: Log, wanted: dict[Identity, tuple[object, int | None]]) -> None:
    """The server has exactly these elements, with these values, and what was counted agrees with that."""
    assert_proven(log)
    assert log.elements.keys() == wanted.keys()
    for identity, (value, step) in wanted.items():
        have = log.elements[identity]
        assert (repr(have.value), have.step) == (repr(value), step), identity
