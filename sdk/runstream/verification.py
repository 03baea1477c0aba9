"""Whether all that was logged is stored: what `run.verify()` and `runstream verify` find out.

The sender says what it has shipped and what still waits in spools on this machine, the server compares it
with what it holds, by identity.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runstream.errors import NotFoundError, RunstreamError, ServiceError, VersionError

if TYPE_CHECKING:
    from runstream.client import Client
    from runstream.v1 import query_service_pb2

STATES: Final = ("unknown", "proven", "counted", "applied", "arriving", "open", "surplus", "missing")
"""What became of what was logged; of several the last counts.

proven    every identity is stored, or was refused or dead-lettered, and counted
counted   the numbers agree; identities were not all compared, because the sender is too old
applied   everything accepted was applied; nothing was compared
arriving  everything is in the event log, and not yet in the tables
open      something waits in a spool, or a writer lives of which nobody here can tell more
surplus   more is stored than was logged
missing   something that was accepted is neither stored nor a dead letter
"""

WHOLE: Final = 0
MISSING: Final = 1
NOT_YET: Final = 5
NOT_ALL_KEPT: Final = 6
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0


@dataclass(frozen=True)
class WriterAccount:
    """What became of what one process logged for the run. Elements are numbers, texts and so on; calls may
    have many."""

    writer: str
    """Id, 32 hexadecimal digits."""
    state: str
    """One of `STATES`."""
    ended: bool
    """Whether it has ended."""
    in_spool: int
    """Calls that wait in a spool on this machine."""
    logged: int | None
    """Elements that its sender has shipped; None: nobody here knows."""
    stored: int
    """Elements in the tables, each identity once."""
    rejected: int
    """Elements that the server refused."""
    dead: int
    """Elements that were accepted and could not be stored."""
    missing: int
    """Elements that nothing accounts for; negative when more are stored than were logged."""
    events: int | None
    """Starts, ends, tags, properties and so on that its sender has shipped."""
    rejected_events: int
    """Those of them that the server refused."""
    dead_events: int
    """Those that were accepted and could not be stored."""
    missing_events: int
    """Those that nothing accounts for."""
    dropped: int
    """Calls that could not be kept when they were made: full disk, spool over its cap."""
    lost: int
    """Calls whose record could not be read back from the spool."""
    gaps: Sequence[tuple[int, int]]
    """When something is missing: first and last of the ranges of calls of which nothing is stored."""
    awaited: Sequence[tuple[str, int, int]]
    """Topic, partition and offset of what is in the event log and not applied yet."""
    problem: str
    """Why its sender can't deliver; empty when it can."""


@dataclass(frozen=True)
class Refusal:
    """Records that were refused, for one reason."""

    reason: str
    elements: int
    records: int


@dataclass(frozen=True)
class Expired:
    """Records that had expired in the event log before they were stored."""

    topic: str
    partition: int
    first: int
    records: int


@dataclass(frozen=True)
class Verification:
    """What became of all that was logged to a run. True when all of it is stored."""

    workspace: str
    run: str
    state: str
    """One of `STATES`."""
    writers: Sequence[WriterAccount]
    refusals: Sequence[Refusal] = ()
    """What was refused, and why."""
    files: int | None = None
    """Files that the run lists, every version counted; None: they could not be looked at."""
    missing_files: Sequence[str] = ()
    """Those whose content is not in the server's storage: path, and version."""
    expired: Sequence[Expired] = ()
    """Losses of the event log that may concern the run."""
    problem: str = ""
    """Why the server could not be asked; empty when it was."""

    @property
    def kept(self) -> bool:
        """Whether nothing was refused, dropped or lost on the way."""
        return not self.refusals and not any(
            one.rejected or one.dead or one.rejected_events or one.dead_events or one.dropped or one.lost
            for one in self.writers
        )

    @property
    def exit_code(self) -> int:
        """0 all is stored; 1 something is missing, or too much; 5 not all is here yet; 6 all is accounted
        for, and something was refused, dropped or lost."""
        if self.state in ("missing", "surplus") or self.missing_files:
            return MISSING
        if self.state not in ("proven", "counted"):
            return NOT_YET
        return WHOLE if self.kept else NOT_ALL_KEPT

    def __bool__(self) -> bool:
        """Whether all that was logged is stored."""
        return self.exit_code == WHOLE

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "whole": bool(self), "exit_code": self.exit_code}

    def __str__(self) -> str:
        """For people: the verdict, then a line for each writer, refusal and loss."""
        lines = [f"{self.run}: {self._verdict()}"]
        lines += [_line(one) for one in self.writers]
        for refusal in self.refusals:
            what = f"{refusal.elements:,} elements in " if refusal.elements else ""
            lines.append(f"  refused: {what}{refusal.records:,} records: {refusal.reason}")
        for one in self.expired:
            lines.append(
                f"  the event log lost {one.records:,} records of topic {one.topic}, partition "
                f"{one.partition}, from offset {one.first}: they expired before they were stored"
            )
        if self.files:
            there = self.files - len(self.missing_files)
            lines.append(f"  files: {self.files:,}, the content of {there:,} is in the storage")
        lines += [f"  MISSING: the content of {name} is not stored" for name in self.missing_files[:20]]
        if self.problem:
            lines.append(f"  the server can't be asked: {self.problem}")
        return "\n".join(lines)

    def _verdict(self) -> str:
        stored = sum(one.stored for one in self.writers)
        how = f"{stored:,} elements of {len(self.writers):,} processes"
        if self.missing_files and self.state not in ("missing", "surplus"):
            return f"MISSING: the content of {len(self.missing_files):,} files is not in the storage"
        if self.state == "missing":
            missing = sum(max(one.missing, 0) for one in self.writers)
            return f"MISSING: {missing:,} elements are not accounted for"
        if self.state == "surplus":
            return "SURPLUS: more is stored than was logged"
        if self.state in ("proven", "counted"):
            by = "compared by identity" if self.state == "proven" else "compared by number"
            if self.kept:
                return f"all that was logged is stored: {how}, {by}"
            return f"accounted for, but not all was stored: {how}, {by}"
        return f"not all is here yet ({self.state})"


def _line(one: WriterAccount) -> str:
    parts = [f"{one.state}", "ended" if one.ended else "not ended"]
    if one.logged is not None:
        parts.append(f"logged {one.logged:,}, stored {one.stored:,}")
    for name, count in (
        ("calls in the spool", one.in_spool),
        ("refused", one.rejected),
        ("dead letters", one.dead),
        ("missing", one.missing),
        ("events refused", one.rejected_events),
        ("events in dead letters", one.dead_events),
        ("events missing", one.missing_events),
        ("calls dropped", one.dropped),
        ("calls lost", one.lost),
    ):
        if count:
            parts.append(f"{name} {count:,}")
    if one.awaited:
        parts.append("not applied yet: " + ", ".join(f"{t}/{p} up to {o:,}" for t, p, o in one.awaited))
    if one.gaps:
        shown = ", ".join(f"{a:,}" if a == b else f"{a:,}–{b:,}" for a, b in one.gaps[:10])
        parts.append(f"nothing is stored of calls {shown}" + (" …" if len(one.gaps) > 10 else ""))
    if one.problem and one.in_spool:
        parts.append(one.problem)
    return f"  {one.writer[:8]}: " + "; ".join(parts)


# ---------------------------------------------------------------------------------------- asking


@dataclass(frozen=True)
class Shipped:
    """What the sender on this machine knows of one writer."""

    writer: bytes
    undelivered: int
    said: bytes
    """A serialized WriterDrained."""
    problem: str


@dataclass
class Local:
    """What the senders of some spools on this machine know of a run."""

    roots: Iterable[str]
    workspace: str
    run: str
    accounts: list[Shipped] = field(default_factory=list)
    silent: bool = False
    """A spool has writers, and no sender answers for it."""

    def ask(self) -> None:
        """Asks them. Never raises."""
        from runstream.sender.ask import NoSenderError, ask
        from runstream.sender.start import ensure_sender
        from runstream.spool.listing import find_writers

        self.accounts, self.silent = [], False
        request = {"op": "account", "workspace": self.workspace, "run": self.run}
        for root in self.roots:
            try:
                if next(find_writers(Path(root)), None) is None:
                    continue
                ensure_sender(root)
                answer = ask(root, request, 10.0)
            except (NoSenderError, OSError, ValueError):  # TimeoutError is an OSError
                self.silent = True
                continue
            self.accounts += [
                Shipped(
                    bytes.fromhex(one["writer"]),
                    int(one["undelivered"]),
                    base64.b64decode(one["said"]),
                    str(one["problem"]),
                )
                for one in answer.get("writers", ())
            ]

    @property
    def undelivered(self) -> bool:
        """Whether something is known to wait."""
        return self.silent or any(one.undelivered for one in self.accounts)


def verify(connect: Callable[[], Client], local: Local, timeout_s: float) -> Verification:
    """Finds out what became of all that was logged to a run.

    Waits up to `timeout_s` for what is on its way from this machine, or in the log. What is not there then
    is told, not raised.

    :raises NotFoundError: neither the server nor a sender here knows the run.
    :raises ServiceError: the server can't be asked, and no sender here knows the run.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        local.ask()
        try:
            ledger, problem = _ledger(connect, local, compare=False), ""
        except RunstreamError as error:
            ledger, problem = None, str(error)
            waits = isinstance(error, ServiceError | NotFoundError) and local.undelivered
            if not local.accounts and not (waits and time.monotonic() < deadline):
                raise
        if time.monotonic() >= deadline or not (local.undelivered or _waits(ledger)):
            break
        time.sleep(min(pause_s, max(deadline - time.monotonic(), 0.0)))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    found = _found(None, problem, local)
    if ledger is not None:
        found = _found(_ledger(connect, local, compare=True), problem, local)
        try:
            files, missing = connect().check_artifacts(local.workspace, local.run)
        except VersionError:  # an older server
            return found
        names = [f"{file.path} (version {file.version})" for file in missing]
        found = replace(found, files=files, missing_files=names)
    return found


def _ledger(
    connect: Callable[[], Client], local: Local, *, compare: bool
) -> query_service_pb2.GetLedgerResponse:
    from runstream.v1 import query_service_pb2 as messages
    from runstream.v1 import run_pb2

    claims = [
        messages.WriterClaim(writer=one.writer, said=run_pb2.WriterDrained.FromString(one.said))
        for one in local.accounts
    ]
    return connect().get_ledger(local.workspace, local.run, compare=compare, claims=claims)


def _waits(ledger: query_service_pb2.GetLedgerResponse | None) -> bool:
    """Whether something will probably change soon."""
    if ledger is None:
        return True
    words = ("arriving", "open")
    return any(STATES[one.state] in words and (one.awaited or one.ended) for one in ledger.writers)


def _found(ledger: query_service_pb2.GetLedgerResponse | None, problem: str, local: Local) -> Verification:
    from runstream.v1 import query_service_pb2 as messages
    from runstream.v1 import run_pb2

    here = {one.writer: one for one in local.accounts}
    told = {} if ledger is None else {one.writer: one for one in ledger.writers}
    for writer, one in here.items():
        if writer not in told:
            said = run_pb2.WriterDrained.FromString(one.said)
            told[writer] = messages.WriterLedger(writer=writer, said=said, state=messages.LEDGER_STATE_OPEN)
    writers = [_account(one, here.get(writer)) for writer, one in sorted(told.items())]
    states = [one.state for one in writers] + (["open"] if local.silent else [])
    return Verification(
        workspace=local.workspace,
        run=local.run,
        state=max(states, key=STATES.index, default="unknown"),
        writers=writers,
        refusals=[]
        if ledger is None
        else [Refusal(one.reason, one.elements, one.records) for one in ledger.rejections],
        expired=[]
        if ledger is None
        else [Expired(one.topic, one.partition, one.first, one.records) for one in ledger.expired],
        problem=problem,
    )


def _account(one: query_service_pb2.WriterLedger, here: Shipped | None) -> WriterAccount:
    state = STATES[one.state] if one.state < len(STATES) else "unknown"
    in_spool = here.undelivered if here is not None else 0
    if in_spool and STATES.index(state) < STATES.index("open"):
        state = "open"
    said = one.said if one.HasField("said") else None
    return WriterAccount(
        writer=one.writer.hex(),
        state=state,
        ended=one.ended,
        in_spool=in_spool,
        logged=said.logged if said else None,
        stored=one.stored,
        rejected=said.rejected if said else 0,
        dead=one.dead,
        missing=one.missing,
        events=said.events if said else None,
        rejected_events=said.rejected_events if said else 0,
        dead_events=one.dead_events,
        missing_events=one.missing_events,
        dropped=said.dropped if said else 0,
        lost=said.lost if said else 0,
        gaps=[(gap.first, gap.last) for gap in one.gaps],
        awaited=[(at.topic, at.partition, at.offset) for at in one.awaited],
        problem=here.problem if here is not None else "",
    )
