"""Gives back the storage of what was deleted: a task beside the queries.

First the rows of runs that were deleted long enough ago, then the chunks of files that no row names any more.
Each round looks anew at what there is, so a round that was broken off, or that runs twice at once, does no
harm, and what arrives late of a run that is gone is removed by a later one.

Why no chunk is removed that somebody needs: a manifest is taken into the log when its chunks are stored, and
asking for that touches them. A round waits until the tables hold all that was in the log when it began. So
the chunks of a manifest that came before are named by a row, and those of one that comes later were touched
less than a day ago, which `Objects.sweep` leaves alone. And chunks are removed only where no other tables
ever referred to the same storage: who shares a folder between servers, or has lost the tables, keeps all.
Nor where the tables name no file at all: somebody may have emptied them, to fill them from the log again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from runstream.v1 import artifact_pb2, run_pb2
from runstream_query.sql import ask, ask_rows, nanoseconds
from runstream_query.summaries import DELETED
from runstream_store.errors import ClosedError, StoreError
from runstream_store.objects import CHUNK_BYTES, LEAVING_S, UNTOUCHED_S, Objects, Swept
from runstream_store.tables import Tables

_log = logging.getLogger("runstream.query")

_AT_ONCE: Final = 1_000
_QUERY_S: Final = 300.0
_BEHIND_S: Final = 600.0
_AGAIN_S: Final = 10.0

_SYSTEM: Final = run_pb2.ATTRIBUTE_KIND_SYSTEM
# A run's newest word counts. Times are of the servers' clocks, or before.
_GONE: Final = f"""
SELECT workspace, run FROM (
    SELECT e.workspace AS workspace, e.run AS run, max(e.version) AS said,
        argMax(e.removed, (e.version, e.writer, e.seq)) AS taken_back
    FROM attributes AS e FINAL WHERE e.kind = {_SYSTEM} AND e.key = '{DELETED}' GROUP BY workspace, run
) WHERE taken_back = 0 AND said < {nanoseconds("before")} ORDER BY workspace, run
"""
_OF_RUNS: Final = "(workspace, run) IN arrayZip({workspaces:Array(String)}, {runs:Array(String)})"
_WITH_ROWS: Final = "SELECT DISTINCT workspace, run FROM {table} WHERE {condition}"
_MODELS: Final = f"SELECT DISTINCT workspace, run, path FROM models WHERE {_OF_RUNS}"
_NO_MODEL: Final = """NOT arrayExists(
    (w, r, p) -> workspace = w AND run = r AND (path = p OR startsWith(path, concat(p, '/'))),
    {model_workspaces:Array(String)}, {model_runs:Array(String)}, {model_paths:Array(String)})"""
# What is kept of a run: that it was deleted, so that what comes late is not taken for a new run, and models.
_TABLES: Final = {
    "points": "",
    "series": "",
    "logs": "",
    "dead_letters": "",
    "artifacts": _NO_MODEL,
    "run_events": "",
    "attributes": f"NOT (kind = {_SYSTEM} AND key = '{DELETED}')",
    "run_summaries": "",  # the last: they are made of the others
}
# When the tables were made: their name for the storage of objects.
_MADE: Final = """
SELECT arrayStringConcat(arraySort(groupArray(toString(made))), '-') AS name FROM (
    SELECT toUnixTimestamp64Milli(min(applied_time)) AS made FROM schema_migrations
    WHERE number <= 2 GROUP BY number
)
"""
_SHARDS: Final = "0123456789abcdef"
_DIGESTS: Final = (
    "SELECT DISTINCT sha256 FROM artifacts WHERE size > 0 AND startsWith(sha256, {shard:String})"
)
_ANY: Final = "SELECT 1 AS any FROM artifacts LIMIT 1"
_LARGE: Final = f"SELECT DISTINCT hex(manifest) AS manifest FROM artifacts WHERE size > {CHUNK_BYTES}"

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PurgeSettings:
    """When what is removed."""

    after_s: float
    """Since a run was deleted; infinite for never."""
    first_s: float = 60.0
    """Since the start of the process."""
    every_s: float = 3_600.0
    sweep_every_s: float = 86_400.0
    """Chunks are looked at when rows were removed, and so often besides."""
    untouched_s: float = UNTOUCHED_S
    leaving_s: float = LEAVING_S


@dataclass(frozen=True, slots=True)
class Purged:
    """What a round removed."""

    runs: Sequence[Key] = ()
    """Runs that had rows."""
    swept: Swept = field(default_factory=Swept)
    """Chunks."""


class Purger:
    """One task. Several may run, in several processes."""

    def __init__(
        self,
        tables: Tables,
        objects: Objects,
        settings: PurgeSettings,
        applied: Callable[[float], Awaitable[bool]],
    ) -> None:
        """`applied`: waits, for so many seconds, until the tables hold all that the log holds of runs and of
        files; False when they do not."""
        self._tables = tables
        self._objects = objects
        self._settings = settings
        self._applied = applied
        self._swept_at = float("-inf")
        self._leaving = 0

    async def run(self) -> None:
        """Works until it is cancelled, or has nothing to do ever."""
        try:
            await self._run()
        except ClosedError:
            pass

    async def _run(self) -> None:
        while not await self._told():  # noqa: ASYNC110  (somebody else must come back)
            await asyncio.sleep(_AGAIN_S)
        if self._settings.after_s == math.inf:
            return
        await asyncio.sleep(self._settings.first_s)
        while True:
            try:
                await self.purge()
            except ClosedError:
                raise
            except StoreError as error:
                _log.warning("what was deleted could not be removed now: %s", error)
            except Exception:
                _log.exception("what was deleted could not be removed now")
            await asyncio.sleep(self._settings.every_s)

    async def _told(self) -> bool:
        """Tell the storage, for others that use it, that these tables refer to it. False: not now."""
        try:
            await self._alone()
        except ClosedError:
            raise
        except StoreError as error:
            _log.warning("the storage of objects could not be told of these tables: %s", error)
            return not error.retryable  # rows can be removed by whom the storage refuses
        return True

    async def _alone(self) -> bool:
        """Whether no other tables ever referred to the storage."""
        (row,) = await ask_rows(self._tables, _MADE, {}, _QUERY_S)
        if not row["name"]:
            return False
        others = await self._objects.claim(row["name"]) - {row["name"]}
        if others:
            _log.warning(
                "no chunk is removed, since other tables refer to the same storage, or did; if they are"
                " gone, remove these files from its folder `referrers`: %s",
                ", ".join(sorted(others)),
            )
        return not others

    async def _name_any(self) -> bool:
        return bool(await ask_rows(self._tables, _ANY, {}, _QUERY_S))

    async def purge(self) -> Purged:
        """One round. Raises StoreError; the next round does what is left."""
        if not await self._applied(_BEHIND_S):
            _log.warning("nothing is removed while the tables are behind the log")
            return Purged()
        runs = await self._remove_rows()
        swept = Swept()
        due = time.monotonic() - self._swept_at > self._settings.sweep_every_s
        if (runs or self._leaving or due) and await self._alone() and await self._name_any():
            swept = await self._sweep()
            self._swept_at, self._leaving = time.monotonic(), swept.leaving + swept.waiting
        if runs or swept.removed:
            _log.info(
                "removed %d runs that were deleted, and %d chunks of %d bytes",
                len(runs),
                swept.removed,
                swept.removed_bytes,
            )
        return Purged(runs, swept)

    # ---------------------------------------------------------------------------------------- rows

    async def _remove_rows(self) -> list[Key]:
        before = time.time_ns() - int(self._settings.after_s * 1e9)
        gone = await self._keys(_GONE, {"before": before})
        removed: set[Key] = set()
        for at in range(0, len(gone), _AT_ONCE):
            removed.update(await self._remove_runs(gone[at : at + _AT_ONCE]))
        return sorted(removed)

    async def _remove_runs(self, runs: Sequence[Key]) -> set[Key]:
        """Remove the rows of some runs. Returns those that had any."""
        models = await ask_rows(self._tables, _MODELS, _these(runs), _QUERY_S)
        kept = {
            "model_workspaces": [row["workspace"] for row in models],
            "model_runs": [row["run"] for row in models],
            "model_paths": [row["path"] for row in models],
        }
        removed: set[Key] = set()
        for table, more in _TABLES.items():
            condition = f"{_OF_RUNS} AND {more}" if more else _OF_RUNS
            params = kept if more is _NO_MODEL else {}
            sql = _WITH_ROWS.replace("{table}", table).replace("{condition}", condition)
            found = await self._keys(sql, {**_these(runs), **params})
            if found:
                await self._tables.remove(table, condition, {**_these(found), **params})
                removed.update(found)
        return removed

    async def _keys(self, sql: str, params: dict[str, object]) -> list[Key]:
        rows = await ask_rows(self._tables, sql, params, _QUERY_S, heavy=True)
        return [(row["workspace"], row["run"]) for row in rows]

    # -------------------------------------------------------------------------------------- chunks

    async def _sweep(self) -> Swept:
        pieces = await self._pieces()
        swept = Swept()
        for shard in _SHARDS:
            found = await ask(self._tables, _DIGESTS, {"shard": shard}, _QUERY_S, heavy=True)
            kept = pieces | (set(found.column("sha256").to_pylist()) if found.num_columns else set())
            swept += await self._objects.sweep(
                shard, kept, untouched_s=self._settings.untouched_s, leaving_s=self._settings.leaving_s
            )
        return swept

    async def _pieces(self) -> set[str]:
        """The chunks of files that have several."""
        found: set[str] = set()
        for row in await ask_rows(self._tables, _LARGE, {}, _QUERY_S, heavy=True):
            manifest = artifact_pb2.ArtifactManifest.FromString(bytes.fromhex(row["manifest"]))
            found.update(chunk.sha256.hex() for chunk in manifest.chunks)
        return found


def _these(runs: Sequence[Key]) -> dict[str, object]:
    return {"workspaces": [key[0] for key in runs], "runs": [key[1] for key in runs]}
