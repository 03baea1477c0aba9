"""The service in the Connect protocol: what browsers, curl and the Python client speak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final

from connectrpc.code import Code
from connectrpc.compat import google_protobuf_binary_codec, google_protobuf_json_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.message import Message

from runstream.internal.v1 import twin_pb2
from runstream.v1 import query_service_pb2
from runstream_query.errors import QueryServiceError
from runstream_query.login import bearer
from runstream_query.service import METHODS, QueryServicer, translated, translated_stream
from runstream_query.telemetry import observe

SERVICE: Final = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]

_TWINS: Final[Mapping[type[Message], type[Message]]] = {
    twin_pb2.GetMetricsResponse: query_service_pb2.GetMetricsResponse,
    twin_pb2.GetMetricsPageResponse: query_service_pb2.GetMetricsPageResponse,
}


class JsonCodec:
    """JSON. Takes bytes for a message that is JSON already."""

    def name(self) -> str:
        """As in the content type."""
        return "json"

    def encode(self, message: Message | bytes) -> bytes:
        """A message as JSON."""
        return message if isinstance(message, bytes) else to_json(message)

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Any:
        """A message of JSON."""
        return _JSON.decode(data, message_class)


# A misspelt field or value is told, not passed over: it would be a condition that selects everything.
_JSON: Final = google_protobuf_json_codec(ignore_unknown_fields=False)


def to_json(message: Message) -> bytes:
    """A message as JSON; a private twin is read as the public message first."""
    public = _TWINS.get(type(message))
    return _JSON.encode(message if public is None else public.FromString(message.SerializeToString()))


class QueryConnectApplication(ConnectASGIApplication[QueryServicer]):
    """An ASGI application with the methods of the service below `path`."""

    def __init__(self, servicer: QueryServicer) -> None:
        """Without compression: the port is on this machine or in its network."""
        super().__init__(
            service=servicer,
            endpoints=_endpoints,
            compressions=(),
            codecs=(google_protobuf_binary_codec(), JsonCodec()),
        )

    @property
    def path(self) -> str:
        """Where the methods are."""
        return f"/{SERVICE.full_name}"


def _stream_type(method: Any) -> StreamType:
    return StreamType.SERVER_STREAM if method.server_streaming else StreamType.UNARY


def _endpoints(servicer: QueryServicer) -> dict[str, Any]:
    endpoints = {}
    for method in SERVICE.methods:
        info = MethodInfo(
            name=method.name,
            service_name=SERVICE.full_name,
            input=getattr(query_service_pb2, method.input_type.name),
            output=getattr(query_service_pb2, method.output_type.name),
            idempotency_level=IdempotencyLevel.UNKNOWN,
            stream_type=_stream_type(method),
        )
        function = getattr(servicer, METHODS[method.name])
        endpoint: Any
        if method.server_streaming:
            endpoint = Endpoint.server_stream(info, _streaming(servicer, method.name, function))
        else:
            endpoint = Endpoint.unary(info, _unary(servicer, method.name, function))
        endpoints[f"/{SERVICE.full_name}/{method.name}"] = endpoint
    return endpoints


def _unary(
    servicer: QueryServicer, name: str, method: Callable[[Any], Awaitable[Any]]
) -> Callable[[Any, RequestContext[Any, Any]], Awaitable[Any]]:
    async def call(request: Any, context: RequestContext[Any, Any]) -> Any:
        with observe(name, "connect"):
            try:
                servicer.authenticate(authorization(context))
                response = await translated(method(request))
                if "json" not in (context.request_headers.get("content-type") or ""):
                    return response
                return await asyncio.to_thread(to_json, response)  # takes seconds for a large page
            except QueryServiceError as error:
                raise connect_error(error) from error

    return call


def _streaming(
    servicer: QueryServicer, name: str, method: Callable[[Any], AsyncGenerator[Any, None]]
) -> Callable[[Any, RequestContext[Any, Any]], AsyncGenerator[Any, None]]:
    async def call(request: Any, context: RequestContext[Any, Any]) -> AsyncGenerator[Any, None]:
        with observe(name, "connect"):
            try:
                servicer.authenticate(authorization(context))
                async for response in translated_stream(method(request)):
                    yield response
            except QueryServiceError as error:
                raise connect_error(error) from error

    return call


def authorization(context: RequestContext[Any, Any]) -> str | None:
    """The credential of a request: its header, else what the login has left in a cookie."""
    headers = context.request_headers
    return headers.get("authorization") or bearer(headers.get("cookie"), headers.get("host"))


def connect_error(error: QueryServiceError) -> ConnectError:
    """The same error in the protocol."""
    return ConnectError(Code(error.code.lower()), str(error))
