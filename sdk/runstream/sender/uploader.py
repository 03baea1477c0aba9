"""Uploads files to one server: chunks that it lacks, then manifests.

Two threads, so that small files do not wait behind large ones. What fails is tried again as long as it takes;
chunks that arrived are not sent again.
"""

import errno
import hashlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from runstream.home import Target
from runstream.sender.chunks import CHUNK_BYTES, Piece, UnreadableError, digest, requests
from runstream.sender.connection import OPTIONS, is_loopback
from runstream.sender.handover import NobodyError, NotTakenError, hand_over, takes_files
from runstream.sender.uploads import Upload
from runstream.v1 import (
    artifact_pb2,
    chunk_service_pb2,
    error_pb2,
    ingest_service_pb2,
    point_pb2,
    run_pb2,
)

log = logging.getLogger("runstream.sender")

_SMALL: Final = 8 << 20
_BATCH_FILES: Final = 1_000  # as many chunks as one question may name
_BATCH_BYTES: Final = 8 << 20
_CHUNKS_AT_ONCE: Final = 2  # of one file
_ANSWER_S: Final = 60.0
_CHUNK_S: Final = 7200.0  # for chunks on slow ways; a server that is gone is noticed by the keep-alive
_LEAST_PAUSE_S: Final = 0.1
_MANIFEST_BYTES: Final = 3 << 20  # of a request: it may have 4 MiB

_SERVICE: Final = "/runstream.v1."


@dataclass(slots=True)
class Outcome:
    """What became of an upload."""

    upload: Upload
    positions: Sequence[run_pb2.LogPosition] = ()
    refused: str = ""  # why, for good


@dataclass(slots=True)
class _Work:
    """An upload with its open file."""

    upload: Upload
    file: int
    pieces: list[Piece] = field(default_factory=list)
    sha256: bytes = b""
    stored: bool = False  # all of its chunks are


class _AgainError(Exception):
    """It did not work this time."""


class Uploader:
    """Uploads to whichever server its publisher is connected to. `step` is for the sender's loop."""

    def __init__(self, wake: Callable[[], object], longest_pause_s: float) -> None:
        self._wake = wake
        self._longest_pause_s = longest_pause_s
        self._outcomes: deque[Outcome] = deque()
        self._target: Target | None = None
        self.server_id = b""  # of the server's data
        self._lanes = [_Lane("small files", self), _Lane("large files", self)]

    def submit(self, upload: Upload) -> None:
        """Upload a file, in its turn."""
        self._lanes[upload.size > _SMALL].put(upload)

    def step(self, target: Target | None, server_id: bytes = b"") -> list[Outcome]:
        """Say which server is there, if any. Returns what is done."""
        self.server_id = server_id
        if target != self._target:
            self._target = target
            for lane in self._lanes:
                lane.poke()
        done = []
        while self._outcomes:
            done.append(self._outcomes.popleft())
        return done

    def forget(self, owner: object) -> None:
        """A writer is no longer served."""
        for lane in self._lanes:
            lane.forget(owner)

    def close(self) -> None:
        """End soon; what is under way is not done."""
        self._target = None
        for lane in self._lanes:
            lane.close()

    @property
    def target(self) -> Target | None:
        """The server to upload to."""
        return self._target

    @property
    def longest_pause_s(self) -> float:
        """Between attempts."""
        local = self._target is None or is_loopback(self._target.grpc)
        return min(self._longest_pause_s, 1.0) if local else self._longest_pause_s

    def done(self, outcomes: list[Outcome]) -> None:
        """From a lane."""
        self._outcomes.extend(outcomes)
        self._wake()


class _Lane:
    """One thread, and what it has to do."""

    def __init__(self, name: str, uploader: Uploader) -> None:
        self._name = name
        self._uploader = uploader
        self._waiting: deque[Upload] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._poked = False
        self._thread: threading.Thread | None = None
        self._pause_s = _LEAST_PAUSE_S
        self._channel: grpc.Channel | None = None
        self._channel_of: Target | None = None

    def put(self, upload: Upload) -> None:
        with self._changed:
            self._waiting.append(upload)
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def poke(self) -> None:
        with self._changed:
            self._pause_s = _LEAST_PAUSE_S
            self._poked = True
            self._changed.notify()

    def forget(self, owner: object) -> None:
        with self._changed:
            self._waiting = deque(upload for upload in self._waiting if upload.owner is not owner)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    # -------------------------------------------------------------------------------- in thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or (self._waiting and self._uploader.target))
                if self._closed:
                    break
                batch = self._take()
            try:
                self._upload(batch)
                self._pause_s = _LEAST_PAUSE_S
            except Exception as error:
                if not isinstance(error, _AgainError | grpc.RpcError):
                    log.exception("files can't be uploaded now")
                else:
                    log.info("files can't be uploaded now: %s", _said(error))
                self._again(batch)
        if self._channel is not None:
            self._channel.close()

    def _take(self) -> list[Upload]:
        """The next uploads: a few small ones, or one large one."""
        batch = [self._waiting.popleft()]
        size = batch[0].size
        while self._waiting and len(batch) < _BATCH_FILES and size + self._waiting[0].size <= _BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size += batch[-1].size
        return batch

    def _again(self, batch: list[Upload]) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(batch))
            self._poked = False
            self._changed.wait_for(lambda: self._closed or self._poked, self._pause_s)
            self._pause_s = min(self._pause_s * 2, self._uploader.longest_pause_s)

    def _upload(self, batch: list[Upload]) -> None:
        """Upload files, and take each that is done, or never will be, out of the batch."""
        works = []
        try:
            for upload in list(batch):
                try:
                    works.append(_Work(upload, os.open(upload.data, os.O_RDONLY)))
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE):
                        self._put_off(batch, upload)
                        break
                    self._refuse(batch, upload, f"{upload.path}: the spool has lost it: {error}")
            for work in list(works):
                try:
                    self._put(work)
                except UnreadableError as error:
                    self._refuse(batch, work.upload, f"{work.upload.path}: {error}")
                    os.close(work.file)
                    works.remove(work)
            self._store([piece for work in works if not work.stored for piece in work.pieces])
            self._publish(batch, works)
        finally:
            for work in works:
                os.close(work.file)

    def _put_off(self, batch: list[Upload], first: Upload) -> None:
        """Leave a batch's uploads from this one on for the next: no more files can be opened now."""
        at = batch.index(first)
        if at == 0:
            raise _AgainError("no more files can be opened now")
        with self._changed:
            self._waiting.extendleft(reversed(batch[at:]))
        del batch[at:]

    def _refuse(self, batch: list[Upload], upload: Upload, why: str) -> None:
        log.error("a file can't be uploaded: %s", why)
        batch.remove(upload)
        self._uploader.done([Outcome(upload, refused=why)])

    def _put(self, work: _Work) -> None:
        """Read a file for its digests. One of several chunks is stored on the way: while one is brought to
        the disk at the server, the next is sent, and another read."""
        size = work.upload.size
        if os.fstat(work.file).st_size != size:
            raise UnreadableError("the spool has another size of it than was kept")
        if size > _SMALL and self._hand_over(work):
            return
        if size <= CHUNK_BYTES:
            if size:
                work.pieces.append(digest(work.file, 0, size, None))
            work.sha256 = work.pieces[0].chunk.sha256 if size else hashlib.sha256().digest()
            return
        whole = hashlib.sha256()
        self._connect()
        with (
            ThreadPoolExecutor(1, thread_name_prefix="digests") as reading,
            ThreadPoolExecutor(_CHUNKS_AT_ONCE, thread_name_prefix="chunks") as sending,
        ):
            stored: deque[Future[None]] = deque()
            ahead = reading.submit(digest, work.file, 0, CHUNK_BYTES, whole)
            for offset in range(0, size, CHUNK_BYTES):
                piece = ahead.result()
                following = offset + CHUNK_BYTES
                if following < size:
                    length = min(CHUNK_BYTES, size - following)
                    ahead = reading.submit(digest, work.file, following, length, whole)
                work.pieces.append(piece)
                while len(stored) >= _CHUNKS_AT_ONCE:
                    stored.popleft().result()
                stored.append(sending.submit(self._store, [piece]))
            for one in stored:
                one.result()
        work.sha256 = whole.digest()
        work.stored = True

    def _hand_over(self, work: _Work) -> bool:
        """Give a file to a server on this machine, which computes the chunks' digests while the file's is
        computed here. False when there is no such server."""
        size, server_id = work.upload.size, self._uploader.server_id
        if not takes_files(server_id):
            return False

        def give(offset: int) -> Piece:
            return hand_over(server_id, work.file, offset, min(CHUNK_BYTES, size - offset))

        with ThreadPoolExecutor(1 + _CHUNKS_AT_ONCE, thread_name_prefix="handover") as threads:
            whole = threads.submit(digest, work.file, 0, size, None)
            try:
                work.pieces = list(threads.map(give, range(0, size, CHUNK_BYTES)))
            except NobodyError:
                return False
            except NotTakenError as error:
                raise _AgainError(str(error)) from error
        work.sha256 = whole.result().chunk.sha256
        work.stored = True
        if len(work.pieces) == 1 and work.pieces[0].chunk.sha256 != work.sha256:
            raise _AgainError("the server read something else")
        return True

    # ---------------------------------------------------------------------------------- network

    def _call(self, kind: str, method: str, response: Any) -> Any:
        """A call of the server that is there."""
        self._connect()
        make: Any = getattr(self._channel, kind)
        return make(_SERVICE + method, _serialized, response.FromString)

    def _connect(self) -> None:
        target = self._uploader.target
        if target is None or self._closed:
            raise _AgainError("no server is there")
        if self._channel is None or self._channel_of != target:
            if self._channel is not None:
                self._channel.close()
            options = [*OPTIONS, ("grpc.enable_http_proxy", 0)] if is_loopback(target.grpc) else [*OPTIONS]
            self._channel, self._channel_of = grpc.insecure_channel(target.grpc, options), target

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        token = self._channel_of.token if self._channel_of else None
        return (("authorization", f"Bearer {token}"),) if token else ()

    def _store(self, pieces: list[Piece]) -> None:
        """Store chunks that the server lacks."""
        for first in range(0, len(pieces), _BATCH_FILES):
            some = {piece.chunk.sha256: piece for piece in pieces[first : first + _BATCH_FILES]}
            find = self._call("unary_unary", "ChunkService/FindChunks", chunk_service_pb2.FindChunksResponse)
            request = chunk_service_pb2.FindChunksRequest(chunks=[piece.chunk for piece in some.values()])
            missing = find(request, metadata=self._metadata(), timeout=_ANSWER_S).missing
            if not missing:
                continue
            put = self._call("stream_stream", "ChunkService/PutChunks", chunk_service_pb2.PutChunksResponse)
            wanted = {sha256 for sha256 in missing if sha256 in some}
            answers = put(
                requests([some[sha256] for sha256 in wanted]), metadata=self._metadata(), timeout=_CHUNK_S
            )
            for answer in answers:
                for result in answer.results:
                    if result.code != error_pb2.ERROR_CODE_UNSPECIFIED:
                        answers.cancel()
                        raise _AgainError(result.reason)
                    wanted.discard(result.sha256)
            if wanted:
                raise _AgainError(f"{len(wanted)} chunks were not answered for")

    def _publish(self, batch: list[Upload], works: list[_Work]) -> None:
        waiting = [(work, _manifest(work)) for work in works]
        while waiting:
            now: list[tuple[_Work, artifact_pb2.ArtifactManifest]] = []
            size = 0
            while waiting and (not now or size + waiting[0][1].ByteSize() < _MANIFEST_BYTES):
                now.append(waiting.pop(0))
                size += now[-1][1].ByteSize()
            call = self._call(
                "unary_unary", "IngestService/PublishOnce", ingest_service_pb2.PublishOnceResponse
            )
            records = [ingest_service_pb2.PublishRecord(artifact=manifest) for _, manifest in now]
            answer = call(
                ingest_service_pb2.PublishOnceRequest(records=records),
                metadata=self._metadata(),
                timeout=_ANSWER_S,
            )
            errors = {error.record: error for error in answer.errors}
            done = []
            for number, (work, _) in enumerate(now):
                error = errors.get(number)
                if error is None:
                    batch.remove(work.upload)
                    done.append(Outcome(work.upload, answer.positions))
                elif not error.retryable:
                    self._refuse(batch, work.upload, f"{work.upload.path}: {error.reason}")
            self._uploader.done(done)
        if batch:
            raise _AgainError("not all manifests were taken")


def _serialized(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())


def _manifest(work: _Work) -> artifact_pb2.ArtifactManifest:
    upload = work.upload
    return artifact_pb2.ArtifactManifest(
        run=point_pb2.RunRef(workspace=upload.workspace, run=upload.run),
        path=upload.path,
        size=upload.size,
        sha256=work.sha256,
        media_type=upload.media_type,
        chunks=[piece.chunk for piece in work.pieces],
        time_ns=upload.time_ns,
        writer=upload.writer,
        seq=upload.number,
    )


def _said(error: Exception) -> str:
    details = getattr(error, "details", None)
    return str(details()) if callable(details) else str(error)
