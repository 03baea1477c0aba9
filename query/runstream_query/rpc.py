"""The service in gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any

import grpc
import grpc.aio

from runstream.v1 import query_service_pb2
from runstream_query.errors import QueryServiceError
from runstream_query.service import METHODS, QueryServicer, translated, translated_stream
from runstream_query.telemetry import observe


def add_query_service(server: grpc.aio.Server, servicer: QueryServicer) -> None:
    """Mounts the service on a `grpc.aio.Server`."""

    async def abort(context: Any, error: QueryServiceError) -> None:
        await context.abort(grpc.StatusCode[error.code], str(error))

    def authorization(context: Any) -> str | None:
        metadata: Iterable[tuple[str, str]] = context.invocation_metadata() or ()
        return next((value for key, value in metadata if key == "authorization"), None)

    def unary(name: str, method: Callable[[Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def call(request: Any, context: Any) -> Any:
            with observe(name, "grpc"):
                try:
                    servicer.authenticate(authorization(context))
                    return await translated(method(request))
                except QueryServiceError as error:
                    await abort(context, error)

        return call

    def streaming(
        name: str,
        method: Callable[[Any], AsyncGenerator[Any, None]],
    ) -> Callable[[Any, Any], AsyncGenerator[Any, None]]:
        async def call(request: Any, context: Any) -> AsyncGenerator[Any, None]:
            with observe(name, "grpc"):
                try:
                    servicer.authenticate(authorization(context))
                    async for response in translated_stream(method(request)):
                        yield response
                except QueryServiceError as error:
                    await abort(context, error)

        return call

    service = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
    handlers = {}
    for method in service.methods:
        function = getattr(servicer, METHODS[method.name])
        request = getattr(query_service_pb2, method.input_type.name)
        if method.server_streaming:
            handler = grpc.unary_stream_rpc_method_handler(
                streaming(method.name, function), request.FromString, serialize
            )
        else:
            handler = grpc.unary_unary_rpc_method_handler(
                unary(method.name, function), request.FromString, serialize
            )
        handlers[method.name] = handler
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


def serialize(message: Any) -> bytes:
    """The bytes of a response; a twin's are those of the public message."""
    data: bytes = message.SerializeToString()
    return data
