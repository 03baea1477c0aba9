"""Follows a run: what has changed since a message that somebody has taken in.

A message carries a cursor that says what is known with it, so nothing is kept between two calls: whoever was
cut off goes on from the last cursor, with any query service. The tables are looked at when the writers got
further, and now and then since leases are lost in silence; the longer a look takes, the rarer it is.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

from runstream.v1 import query_service_pb2, run_pb2
from runstream_query import tokens
from runstream_query.barrier import Barrier
from runstream_query.runs import RunReader
from runstream_query.selection import DECLARATION
from runstream_query.sql import ask_rows
from runstream_query.status import FINAL
from runstream_store.position import Position
from runstream_store.tables.schema import NO_STEP

_MAX_SERIES: Final = 4_000
"""Of runs with more series a cursor does not tell the state: then all are sent again."""
_LOOK_S: Final = 0.1
_LEASES_S: Final = 5.0
_QUIET_S: Final = 15.0
_SHARE: Final = 0.1
_LONGEST_PAUSE_S: Final = 10.0
_HASH_BYTES: Final = 8

_SERIES: Final = f"""
SELECT toString(p.metric) AS metric, toString(p.column) AS column, count() AS elements,
    max(p.step) AS last_step, max(p.step = {NO_STEP}) AS stepless,
    argMaxIf(p.value, (p.step, p.time, p.writer, p.seq, p.idx), p.type IN (1, 2, 3)) AS by_step,
    argMaxIf(p.value, (p.time, p.writer, p.seq, p.idx), p.type IN (1, 2, 3)) AS by_time,
    countIf(p.type IN (1, 2, 3)) > 0 AS has_number
FROM points AS p
WHERE p.workspace = {{workspace:String}} AND p.run = {{run:String}} AND p.type < {DECLARATION}
GROUP BY metric, column ORDER BY metric, column
"""


@dataclass(frozen=True, slots=True)
class Known:
    """What a cursor stands for."""

    run: str = ""
    """Digest of the run's message."""
    series: frozenset[bytes] = frozenset()
    """Hashes of series with their figures."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Looks at runs."""

    runs: RunReader
    barrier: Barrier

    async def stream(
        self, workspace: str, run: str, cursor: str, interval_s: float
    ) -> AsyncGenerator[query_service_pb2.RunChange, None]:
        """Changes, until the run is over and settled. An empty one now and then tells that the line holds."""
        quiet_since = 0.0
        while True:
            began = time.monotonic()
            change = await self.change(workspace, run, cursor)
            took = time.monotonic() - began
            if change.cursor != cursor or change.ended or began - quiet_since >= _QUIET_S:
                cursor, quiet_since = change.cursor, began
                yield change
            if change.ended:
                return
            await asyncio.sleep(max(interval_s, _pause(took)))
            await self._wait(list(change.as_of), time.monotonic() + _LEASES_S)

    async def poll(self, workspace: str, run: str, cursor: str, wait_s: float) -> query_service_pb2.RunChange:
        """The next change; after `wait_s` seconds what is there, changed or not."""
        deadline = time.monotonic() + wait_s
        while True:
            began = time.monotonic()
            change = await self.change(workspace, run, cursor)
            took = time.monotonic() - began
            left = deadline - time.monotonic()
            if change.cursor != cursor or change.ended or left <= 0:
                return change
            await asyncio.sleep(min(left, _pause(took)))
            await self._wait(list(change.as_of), min(deadline, time.monotonic() + _LEASES_S))

    async def _wait(self, known: list[run_pb2.LogPosition], until: float) -> None:
        """Waits until the tables are further than this."""
        while True:
            left = until - time.monotonic()
            if left <= 0 or _messages(await self.barrier.as_of()) != known:
                return
            await asyncio.sleep(min(_LOOK_S, left))

    async def change(self, workspace: str, run: str, cursor: str) -> query_service_pb2.RunChange:
        """What has changed since a cursor.

        :raises NotFound: nothing is known of the run.
        :raises InvalidArgument: that is no cursor of this run.
        """
        bound_to = tokens.digest("WatchRun", workspace, run)
        known = _known(bound_to, cursor) if cursor else Known()
        as_of = _messages(await self.barrier.as_of())  # before anything is read
        found = await self.runs.get(workspace, run)
        found.ClearField("writers")
        found.ClearField("rejections")
        timeout_s = self.runs.settings.query_timeout_s
        names = {"workspace": workspace, "run": run}
        rows = await ask_rows(self.runs.tables, _SERIES, names, timeout_s, heavy=True)
        hashes = [_hash(row) for row in rows]
        digest = tokens.digest(found.SerializeToString(deterministic=True))
        change = query_service_pb2.RunChange(
            as_of=as_of,
            series=[_series(row) for row, one in zip(rows, hashes, strict=True) if one not in known.series],
            cursor=_cursor(bound_to, digest, hashes),
            ended=found.status in FINAL and not found.settling,
        )
        if digest != known.run:
            change.run.CopyFrom(found)
        return change


def _pause(took_s: float) -> float:
    return min(_LONGEST_PAUSE_S, took_s * (1 / _SHARE - 1))


def _messages(positions: list[Position]) -> list[run_pb2.LogPosition]:
    return [
        run_pb2.LogPosition(topic=p.topic, partition=p.partition, offset=p.offset, epoch=p.epoch)
        for p in sorted(positions, key=lambda p: (p.topic, p.partition, p.epoch))
    ]


def _series(row: dict[str, Any]) -> query_service_pb2.SeriesChange:
    change = query_service_pb2.SeriesChange(metric=row["metric"], column=row["column"], count=row["elements"])
    if row["has_number"]:
        change.last = row["by_time"] if row["stepless"] else row["by_step"]
    if row["last_step"] != NO_STEP:
        change.last_step = row["last_step"]
    return change


def _hash(row: dict[str, Any]) -> bytes:
    data = _series(row).SerializeToString(deterministic=True)
    return hashlib.blake2b(data, digest_size=_HASH_BYTES).digest()


def _cursor(bound_to: str, digest: str, hashes: list[bytes]) -> str:
    packed = b"".join(hashes) if len(hashes) <= _MAX_SERIES else b""
    return tokens.encode(bound_to, [digest, base64.b64encode(packed).decode()])


def _known(bound_to: str, cursor: str) -> Known:
    digest, packed = tokens.decode(bound_to, cursor, str, str)
    data = base64.b64decode(packed)
    parts = range(0, len(data), _HASH_BYTES)
    return Known(digest, frozenset(data[at : at + _HASH_BYTES] for at in parts))
