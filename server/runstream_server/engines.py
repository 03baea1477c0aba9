"""The engines of a server process: which of them its parts need, opened with patience."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, TypeVar

from runstream_server.config import ServerConfig
from runstream_server.errors import ServerError
from runstream_server.roles import Part
from runstream_store.errors import LogUnavailable, TablesUnavailable
from runstream_store.hot import HotState, open_hot
from runstream_store.log import EventLog, open_log
from runstream_store.objects import Objects, open_objects
from runstream_store.tables import Tables, open_tables
from runstream_store.tables.applied import applied_source

_log = logging.getLogger("runstream.server")

T = TypeVar("T")

_AGAIN_S: Final = 0.5
_WITH_TABLES: Final = frozenset({Part.WRITER, Part.QUERY})
_WITH_OBJECTS: Final = frozenset({Part.INGEST, Part.QUERY})


@dataclass(frozen=True, slots=True)
class Engines:
    """What the parts work on."""

    log: EventLog
    hot: HotState
    opened_tables: Tables | None
    opened_objects: Objects | None

    @property
    def tables(self) -> Tables:
        """The tables, for parts that have them."""
        assert self.opened_tables is not None, "this process has no tables"
        return self.opened_tables

    @property
    def objects(self) -> Objects:
        """The object storage, for parts that have it."""
        assert self.opened_objects is not None, "this process has no object storage"
        return self.opened_objects


async def open_engines(config: ServerConfig, closing: AsyncExitStack) -> Engines:
    """Opens what the role needs, and has the tables in this version's form.

    Ingest goes without tables: it takes points while they are away. Writers bring the tables to their form;
    a query service waits for that.

    :param closing: closes them.
    :raises ServerError: an engine, or the form of the tables, did not come in time.
    :raises StoreError: an engine can't be used.
    """
    deadline = time.monotonic() + config.start_s
    log = await open_log(config.log_url)
    closing.push_async_callback(log.close)
    await _patiently(lambda: log.epoch("points"), deadline)  # brokers elect leaders of what is made
    tables = None
    if config.role.parts & _WITH_TABLES:
        tables = await _patiently(lambda: open_tables(config.tables_url), deadline)
        closing.push_async_callback(tables.close)
        if Part.WRITER in config.role.parts:
            await _patiently(tables.migrate, deadline)
        else:
            await _wait_for_form(tables, deadline)
    source = None if tables is None else applied_source(tables)
    hot = await open_hot(config.hot_url, source=source)
    closing.push_async_callback(hot.close)
    objects = None
    if config.role.parts & _WITH_OBJECTS:
        objects = await open_objects(config.objects_url)
        closing.push_async_callback(objects.close)
    return Engines(log, hot, tables, objects)


async def _patiently(action: Callable[[], Awaitable[T]], deadline: float) -> T:
    """Repeats what an engine does not answer, until the deadline."""
    told = False
    while True:
        try:
            return await action()
        except (TablesUnavailable, LogUnavailable) as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                _log.warning("waiting for an engine", extra={"reason": error})
                told = True
        await asyncio.sleep(_AGAIN_S)


async def _wait_for_form(tables: Tables, deadline: float) -> None:
    told = False
    while missing := await _patiently(tables.pending, deadline):
        if time.monotonic() > deadline:
            raise ServerError(
                f"the tables lack {', '.join(missing)}: a writer of this version brings them to their form. "
                "Start one: runstream writer"
            )
        if not told:
            _log.warning("waiting for a writer to bring the tables to their form", extra={"lack": missing})
            told = True
        await asyncio.sleep(_AGAIN_S)
