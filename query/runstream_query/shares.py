"""Shares: links that show a part of a workspace to whoever has them, for a while, and only to read.

A link's token is 256 random bits of which the tables hold only the SHA-256; what it shows and until when is
in the tables, too. So a link can be neither made up nor changed by who has it, all query services know it,
and it can be revoked.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import Message

from runstream.v1 import point_pb2, run_service_pb2, workspace_pb2
from runstream_query.errors import PermissionDenied, Unauthenticated
from runstream_query.sql import ask_rows
from runstream_query.status import RUN_STARTED
from runstream_store.tables import Tables

PREFIX: Final = "rss_"
"""By which people and scanners for secrets recognise a share's token."""

_CREATED: Final = workspace_pb2.WorkspaceEvent.SHARE_CREATED_FIELD_NUMBER
_REVOKED: Final = workspace_pb2.WorkspaceEvent.SHARE_REVOKED_FIELD_NUMBER
_TIMEOUT_S: Final = 30.0
_KNOWN_S: Final = 1.0
_MOST_KNOWN: Final = 1_000

_BY_TOKEN: Final = f"""
SELECT toString(s.workspace) AS workspace, s.share AS share, hex(s.event) AS event
FROM share_events AS s FINAL
WHERE s.kind = {_CREATED} AND hex(s.token_sha256) = {{digest:String}} AND (s.workspace, s.share) NOT IN (
    SELECT workspace, share FROM share_events WHERE kind = {_REVOKED}
)
"""
_ALL: Final = f"""
SELECT toString(s.workspace) AS workspace, s.share AS share, hex(s.event) AS event
FROM share_events AS s FINAL
WHERE {{scope}} AND s.kind = {_CREATED} AND s.expires > {{now:Int64}} AND (s.workspace, s.share) NOT IN (
    SELECT workspace, share FROM share_events WHERE kind = {_REVOKED}
)
ORDER BY s.time DESC, s.share
"""
_OF_EXPERIMENT: Final = f"""
SELECT run FROM (
    SELECT e.run AS run, argMin(toString(e.experiment), e.time) AS experiment FROM run_events AS e
    WHERE e.workspace = {{workspace:String}} AND e.run IN {{runs:Array(String)}} AND e.kind = {RUN_STARTED}
    GROUP BY run
) WHERE experiment = {{experiment:String}}
"""


def new_token() -> str:
    """A token for a share."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


@dataclass(slots=True)
class _Known:
    """What was found of a token, and when."""

    share: run_service_pb2.Share | None
    at: float
    runs: set[tuple[str, str]] = field(default_factory=set)
    """Runs that are known to belong to the share's experiment."""


class Shares:
    """Reads shares, and tells what they show."""

    def __init__(
        self,
        tables: Tables,
        catch_up: Callable[[], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """
        :param catch_up: waits for what the log holds by now.
        """
        self._tables = tables
        self._catch_up = catch_up
        self._clock = clock
        self._clock_ns = clock_ns
        self._known: dict[bytes, _Known] = {}
        self._revoked: set[bytes] = set()

    async def find(self, token: str) -> run_service_pb2.Share:
        """The share of a token.

        :raises Unauthenticated: there is none, or it has ended.
        """
        share = (await self._look_up(digest(token))).share
        if share is None or share.share in self._revoked or share.expires_time_ns <= self._clock_ns():
            raise Unauthenticated("this link has ended, or there never was one: ask for a new one")
        return share

    async def _look_up(self, token: bytes) -> _Known:
        now = self._clock()
        known = self._known.get(token)
        if known is not None and now - known.at < _KNOWN_S:
            return known
        share = await self._read(token)
        if share is None:  # perhaps it was made this moment
            await self._catch_up()
            share = await self._read(token)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        runs = known.runs if known is not None else set()
        self._known[token] = found = _Known(share, now, runs)
        return found

    async def _read(self, token: bytes) -> run_service_pb2.Share | None:
        rows = await ask_rows(self._tables, _BY_TOKEN, {"digest": token.hex().upper()}, _TIMEOUT_S)
        return _share(rows[0]) if rows else None

    async def listed(self, workspace: str) -> list[run_service_pb2.Share]:
        """Shares that have not ended, the newest first."""
        scope = "s.workspace = {workspace:String}" if workspace else "1"
        sql = _ALL.replace("{scope}", scope)
        params = {"workspace": workspace, "now": self._clock_ns()}
        found = map(_share, await ask_rows(self._tables, sql, params, _TIMEOUT_S))
        return [share for share in found if share.share not in self._revoked]

    def forget(self, share: bytes) -> None:
        """It was revoked: at once here, within a second elsewhere."""
        self._revoked.add(share)

    # ------------------------------------------------------------------------------ what they show

    async def check_runs(self, token: str, share: run_service_pb2.Share, request: Message) -> None:
        """Checks that a request names runs, and only such as a share shows.

        :raises PermissionDenied: it does not.
        """
        runs = {(ref.workspace, ref.run) for ref in run_refs(request)}
        if not runs:
            raise _denied()
        if share.scope.experiment:
            known = (await self._look_up(digest(token))).runs
            unknown = [run for workspace, run in runs - known if workspace == share.workspace]
            params = {"workspace": share.workspace, "runs": unknown, "experiment": share.scope.experiment}
            rows = await ask_rows(self._tables, _OF_EXPERIMENT, params, _TIMEOUT_S) if unknown else []
            known |= {(share.workspace, row["run"]) for row in rows}
        else:
            known = {(ref.workspace, ref.run) for ref in share.scope.runs}
        if not runs <= known:
            raise _denied()

    def check_experiment(self, share: run_service_pb2.Share, request: Any) -> None:
        """Checks that a request is about the experiment that a share shows, and no other.

        :raises PermissionDenied: it is not.
        """
        wanted = (share.workspace, [share.scope.experiment])
        if not share.scope.experiment or (request.workspace, list(request.experiments)) != wanted:
            raise _denied()


def _denied() -> PermissionDenied:
    return PermissionDenied("this link does not show that: it is for reading what it was made for")


def run_refs(message: Message) -> Iterable[point_pb2.RunRef]:
    """All runs that a message names."""
    if isinstance(message, point_pb2.RunRef):
        yield message
        return
    for field_, value in message.ListFields():
        if field_.message_type is None:
            continue
        for one in [value] if isinstance(value, Message) else value:
            if isinstance(one, Message):
                yield from run_refs(one)


def _share(row: dict[str, Any]) -> run_service_pb2.Share:
    event = workspace_pb2.WorkspaceEvent.FromString(bytes.fromhex(row["event"]))
    created = event.share_created
    return run_service_pb2.Share(
        share=created.share,
        workspace=row["workspace"],
        scope=created.scope,
        created_time_ns=event.time_ns,
        expires_time_ns=created.expires_time_ns,
        principal=created.principal,
        note=created.note,
    )
