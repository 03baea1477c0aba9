"""What the tables hold of a run, writer by writer, as numbers and digests of identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from runstream import digest
from runstream.v1 import error_pb2, run_pb2
from runstream.v1 import query_service_pb2 as messages
from runstream_query.selection import DECLARATION
from runstream_query.sql import Clause, ask_rows
from runstream_query.status import WRITER_DRAINED, WRITER_ENDED, WRITER_STARTED
from runstream_store.position import Position
from runstream_store.tables import Tables

_GAPS: Final = 100
_SENDERS_OWN: Final = f"{WRITER_STARTED}, {WRITER_ENDED}, {WRITER_DRAINED}"
"""Kinds of events that have no sequence number of the spool."""

_POINTS: Final = f"""
SELECT writer, metric, column, countIf(type < {DECLARATION}) AS elements,
    sumWithOverflow({digest.SQL}) AS digest
FROM points FINAL
WHERE {{scope}}
GROUP BY writer, metric, column
"""

_EVENTS: Final = f"""
SELECT writer, count() AS events, sumWithOverflow({digest.SQL}) AS digest FROM (
    SELECT DISTINCT writer, seq, toUInt32(0) AS idx FROM (
        SELECT writer, seq FROM run_events WHERE {{scope}} AND kind NOT IN ({_SENDERS_OWN})
        UNION ALL
        SELECT writer, seq FROM attributes WHERE {{scope}}
        UNION ALL
        SELECT writer, seq FROM models WHERE {{scope}}
    )
)
GROUP BY writer
"""

LOST: Final = f"run = '' AND workspace = '' AND code = {error_pb2.ERROR_CODE_UNAVAILABLE}"
"""Which dead letters stand for records that had expired in the log before they were read."""
ONE_REFUSAL: Final = "d.first_seq, d.seq_end, if(d.seq_end > 0, (0, ''), (d.offset, toString(d.epoch)))"
"""By which the refusals of a topic, writer and run are told apart: a refused batch that was delivered again
is the same refusal."""

_DEAD: Final = f"""
SELECT d.topic AS topic, d.first_seq AS first_seq, d.seq_end AS seq_end, max(d.elements) AS elements,
    max(d.events) AS events, max(d.digest) AS digest, max(d.digested) AS digested
FROM dead_letters AS d FINAL
WHERE d.workspace = {{workspace:String}} AND d.run = {{run:String}} AND d.writer = unhex({{writer:String}})
GROUP BY topic, {ONE_REFUSAL}
"""

_EXPIRED: Final = f"""
SELECT topic, partition, epoch, offset, elements AS records, toUnixTimestamp64Nano(received_time) AS time
FROM dead_letters FINAL
WHERE {LOST}
ORDER BY topic, partition, offset
"""

_GAP: Final = f"""
SELECT before + 1 AS first, seq - 1 AS last FROM (
    SELECT seq, lagInFrame(seq, 1, {{first}} - 1) OVER (
        ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS before
    FROM (
        SELECT DISTINCT toInt64(seq) AS seq FROM (
            SELECT seq FROM points WHERE {{scope}} AND run IN {{runs:Array(String)}}
            UNION ALL
            SELECT seq FROM run_events WHERE {{scope}} AND kind NOT IN ({_SENDERS_OWN})
            UNION ALL
            SELECT seq FROM attributes WHERE {{scope}}
            UNION ALL
            SELECT seq FROM models WHERE {{scope}}
            UNION ALL
            SELECT {{to:UInt64}} AS seq
        )
    )
)
WHERE seq > before + 1 ORDER BY first LIMIT {_GAPS}
"""

_RUNS_OF_WRITER: Final = """
SELECT DISTINCT run FROM run_events
WHERE workspace = {workspace:String} AND writer = unhex({writer:String})
"""

_ANY: Final = """
SELECT 1 FROM points WHERE workspace = {workspace:String} AND run = {run:String} LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Within:
    """A part of a run."""

    writers: Sequence[bytes] | None = None
    """None: all."""
    first_seq: int = 0
    seq_end: int | None = None

    def clause(self) -> Clause:
        """As a condition."""
        clause = Clause()
        if self.writers is not None:
            clause &= Clause(
                "hex(writer) IN {writers:Array(String)}",
                {"writers": [writer.hex().upper() for writer in self.writers]},
            )
        if self.first_seq:
            clause &= Clause("seq >= {from:UInt64}", {"from": self.first_seq})
        if self.seq_end is not None:
            clause &= Clause("seq < {to:UInt64}", {"to": self.seq_end})
        return clause


@dataclass(slots=True)
class Held:
    """Elements and events, with the digests of their identities."""

    elements: int = 0
    digest: int = 0
    events: int = 0
    events_digest: int = 0
    exact: bool = True
    """The digests are of all of them."""

    def plus(self, more: Held) -> Held:
        """The sum."""
        return Held(
            self.elements + more.elements,
            (self.digest + more.digest) & digest.MASK,
            self.events + more.events,
            (self.events_digest + more.events_digest) & digest.MASK,
            self.exact and more.exact,
        )


@dataclass(frozen=True, slots=True)
class Expiry:
    """Records that had expired before they were read."""

    topic: str
    partition: int
    epoch: bytes
    first: int
    records: int
    time_ns: int

    def concerns(self, position: Position) -> bool:
        """Whether it may be of what lies up to a position."""
        place = position.topic, position.partition, position.epoch
        return place == (self.topic, self.partition, self.epoch) and self.first <= position.offset


@dataclass(frozen=True, slots=True)
class StoredReader:
    """Reads what is stored."""

    tables: Tables
    timeout_s: float

    async def any(self, workspace: str, run: str) -> bool:
        """Whether the run has an element."""
        return bool(await self._rows(_ANY, {"workspace": workspace, "run": run}))

    async def held(self, workspace: str, run: str, within: Within) -> dict[bytes, Held]:
        """By writer: what is held of it, each identity once."""
        scope = within.clause() & Clause(
            "workspace = {workspace:String} AND run = {run:String}", {"workspace": workspace, "run": run}
        )
        found: dict[bytes, Held] = {}
        factors: dict[tuple[str, str], int] = {}
        for row in await self._rows(_POINTS.replace("{scope}", scope.sql), scope.params, heavy=True):
            series = row["metric"], row["column"]
            factor = factors.get(series) or factors.setdefault(series, digest.factor(*series))
            held = found.setdefault(row["writer"], Held())
            held.elements += row["elements"]
            held.digest = (held.digest + row["digest"] * factor) & digest.MASK
        for row in await self._rows(_EVENTS.replace("{scope}", scope.sql), scope.params):
            held = found.setdefault(row["writer"], Held())
            held.events, held.events_digest = row["events"], row["digest"]
        return found

    async def dead(self, workspace: str, run: str, writer: bytes) -> Held:
        """What is in dead letters."""
        params = {"workspace": workspace, "run": run, "writer": writer.hex()}
        total = Held()
        for row in await self._rows(_DEAD, params):
            known, part = bool(row["digested"]), row["digest"]
            if row["topic"] == "points":
                total = total.plus(Held(row["elements"], part, exact=known))
            else:
                total = total.plus(Held(0, 0, row["events"], part, exact=known))
        return total

    async def expired(self) -> list[Expiry]:
        """All that has expired."""
        return [
            Expiry(row["topic"], row["partition"], row["epoch"], row["offset"], row["records"], row["time"])
            for row in await self._rows(_EXPIRED, {})
        ]

    async def gaps(
        self, workspace: str, writer: bytes, said: run_pb2.WriterDrained
    ) -> list[messages.SeqRange]:
        """Sequence numbers of a writer of which nothing is held for any run."""
        names = {"workspace": workspace, "writer": writer.hex()}
        runs = [row["run"] for row in await self._rows(_RUNS_OF_WRITER, names)]
        scope = Within(None, said.first_seq, said.seq_end).clause() & Clause(
            "workspace = {workspace:String} AND writer = unhex({writer:String})", names
        )
        sql = _GAP.replace("{scope}", scope.sql).replace("{first}", f"toInt64({said.first_seq:d})")
        rows = await self._rows(sql, {**scope.params, "runs": runs, "to": said.seq_end}, heavy=True)
        return [messages.SeqRange(first=row["first"], last=row["last"]) for row in rows]

    async def _rows(self, sql: str, params: Any, *, heavy: bool = False) -> list[dict[str, Any]]:
        return await ask_rows(self.tables, sql, params, self.timeout_s, heavy=heavy)
