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
from typing import Final

from runstream.v1 import query_service_pb2, run_pb2
from runstream_query import tokens
from runstream_query.barrier import Barrier
from runstream_query.figures import FiguresReader, SeriesFigures
from runstream_query.runs import RunReader
from runstream_query.series import figures_that_count
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
    figures: FiguresReader

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
        relaunched = any(writer.attempt > 1 for writer in found.writers)
        found.ClearField("writers")
        found.ClearField("rejections")
        figures = await figures_that_count(
            self.runs.tables, self.figures, workspace, run, relaunched, self.runs.settings.query_timeout_s
        )
        series = [_series(one) for one in figures if one.elements]
        hashes = [_hash(one) for one in series]
        digest = tokens.digest(found.SerializeToString(deterministic=True))
        change = query_service_pb2.RunChange(
            as_of=as_of,
            series=[one for one, hashed in zip(series, hashes, strict=True) if hashed not in known.series],
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


def _series(figures: SeriesFigures) -> query_service_pb2.SeriesChange:
    change = query_service_pb2.SeriesChange(
        metric=figures.metric, column=figures.column, count=figures.elements, last=figures.last_number
    )
    if figures.last_step != NO_STEP:
        change.last_step = figures.last_step
    return change


def _hash(change: query_service_pb2.SeriesChange) -> bytes:
    data = change.SerializeToString(deterministic=True)
    return hashlib.blake2b(data, digest_size=_HASH_BYTES).digest()


def _cursor(bound_to: str, digest: str, hashes: list[bytes]) -> str:
    packed = b"".join(hashes) if len(hashes) <= _MAX_SERIES else b""
    return tokens.encode(bound_to, [digest, base64.b64encode(packed).decode()])


def _known(bound_to: str, cursor: str) -> Known:
    digest, packed = tokens.decode(bound_to, cursor, str, str)
    data = base64.b64decode(packed)
    parts = range(0, len(data), _HASH_BYTES)
    return Known(digest, frozenset(data[at : at + _HASH_BYTES] for at in parts))
