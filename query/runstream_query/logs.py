"""Reads logs: which there are, and their pieces in order.

The order is that of time; of each writer it is that of its offsets, whatever its clock did. Where the reader
is is told by an offset for each writer, so that nothing is passed over that comes late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import pyarrow as pa

from runstream.v1 import log_service_pb2 as messages
from runstream_query.sql import ask, ask_rows
from runstream_store.tables import Tables
from runstream_store.tables.schema import NO_RANK

Places = Mapping[str, int]
"""By writer, in hexadecimal: the offset from which on nothing was read. Writers that are missing: 0."""

PIECE_BYTES: Final = 1 << 20  # the greatest
TAIL_LINES_BYTES: Final = 4 << 20
_KEYS: Final = 50_000  # pieces that are looked at in one query
_TAIL_KEYS: Final = 1_000_000
_WRITERS: Final = 50  # of which data is read in one query

_LOG: Final = "workspace = {workspace:String} AND run = {run:String} AND path = {path:String}"
_RANKS: Final = "(empty({ranks:Array(Int32)}) OR has({ranks:Array(Int32)}, rank))"

# Bytes below the greatest end before a piece are repeats.
_LIST: Final = """
SELECT path, sum(greatest(0, toInt64(until) - toInt64(greatest(offset, before)))) AS size,
    toUnixTimestamp64Nano(min(time)) AS first, toUnixTimestamp64Nano(max(time)) AS last,
    uniqExact(writer) AS writers
FROM
(
    SELECT path, writer, time, offset, offset + size AS until,
        max(offset + size) OVER (PARTITION BY path, writer ORDER BY offset
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM logs FINAL
    WHERE workspace = {workspace:String} AND run = {run:String} AND startsWith(path, {prefix:String})
)
GROUP BY path ORDER BY path
"""
_ENDS: Final = f"""
SELECT hex(writer) AS by, max(offset + size) AS until FROM logs FINAL
WHERE {_LOG} AND {_RANKS} GROUP BY by
"""
# What was not read of each piece, from `begin` to `until`: disjoint for each writer.
_WANTED: Final = f"""
SELECT by, offset, greatest(offset, before, place) AS begin, until, ordering FROM
(
    SELECT hex(writer) AS by, offset, offset + size AS until,
        {{places:Array(UInt64)}}[indexOf({{writers:Array(String)}}, hex(writer))] AS place,
        max(time) OVER (PARTITION BY writer ORDER BY offset) AS ordering,
        max(offset + size) OVER (PARTITION BY writer ORDER BY offset
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM logs FINAL
    WHERE {_LOG} AND {_RANKS}
        AND (offset >= {{lowest:UInt64}} OR NOT has({{writers:Array(String)}}, hex(writer)))
        AND offset + size > place
)
WHERE until > begin
"""
_FORWARD: Final = f"""
SELECT by, offset, begin, until FROM ({_WANTED}) ORDER BY ordering, by, offset LIMIT {{limit:UInt32}}
"""
_BACKWARD: Final = f"""
SELECT by, offset, begin, until FROM ({_WANTED})
ORDER BY ordering DESC, by DESC, offset DESC LIMIT {{limit:UInt32}}
"""
_DATA: Final = f"""
SELECT hex(writer) AS by, offset, rank, toUnixTimestamp64Nano(time) AS time_ns, data FROM logs FINAL
WHERE {_LOG} AND ({{ranges}})
"""


@dataclass(frozen=True, slots=True)
class Log:
    """One log of one run, or what some ranks wrote to it."""

    workspace: str
    run: str
    path: str
    ranks: tuple[int, ...] = ()

    @property
    def params(self) -> dict[str, object]:
        """For the queries."""
        return {"workspace": self.workspace, "run": self.run, "path": self.path, "ranks": list(self.ranks)}


class Key(NamedTuple):
    """What was not read of a piece."""

    by: str
    """Writer, in hexadecimal."""
    offset: int
    begin: int
    until: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a log."""

    parts: list[messages.LogPart]
    places: dict[str, int]
    """Where to go on."""
    more: bool
    """Something is there now."""


class LogReader:
    """Reads the table."""

    def __init__(self, tables: Tables, timeout_s: float) -> None:
        self._tables = tables
        self._timeout_s = timeout_s

    async def logs(self, workspace: str, run: str, prefix: str) -> list[messages.LogFile]:
        """The logs of a run whose paths begin with `prefix`."""
        params = {"workspace": workspace, "run": run, "prefix": prefix}
        return [
            messages.LogFile(
                path=row["path"],
                size=row["size"],
                first_time_ns=row["first"],
                last_time_ns=row["last"],
                writers=row["writers"],
            )
            for row in await ask_rows(self._tables, _LIST, params, self._timeout_s)
        ]

    async def page(self, log: Log, places: Places, most: int) -> Page:
        """What comes next, up to `most` bytes."""
        chosen: list[Key] = []
        size = 0
        keys = await self._keys(_FORWARD, log, places)
        for key in keys:
            if chosen and size + key.until - key.begin > most:
                break
            chosen.append(key)
            size += key.until - key.begin
        data = await self._data(log, chosen)
        at = dict(places)
        parts: list[messages.LogPart] = []
        for by, offset, begin, until in chosen:
            rank, time_ns, content = data[by, offset]
            new = content[begin - offset : until - offset]
            at[by] = until
            writer = bytes.fromhex(by)
            if parts and parts[-1].writer == writer:
                parts[-1].data += new
            else:
                given = None if rank == NO_RANK else rank
                parts.append(messages.LogPart(data=new, time_ns=time_ns, writer=writer, rank=given))
        return Page(parts, at, len(chosen) < len(keys) or len(keys) == _KEYS)

    async def skip(self, log: Log, count: int) -> dict[str, int]:
        """Where a reader is who has read so many bytes."""
        places: dict[str, int] = {}
        left = count
        while left > 0 and (keys := await self._keys(_FORWARD, log, places)):
            for key in keys:
                passed = min(key.until - key.begin, left)
                places[key.by] = key.begin + passed
                left -= passed
                if left <= 0:
                    break
        return places

    async def tail(self, log: Log, count: int) -> dict[str, int]:
        """Where a reader is before whom so many bytes are left; or fewer, of a million pieces."""
        rows = await ask_rows(self._tables, _ENDS, log.params, self._timeout_s)
        places = {row["by"]: int(row["until"]) for row in rows}
        left = count
        for key in await self._keys(_BACKWARD, log, {}, _TAIL_KEYS) if left else ():
            passed = min(key.until - key.begin, left)
            places[key.by] = key.until - passed
            left -= passed
            if left <= 0:
                break
        return places

    async def tail_lines(self, log: Log, lines: int) -> dict[str, int]:
        """Where a reader is before whom so many lines are left. Looks at the last 4 MiB."""
        begin = await self.tail(log, TAIL_LINES_BYTES)
        page = await self.page(log, begin, TAIL_LINES_BYTES + PIECE_BYTES)
        content = b"".join(part.data for part in page.parts)
        cut = len(content)
        if lines:
            cut = 0
            at = len(content) - content.endswith(b"\n")
            for _ in range(lines):
                at = content.rfind(b"\n", 0, at)
                if at < 0:
                    break
            else:
                cut = at + 1
        places = dict(begin)
        for part in page.parts:  # bytes of parts that are cut off are passed
            by = part.writer.hex().upper()
            passed = min(cut, len(part.data))
            cut -= passed
            if passed == 0:
                break
            places[by] = await self._advance(log, places, by, passed)
        return places

    async def _advance(self, log: Log, places: Places, by: str, size: int) -> int:
        """The place of one writer that many bytes on: pieces may have spaces between them."""
        left, at = size, places.get(by, 0)
        for key in await self._keys(_FORWARD, log, places):
            if key.by == by:
                passed = min(key.until - key.begin, left)
                at = key.begin + passed
                left -= passed
                if left <= 0:
                    break
        return at

    async def _keys(self, sql: str, log: Log, places: Places, limit: int = _KEYS) -> list[Key]:
        """The first or last pieces that are not read whole."""
        params = {
            **log.params,
            "writers": list(places),
            "places": list(places.values()),
            "lowest": max(0, min(places.values(), default=0) - PIECE_BYTES),
            "limit": limit,
        }
        found = await ask(self._tables, sql, params, self._timeout_s)
        columns = [found.column(name).to_pylist() for name in Key._fields]
        return [Key(*values) for values in zip(*columns, strict=True)]

    async def _data(self, log: Log, keys: Sequence[Key]) -> dict[tuple[str, int], tuple[int, int, bytes]]:
        """Rank, time and bytes of pieces."""
        ranges: dict[str, tuple[int, int]] = {}
        for by, offset, _, _ in keys:
            low, high = ranges.get(by, (offset, offset))
            ranges[by] = min(low, offset), max(high, offset)
        found: dict[tuple[str, int], tuple[int, int, bytes]] = {}
        of_writers = list(ranges.items())
        for start in range(0, len(of_writers), _WRITERS):
            params: dict[str, object] = dict(log.params)
            parts = []
            for number, (by, (low, high)) in enumerate(of_writers[start : start + _WRITERS]):
                params |= {f"w{number}": by, f"l{number}": low, f"h{number}": high}
                parts.append(
                    f"(writer = toFixedString(unhex({{w{number}:String}}), 16) AND "
                    f"offset BETWEEN {{l{number}:UInt64}} AND {{h{number}:UInt64}})"
                )
            sql = _DATA.replace("{ranges}", " OR ".join(parts))
            rows = await ask(self._tables, sql, params, self._timeout_s)
            columns = [rows.column(name).to_pylist() for name in ("by", "offset", "rank", "time_ns")]
            data = rows.column("data").cast(pa.binary()).to_pylist()
            for by, offset, rank, time_ns, content in zip(*columns, data, strict=True):
                found[by, offset] = rank, time_ns, content
        return found
