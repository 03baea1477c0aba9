"""What a sender keeps of a writer between its lives: `state.json`, see docs/formats.md."""

import errno
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runstream.sender import refusals, tally
from runstream.sender.refusals import Refusals
from runstream.sender.tally import NOTHING, Tally
from runstream.spool import layout
from runstream.spool.reader import Hole

_BALLAST = ".sender-ballast"
_BALLAST_BYTES = 8 << 10


@dataclass(slots=True)
class RunState:
    """What was delivered of a run, below `acked_seq`."""

    logged: Tally = NOTHING
    rejected: Tally = NOTHING
    proven: bool = True  # the digests are of everything that is counted
    lost: int = 0
    ended: int | None = None  # seq of RUN_ENDED
    drained: int | None = None  # last seq_end reported
    refusals: Refusals = field(default_factory=dict)  # why `rejected`; also refused events


@dataclass(slots=True)
class Position:
    """Last position of a partition that was acknowledged."""

    topic: str
    partition: int
    offset: int
    epoch: str  # hex


@dataclass(slots=True)
class WriterState:
    """State of one writer's delivery."""

    server_id: str = ""
    first_seq: int = 0  # from which on `runs` count
    acked_seq: int = 0
    time_ns: int = 0
    holes: list[Hole] = field(default_factory=list)
    runs: dict[int, RunState] = field(default_factory=dict)
    positions: dict[tuple[str, int], Position] = field(default_factory=dict)
    dropped: dict[int, int] = field(default_factory=dict)
    exit: dict[str, Any] | None = None  # the payload, and its `seq`
    death: dict[str, Any] | None = None  # `time_ns`, `how`
    logs: dict[str, Any] | None = None  # how far they are delivered
    refused: list[str] = field(default_factory=list)  # reasons, the first few

    def run(self, index: int) -> RunState:
        """State of a run, made when it is new."""
        state = self.runs.get(index)
        if state is None:
            state = self.runs[index] = RunState()
        return state

    def acknowledge(self, topic: str, partition: int, offset: int, epoch: bytes) -> None:
        """Keep the newest position of a partition."""
        old = self.positions.get((topic, partition))
        if old is None or old.epoch != epoch.hex() or old.offset < offset:
            self.positions[topic, partition] = Position(topic, partition, offset, epoch.hex())

    def dumps(self) -> bytes:
        """The file's content."""
        content = {
            "format": layout.FORMAT,
            "server_id": self.server_id or None,
            "first_seq": self.first_seq,
            "acked_seq": self.acked_seq,
            "time_ns": self.time_ns,
            "holes": [
                [seq, h.time_ns] for h in self.holes if h.end - h.first <= 64 for seq in range(h.first, h.end)
            ],
            "hole_ranges": [list(hole) for hole in self.holes if hole.end - hole.first > 64],
            "runs": {
                str(index): {
                    "logged": run.logged.elements,
                    "rejected": run.rejected.elements,
                    "lost": run.lost,
                    "ended": run.ended,
                    "drained": run.drained,
                }
                for index, run in self.runs.items()
            },
            "positions": [
                {"topic": p.topic, "partition": p.partition, "offset": p.offset, "epoch": p.epoch}
                for p in self.positions.values()
            ],
            "dropped": {str(index): count for index, count in self.dropped.items()},
            "exit": self.exit,
            "death": self.death,
            "refused": self.refused,
            "logs": self.logs,
            "digests": {
                str(index): tally.dump(run.logged, run.rejected)
                for index, run in self.runs.items()
                if run.proven
            },
            "refusals": {
                str(index): refusals.dump(run.refusals) for index, run in self.runs.items() if run.refusals
            },
        }
        return json.dumps(content, separators=(",", ":")).encode()

    @classmethod
    def loads(cls, data: bytes) -> "WriterState":
        """Read the file's content. Raises ValueError when it is damaged, or of a later format."""
        try:
            content = json.loads(data)
            if content["format"] != layout.FORMAT:
                raise ValueError(f"state.json has format {content['format']}")
            holes = [Hole(seq, seq + 1, time_ns) for seq, time_ns in content["holes"]]
            holes += [Hole(*hole) for hole in content.get("hole_ranges", ())]
            positions = [Position(**position) for position in content["positions"]]
            digests = content.get("digests", {})
            runs = {int(index): _run_state(run, digests.get(index)) for index, run in content["runs"].items()}
            for index, rows in content.get("refusals", {}).items():
                runs[int(index)].refusals = refusals.load(rows)
            return cls(
                server_id=content["server_id"] or "",
                first_seq=content.get("first_seq", 0),
                acked_seq=content["acked_seq"],
                time_ns=content["time_ns"],
                holes=holes,
                runs=runs,
                positions={(p.topic, p.partition): p for p in positions},
                dropped={int(index): count for index, count in content["dropped"].items()},
                exit=content["exit"],
                death=content["death"],
                refused=content.get("refused", []),
                logs=content.get("logs"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"state.json is damaged: {error!r}") from error


def _run_state(content: dict[str, Any], digests: list[Any] | None) -> RunState:
    logged, rejected = tally.load(content["logged"], content["rejected"], digests)
    return RunState(**{**content, "logged": logged, "rejected": rejected, "proven": digests is not None})


def load(folder: Path) -> WriterState | None:
    """The state in a writer's folder; None when there is none that can be read."""
    try:
        return WriterState.loads((folder / layout.STATE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def make_ballast(folder: Path) -> None:
    """Take some space on the disk, for the state when the disk is full: only with it space can be made."""
    path = folder / _BALLAST
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(bytes(_BALLAST_BYTES))
    except OSError:
        path.unlink(missing_ok=True)


def save(folder: Path, state: WriterState, sync: bool) -> None:
    """Replace the file; with `sync` it is on the disk afterwards, so that what it covers may be deleted.

    Raises OSError when there is no space even without the ballast.
    """
    try:
        _replace(folder, state, sync)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        (folder / _BALLAST).unlink(missing_ok=True)
        _replace(folder, state, sync)


def _replace(folder: Path, state: WriterState, sync: bool) -> None:
    made = folder / f".{layout.STATE}"
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        content = state.dumps()
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(made))
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(made, folder / layout.STATE)
    if sync and os.name == "posix":
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
