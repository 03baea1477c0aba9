"""The gRPC port: options, health, reflection, and whether anybody uses it."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from runstream_ingest.service import GRPC_OPTIONS

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


def new_server(activity: Activity) -> grpc.aio.Server:
    """A gRPC server without services."""
    return grpc.aio.server(interceptors=[activity], options=_OPTIONS)


def add_health(server: grpc.aio.Server) -> health.aio.HealthServicer:
    """Add the standard health service."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer


async def set_health(servicer: health.aio.HealthServicer, services: Sequence[str]) -> None:
    """Say that the services are there."""
    for service in ("", *services):
        await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)


def add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Add server reflection, so that grpcurl and the like need no proto files."""
    names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
