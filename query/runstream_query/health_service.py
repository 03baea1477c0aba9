"""HealthService: how the server is, asked of its engines at once.

An engine that does not answer is told as such; nothing else is missing from the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from importlib.metadata import version
from typing import Any, Final

from runstream.v1 import health_service_pb2 as messages
from runstream.v1 import run_pb2
from runstream_query.barrier import CONSUMERS, SUMMARIES, event_of
from runstream_query.services import Service
from runstream_query.sql import ask_rows
from runstream_query.status import WRITER_DRAINED, WRITER_ENDED, WRITER_STARTED
from runstream_query.stored import LOST, ONE_REFUSAL
from runstream_store.errors import StoreError
from runstream_store.hot import HotState
from runstream_store.log import EventLog
from runstream_store.objects import Objects, chunk_key
from runstream_store.tables import Tables

_KINDS: Final = 100
_WRITERS: Final = 10_000
_ANSWER_S: Final = 5.0
_NOWHERE: Final = chunk_key(bytes(32))

_TABLES: Final = """
SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts
FROM system.parts WHERE active AND database = currentDatabase() GROUP BY table ORDER BY bytes DESC
"""
_DISKS: Final = """
SELECT name, free_space AS free_bytes, total_space AS total_bytes FROM system.disks ORDER BY name
"""
_FILES: Final = """
SELECT sum(n) AS uploads, sum(n * bytes) AS upload_bytes, count() AS contents, sum(bytes) AS content_bytes
FROM (SELECT sha256, count() AS n, any(size) AS bytes FROM artifacts FINAL GROUP BY sha256)
"""
_DEAD: Final = f"""
SELECT topic, code, reason, count() AS records, sum(elements) AS elements,
    uniqExactIf((space, id), id != '') AS runs, toUnixTimestamp64Nano(max(time)) AS last_time_ns,
    argMax((space, id), (id != '', time)) AS example, example.1 AS workspace, example.2 AS run
FROM (
    SELECT d.topic AS topic, d.code AS code, d.reason AS reason, d.workspace AS space, d.run AS id,
        max(d.elements) AS elements, max(d.received_time) AS time
    FROM dead_letters AS d FINAL WHERE NOT ({LOST})
    GROUP BY topic, code, reason, space, id, d.writer, {ONE_REFUSAL}
)
GROUP BY topic, code, reason ORDER BY last_time_ns DESC LIMIT {_KINDS}
"""
_EXPIRED: Final = f"""
SELECT topic, partition, offset AS first, elements AS records, toUnixTimestamp64Nano(received_time) AS time_ns
FROM dead_letters FINAL WHERE {LOST} ORDER BY received_time DESC LIMIT {_KINDS}
"""
_OPEN: Final = f"""
SELECT writer, hex(event) AS event FROM (
    SELECT e.writer AS writer, argMaxIf(e.event, e.precedence, e.kind = {WRITER_STARTED}) AS event,
        max(e.received_time) AS began
    FROM run_events AS e WHERE e.kind IN ({WRITER_STARTED}, {WRITER_ENDED})
    GROUP BY writer HAVING countIf(e.kind = {WRITER_ENDED}) = 0
)
ORDER BY began DESC LIMIT {_WRITERS}
"""
# Writers that ended by an event that more was to follow, and of which nobody said since that all has arrived.
_UNSENT: Final = f"""
SELECT hex(started) AS started, hex(ended) AS ended FROM (
    SELECT argMaxIf(e.event, e.precedence, e.kind = {WRITER_STARTED}) AS started,
        argMaxIf(e.event, e.precedence, e.kind = {WRITER_ENDED}) AS ended, max(e.received_time) AS at
    FROM run_events AS e WHERE e.kind IN ({WRITER_STARTED}, {WRITER_ENDED}, {WRITER_DRAINED})
    GROUP BY e.workspace, e.run, e.writer
    HAVING countIf(e.kind = {WRITER_ENDED}) > 0 AND countIf(e.kind = {WRITER_DRAINED}) = 0
)
ORDER BY at DESC LIMIT {_WRITERS}
"""


class HealthServicer:
    """Implements `runstream.v1.HealthService`."""

    def __init__(
        self, log: EventLog, tables: Tables, objects: Objects, hot: HotState, timeout_s: float
    ) -> None:
        self._log = log
        self._tables = tables
        self._objects = objects
        self._hot = hot
        self._timeout_s = timeout_s

    async def get_health(self, request: messages.GetHealthRequest) -> messages.GetHealthResponse:
        """How the server is."""
        del request
        response = messages.GetHealthResponse(version=version("runstream"), time_ns=time.time_ns())
        log, tables, objects, hot = await asyncio.gather(
            _problem(self._lags(response)),
            _problem(self._rows(response)),
            _problem(self._objects.size(_NOWHERE)),
            self._hot.problem(),
        )
        for role, engine, problem, survives in (
            (messages.ENGINE_ROLE_LOG, self._log.capabilities.name, log, self._log.capabilities.survives),
            (messages.ENGINE_ROLE_TABLES, self._tables.capabilities.name, tables, ""),
            (messages.ENGINE_ROLE_OBJECTS, self._objects.capabilities.name, objects, ""),
            (messages.ENGINE_ROLE_HOT_STATE, self._hot.name, hot, ""),
        ):
            response.engines.add(role=role, engine=engine, problem=problem, survives=survives)
        return response

    async def _lags(self, response: messages.GetHealthResponse) -> None:
        """How far the tables are behind."""
        for topic in CONSUMERS:
            epoch = await self._log.epoch(topic)
            for partition in range(await self._log.partitions(topic)):
                applied = await self._hot.applied(topic, topic, partition, epoch)  # before the end is known
                first, end = await self._log.bounds(topic, partition)
                done = first if applied is None else applied + 1
                summarised = await self._hot.applied(SUMMARIES, topic, partition, epoch)
                response.lags.add(
                    topic=topic,
                    partition=partition,
                    first_offset=first,
                    next_offset=end,
                    waiting=max(0, end - done),
                    unsummarised=0 if summarised is None else max(0, done - summarised - 1),
                )

    async def _rows(self, response: messages.GetHealthResponse) -> None:
        """What the tables hold."""
        response.tables.extend(messages.TableSize(**row) for row in await self._ask(_TABLES))
        response.disks.extend(messages.DiskSpace(**row) for row in await self._ask(_DISKS))
        response.files.CopyFrom(messages.FileSpace(**(await self._ask(_FILES))[0]))
        for row in await self._ask(_DEAD):
            row.pop("example")
            response.dead_letters.add(**row)
        for row in await self._ask(_EXPIRED):
            response.expired.add(**row)
        response.hosts.extend(await self._hosts(await self._ask(_OPEN), await self._ask(_UNSENT)))

    async def _hosts(
        self, open_writers: Sequence[dict[str, Any]], ended: Sequence[dict[str, Any]]
    ) -> list[messages.WritingHost]:
        """Writers that have not ended, and those with records to send, by machine."""
        alive = await self._hot.lease_alive([row["writer"] for row in open_writers], time.time_ns())
        writers, responding, unsent = Counter[str](), Counter[str](), Counter[str]()
        for row in ended:
            if event_of(row["ended"]).writer_ended.drain_follows:
                unsent[event_of(row["started"]).writer_started.host] += 1
        for row, responds in zip(open_writers, alive, strict=True):
            started: run_pb2.WriterStarted = event_of(row["event"]).writer_started
            writers[started.host] += 1
            responding[started.host] += responds
        return [
            messages.WritingHost(
                host=host, writers=writers[host], responding=responding[host], unsent=unsent[host]
            )
            for host in sorted(writers.keys() | unsent.keys())
        ]

    async def _ask(self, sql: str) -> list[dict[str, Any]]:
        return await ask_rows(self._tables, sql, {}, self._timeout_s)


async def _problem(work: Awaitable[object]) -> str:
    """Why it could not be done in time; empty when it could."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            await work
    except TimeoutError:
        return f"no answer within {_ANSWER_S:g} s"
    except StoreError as error:
        return str(error) or type(error).__name__
    return ""


def health_service(servicer: HealthServicer) -> Service:
    """The service, to be mounted. Shared links may not call it."""
    return Service(messages.DESCRIPTOR.services_by_name["HealthService"], servicer)
