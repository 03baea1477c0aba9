"""Files of runs, as values of metrics and results of calls."""

import io
import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from runstream.core import reads
from runstream.core.workspace import Workspace

if TYPE_CHECKING:
    from runstream.v1.artifact_service_pb2 import Artifact as Message

_PREFIX: Final = "aml://artifactId/ExperimentRun/dcid."


def uri(run_id: str, path: str) -> str:
    """How a file stands among the metrics of its run."""
    return f"{_PREFIX}{quote(run_id, safe='')}/{quote(path)}"


def parse_uri(value: Any) -> tuple[str, str] | None:
    """Run id and path of a file among metrics; None for other values."""
    if not isinstance(value, str) or not value.startswith(_PREFIX):
        return None
    run_id, _, path = value.removeprefix(_PREFIX).partition("/")
    return (unquote(run_id), unquote(path)) if path else None


class Artifact:
    """A file of a run. Its bytes are fetched when they are asked for, once."""

    def __init__(self, workspace: Workspace, run_id: str, path: str, *, version: int = 0) -> None:
        """`version` counts from 1; 0 is the newest."""
        self._workspace = workspace
        self.run_id = run_id
        self.path = path
        self.version = version
        self.size: int | None = None
        self.sha256: str | None = None
        self.media_type = ""
        self._content: bytes | None = None

    @classmethod
    def of(cls, workspace: Workspace, found: "Message") -> "Artifact":
        """A file as the server lists it."""
        made = cls(workspace, found.run.run, found.path, version=found.version)
        made.size, made.sha256, made.media_type = found.size, found.sha256.hex(), found.media_type
        return made

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def uri(self) -> str:
        """As it stands among metrics."""
        return uri(self.run_id, self.path)

    @property
    def content(self) -> bytes:
        """Its bytes. Raises NotFoundError when the run has no such file, ServiceError without a server."""
        self.fetch()
        assert self._content is not None
        return self._content

    def fetch(self) -> None:
        """Have its bytes here. Raises as `content`."""
        if self._content is None:
            buffer = io.BytesIO()
            reads.client(self._workspace).download_artifact(
                self._workspace.name, self.run_id, self.path, buffer, version=self.version
            )
            self._content = buffer.getvalue()

    def download(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file of this machine. Raises as `content`."""
        reads.client(self._workspace).download_artifact(
            self._workspace.name, self.run_id, self.path, path, version=self.version
        )

    def __repr__(self) -> str:
        return f"Artifact(Run: {self.run_id},\nPath: {self.path})"

    def _repr_png_(self) -> bytes | None:
        return self.content if self.path.lower().endswith(".png") else None


def populated(workspace: Workspace, value: Any) -> Any:
    """Metrics with files, whose bytes are there, in the place of their addresses."""
    if isinstance(value, dict):
        return {key: populated(workspace, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [populated(workspace, inner) for inner in value]
    found = parse_uri(value)
    if found is None:
        return value
    artifact = Artifact(workspace, *found)
    artifact.fetch()
    return artifact
