"""The gRPC port: options, health, reflection, and whether anybody uses it."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from runstream_ingest.service import GRPC_OPTIONS
from runstream_server.errors import AddressTaken
from runstream_server.listen import authority

Handler = Callable[[Any, Any], Any]

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.so_reuseport", 0),  # else a second server gets the same port, and half of the connections
    *GRPC_OPTIONS,
    ("grpc.max_send_message_length", -1),
    # Senders behind NATs ping; do not take that for an attack.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Else the window of each stream grows with its speed, and gRPC holds as much as the budgets allow us.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 2 << 20),
]


class Activity(grpc.aio.ServerInterceptor):
    """Counts the calls to runstream's own services that are open."""

    def __init__(self) -> None:
        self._open = 0
        self.calls = 0
        self.last_call = time.monotonic()

    @property
    def busy(self) -> bool:
        """True while a call is open; a sender keeps one as long as a writer lives."""
        return self._open > 0

    @contextmanager
    def _call(self) -> Iterator[None]:
        self._open += 1
        self.calls += 1
        try:
            yield
        finally:
            self._open -= 1
            self.last_call = time.monotonic()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Puts a count around each call."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith("/runstream."):
            return handler
        streams = (handler.request_streaming, handler.response_streaming)
        function, make = {
            (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
            (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
            (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
            (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
        }[streams]
        return make(self._counted(function), handler.request_deserializer, handler.response_serializer)

    def _counted(self, function: Any) -> Handler:
        if inspect.isasyncgenfunction(function):

            async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
                with self._call():
                    async for response in function(request, context):
                        yield response

            return stream

        async def call(request: Any, context: Any) -> Any:
            with self._call():
                return await function(request, context)

        return call


class Services(Protocol):
    """What a part answers on this port."""

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of its services."""
        ...

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds them."""
        ...


class GrpcPort:
    """The gRPC server with the services of some parts, health and reflection."""

    def __init__(self, parts: Sequence[Services]) -> None:
        self.activity = Activity()
        self._server = grpc.aio.server(interceptors=[self.activity], options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for part in parts:
            part.add_to(self._server)
        self._names = [name for part in parts for name in part.names]
        # So that grpcurl and the like need no proto files.
        names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self, host: str, port: int) -> None:
        """Listens.

        :raises AddressTaken: something else has the port.
        """
        address = authority(host, port)
        try:
            self._server.add_insecure_port(address)
        except RuntimeError:  # taken since it was looked at
            raise AddressTaken(f"something else took {address} just now. Start again.") from None
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Ends; calls under way have so long."""
        await self._server.stop(grace_s)

    async def say_ready(self) -> None:
        """Says that the services are there."""
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def say_ending(self) -> None:
        """Says that they are about to go."""
        await self._health.enter_graceful_shutdown()
