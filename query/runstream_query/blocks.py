"""Which inserts of points a derived figure has seen.

Every insert into `points` makes a part with a block number of its own, and a part that was merged from others
covers their numbers. A part never changes. So what is worked out from rows stays right until there is a part
with rows of the run whose numbers are not all known, however parts are merged meanwhile; and what repeats
can't change may be brought up to date from such parts alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from runstream_query.sql import Clause, ask_rows
from runstream_store.errors import QueryError, QueryTimeout, QueryTooLarge
from runstream_store.tables import Tables

_log = logging.getLogger("runstream.query")

_TRIES: Final = 4

_PARTS: Final = """
SELECT name, toInt64(min_block_number) AS low, toInt64(max_block_number) AS high,
    if(data_version = low, 0, data_version) AS changed
FROM system.parts WHERE database = currentDatabase() AND table = 'points' AND active
"""
_WITH_ROWS: Final = """
SELECT DISTINCT toString(p._part) AS part FROM points AS p WHERE {rows} AND p._part IN {unknown:Array(String)}
"""


class Part(NamedTuple):
    """A part of the table: rows of the inserts from `low` to `high`."""

    name: str
    low: int
    high: int
    changed: int
    """The number of the last change that was made to its rows (by `ALTER`), 0 for none."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Numbers of inserts: ranges in ascending order, which don't touch."""

    ranges: Sequence[tuple[int, int]] = ()
    changed: int = 0

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Blocks:
        """All of some parts."""
        parts = list(parts)
        ranges: list[tuple[int, int]] = []
        for low, high in sorted((part.low, part.high) for part in parts):
            if ranges and low <= ranges[-1][1] + 1:
                ranges[-1] = ranges[-1][0], max(high, ranges[-1][1])
            else:
                ranges.append((low, high))
        return cls(ranges, max((part.changed for part in parts), default=0))

    def holds(self, low: int, high: int) -> bool:
        """Whether all numbers from `low` to `high` are in it."""
        return any(first <= low and high <= last for first, last in self.ranges)

    def meets(self, parts: Iterable[Part]) -> bool:
        """Whether a number of one of the parts is in it."""
        return any(first <= part.high and part.low <= last for part in parts for first, last in self.ranges)

    def unknown(self, parts: Iterable[Part]) -> list[Part] | None:
        """The parts with a number that is not in it. None: what was known is gone or was changed."""
        parts = list(parts)
        if not self.ranges:
            return parts
        there = Blocks.of(parts)
        if there.changed > self.changed or not all(there.holds(*known) for known in self.ranges):
            return None
        return [part for part in parts if not self.holds(part.low, part.high)]


@dataclass(frozen=True, slots=True)
class Sight:
    """What the table consists of at a moment; without a part where that can't be seen."""

    parts: Sequence[Part]
    blocks: Blocks = field(default_factory=Blocks)

    def has(self, parts: Iterable[Part]) -> bool:
        """Whether these are among it. If they were before, too, what was read of them meanwhile is all of
        them."""
        names = {part.name for part in self.parts}
        return all(part.name in names for part in parts)


class News(NamedTuple):
    """What has come since somebody looked."""

    blocks: Blocks
    """All that there is."""
    parts: Sequence[Part]
    """Those with new numbers, and with rows that were asked about. They may have older rows, too."""


async def look(tables: Tables, timeout_s: float) -> Sight:
    """The parts that there are now. A server may not let its user see them, and a table that only leads to
    others has none: then nothing is told, and nothing is to be kept."""
    try:
        parts = [Part(**row) for row in await ask_rows(tables, _PARTS, {}, timeout_s)]
    except (QueryTimeout, QueryTooLarge):
        raise
    except QueryError as error:
        _log.info("the parts of the table can't be seen, so that figures are counted each time: %s", error)
        parts = []
    return Sight(parts, Blocks.of(parts))


async def fresh(tables: Tables, rows: Clause, known: Blocks, timeout_s: float) -> News | None:
    """What has come since `known`.

    :param rows: a condition on `points AS p`: the rows that are asked about.
    :returns: None when that can't be told: what was known is gone, or parts don't stand still.
    """
    for _ in range(_TRIES):
        sight = await look(tables, timeout_s)
        unknown = known.unknown(sight.parts) if sight.parts else None
        if unknown is None:
            return None
        if not unknown:
            return News(sight.blocks, [])
        sql = _WITH_ROWS.replace("{rows}", rows.sql)
        params = {**rows.params, "unknown": [part.name for part in unknown]}
        found = {row["part"] for row in await ask_rows(tables, sql, params, timeout_s)}
        if (await look(tables, timeout_s)).has(unknown):
            return News(sight.blocks, [part for part in unknown if part.name in found])
    return None
