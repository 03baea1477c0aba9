"""Services in the Connect protocol: what browsers, curl and the Python client speak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final

from connectrpc.code import Code
from connectrpc.compat import google_protobuf_binary_codec, google_protobuf_json_codec
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.message import Message
from protobuf.wkt import Any as AnyMessage

from runstream_query.access import Access
from runstream_query.errors import QueryServiceError
from runstream_query.login import bearer
from runstream_query.services import Call, Service
from runstream_query.telemetry import observe


class JsonCodec:
    """JSON. Takes bytes for a message that is JSON already."""

    def name(self) -> str:
        """As in the content type."""
        return "json"

    def encode(self, message: Message | bytes) -> bytes:
        """A message as JSON."""
        return message if isinstance(message, bytes) else _JSON.encode(message)

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Any:
        """A message of JSON."""
        return _JSON.decode(data, message_class)


# A misspelt field or value is told, not passed over: it would be a condition that selects everything.
_JSON: Final = google_protobuf_json_codec(ignore_unknown_fields=False)


def to_json(service: Service, message: Message) -> bytes:
    """A message as JSON; a private twin is read as the public message first."""
    public = service.twins.get(type(message))
    return _JSON.encode(message if public is None else public.FromString(message.SerializeToString()))


class ServiceApplication(ConnectASGIApplication[Service]):
    """An ASGI application with the calls of one service below `path`."""

    def __init__(self, service: Service, access: Access) -> None:
        """Without compression: the port is on this machine or in its network."""
        self._path = f"/{service.descriptor.full_name}"
        super().__init__(
            service=service,
            endpoints=lambda _: {
                f"{self.path}/{call.name}": _endpoint(call, access) for call in service.calls()
            },
            compressions=(),
            codecs=(google_protobuf_binary_codec(), JsonCodec()),
        )

    @property
    def path(self) -> str:
        """Where the calls are."""
        return self._path


def _endpoint(call: Call, access: Access) -> Any:
    info = MethodInfo(
        name=call.name,
        service_name=call.service.descriptor.full_name,
        input=call.request,
        output=call.response,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.SERVER_STREAM if call.streams else StreamType.UNARY,
    )
    if call.streams:
        return Endpoint.server_stream(info, _streaming(call, access))
    return Endpoint.unary(info, _unary(call, access))


def _unary(call: Call, access: Access) -> Callable[[Any, RequestContext[Any, Any]], Awaitable[Any]]:
    async def answer(request: Any, context: RequestContext[Any, Any]) -> Any:
        with observe(call.name, "connect"):
            try:
                response = await call.answer(access, authorization(context), request)
                if not _json(context):
                    return response
                # Takes seconds for a large page.
                return await asyncio.to_thread(to_json, call.service, response)
            except QueryServiceError as error:
                raise connect_error(error) from error

    return answer


def _streaming(
    call: Call, access: Access
) -> Callable[[Any, RequestContext[Any, Any]], AsyncGenerator[Any, None]]:
    async def answer(request: Any, context: RequestContext[Any, Any]) -> AsyncGenerator[Any, None]:
        with observe(call.name, "connect"):
            try:
                async for response in call.stream(access, authorization(context), request):
                    yield to_json(call.service, response) if _json(context) else response
            except QueryServiceError as error:
                raise connect_error(error) from error

    return answer


def _json(context: RequestContext[Any, Any]) -> bool:
    return "json" in (context.request_headers.get("content-type") or "")


def authorization(context: RequestContext[Any, Any]) -> str | None:
    """The credential of a request: its header, else what the login has left in a cookie."""
    headers = context.request_headers
    return headers.get("authorization") or bearer(headers.get("cookie"), headers.get("host"))


def connect_error(error: QueryServiceError) -> ConnectError:
    """The same error in the protocol."""
    return ConnectError(Code(error.code.lower()), str(error), details=map(_detail, error.details))


def _detail(message: Message) -> ErrorDetail:
    kind = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
    return ErrorDetail(AnyMessage(type_url=kind, value=message.SerializeToString()))
