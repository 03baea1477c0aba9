"""Reads the files of runs: which there are, and their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runstream.v1 import artifact_pb2, artifact_service_pb2, point_pb2
from runstream_query.errors import NotFound, QueryServiceError
from runstream_query.sql import ask_rows
from runstream_store.errors import ObjectMissing
from runstream_store.objects import Objects, chunk_key
from runstream_store.tables import Tables

_PIECE: Final = 4 << 20  # read from the storage at once
_MESSAGE: Final = 1 << 20
_AT_ONCE: Final = 32  # questions to the storage

_OF: Final = "workspace = {workspace:String} AND run = {run:String}"
_UNDER: Final = f"{_OF} AND startsWith(path, {{prefix:String}})"

# Uploads that repeat the content of the one before are no versions; a row that is there twice neither.
_NEWEST: Final = f"""
SELECT path, uploads[-1].4 AS sha256, uploads[-1].5 AS size, uploads[-1].6 AS media_type,
    toUnixTimestamp64Nano(uploads[arrayLastIndex(u -> u.4 != uploads[-1].4, uploads) + 1].1) AS time_ns,
    length(arrayCompact(arrayMap(u -> u.4, uploads))) AS versions
FROM
(
    SELECT path, arraySort(groupArray((time, writer, seq, sha256, size, toString(media_type)))) AS uploads
    FROM artifacts
    WHERE {_UNDER} AND path > {{after:String}}
    GROUP BY path ORDER BY path LIMIT {{limit:UInt32}}
)
ORDER BY path
"""
_TOTAL: Final = f"SELECT uniqExact(path) AS total FROM artifacts WHERE {_UNDER}"
_UPLOADS: Final = f"""
SELECT path, sha256, size, toString(media_type) AS media_type, toUnixTimestamp64Nano(time) AS time_ns,
    hex(writer) AS writer, seq
FROM artifacts
WHERE {_OF} AND path IN {{paths:Array(String)}}
ORDER BY path, time, artifacts.writer, seq
"""
_MANIFEST: Final = f"""
SELECT hex(manifest) AS manifest FROM artifacts
WHERE {_OF} AND path = {{path:String}} AND hex(writer) = {{writer:String}} AND seq = {{seq:UInt64}} LIMIT 1
"""
_MANIFESTS: Final = f"""
SELECT path, hex(writer) AS writer, seq, hex(any(manifest)) AS manifest FROM artifacts
WHERE {_OF} AND path IN {{paths:Array(String)}}
GROUP BY path, writer, seq
"""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a file, and one of the uploads that made it."""

    artifact: artifact_service_pb2.Artifact
    writer: str
    """In hexadecimal."""
    seq: int


@dataclass(frozen=True, slots=True)
class File:
    """A version of a file that can be read."""

    artifact: artifact_service_pb2.Artifact
    chunks: Sequence[artifact_pb2.Chunk]


class ArtifactReader:
    """Reads tables and object storage."""

    def __init__(self, tables: Tables, objects: Objects, timeout_s: float) -> None:
        self._tables = tables
        self._objects = objects
        self._timeout_s = timeout_s

    async def total(self, workspace: str, run: str, prefix: str) -> int:
        """Number of paths that begin with `prefix`."""
        params = {"workspace": workspace, "run": run, "prefix": prefix}
        return int((await self._ask(_TOTAL, params))[0]["total"])

    async def newest(
        self, workspace: str, run: str, prefix: str, after: str, limit: int
    ) -> list[artifact_service_pb2.Artifact]:
        """The newest version of each path that begins with `prefix` and comes after `after`."""
        params = {"workspace": workspace, "run": run, "prefix": prefix, "after": after, "limit": limit}
        return [
            _artifact(workspace, run, row, row["versions"], row["versions"])
            for row in await self._ask(_NEWEST, params)
        ]

    async def versions(self, workspace: str, run: str, paths: Sequence[str]) -> list[Version]:
        """All versions of some paths, by path, oldest first."""
        params = {"workspace": workspace, "run": run, "paths": list(paths)}
        found: dict[str, list[dict[str, Any]]] = {}
        for row in await self._ask(_UPLOADS, params):
            uploads = found.setdefault(row["path"], [])
            if not uploads or uploads[-1]["sha256"] != row["sha256"]:
                uploads.append(row)
        return [
            Version(_artifact(workspace, run, row, number, len(uploads)), row["writer"], row["seq"])
            for uploads in found.values()
            for number, row in enumerate(uploads, 1)
        ]

    async def file(self, workspace: str, run: str, path: str, version: int = 0) -> File:
        """A version of a file; 0 is the newest.

        :raises NotFound: there is none.
        """
        versions = await self.versions(workspace, run, [path])
        if not versions:
            raise NotFound(f"run {run!r} in workspace {workspace!r} has no file {path!r}")
        if version > len(versions):
            raise NotFound(f"{path!r} of run {run!r} has {len(versions)} versions; there is no {version}")
        found = versions[version - 1]
        params: dict[str, object] = {"workspace": workspace, "run": run, "path": path}
        rows = await self._ask(_MANIFEST, {**params, "writer": found.writer, "seq": found.seq})
        manifest = artifact_pb2.ArtifactManifest.FromString(bytes.fromhex(rows[0]["manifest"]))
        return File(found.artifact, manifest.chunks)

    async def missing(self, workspace: str, run: str, paths: Sequence[str]) -> tuple[int, list[Version]]:
        """How many versions some paths have, and those whose content is not in the storage as it should be.

        Content is stored under its digest, which was computed when it came: it is looked for, not read.
        """
        versions = await self.versions(workspace, run, paths)
        manifests: dict[tuple[str, str, int], str] = {}
        params: dict[str, object] = {"workspace": workspace, "run": run, "paths": list(paths)}
        for row in await self._ask(_MANIFESTS, params):
            manifests[row["path"], row["writer"], row["seq"]] = row["manifest"]
        room = asyncio.Semaphore(_AT_ONCE)

        async def whole(version: Version) -> bool:
            manifest = manifests[version.artifact.path, version.writer, version.seq]
            chunks = artifact_pb2.ArtifactManifest.FromString(bytes.fromhex(manifest)).chunks
            for chunk in chunks:
                async with room:
                    if await self._objects.size(chunk_key(chunk.sha256)) != chunk.size:
                        return False
            return True

        found = await asyncio.gather(*map(whole, versions))
        return len(versions), [version for version, good in zip(versions, found, strict=True) if not good]

    async def read(self, file: File, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes of a file from `start` to before `end`, in pieces of at most 1 MiB."""
        first = 0
        for chunk in file.chunks:
            low, high = max(start - first, 0), min(end - first, chunk.size)
            first += chunk.size
            while low < high:
                size = min(_PIECE, high - low)
                try:
                    data = await self._objects.read(chunk_key(chunk.sha256), low, size)
                except ObjectMissing as error:
                    raise QueryServiceError(
                        f"{file.artifact.path!r} can't be read, a part of it is not in the storage: {error}"
                    ) from error
                for at in range(0, size, _MESSAGE):
                    yield data[at : at + _MESSAGE]
                low += size

    async def _ask(self, sql: str, params: Mapping[str, object]) -> list[dict[str, Any]]:
        return await ask_rows(self._tables, sql, params, self._timeout_s)


def _artifact(
    workspace: str, run: str, row: dict[str, Any], version: int, versions: int
) -> artifact_service_pb2.Artifact:
    return artifact_service_pb2.Artifact(
        run=point_pb2.RunRef(workspace=workspace, run=run),
        path=row["path"],
        size=row["size"],
        sha256=bytes.fromhex(row["sha256"]),
        media_type=row["media_type"],
        time_ns=row["time_ns"],
        version=version,
        versions=versions,
    )
