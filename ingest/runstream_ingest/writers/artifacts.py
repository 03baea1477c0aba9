"""Files: from manifests to rows of the table `artifacts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from runstream.v1 import artifact_pb2
from runstream_ingest import records
from runstream_ingest.artifacts import decode_manifest, describe
from runstream_ingest.batch import Description
from runstream_ingest.errors import unsupported
from runstream_ingest.records import Received
from runstream_ingest.writers.columns import to_table
from runstream_ingest.writers.sink import Rows

_LATEST: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of one record."""

    received_time_ns: int
    manifest: artifact_pb2.ArtifactManifest


class ArtifactsSink:
    """Sink of the topic `artifacts`."""

    topic = records.ARTIFACTS
    consumer = "artifacts"

    def decode(self, received: Received, /) -> tuple[Manifest, int]:
        """See `Sink`."""
        if received.kind != "artifact":
            raise unsupported(f"a record of kind {received.kind} in topic {self.topic}")
        return Manifest(received.received_time_ns, decode_manifest(received.payload)), 1

    def build(self, contents: Sequence[Manifest], /) -> Rows:
        """See `Sink`."""
        return [("artifacts", to_table("artifacts", [_row(content) for content in contents]))]

    def rest(self) -> Rows:
        """See `Sink`: nothing is kept back."""
        return []

    def forget(self) -> None:
        """See `Sink`: there is nothing to forget."""

    def describe(self, received: Received, /) -> Description:
        """See `Sink`."""
        return describe(received.payload)


def _row(content: Manifest) -> dict[str, Any]:
    manifest = content.manifest
    return {
        "workspace": manifest.run.workspace,
        "run": manifest.run.run,
        "path": manifest.path,
        "writer": manifest.writer,
        "seq": manifest.seq,
        "time": manifest.time_ns,
        "received_time": content.received_time_ns,
        "size": manifest.size,
        "sha256": manifest.sha256.hex(),
        "media_type": manifest.media_type,
        "manifest": manifest.SerializeToString(),
        "precedence": _LATEST - content.received_time_ns,
    }
