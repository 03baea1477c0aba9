"""A sender inside of the test, stepped by it, and what its server must hold afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
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
        self.settings = SenderSettings(autostart=False)
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


def assert_holds(log: Log, wanted: dict[Identity, tuple[object, int | None]]) -> None:
    """The server has exactly these elements, with these values."""
    assert log.elements.keys() == wanted.keys()
    for identity, (value, step) in wanted.items():
        have = log.elements[identity]
        assert (repr(have.value), have.step) == (repr(value), step), identity
