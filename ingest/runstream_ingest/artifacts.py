"""Manifests of files, with their checks. Whether their chunks are stored is asked by the service."""

from __future__ import annotations

import unicodedata
from typing import Final

from runstream.v1 import artifact_pb2
from runstream_ingest import limits
from runstream_ingest.batch import Description, check_name, known_runs, parse
from runstream_ingest.errors import RecordRefused, invalid

DIGEST_BYTES: Final = 32


def decode_manifest(data: bytes) -> artifact_pb2.ArtifactManifest:
    """Reads a serialized `ArtifactManifest` and checks it.

    :raises RecordRefused: it is none, or not one that is taken.
    """
    manifest = parse(artifact_pb2.ArtifactManifest(), data, "ArtifactManifest")
    check_name("a workspace's name", manifest.run.workspace, limits.WORKSPACE_CHARACTERS)
    check_name("a run id", manifest.run.run, limits.RUN_CHARACTERS)
    check_path(manifest.path)
    check_name("a media type", manifest.media_type, limits.MEDIA_TYPE_CHARACTERS, least=0)
    if len(manifest.writer) != 16:
        raise invalid(f"writer has {len(manifest.writer)} bytes; 16 make one")
    check_digest("sha256", manifest.sha256)
    for number, chunk in enumerate(manifest.chunks):
        check_chunk(chunk)
        if chunk.size != limits.CHUNK_BYTES and number < len(manifest.chunks) - 1:
            raise invalid(f"chunk {number} has {chunk.size:,} bytes: all but the last have the greatest size")
    total = sum(chunk.size for chunk in manifest.chunks)
    if total != manifest.size:
        raise invalid(f"the chunks have {total:,} bytes, the file {manifest.size:,}")
    if len(manifest.chunks) == 1 and manifest.chunks[0].sha256 != manifest.sha256:
        raise invalid("a file of one chunk has the chunk's digest")
    return manifest


def check_chunk(chunk: artifact_pb2.Chunk) -> None:
    """Checks what names a chunk.

    :raises RecordRefused: it names none.
    """
    check_digest("a chunk's sha256", chunk.sha256)
    if not 1 <= chunk.size <= limits.CHUNK_BYTES:
        raise invalid(f"a chunk of {chunk.size:,} bytes; 1 to {limits.CHUNK_BYTES:,} are taken")


def check_digest(what: str, digest: bytes) -> None:
    """Checks a SHA-256.

    :raises RecordRefused: it has another length.
    """
    if len(digest) != DIGEST_BYTES:
        raise invalid(f"{what} has {len(digest)} bytes; {DIGEST_BYTES} make one")


def check_path(path: str) -> None:
    """Checks a path in a run's tree: what it names lies in it, wherever the tree is.

    :raises RecordRefused: it may lie elsewhere, or is too long.
    """
    check_name("a path", path, limits.PATH_CHARACTERS)
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise invalid(f"the path {path[:200]!r} has an empty part, '.' or '..': it is relative, as 'a/b.txt'")
    if "\\" in path or any(unicodedata.category(character) == "Cc" for character in path):
        raise invalid(f"the path {path[:200]!r} has a backslash or a control character")


def describe(data: bytes) -> Description:
    """What a manifest that was refused is about, as far as it can be told. It has no elements."""
    try:
        manifest = parse(artifact_pb2.ArtifactManifest(), data, "ArtifactManifest")
    except RecordRefused:
        return Description()
    return Description(
        runs=known_runs([manifest.run]), writer=manifest.writer if len(manifest.writer) == 16 else b""
    )
