"""The ledger of a run: what became of all that its writers logged.

Each sender counted what it shipped, and kept the digest of the identities (`WriterDrained`). What the tables
hold is counted and digested in the same way, so that "nothing is missing and nothing is there twice" is
compared, not assumed, also when the spools are long gone. That reads every element; without it the ledger
says what follows from what writers and senders said.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from runstream.digest import MASK
from runstream.v1 import query_service_pb2 as messages
from runstream.v1 import run_pb2
from runstream_query.barrier import Barrier, event_of
from runstream_query.errors import InvalidArgument, NotFound
from runstream_query.runs import RunReader
from runstream_query.sql import Clause
from runstream_query.status import RUN_ENDED, WRITER_DRAINED, WRITER_ENDED, WRITER_STARTED
from runstream_query.stored import Expiry, Held, StoredReader, Within
from runstream_store.hot import HotState
from runstream_store.position import Position

_MAX_CLAIMS: Final = 10_000

# Of several drains of one definition the one that reaches furthest counts, and then the last.
_SAID: Final = """
SELECT e.writer AS writer, e.kind AS kind, e.seq AS seq, min(toUnixTimestamp64Nano(e.time)) AS time,
    hex(argMax(e.event, (e.precedence, e.received_time))) AS event
FROM run_events AS e
WHERE {scope} AND e.kind IN {kinds:Array(UInt8)}
GROUP BY writer, kind, seq
"""


@dataclass(slots=True)
class _Account:
    """One writer of the run."""

    writer: bytes
    started: set[int] = field(default_factory=set)
    """Definitions of the run in the writer that began to log."""
    drains: dict[int, run_pb2.WriterDrained] = field(default_factory=dict)
    """By definition."""
    ends: list[run_pb2.WriterEnded] = field(default_factory=list)
    said_end: int = 0
    """How far it must be drained because it ended the run."""
    claim: run_pb2.WriterDrained | None = None
    alive: bool = False
    """Its lease is renewed."""
    began: int = 0
    """Unix nanoseconds."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes one thing that it said."""
        event = event_of(row["event"])
        if row["kind"] == RUN_ENDED:
            self.said_end = max(self.said_end, row["seq"] + 1)
        elif row["kind"] == WRITER_STARTED:
            self.started.add(row["seq"])
            self.began = row["time"]
        elif row["kind"] == WRITER_ENDED:
            self.ends.append(event.writer_ended)
        else:
            self.drains[row["seq"]] = event.writer_drained

    @property
    def _own_ends(self) -> list[int]:
        """How far it had logged, by all that tell of its end and are to be believed."""
        return [end.seq_end for end in self.ends if end.observed or not self.alive]

    @property
    def needs(self) -> int:
        """How far it must be drained for all that it logged to be in the log; 0 while nobody knows."""
        return max([self.said_end, *self._own_ends])

    @property
    def ended(self) -> bool:
        """Whether it ended the run, or itself, perhaps without having logged anything."""
        return self.said_end > 0 or bool(self._own_ends)

    def said(self) -> run_pb2.WriterDrained | None:
        """What was counted of it."""
        known = _joined(list(self.drains.values())) if self.drains else None
        if self.claim is not None and (known is None or known.seq_end <= self.claim.seq_end):
            return self.claim
        return known

    @property
    def complete(self) -> bool:
        """Whether `said` is about all that it logged, as far as it is known."""
        said = self.said()
        if said is None:
            return False
        if said is self.claim:
            return said.seq_end >= self.needs
        return self.ended and said.seq_end >= self.needs and self.started <= self.drains.keys()


def _joined(said: Sequence[run_pb2.WriterDrained]) -> run_pb2.WriterDrained:
    """What was said of several definitions of one run, as one: each counts its own elements."""
    total = run_pb2.WriterDrained()
    total.CopyFrom(said[0])
    for more in said[1:]:
        total.seq_end = max(total.seq_end, more.seq_end)
        total.first_seq = max(total.first_seq, more.first_seq)
        total.positions.extend(more.positions)
        total.refusals.extend(more.refusals)
        for name in "logged", "rejected", "dropped", "lost", "events", "rejected_events":
            setattr(total, name, getattr(total, name) + getattr(more, name))
        for name in "rejected_digest", "events_digest", "rejected_events_digest", "logged_digest":
            setattr(total, name, (getattr(total, name) + getattr(more, name)) & MASK)
    if not all(one.HasField("logged_digest") for one in said):
        total.ClearField("logged_digest")
    return total


@dataclass(frozen=True, slots=True)
class LedgerReader:
    """Makes ledgers."""

    runs: RunReader
    hot: HotState
    barrier: Barrier
    stored: StoredReader

    async def get(
        self, workspace: str, run: str, *, compare: bool, claims: Sequence[messages.WriterClaim] = ()
    ) -> messages.GetLedgerResponse:
        """The ledger of a run.

        :param compare: read what is stored, and compare.
        :param claims: what senders say now.
        :raises NotFound: nothing is known of the run.
        """
        response = messages.GetLedgerResponse(as_of=map(_message, await self.barrier.as_of()))
        scope = Clause(
            "e.workspace = {workspace:String} AND e.run = {run:String}", {"workspace": workspace, "run": run}
        )
        accounts = await self._accounts(scope, claims)
        if not accounts and not await self.stored.any(workspace, run):
            raise NotFound(f"there is no run {run!r} in workspace {workspace!r}")
        expired = await self.stored.expired()
        ledgers: dict[bytes, messages.WriterLedger] = {}
        doubtful = []
        for writer, account in sorted(accounts.items()):
            ledgers[writer], doubt = await self._ledger(account, expired)
            if (compare or doubt) and ledgers[writer].HasField("said") and not ledgers[writer].awaited:
                doubtful.append(writer)
        if compare or doubtful:
            held = await self.stored.held(workspace, run, Within() if compare else Within(doubtful))
            for writer in doubtful:
                account = accounts[writer]
                await self._compare(workspace, run, account, ledgers[writer], held.pop(writer, Held()))
            for writer, found in held.items() if compare else ():
                if writer not in ledgers:  # nobody has said anything of it
                    ledgers[writer] = messages.WriterLedger(
                        writer=writer, state=messages.LEDGER_STATE_OPEN, compared=True
                    )
                    _note(ledgers[writer], found)
        response.writers.extend(ledger for _, ledger in sorted(ledgers.items()))
        response.state = max((ledger.state for ledger in response.writers), default=0)  # type: ignore[assignment]
        response.rejections.extend(
            await self.runs.rejections(
                scope, [messages.WriterInfo(drained=ledger.said) for ledger in response.writers]
            )
        )
        response.expired.extend(_concerning(expired, accounts.values(), response.writers))
        return response

    async def _accounts(self, scope: Clause, claims: Iterable[messages.WriterClaim]) -> dict[bytes, _Account]:
        kinds = [RUN_ENDED, WRITER_STARTED, WRITER_ENDED, WRITER_DRAINED]
        accounts: dict[bytes, _Account] = {}
        sql = _SAID.replace("{scope}", scope.sql)
        for row in await self.runs.query(sql, {**scope.params, "kinds": kinds}):
            accounts.setdefault(row["writer"], _Account(row["writer"])).add(row)
        for claim in claims:
            accounts.setdefault(claim.writer, _Account(claim.writer)).claim = claim.said
        alive = await self.hot.lease_alive(list(accounts), time.time_ns())
        for account, lives in zip(accounts.values(), alive, strict=True):
            account.alive = lives
        return accounts

    async def _ledger(
        self, account: _Account, expired: Sequence[Expiry]
    ) -> tuple[messages.WriterLedger, bool]:
        """What follows from what was said, and whether the log has lost something that may concern it."""
        said = account.said()
        ledger = messages.WriterLedger(
            writer=account.writer,
            said=said,
            claimed=said is not None and said is account.claim,
            ended=account.ended,
            state=messages.LEDGER_STATE_OPEN,
        )
        if said is None:
            return ledger, False
        positions = [_position(one) for one in said.positions]
        ledger.awaited.extend(_message(one) for one in await self.barrier.awaited(positions))
        doubt = any(one.concerns(position) for one in expired for position in positions)
        for position in positions:
            doubt = doubt or await self.barrier.gone(position)
        if account.complete:
            ledger.state = messages.LEDGER_STATE_APPLIED
            if ledger.awaited:
                ledger.state = messages.LEDGER_STATE_ARRIVING
        return ledger, doubt

    async def _compare(
        self, workspace: str, run: str, account: _Account, ledger: messages.WriterLedger, held: Held
    ) -> None:
        said = ledger.said
        if not _same(said, held):  # more than was said may be there: of before, or of a process that goes on
            within = Within([account.writer], said.first_seq, said.seq_end)
            held = (await self.stored.held(workspace, run, within)).get(account.writer, Held())
        verdict = _same(said, held) or await self._with_dead(workspace, run, ledger, held)
        ledger.compared = True
        _note(ledger, held)
        ledger.missing = said.logged - said.rejected - held.elements - ledger.dead
        ledger.missing_events = said.events - said.rejected_events - held.events - ledger.dead_events
        if not verdict:
            less = ledger.missing > 0 or ledger.missing_events > 0
            surplus = not less and (ledger.missing < 0 or ledger.missing_events < 0)
            verdict = messages.LEDGER_STATE_SURPLUS if surplus else messages.LEDGER_STATE_MISSING
            if not surplus:
                ledger.gaps.extend(await self.stored.gaps(workspace, account.writer, said))
        elif not account.complete:
            verdict = messages.LEDGER_STATE_OPEN
        ledger.state = verdict

    async def _with_dead(
        self, workspace: str, run: str, ledger: messages.WriterLedger, held: Held
    ) -> messages.LedgerState.ValueType | None:
        """The verdict when dead letters are counted, too."""
        dead = await self.stored.dead(workspace, run, ledger.writer)
        ledger.dead, ledger.dead_events = dead.elements, dead.events
        total = held.plus(dead)
        verdict = _same(ledger.said, total)
        if verdict is None and dead.elements + dead.events and _same_numbers(ledger.said, total):
            return None if dead.exact else messages.LEDGER_STATE_COUNTED
        return verdict


def _same_numbers(said: run_pb2.WriterDrained, held: Held) -> bool:
    return (said.logged - said.rejected, said.events - said.rejected_events) == (held.elements, held.events)


def _same(said: run_pb2.WriterDrained, held: Held) -> messages.LedgerState.ValueType | None:
    """The verdict when all that was said is held; else None."""
    if not said.HasField("logged_digest"):
        # Of its events an older sender says nothing.
        return messages.LEDGER_STATE_COUNTED if said.logged - said.rejected == held.elements else None
    elements = (said.logged_digest - said.rejected_digest) & MASK
    events = (said.events_digest - said.rejected_events_digest) & MASK
    if _same_numbers(said, held) and (elements, events) == (held.digest, held.events_digest):
        return messages.LEDGER_STATE_PROVEN
    return None


def _note(ledger: messages.WriterLedger, held: Held) -> None:
    ledger.stored, ledger.stored_digest = held.elements, held.digest
    ledger.stored_events, ledger.stored_events_digest = held.events, held.events_digest


def checked_claims(claims: Sequence[messages.WriterClaim]) -> Sequence[messages.WriterClaim]:
    """The claims of a request.

    :raises InvalidArgument: they are none.
    """
    if len(claims) > _MAX_CLAIMS:
        raise InvalidArgument(f"claims: {len(claims):,} of them; at most {_MAX_CLAIMS:,}")
    for claim in claims:
        if len(claim.writer) != 16:
            raise InvalidArgument(f"claims.writer has {len(claim.writer)} bytes; 16 make one")
        for position in claim.said.positions:
            if len(position.epoch) != 16:
                raise InvalidArgument(
                    f"claims.said.positions: an epoch has 16 bytes, not {len(position.epoch)}"
                )
    return claims


def _concerning(
    expired: Iterable[Expiry], accounts: Iterable[_Account], ledgers: Iterable[messages.WriterLedger]
) -> list[messages.ExpiredRecords]:
    """The losses of the log that may concern a run."""
    began = min((account.began for account in accounts if account.began), default=0)
    said = [ledger.said for ledger in ledgers if ledger.HasField("said")]
    positions = [_position(one) for drained in said for one in drained.positions]
    unknown = any(not ledger.HasField("said") for ledger in ledgers)
    return [
        messages.ExpiredRecords(
            topic=one.topic,
            partition=one.partition,
            first=one.first,
            records=one.records,
            time_ns=one.time_ns,
        )
        for one in expired
        if one.time_ns >= began
        and (one.topic != "points" or unknown or any(one.concerns(position) for position in positions))
    ]


def _position(position: run_pb2.LogPosition) -> Position:
    return Position(position.topic, position.partition, position.offset, position.epoch)


def _message(position: Position) -> run_pb2.LogPosition:
    return run_pb2.LogPosition(
        topic=position.topic, partition=position.partition, offset=position.offset, epoch=position.epoch
    )
