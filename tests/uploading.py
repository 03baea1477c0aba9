"""Uploads files as any program may: over the public stubs."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence

import grpc

from runstream.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    chunk_service_pb2,
    chunk_service_pb2_grpc,
    error_pb2,
    ingest_service_pb2,
    ingest_service_pb2_grpc,
    point_pb2,
    query_service_pb2,
    run_pb2,
)

CHUNK = 64 << 20


def chunk_of(data: bytes) -> artifact_pb2.Chunk:
    return artifact_pb2.Chunk(sha256=hashlib.sha256(data).digest(), size=len(data))


def parts(data: bytes, size: int = 1 << 20) -> Iterator[chunk_service_pb2.ChunkPart]:
    chunk = chunk_of(data)
    for at in range(0, len(data), size):
        yield chunk_service_pb2.ChunkPart(chunk=chunk, offset=at, data=data[at : at + size])


class Uploads:
    """A program that uploads and reads files of one workspace."""

    def __init__(self, grpc_address: str, token: str, workspace: str = "ws") -> None:
        self.channel = grpc.insecure_channel(grpc_address)
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.chunks = chunk_service_pb2_grpc.ChunkServiceStub(self.channel)
        self.ingest = ingest_service_pb2_grpc.IngestServiceStub(self.channel)
        self.artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(self.channel)
        self.workspace = workspace
        self.writer = os.urandom(16)
        self.positions: list[run_pb2.LogPosition] = []
        self._seq = 0

    def run(self, run: str) -> point_pb2.RunRef:
        return point_pb2.RunRef(workspace=self.workspace, run=run)

    def find(self, *contents: bytes) -> list[bytes]:
        request = chunk_service_pb2.FindChunksRequest(chunks=[chunk_of(data) for data in contents])
        return list(self.chunks.FindChunks(request, metadata=self.metadata).missing)

    def put(
        self, given: Sequence[chunk_service_pb2.ChunkPart], at_once: int = 1
    ) -> list[chunk_service_pb2.ChunkResult]:
        requests = [
            chunk_service_pb2.PutChunksRequest(parts=given[at : at + at_once])
            for at in range(0, len(given), at_once)
        ]
        answers = self.chunks.PutChunks(iter(requests), metadata=self.metadata, timeout=60)
        return [result for answer in answers for result in answer.results]

    def manifest(self, run: str, path: str, data: bytes) -> artifact_pb2.ArtifactManifest:
        chunks = [chunk_of(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]
        self._seq += 1
        return artifact_pb2.ArtifactManifest(
            run=self.run(run),
            path=path,
            size=len(data),
            sha256=hashlib.sha256(data).digest(),
            media_type="text/plain",
            chunks=chunks,
            time_ns=time.time_ns(),
            writer=self.writer,
            seq=self._seq,
        )

    def publish(self, *manifests: artifact_pb2.ArtifactManifest) -> list[error_pb2.RecordError]:
        records = [ingest_service_pb2.PublishRecord(artifact=manifest) for manifest in manifests]
        request = ingest_service_pb2.PublishOnceRequest(records=records)
        answer = self.ingest.PublishOnce(request, metadata=self.metadata)
        self.positions = list(answer.positions) or self.positions
        return list(answer.errors)

    def upload(self, run: str, path: str, data: bytes) -> None:
        for at in range(0, len(data), CHUNK):
            (result,) = self.put(list(parts(data[at : at + CHUNK])))
            assert result.code == error_pb2.ERROR_CODE_UNSPECIFIED, result
        assert self.publish(self.manifest(run, path, data)) == []

    def barrier(self) -> query_service_pb2.ReadBarrier:
        return query_service_pb2.ReadBarrier(positions=self.positions)

    def list(self, run: str, **more: object) -> list[artifact_service_pb2.Artifact]:
        request = artifact_service_pb2.ListArtifactsRequest(run=self.run(run), barrier=self.barrier(), **more)  # type: ignore[arg-type]
        return list(self.artifacts.ListArtifacts(request, metadata=self.metadata).artifacts)

    def read(self, run: str, path: str, **more: int) -> bytes:
        request = artifact_service_pb2.GetArtifactRequest(
            run=self.run(run), path=path, barrier=self.barrier(), **more
        )
        first, *rest = self.artifacts.GetArtifact(request, metadata=self.metadata)
        assert first.HasField("artifact")
        return b"".join(message.data for message in rest)

    def close(self) -> None:
        self.channel.close()
