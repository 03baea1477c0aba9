"""Files and models over HTTP. `Client` has these methods."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import quote

from runstream.errors import (
    AuthenticationError,
    NotFoundError,
    ServiceError,
    ServiceUnavailableError,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from runstream.client import Positions
    from runstream.v1 import artifact_service_pb2, model_service_pb2

_ARTIFACTS: Final = "/runstream.v1.ArtifactService/"
_MODELS: Final = "/runstream.v1.ModelService/"
_BARRIER_S: Final = 30.0
_PIECE: Final = 1 << 20
_ATTEMPTS: Final = 5

Progress = Callable[[int], object]
"""Is told of bytes that came; of fewer than none when they were in vain."""


class Artifacts:
    """What is read of files and models."""

    url: str

    def _call(self, path: str, request: Message, response: type[Any], wait_s: float = 0.0) -> Any:
        """See `Client`."""
        raise NotImplementedError

    def _exchange(
        self, path: str, body: bytes | None, headers: Mapping[str, str], wait_s: float = 0.0
    ) -> AbstractContextManager[HTTPResponse]:
        """See `Client`."""
        raise NotImplementedError

    def list_artifacts(
        self,
        workspace: str,
        run: str,
        prefix: str = "",
        *,
        all_versions: bool = False,
        positions: Positions = (),
        timeout_s: float = _BARRIER_S,
    ) -> Iterator[artifact_service_pb2.Artifact]:
        """Files of a run by path, page by page as they are taken: the newest version of each, or all."""
        from runstream.client import bar
        from runstream.v1 import artifact_service_pb2 as messages
        from runstream.v1 import point_pb2

        request = messages.ListArtifactsRequest(
            run=point_pb2.RunRef(workspace=workspace, run=run),
            prefix=prefix,
            all_versions=all_versions,
            page_size=10_000,
        )
        bar(request.barrier, positions, timeout_s, allow_settling=True)
        while True:
            page = self._call(
                _ARTIFACTS + "ListArtifacts", request, messages.ListArtifactsResponse, timeout_s
            )
            yield from page.artifacts
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def check_artifacts(
        self, workspace: str, run: str, *, positions: Positions = (), timeout_s: float = _BARRIER_S
    ) -> tuple[int, list[artifact_service_pb2.Artifact]]:
        """How many files a run has, every version counted, and those whose content is not in the storage."""
        from runstream.client import bar
        from runstream.v1 import artifact_service_pb2 as messages
        from runstream.v1 import point_pb2

        request = messages.CheckArtifactsRequest(run=point_pb2.RunRef(workspace=workspace, run=run))
        bar(request.barrier, positions, timeout_s, allow_settling=True)
        files, missing = 0, []
        while True:
            page = self._call(
                _ARTIFACTS + "CheckArtifacts", request, messages.CheckArtifactsResponse, timeout_s
            )
            files += page.files
            missing.extend(page.missing)
            if not page.next_page_token:
                return files, missing
            request.page_token = page.next_page_token

    def download_artifact(
        self,
        workspace: str,
        run: str,
        path: str,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        version: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """Downloads a file into another, or into a binary stream that can be set back.

        A target file appears when it is whole and its digest was verified; folders are made. What breaks on
        the way is continued.

        :raises NotFoundError: the run has no such file.
        :raises ServiceError: what came is not what was uploaded, or the server is not to be had.
        """
        where = f"/w/{quote(workspace, safe='')}/r/{quote(run, safe='')}/files/{quote(path)}"
        if version:
            where += f"?version={version}"
        download = _Download(self, where, path, progress or (lambda _: None))
        if not isinstance(target, str | os.PathLike):
            download.into(target)
            return
        wanted = Path(target)
        wanted.parent.mkdir(parents=True, exist_ok=True)
        coming = wanted.with_name(f".{wanted.name[:200]}.{os.urandom(4).hex()}.part")
        try:
            with open(coming, "xb") as file:
                download.into(file)
            os.replace(coming, wanted)
        finally:
            coming.unlink(missing_ok=True)

    def list_models(
        self,
        workspace: str,
        name: str = "",
        run: str = "",
        tags: Mapping[str, str] | None = None,
        *,
        latest: bool = False,
        positions: Positions = (),
        timeout_s: float = _BARRIER_S,
    ) -> Iterator[model_service_pb2.Model]:
        """Versions of models, by name, newest first. Empty texts take all; a tag's value may be empty."""
        from runstream.client import bar
        from runstream.v1 import model_service_pb2 as messages

        request = messages.ListModelsRequest(
            workspace=workspace, name=name, run=run, tags=tags, latest=latest, page_size=1_000
        )
        bar(request.barrier, positions, timeout_s, allow_settling=True)
        while True:
            page = self._call(_MODELS + "ListModels", request, messages.ListModelsResponse, timeout_s)
            yield from page.models
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def get_model(
        self,
        workspace: str,
        name: str,
        version: int = 0,
        *,
        positions: Positions = (),
        timeout_s: float = _BARRIER_S,
    ) -> tuple[model_service_pb2.Model, Iterable[artifact_service_pb2.Artifact]]:
        """One version of a model, 0 for the newest, and its files.

        :raises NotFoundError: there is none.
        """
        from runstream.client import bar
        from runstream.v1 import model_service_pb2 as messages

        request = messages.GetModelRequest(workspace=workspace, name=name, version=version)
        bar(request.barrier, positions, timeout_s, allow_settling=True)
        answer = self._call(_MODELS + "GetModel", request, messages.GetModelResponse, timeout_s)
        return answer.model, list(answer.files)


class _TargetError(Exception):
    """It can't be written to where it is to go, which is no trouble of the connection."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class _Download:
    """One file on its way."""

    def __init__(self, client: Artifacts, where: str, path: str, progress: Progress) -> None:
        self._client = client
        self._where = where
        self._path = path
        self._progress = progress
        self._tag = ""
        self._done = 0
        self._digest = hashlib.sha256()

    def into(self, file: BinaryIO) -> None:
        """Write it all."""
        for attempt in range(_ATTEMPTS):
            before = self._done
            try:
                self._continue(file)
                break
            except _TargetError as error:
                raise error.error from None
            except ServiceUnavailableError:
                if self._done == before and attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.1 * 2**attempt)
        else:
            raise ServiceUnavailableError(f"{self._path}: the connection broke {_ATTEMPTS} times")
        if self._digest.hexdigest() != self._tag:
            raise ServiceError(
                f"{self._path}: what came has another digest than what was uploaded; nothing was kept"
            )

    def _continue(self, file: BinaryIO) -> None:
        headers = {"range": f"bytes={self._done}-", "if-range": f'"{self._tag}"'} if self._done else {}
        with self._client._exchange(self._where, None, headers) as answer:
            if answer.status not in (200, 206):
                raise _refused(self._client.url, self._path, answer)
            tag = (answer.getheader("etag") or "").strip('"')
            if answer.status == 200:
                self._begin(file, tag)
            while data := answer.read(_PIECE):
                self._write(file, data)
                self._digest.update(data)
                self._done += len(data)
                self._progress(len(data))
            if answer.length:  # http.client gives a short last piece without a word
                raise ConnectionResetError("the answer ended before its end")

    def _write(self, file: BinaryIO, data: bytes) -> None:
        try:
            file.write(data)
        except OSError as error:
            raise _TargetError(error) from error

    def _begin(self, file: BinaryIO, tag: str) -> None:
        if self._done:
            file.seek(-self._done, os.SEEK_CUR)
            file.truncate()
            self._progress(-self._done)
        self._tag, self._done, self._digest = tag, 0, hashlib.sha256()


def _refused(url: str, path: str, answer: HTTPResponse) -> Exception:
    """The error of a download."""
    answer.read()
    if answer.status == 404:
        return NotFoundError(f"the run has no file {path!r}")
    if answer.status in (401, 403):
        return AuthenticationError(f"the server at {url} doesn't accept the credential")
    kind = ServiceUnavailableError if answer.status in (502, 503, 504) else ServiceError
    return kind(f"{path} can't be downloaded: HTTP {answer.status}")
