"""Plain downloads: `GET /w/<workspace>/r/<run>/files/<path>`, whole or a range.

Whoever may write to a run may put anything there, and a browser opens it under the portal's address. So no
file is guessed at, only kinds that carry no script are shown, and all in a sandbox without rights.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from runstream.v1 import artifact_service_pb2, point_pb2
from runstream_query.access import Access, Sharing
from runstream_query.artifacts import ArtifactReader
from runstream_query.barrier import Barrier
from runstream_query.errors import InvalidArgument
from runstream_query.kept import KeptFiles
from runstream_query.selection import checked_run
from runstream_query.services import translated, translated_stream

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_SHOWN: Final = frozenset(
    (
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/avif", "text/plain"),
        *("audio/mpeg", "audio/wav", "audio/ogg", "video/mp4", "video/webm"),
    )
)
_AS_TEXT: Final = frozenset(
    (
        *("application/json", "application/yaml", "application/toml", "application/x-ndjson"),
        *("text/csv", "text/markdown", "text/x-python", "text/tab-separated-values", "text/yaml"),
    )
)
SANDBOX: Final = (
    (b"content-security-policy", b"default-src 'none'; sandbox; frame-ancestors 'self'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Headers of what a browser must do nothing with."""
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")


class Downloads:
    """Answers downloads."""

    def __init__(self, reader: ArtifactReader, barrier: Barrier, kept: KeptFiles, access: Access) -> None:
        self._reader = reader
        self._kept = kept
        self._barrier = barrier
        self._access = access

    @staticmethod
    def takes(segments: Sequence[str]) -> bool:
        """Whether a path is a file's."""
        return len(segments) > 5 and (segments[0], segments[2], segments[4]) == ("w", "r", "files")

    async def answer(
        self,
        method: str,
        segments: Sequence[str],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        authorization: str | None,
        send: Send,
    ) -> None:
        """Sends a file.

        :raises QueryServiceError: there is none, and nothing was sent.
        """
        run = point_pb2.RunRef(workspace=segments[1], run=segments[3])
        request = artifact_service_pb2.GetArtifactRequest(run=run, path="/".join(segments[5:]))
        request.version = _version(query)
        await translated(self._access.enter(authorization, request, Sharing.BY_RUNS))
        workspace, name = checked_run(run)
        await translated(self._barrier.reach_artifacts(request.barrier))
        await translated(self._kept.check_file(workspace, name, request.path))
        file = await translated(self._reader.file(workspace, name, request.path, request.version))
        artifact = file.artifact
        tag = f'"{artifact.sha256.hex()}"'
        fixed = [
            *SANDBOX,
            (b"accept-ranges", b"bytes"),
            (b"etag", tag.encode()),
            (b"cache-control", b"private, no-cache"),
        ]
        if tag in re.split(r"\s*,\s*", headers.get("if-none-match", "").replace("W/", "")):
            await begin(send, 304, fixed)
            await send({"type": "http.response.body"})
            return
        fixed += _kind(artifact, forced="download" in query)
        start, end, status = 0, artifact.size, 200
        wanted = headers.get("range", "")
        if wanted and headers.get("if-range", tag) == tag:
            found = _ranged(wanted, artifact.size)
            if found is None:
                unsatisfied = (b"content-range", b"bytes */%d" % artifact.size)
                await begin(send, 416, [*fixed, unsatisfied, (b"content-length", b"0")])
                await send({"type": "http.response.body"})
                return
            if found != (0, artifact.size):
                (start, end), status = found, 206
                fixed.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, artifact.size)))
        await begin(send, status, [*fixed, (b"content-length", b"%d" % (end - start))])
        if method != "HEAD":
            async for data in translated_stream(_generator(self._reader, file, start, end)):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body"})


async def _generator(reader: ArtifactReader, file: Any, start: int, end: int) -> Any:
    async for data in reader.read(file, start, end):
        yield data


def _version(query: Mapping[str, str]) -> int:
    text = query.get("version", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidArgument(f"version={text[:20]!r} is no number")
    return int(text)


def _kind(artifact: artifact_service_pb2.Artifact, *, forced: bool) -> list[tuple[bytes, bytes]]:
    """Its media type, and whether it is shown or saved."""
    media = artifact.media_type.partition(";")[0].strip().lower()
    shown = media in _SHOWN or media in _AS_TEXT
    if media in _AS_TEXT or media == "text/plain":
        media = "text/plain; charset=utf-8"
    elif not shown:
        media = "application/octet-stream"
    how = "inline" if shown and not forced else "attachment"
    name = quote(artifact.path.rpartition("/")[2], safe="", errors="replace")
    return [
        (b"content-type", media.encode()),
        (b"content-disposition", f"{how}; filename*=UTF-8''{name}".encode()),
    ]


def _ranged(wanted: str, size: int) -> tuple[int, int] | None:
    """The range, all for a header that may be ignored, or None when there are no such bytes."""
    match = _RANGE.fullmatch(wanted.replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return 0, size
    first, last = match[1], match[2]
    if not first:
        length = min(int(last), size)
        return (size - length, size) if length else None
    start = int(first)
    if start >= size or (last and int(last) < start):
        return None if start >= size else (0, size)
    return start, min(int(last) + 1, size) if last else size


async def begin(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    """Begins an answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
