"""ArtifactService: what each call does, whatever protocol it came by."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from runstream.v1 import artifact_service_pb2 as messages
from runstream_query import tokens
from runstream_query.artifacts import ArtifactReader
from runstream_query.barrier import Barrier
from runstream_query.errors import InvalidArgument
from runstream_query.kept import KeptFiles
from runstream_query.selection import checked_run
from runstream_query.services import Service

_PAGE: Final = 1_000
_MOST_PAGE: Final = 10_000
_BYTES: Final = 1 << 20
_MOST_BYTES: Final = 4 << 20


class ArtifactServicer:
    """Answers requests."""

    def __init__(self, reader: ArtifactReader, barrier: Barrier, kept: KeptFiles) -> None:
        self._kept = kept
        self._reader = reader
        self._barrier = barrier

    async def list_artifacts(self, request: messages.ListArtifactsRequest) -> messages.ListArtifactsResponse:
        """A page of files."""
        workspace, run = checked_run(request.run)
        await self._barrier.reach_artifacts(request.barrier)
        await self._kept.check_run(workspace, run)
        size = request.page_size or _PAGE
        if size > _MOST_PAGE:
            raise InvalidArgument(f"page_size is {size:,}; at most {_MOST_PAGE:,}")
        versions = "all" if request.all_versions else ""
        bound_to = tokens.digest("ListArtifacts", workspace, run, request.prefix, versions)
        after = tokens.decode(bound_to, request.page_token, str)[0] if request.page_token else ""
        found = await self._reader.newest(workspace, run, request.prefix, after, size + 1)
        more, found = len(found) > size, found[:size]
        response = messages.ListArtifactsResponse(
            total=await self._reader.total(workspace, run, request.prefix),
            next_page_token=tokens.encode(bound_to, [found[-1].path]) if more else "",
        )
        if request.all_versions and found:
            paths = [artifact.path for artifact in found]
            found = [version.artifact for version in await self._reader.versions(workspace, run, paths)]
        response.artifacts.extend(found)
        return response

    async def get_artifact(
        self, request: messages.GetArtifactRequest
    ) -> AsyncGenerator[messages.GetArtifactResponse, None]:
        """Streams a file, or a range of it."""
        workspace, run = checked_run(request.run)
        await self._barrier.reach_artifacts(request.barrier)
        await self._kept.check_file(workspace, run, request.path)
        file = await self._reader.file(workspace, run, request.path, request.version)
        start, end = _range(request, file.artifact.size)
        yield messages.GetArtifactResponse(artifact=file.artifact)
        async for data in self._reader.read(file, start, end):
            yield messages.GetArtifactResponse(data=data)

    async def get_artifact_page(
        self, request: messages.GetArtifactPageRequest
    ) -> messages.GetArtifactPageResponse:
        """Some bytes of a file."""
        wanted = request.request
        workspace, run = checked_run(wanted.run)
        most = request.page_bytes or _BYTES
        if most > _MOST_BYTES:
            raise InvalidArgument(f"page_bytes is {most:,}; at most {_MOST_BYTES:,}")
        await self._barrier.reach_artifacts(wanted.barrier)
        await self._kept.check_file(workspace, run, wanted.path)
        file = await self._reader.file(workspace, run, wanted.path, wanted.version)
        start, end = _range(wanted, file.artifact.size)
        stop = min(end, start + most)
        data = b"".join([piece async for piece in self._reader.read(file, start, stop)])
        return messages.GetArtifactPageResponse(
            artifact=file.artifact, data=data, next_offset=stop if stop < end else 0
        )

    async def check_artifacts(
        self, request: messages.CheckArtifactsRequest
    ) -> messages.CheckArtifactsResponse:
        """Looks for the content of files."""
        workspace, run = checked_run(request.run)
        await self._barrier.reach_artifacts(request.barrier)
        await self._kept.check_run(workspace, run)
        bound_to = tokens.digest("CheckArtifacts", workspace, run)
        after = tokens.decode(bound_to, request.page_token, str)[0] if request.page_token else ""
        found = await self._reader.newest(workspace, run, "", after, _PAGE + 1)
        more, paths = len(found) > _PAGE, [artifact.path for artifact in found[:_PAGE]]
        count, missing = await self._reader.missing(workspace, run, paths)
        return messages.CheckArtifactsResponse(
            files=count,
            missing=[version.artifact for version in missing],
            next_page_token=tokens.encode(bound_to, [paths[-1]]) if more else "",
        )


def _range(request: messages.GetArtifactRequest, size: int) -> tuple[int, int]:
    """First byte, and the one after the last."""
    if request.offset > size:
        raise InvalidArgument(f"offset is {request.offset:,}; the file has {size:,} bytes")
    end = min(size, request.offset + request.length) if request.HasField("length") else size
    return request.offset, end


def artifact_service(servicer: ArtifactServicer) -> Service:
    """The service, to be mounted."""
    calls = frozenset(("ListArtifacts", "GetArtifact", "GetArtifactPage"))
    return Service(
        messages.DESCRIPTOR.services_by_name["ArtifactService"], servicer, shared=calls - {"GetArtifactPage"}
    )
