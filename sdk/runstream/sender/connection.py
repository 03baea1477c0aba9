"""One Publish stream to one server, with the threads that gRPC's synchronous client needs."""

import socket
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

import grpc

from runstream.v1 import ingest_service_pb2

_PUBLISH = "/runstream.v1.IngestService/Publish"
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.enable_retries", 0),  # what is repeated, and when, is decided here
    ("grpc.use_local_subchannel_pool", 1),  # each attempt is a new one, without the last one's back-off
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]
_UNREACHABLE = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


class Ended(NamedTuple):
    """The stream is over."""

    reason: str
    refused: bool  # the server is there and does not want us; else it can't be reached


class Connection:
    """A stream that was begun. What it receives goes to `inbox`, with itself."""

    def __init__(
        self,
        address: str,
        token: str | None,
        inbox: "deque[tuple[Connection, ingest_service_pb2.PublishResponse | Ended]]",
        wake: Callable[[], object],
    ) -> None:
        self.address = address
        self._token = token
        self._inbox = inbox
        self._wake = wake
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        self._call: Any = None
        self._closed = False
        threading.Thread(target=self._run, name=f"publish to {address}", daemon=True).start()

    def send(self, request: bytes) -> None:
        """Send a serialized PublishRequest."""
        self._requests.put(request)

    def close(self) -> None:
        """End the stream. Nothing more is received."""
        self._closed = True
        self._requests.put(None)
        if self._call is not None:
            self._call.cancel()

    def _run(self) -> None:
        options = [*OPTIONS]
        if is_loopback(self.address):
            options.append(("grpc.enable_http_proxy", 0))
        channel = grpc.insecure_channel(self.address, options)
        try:
            # Requests are serialized when they are sent: their bytes are kept to be sent again.
            publish: Any = channel.stream_stream(
                _PUBLISH, None, ingest_service_pb2.PublishResponse.FromString
            )
            self._call = publish(iter(self._requests.get, None), metadata=self._metadata())
            for response in self._call:
                if self._closed:
                    return
                self._receive(response)
            self._receive(Ended("the server ended the stream", False))
        except grpc.RpcError as error:
            self._receive(_ended(self.address, error))
        except ValueError as error:  # a token that can't stand in a header
            self._receive(Ended(str(error), True))
        finally:
            self._requests.put(None)
            channel.close()

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token}"),) if self._token else ()

    def _receive(self, what: ingest_service_pb2.PublishResponse | Ended) -> None:
        if not self._closed:
            self._inbox.append((self, what))
            self._wake()


def is_loopback(address: str) -> bool:
    """Whether a server is on this machine."""
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def nobody_listens(address: str) -> bool:
    """Whether this machine itself says that nobody listens there: that costs a hundredth of a try by gRPC."""
    if not is_loopback(address):
        return False
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=0.05).close()
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):  # whatever it is, gRPC will say it
        return False
    return False


def _ended(address: str, error: Any) -> Ended:
    code = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    reason = str((error.details() if hasattr(error, "details") else None) or error)
    if "Failed parsing HTTP/2" in reason or "Trying to connect an http1.x server" in reason:
        said = f"{address} is not the gRPC port of a runstream server: another protocol is spoken there"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        said = f"{address} is a gRPC server, but none of runstream, or of another version ({reason})"
    elif "Connection refused" in reason:
        said = f"nothing listens at {address} (connection refused)"
    else:
        said = f"{address}: {code.name}: {reason}"
    return Ended(said, code not in _UNREACHABLE)
