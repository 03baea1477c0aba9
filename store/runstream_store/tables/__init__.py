"""The tables: what readers read."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from runstream_store.errors import ConfigError
from runstream_store.tables.protocol import Capabilities, Tables

__all__ = ["Capabilities", "Tables", "open_tables", "shared"]


def shared(url: str) -> bool:
    """Whether several processes may use the tables at this address at the same time."""
    return urlsplit(url).scheme in ("clickhouse", "clickhouses")


async def open_tables(url: str) -> Tables:
    """Opens the tables at an address, which chooses the engine. Call `migrate` before anything else.

    `chdb:///<absolute path>`
        A folder, made when missing, with ClickHouse's engine in this process. One process at a time, and in
        it one folder.
    `clickhouse://[user[:password]@]host[:port]/database`, `clickhouses://…` with TLS
        A ClickHouse server, by its HTTP interface. Options, after a `?`: `password_file`, and for TLS the
        files `ca_cert` (authorities to trust; the system's by default), `client_cert`, `client_cert_key`.

    :raises ConfigError: there is no such engine.
    :raises TablesLocked: another process has the folder open.
    :raises TablesUnavailable: the server did not answer.
    """
    if urlsplit(url).scheme in ("chdb", "clickhouse", "clickhouses"):
        from runstream_store.tables.clickhouse import ClickHouseTables

        return await ClickHouseTables.open(url)
    raise ConfigError(
        f"no tables for {_public(url)!r}: expected chdb:///<path> or clickhouse://<host>/<database>"
    )


def _public(url: str) -> str:
    """Without what looks like a password."""
    return re.sub(r"//[^/@]*@", "//…@", url)
