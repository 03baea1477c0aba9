"""Keeps a stream to one server going: sends records, bounds what is under way, dials again when it breaks."""

import logging
import random
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from runstream import home
from runstream.home import Target
from runstream.internal.v1 import twin_pb2
from runstream.sender.cancel import cancel
from runstream.sender.connection import Connection, Ended, is_loopback, nobody_listens
from runstream.sender.refusals import Reason
from runstream.sender.settings import SenderSettings
from runstream.sender.tail import Outgoing, WriterTail
from runstream.sender.uploader import Uploader
from runstream.v1 import event_pb2, ingest_service_pb2

log = logging.getLogger("runstream.sender")

LEASE_S = 5.0
_HANDSHAKE_S = 10.0
_LOCAL_RETRY_MAX_S = 1.0  # a server on this machine may be started at any moment
_OVERHEAD = 32


@dataclass(slots=True)
class Request:
    """What was sent and is not answered."""

    number: int
    data: bytes
    records: list[Outgoing] = field(default_factory=list)
    sent_at: float = 0.0


class Publisher:
    """The stream to one server: the one that its writers name, or whichever the discovery file says."""

    def __init__(
        self, settings: SenderSettings, wake: Callable[[], object], fixed: Target | None = None
    ) -> None:
        self._settings = settings
        self._fixed = fixed  # wins over what the writers name
        self._wake = wake
        self.tails: list[WriterTail] = []
        self.target: Target | None = None
        self.http_url: str | None = None
        self.problem: str | None = None  # why there is no stream
        self.attempts = 0  # that failed, ever
        self.ready = False
        self.server_id = b""
        self._connection: Connection | None = None
        self._inbox: deque[tuple[Connection, ingest_service_pb2.PublishResponse | Ended]] = deque()
        self._under_way: dict[int, Request] = {}
        self._bytes_under_way = 0
        self._number = 0
        self._failures = 0  # since a stream last worked
        self._next_attempt = 0.0
        self._lease_due = 0.0
        self._began = 0.0
        self._compress: Callable[[bytes], bytes] | None = None
        self._uploader = Uploader(wake, settings.retry_max_s)

    # ------------------------------------------------------------------------------ sending

    @property
    def room(self) -> int:
        """Bytes that may still be sent before something is acknowledged."""
        return self._settings.window_kib * 1024 - self._bytes_under_way if self.ready else 0

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return bool(self._under_way)

    def send(self, records: list[Outgoing]) -> bool:
        """Send the records as one request. True."""
        self._number += 1
        message = twin_pb2.PublishRequest(
            request_id=self._number, records=[self._record(record) for record in records]
        )
        request = Request(self._number, message.SerializeToString(), records)
        self._under_way[request.number] = request
        self._bytes_under_way += len(request.data)
        self._transmit(request)
        return True

    def _record(self, record: Outgoing) -> twin_pb2.PublishRecord:
        data = record.data
        if record.logs:
            return twin_pb2.PublishRecord(logs=data, crc32=zlib.crc32(data))
        if not record.points:
            return twin_pb2.PublishRecord(run_events=data, crc32=zlib.crc32(data))
        if self._compress is not None:
            data = self._compress(data)
            return twin_pb2.PublishRecord(
                compressed_points=data, compression=event_pb2.COMPRESSION_ZSTD, crc32=zlib.crc32(data)
            )
        return twin_pb2.PublishRecord(points=data, crc32=zlib.crc32(data))

    def _transmit(self, request: Request) -> None:
        assert self._connection is not None
        request.sent_at = time.monotonic()
        self._connection.send(request.data)

    def _send_lease(self, now: float) -> None:
        """Say who lives. The first request of a stream, so it also asks who the server is."""
        assert self._connection is not None
        self._lease_due = now + LEASE_S
        living = [tail.header.writer for tail in self.tails if tail.lives]
        request = twin_pb2.PublishRequest(lease=ingest_service_pb2.Lease(writers=living))
        self._connection.send(request.SerializeToString())

    def lease_soon(self) -> None:
        """A writer was born: say so with the next step."""
        self._lease_due = 0.0

    # ------------------------------------------------------------------------- keeping alive

    def step(self, now: float) -> bool:
        """Take in answers, dial, renew the lease. True when something was received."""
        received = bool(self._inbox)
        while self._inbox:
            connection, what = self._inbox.popleft()
            if connection is not self._connection:
                continue
            if isinstance(what, Ended):
                self._failed(what, now)
            else:
                self._answered(what, now)
        if self._connection is None:
            if now >= self._next_attempt and self.tails:
                self._dial(now)
        elif not self.ready:
            if now - self._began > _HANDSHAKE_S:
                silent = f"what listens at {self._address} does not answer as a runstream server does"
                self._failed(Ended(silent, False), now)
        else:
            if now >= self._lease_due:
                self._send_lease(now)
            self._watch_answers(now)
        for outcome in self._uploader.step(self.target if self.ready else None, self.server_id):
            received = True
            for tail in self.tails:
                if tail.uploads is outcome.upload.owner:
                    tail.uploaded(outcome)
        return received

    @property
    def _address(self) -> str:
        return self.target.grpc if self.target else "no server"

    def dial_now(self) -> None:
        """Do not wait for the next attempt."""
        self._next_attempt = 0.0

    def close(self) -> None:
        """End; what is under way stays unacknowledged."""
        self._hang_up()
        self._uploader.close()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.ready = False

    def _dial(self, now: float) -> None:
        header = self.tails[0].header  # all name the same server and credential
        target = self._fixed or home.resolve_server(
            header.server, credential=header.credential, use_environment=False
        )
        if target is None:
            self.target = None
            self._failed(Ended("no server is configured, and none was found on this machine", False), now)
            return
        if target != self.target:
            self.target = target
            self._failures = 0
        if self._failures and nobody_listens(target.grpc):
            self._failed(Ended(f"nothing listens at {target.grpc} (connection refused)", False), now)
            return
        self._began = now
        self._connection = Connection(target.grpc, target.token, self._inbox, self._wake)
        self._send_lease(now)

    def _failed(self, ended: Ended, now: float) -> None:
        """The stream broke or couldn't be made."""
        if self.ready or self.problem is None or self._failures % 50 == 49:
            log.warning("%s", ended.reason)
        was_ready = self.ready
        self._hang_up()
        self.problem = ended.reason
        self.attempts += 1
        self._failures = 1 if was_ready else self._failures + 1
        local = self.target is None or is_loopback(self.target.grpc)
        longest = min(self._settings.retry_max_s, _LOCAL_RETRY_MAX_S if local else 1e9)
        if ended.refused:  # a credential may be renewed, but not in the next moment
            longest = max(longest, min(self._settings.retry_max_s, 5.0))
        pause = min(0.05 * 2 ** min(self._failures, 20), longest)
        self._next_attempt = now + pause * random.uniform(0.75, 1.25)

    def _watch_answers(self, now: float) -> None:
        oldest = next(iter(self._under_way.values()), None)
        if oldest is not None and now - oldest.sent_at > self._settings.answer_timeout_s:
            self._failed(
                Ended(f"no answer of {self._address} for {self._settings.answer_timeout_s:.0f} s", False), now
            )

    # ------------------------------------------------------------------------------ answers

    def _answered(self, response: ingest_service_pb2.PublishResponse, now: float) -> None:
        if not self.ready:
            self._welcome(response)
        for command in response.commands:
            if command.WhichOneof("command") == "cancel_run":
                for tail in self.tails:
                    if tail.header.writer == command.writer:
                        cancel(tail, command.cancel_run)
        request = self._under_way.pop(response.request_id, None)
        if request is None:
            return
        self._bytes_under_way -= len(request.data)
        for position in response.positions:
            for tail in {
                record.tail for record in request.records if record.generation == record.tail.generation
            }:
                tail.state.acknowledge(position.topic, position.partition, position.offset, position.epoch)
        errors = {error.record: error for error in response.errors}
        for index, record in enumerate(request.records):
            error = errors.get(index)
            if error is None:
                record.tail.acknowledged(record)
            else:
                record.tail.refused(record, Reason(error.code, error.reason), error.retryable, now)

    def _welcome(self, response: ingest_service_pb2.PublishResponse) -> None:
        """The first answer of a stream: the server is there, and says who it is."""
        assert self.target is not None
        self.ready, self.problem, self._failures = True, None, 0
        server = response.server
        log.info("connected to %s (runstream %s)", self.target.grpc, server.version or "?")
        if server.http_url:
            self.http_url = server.http_url
            try:
                home.learn_http(self.target.grpc, server.http_url)
            except OSError:
                pass
        if server.server_id != self.server_id:
            if self.server_id and server.server_id:
                self._under_way.clear()
                self._bytes_under_way = 0
            self.server_id = server.server_id
        for tail in self.tails:
            tail.serves(self.server_id)
        compress = self._settings.compress
        if compress == "on" or (compress == "auto" and not is_loopback(self.target.grpc)):
            import zstandard

            self._compress = zstandard.ZstdCompressor(level=1).compress
        else:
            self._compress = None
        for request in list(self._under_way.values()):
            self._transmit(request)

    def forget(self, tail: WriterTail) -> None:
        """The writer is drained, or no longer served."""
        self.tails.remove(tail)
        self._uploader.forget(tail.uploads)

    def adopt(self, tail: WriterTail) -> None:
        """Deliver a writer."""
        self.tails.append(tail)
        tail.uploads.submit = self._uploader.submit
        tail.uploads.look()
        if self.ready:
            tail.serves(self.server_id)
        self.lease_soon()

    @property
    def bytes_under_way(self) -> int:
        """Sent and not answered."""
        return self._bytes_under_way
