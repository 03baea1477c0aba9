"""A client of ClickHouse or chDB, for one thread. The traps are in `clickhouse.py`."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import (
    ClickHouseError,
    DatabaseError,
    OperationalError,
    ProgrammingError,
)

from runstream_store.errors import (
    QueryError,
    QueryTimeout,
    QueryTooLarge,
    RowsRefused,
    TablesError,
    TablesFull,
    TablesLocked,
    TablesUnavailable,
)

_PLACEHOLDER: Final = re.compile(r"{\s*(\w+)\s*:[^{}]+}")
_NAME: Final = re.compile(r"[A-Za-z_]\w*")

# Codes of ClickHouse's errors.
_TIMEOUT: Final = frozenset({159, 160, 394})  # TIMEOUT_EXCEEDED, TOO_SLOW, QUERY_WAS_CANCELLED
_MEMORY: Final = frozenset({173, 241})  # CANNOT_ALLOCATE_MEMORY, MEMORY_LIMIT_EXCEEDED
_FULL: Final = 243  # NOT_ENOUGH_SPACE
# Cannot open or write a file, too many queries or parts, network, read-only replica, keeper: a matter of
# time.
_BUSY: Final = frozenset({75, 76, 202, 203, 209, 210, 242, 252, 279, 425, 999})
# The block or the statement is wrong, and stays so.
_ROWS: Final = frozenset(
    {6, 10, 16, 20, 26, 27, 33, 36, 38, 41, 43, 44, 48, 53, 60, 69, 70, 72, 117, 131, 190, 321, 349, 636}
)

_READ_SETTINGS: Final[dict[str, object]] = {
    "output_format_arrow_compression_method": "none",
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_low_cardinality_as_dictionary": 1,
    "output_format_arrow_fixed_string_as_fixed_byte_array": 1,
    "timeout_overflow_mode": "throw",
    "use_query_condition_cache": 0,
}
_WRITE_SETTINGS: Final[dict[str, object]] = {
    # Repeats inside of one block are left to merges and FINAL: half the CPU.
    "optimize_on_insert": 0,
    "async_insert": 0,
    "max_insert_threads": 1,
}


def embedded(path: Path, *, writes: bool) -> ClickHouseClient:
    """A client of chDB's engine in a folder."""
    settings = dict(_WRITE_SETTINGS if writes else _READ_SETTINGS)
    settings["max_memory_usage"] = min(max(_memory() // 8, 1 << 30), 4 << 30)
    options = {
        "max_server_memory_usage": max(_memory() // 2, 1 << 30),
        "mark_cache_size": 64 << 20,
        "primary_index_cache_size": 64 << 20,
    }
    try:
        client = clickhouse_connect.get_client(
            interface="chdb", path=str(path), settings=settings, chdb_options=options
        )
    except ProgrammingError as error:
        raise TablesLocked(
            f"the tables in {path} can't be opened: another process has them, or this one has others: {error}"
        ) from error
    except ClickHouseError as error:
        raise translate(error, writes=False) from error
    return ClickHouseClient(client, local=True)


def remote(options: Mapping[str, Any], database: str, *, writes: bool) -> ClickHouseClient:
    """A client of a server; the database is made if it is missing."""
    settings = dict(_WRITE_SETTINGS if writes else {**_READ_SETTINGS, "wait_end_of_query": 1})
    try:
        if writes:
            with contextlib.closing(clickhouse_connect.get_client(**options)) as client:
                client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
        client = clickhouse_connect.get_client(
            **options, database=database, settings=settings, autogenerate_session_id=False
        )
    except (ClickHouseError, OSError) as error:
        raise translate(error, writes=False) from error
    return ClickHouseClient(client, local=False)


class ClickHouseClient:
    """For one thread."""

    def __init__(self, client: Client, *, local: bool) -> None:
        """Takes the client over."""
        self._client = client
        self._local = local

    def command(self, sql: str) -> object:
        """Runs a statement."""
        try:
            return self._client.command(sql)
        except (ClickHouseError, OSError) as error:
            raise translate(error, writes=True) from error

    def rows(self, sql: str) -> Sequence[Sequence[object]]:
        """Runs a query without values and gives its rows."""
        columns = self.query(sql, {}, 60.0, "")
        return [tuple(row.values()) for row in columns.to_pylist()]

    def query(self, sql: str, params: Mapping[str, object], timeout_s: float, mark: str) -> pa.Table:
        """Runs a query and gives its columns.

        :param mark: letters, digits and hyphens by which `kill` finds it.
        """
        wanted = set(_PLACEHOLDER.findall(sql))
        if wanted != set(params) or not all(_NAME.fullmatch(name) for name in params):
            raise QueryError(f"the query has the values {sorted(wanted)}, and {sorted(params)} are given")
        settings = f"max_execution_time = {max(timeout_s, 0.001):.3f}, log_comment = '{mark}'"
        try:
            result = self._client.raw_query(
                f"{sql.rstrip().rstrip(';')}\nSETTINGS {settings}",
                parameters=dict(params) or None,
                fmt="Arrow",
            )
        except (ClickHouseError, OSError) as error:
            raise translate(error, writes=False) from error
        if not result and self._local:
            return pa.table({})
        try:
            return pa.ipc.open_file(pa.py_buffer(result)).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            if not self._local:  # a connection that is cut within the headers gives a good answer, and empty
                raise TablesUnavailable(f"the result is not whole: {error}") from error
            raise QueryError(f"the result can't be read: {error}") from error

    def derive(
        self,
        table: str,
        columns: Sequence[str],
        sql: str,
        params: Mapping[str, object],
        timeout_s: float,
        mark: str,
    ) -> None:
        """Inserts what a query gives. Parameters as of `query`."""
        used = {name: params[name] for name in _PLACEHOLDER.findall(sql)}
        names = ", ".join(f"`{name}`" for name in columns)
        settings = f"max_execution_time = {max(timeout_s, 0.001):.3f}, log_comment = '{mark}'"
        try:
            self._client.raw_query(
                f"INSERT INTO {table} ({names}) {sql}\nSETTINGS {settings}",
                parameters=used or None,
                fmt="Null",
            )
        except (ClickHouseError, OSError) as error:
            raise translate(error, writes=True) from error

    def remove(self, table: str, condition: str, params: Mapping[str, object], mark: str) -> None:
        """Removes rows, and waits until they are. Parameters as of `query`."""
        settings = f"mutations_sync = 2, log_comment = '{mark}'"
        try:
            self._client.raw_query(
                f"ALTER TABLE {table} DELETE WHERE {condition}\nSETTINGS {settings}",
                parameters=dict(params) or None,
                fmt="Null",
            )
        except (ClickHouseError, OSError) as error:
            raise translate(error, writes=True) from error

    def insert(self, table: str, rows: pa.Table) -> None:
        """Inserts a block that `check_rows` found good."""
        names = ", ".join(f"`{name}`" for name in rows.column_names)
        try:
            if self._local:
                with _anonymous_file() as (file, path):
                    _write(file, rows)
                    self._client.command(
                        f"INSERT INTO {table} ({names}) FROM INFILE '{path}' COMPRESSION 'none' FORMAT Arrow"
                    )
            else:
                body = io.BytesIO()
                _write(body, rows)
                body.seek(0)
                answer = self._client.raw_insert(table, rows.column_names, body, fmt="Arrow")
                if "written_rows" not in answer.summary:  # the last header: the connection was cut before it
                    raise TablesUnavailable(f"the answer to an insert into {table} is not whole")
        except (ClickHouseError, OSError) as error:
            raise translate(error, writes=True) from error

    def kill(self, mark: str) -> None:
        """Stops the queries of other clients whose mark begins so."""
        try:
            self._client.raw_query(f"KILL QUERY WHERE startsWith(Settings['log_comment'], '{mark}') ASYNC")
        except (ClickHouseError, OSError) as error:
            raise translate(error, writes=False) from error

    def recover(self) -> bool:
        """Gets rid of what a failed query left behind. False: the client is of no more use."""
        if not self._local:
            return True
        for _ in range(3):
            with contextlib.suppress(ClickHouseError):
                if self._client.raw_query("SELECT 1", fmt="TabSeparated") == b"1\n":
                    return True
        return False

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(ClickHouseError):
            self._client.close()


def _write(sink: Any, rows: pa.Table) -> None:
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)


@contextlib.contextmanager
def _anonymous_file() -> Iterator[tuple[IO[bytes], str]]:
    """A file for one block, and a path by which the engine opens it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("runstream-block", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            yield file, f"/proc/self/fd/{descriptor}"
    else:
        with tempfile.NamedTemporaryFile(buffering=0) as named:
            yield named, named.name


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def translate(error: Exception, *, writes: bool) -> TablesError:
    """The store's error for one of the client library's."""
    text = str(error)
    code = error.code if isinstance(error, DatabaseError) else None
    if code == _FULL or "No space left" in text:
        return TablesFull(f"no space left for the tables: {text}")
    if isinstance(error, (OperationalError, OSError)) or code in _BUSY:
        return TablesUnavailable(text)
    if writes:
        if code in _MEMORY or code in _TIMEOUT:
            return TablesUnavailable(text)
        return RowsRefused(text) if code in _ROWS else TablesError(text)
    if code in _TIMEOUT:
        return QueryTimeout(text)
    return QueryTooLarge(text) if code in _MEMORY else QueryError(text)
