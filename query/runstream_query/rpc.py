"""Services in gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage

from runstream_query.access import Access
from runstream_query.errors import QueryServiceError
from runstream_query.services import Call, Service
from runstream_query.telemetry import observe

_DETAILS: Final = "grpc-status-details-bin"


def add_services(server: grpc.aio.Server, services: Sequence[Service], access: Access) -> None:
    """Mounts services on a `grpc.aio.Server`."""
    for service in services:
        handlers = {call.name: _handler(call, access) for call in service.calls()}
        name = service.descriptor.full_name
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def _handler(call: Call, access: Access) -> Any:
    if call.streams:
        return grpc.unary_stream_rpc_method_handler(
            _streaming(call, access), call.request.FromString, serialize
        )
    return grpc.unary_unary_rpc_method_handler(_unary(call, access), call.request.FromString, serialize)


def _unary(call: Call, access: Access) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: Any) -> Any:
        with observe(call.name, "grpc"):
            try:
                return await call.answer(access, _authorization(context), request)
            except QueryServiceError as error:
                await _abort(context, error)

    return answer


def _streaming(call: Call, access: Access) -> Callable[[Any, Any], AsyncGenerator[Any, None]]:
    async def answer(request: Any, context: Any) -> AsyncGenerator[Any, None]:
        with observe(call.name, "grpc"):
            try:
                async for response in call.stream(access, _authorization(context), request):
                    yield response
            except QueryServiceError as error:
                await _abort(context, error)

    return answer


def _authorization(context: Any) -> str | None:
    metadata: Iterable[tuple[str, str]] = context.invocation_metadata() or ()
    return next((value for key, value in metadata if key == "authorization"), None)


async def _abort(context: Any, error: QueryServiceError) -> None:
    code = grpc.StatusCode[error.code]
    trailing = ((_DETAILS, _status(code.value[0], error)),) if error.details else ()
    await context.abort(code, str(error), trailing)


def _status(code: int, error: QueryServiceError) -> bytes:
    """The bytes of a `google.rpc.Status`: code 1, message 2, details 3."""
    parts = [b"\x08", _varint(code), _field(0x12, str(error).encode())]
    for detail in error.details:
        packed = AnyMessage()
        packed.Pack(detail)
        parts.append(_field(0x1A, packed.SerializeToString()))
    return b"".join(parts)


def _field(tag: int, data: bytes) -> bytes:
    return bytes([tag]) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def serialize(message: Any) -> bytes:
    """The bytes of a response; a twin's are those of the public message."""
    data: bytes = message.SerializeToString()
    return data
