"""The tables in ClickHouse: a server, or chDB, which is its engine in this process. One client library serves
both.

Traps, each seen in chDB 4.4 with clickhouse-connect 1.12:

- A client runs one query at a time; a second one waits for the first. So there is a client for inserts and
  some for reads, each with a thread of its own.
- After a query failed half-way (time or memory limit, an exception in a function), what it had already put
  out comes before the result of the **next** query of the same client. So a failure is followed by a
  throw-away query (`ClickHouseClient.recover`).
- A query on a client that has an open stream gives nothing, silently. So no streams.
- Settings given with a raw query or a command become six more statements (`SET`, and back). So settings are
  given once for each client, and the time limit as a SETTINGS clause.
- `insert_arrow` passes the block through a file in the temporary folder, which a `kill -9` leaves there. So
  the block is written to anonymous memory where the system has that, and read by `INFILE`.
- A process can have one folder open, another process none of it. A forked child hangs. Nothing here forks.
- Arrow has no nulls in our columns: the engine would turn one into 0 or '' without a word. So blocks are
  checked.
- Parts are not synced to the disk unless the table says `fsync_after_insert`, and the log is trimmed behind
  the tables: the tables say so.
- Over a network: the client library takes headers that end in the middle for an answer that is good and
  empty. So a result must be whole, and an insert is answered with the rows written, the last of the headers.
- A text column whose bytes are not UTF-8 (`run_events.event`) comes as an Arrow string all the same: cast it
  to binary before anything looks into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import pyarrow as pa

from runstream_store.errors import (
    ClosedError,
    ConfigError,
    QueryTimeout,
    RowsRefused,
    TablesError,
    TablesLocked,
    TablesUnavailable,
)
from runstream_store.ownership import OwnedByOther, Ownership
from runstream_store.tables import migrate
from runstream_store.tables.clickhouse_client import ClickHouseClient, embedded, remote
from runstream_store.tables.protocol import Capabilities
from runstream_store.tables.schema import SCHEMAS

_READERS: Final = 2
_CERTIFICATES: Final = {"ca_cert", "client_cert", "client_cert_key"}
_OPTIONS: Final = {"user", "password", "password_file", *_CERTIFICATES}
_TIMEOUT_S: Final = 30.0
_HEAVY_TIMEOUT_S: Final = 600.0
_RETRY_AFTER_S: Final = (0.2, 1.0)
_STOP_PAUSES_S: Final = (0.05, 0.2, 1.0, 0.0)

_T = TypeVar("_T")


class _Worker:
    """A client, and the only thread that uses it."""

    def __init__(self, name: str, connect: Callable[[], ClickHouseClient]) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"tables-{name}")
        self._connect = connect
        self._client: ClickHouseClient | None = None
        self.load = (0, 0)
        """Heavy queries, and all work, that it has to do. What was cancelled counts until it has ended."""

    async def run(self, work: Callable[[ClickHouseClient], _T]) -> _T:
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[ClickHouseClient], _T], *, heavy: bool = False) -> Future[_T]:
        try:
            future = self._executor.submit(self._run, work)
        except RuntimeError:
            raise ClosedError("the tables are closed") from None
        self._count(heavy, 1)
        future.add_done_callback(lambda _: self._done(heavy))
        return future

    def _done(self, heavy: bool) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(self._count, heavy, -1)

    def _count(self, heavy: bool, change: int) -> None:
        self.load = (self.load[0] + heavy * change, self.load[1] + change)

    def _run(self, work: Callable[[ClickHouseClient], _T]) -> _T:
        if self._client is None:
            self._client = self._connect()
        try:
            return work(self._client)
        except TablesError:
            if not self._client.recover():
                self._client.close()
                self._client = None
            raise

    def _end(self) -> None:
        if self._client is not None:
            self._client.close()

    async def close(self) -> None:
        """Ends the thread after what it has to do."""
        ended = self._executor.submit(self._end)
        self._executor.shutdown(wait=False)
        await asyncio.wrap_future(ended)


class ClickHouseTables:
    """`Tables` in ClickHouse or chDB."""

    def __init__(
        self,
        capabilities: Capabilities,
        connect: Callable[[bool], ClickHouseClient],
        ownership: Ownership | None,
    ) -> None:
        """Use `open`."""
        self._capabilities = capabilities
        self._ownership = ownership
        self._writer = _Worker("insert", lambda: connect(True))
        self._readers = [_Worker(f"read-{n}", lambda: connect(False)) for n in range(_READERS)]
        self._deriver = _Worker("derive", lambda: connect(True))
        self._remover = _Worker("remove", lambda: connect(True))
        self._control = _Worker("control", lambda: connect(False))
        self._name = os.urandom(8).hex()
        self._numbers = itertools.count()
        self._kills: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        """Opens the tables at an address; see `open_tables`."""
        parts = urlsplit(url)
        if parts.scheme == "chdb":
            path = _folder(parts)
            ownership = await asyncio.to_thread(_own, path)
            capabilities = Capabilities(name="chdb", many_processes=False, stops_queries=True)
            tables = cls(capabilities, lambda writes: embedded(path, writes=writes), ownership)
        else:
            capabilities = Capabilities(name="clickhouse", many_processes=True, stops_queries=True)
            options, database = _server(parts)
            tables = cls(capabilities, lambda writes: remote(options, database, writes=writes), None)
        try:
            await tables._writer.run(lambda client: client.rows("SELECT 1"))
        except BaseException:
            await tables.close()
            raise
        return tables

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        return self._capabilities

    async def migrate(self) -> list[str]:
        """See `Tables.migrate`."""
        self._check_open()
        migrations = migrate.load()
        return await self._writer.run(lambda client: migrate.apply(client, migrations))

    async def pending(self) -> list[str]:
        """See `Tables.pending`."""
        self._check_open()
        migrations = migrate.load()
        missing = await self._writer.run(lambda client: migrate.pending(client, migrations))
        return [migration.label for migration in missing]

    async def insert_points(self, block: pa.Table, /) -> None:
        """See `Tables.insert_points`."""
        await self.insert("points", block)

    async def insert(self, table: str, rows: pa.Table, /) -> None:
        """See `Tables.insert`."""
        self._check_open()
        check_rows(table, rows)
        if not rows.num_rows:
            return
        for pause in (*_RETRY_AFTER_S, None):
            try:
                await self._writer.run(lambda client: client.insert(table, rows))
                return
            except TablesUnavailable:
                if pause is None or not self._capabilities.many_processes:
                    raise
                await asyncio.sleep(pause)  # the same rows again are the same rows

    async def derive(
        self,
        table: str,
        columns: Sequence[str],
        sql: str,
        params: Mapping[str, object],
        /,
        *,
        timeout_s: float,
    ) -> None:
        """See `Tables.derive`."""
        self._check_open()
        mark = f"{self._name}-{next(self._numbers)}-"
        await self._deriver.run(lambda client: client.derive(table, columns, sql, params, timeout_s, mark))

    async def remove(self, table: str, condition: str, params: Mapping[str, object], /) -> None:
        """See `Tables.remove`."""
        self._check_open()
        mark = f"{self._name}-{next(self._numbers)}-"
        await self._remover.run(lambda client: client.remove(table, condition, params, mark))

    async def query(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        /,
        *,
        heavy: bool = False,
        timeout_s: float | None = None,
    ) -> pa.Table:
        """See `Tables.query`."""
        self._check_open()
        if timeout_s is None:
            timeout_s = _HEAVY_TIMEOUT_S if heavy else _TIMEOUT_S
        mark = f"{self._name}-{next(self._numbers)}-"
        running = self._reader(heavy).submit(
            lambda client: client.query(sql, params or {}, timeout_s, mark), heavy=heavy
        )
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            task = asyncio.get_running_loop().create_task(self._stop(running, mark))
            self._kills.add(task)
            task.add_done_callback(self._kills.discard)
            raise
        except QueryTimeout:
            self._check_open()
            raise

    async def _stop(self, running: Future[pa.Table], mark: str) -> None:
        """Stops a query that nobody waits for. It may be about to begin, so that it can't be stopped yet."""
        for pause_s in _STOP_PAUSES_S:
            if running.done():
                return
            await self._kill(mark)
            await asyncio.sleep(pause_s)

    async def _kill(self, mark: str) -> None:
        with contextlib.suppress(TablesError, ClosedError):  # then it goes on until its time is up
            await self._control.run(lambda client: client.kill(mark))

    def _reader(self, heavy: bool) -> _Worker:
        """Heavy queries never use the first reader, others avoid a reader that has one."""
        return min(self._readers[1:] if heavy else self._readers, key=lambda reader: reader.load)

    async def close(self) -> None:
        """See `Tables.close`."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        ending = [self._remover, *self._readers]  # nobody waits for what they do
        closing = [asyncio.ensure_future(worker.close()) for worker in (self._writer, self._deriver, *ending)]
        while any(worker.load[1] for worker in ending):
            await self._kill(f"{self._name}-")
            await asyncio.wait(closing[2:], timeout=0.05)
        await asyncio.gather(*closing)
        await asyncio.gather(*self._kills)
        await self._control.close()
        if self._ownership is not None:
            self._ownership.release()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise ClosedError("the tables are closed")


def check_rows(table: str, rows: pa.Table) -> None:
    """Refuses a block that the engine would take, but not as it is meant.

    :raises RowsRefused: a column is missing, unknown, of another type, or has nulls.
    """
    schema = SCHEMAS.get(table)
    if schema is None:
        raise RowsRefused(f"there is no table {table!r}")
    if sorted(rows.column_names) != sorted(schema.names):
        odd = sorted(set(rows.column_names) ^ set(schema.names))
        raise RowsRefused(
            f"columns of {table!r} that are missing, unknown or doubled: {', '.join(odd) or 'some'}"
        )
    for field in schema:
        column = rows.column(field.name)
        if _plain(column.type) != _plain(field.type):
            raise RowsRefused(f"{table}.{field.name} is {column.type}; expected {field.type}")
        if column.null_count and field.name not in _NULLABLE.get(table, ()):
            raise RowsRefused(f"{table}.{field.name} has {column.null_count} nulls")


_NULLABLE: Final = {"attributes": ("value",), "experiment_attributes": ("value",)}


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind


def _folder(parts: SplitResult) -> Path:
    path = Path(unquote(parts.path))
    if parts.netloc or parts.query or path.name == "" or not path.is_absolute():
        raise ConfigError(f"{parts.geturl()!r} is no address of tables: expected chdb:///<absolute path>")
    return path


def _server(parts: SplitResult) -> tuple[dict[str, object], str]:
    database = parts.path.strip("/") or "runstream"
    if not parts.hostname or not database.isidentifier():
        raise ConfigError("expected clickhouse://[user[:password]@]host[:port]/database")
    options: dict[str, object] = {"host": parts.hostname, "secure": parts.scheme == "clickhouses"}
    if parts.port:
        options["port"] = parts.port
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := set(query) - _OPTIONS:
        raise ConfigError(
            f"unknown in the tables' address: {', '.join(sorted(unknown))}; "
            f"there are {', '.join(sorted(_OPTIONS))}"
        )
    options["username"] = query.get("user") or unquote(parts.username or "default")
    options["password"] = query.get("password") or unquote(parts.password or "")
    try:
        if path := query.get("password_file"):
            options["password"] = Path(path).read_text("utf-8").strip()
        for name in _CERTIFICATES & set(query):
            if parts.scheme != "clickhouses":
                raise ConfigError(f"{name} in the tables' address is for TLS: clickhouses://…")
            with open(query[name], "rb"):
                options[name] = query[name]
    except OSError as error:
        raise ConfigError(f"a file in the tables' address can't be read: {error}") from None
    return options, database


def _own(path: Path) -> Ownership:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        ownership = Ownership(path.with_name(path.name + ".lock"))
    except OwnedByOther as error:
        raise TablesLocked(f"the tables in {path} are in use by {error.owner}") from None
    except OSError as error:
        raise TablesError(f"the tables in {path} can't be opened: {error}") from error
    os.makedirs(path, mode=0o700, exist_ok=True)
    return ownership
