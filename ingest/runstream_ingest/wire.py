"""Protobuf's wire format, read by hand where the generated classes can't help.

A private twin declares sub-messages as `bytes`, so that they keep the bytes their sender wrote. A sender may
legally write one sub-message in pieces: they are merged, and merging is the same as joining their bytes. The
twin would keep the last piece only; these functions join them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

Buffer = bytes | memoryview

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_GROUP: Final = 3
_GROUP_END: Final = 4
_FIXED32: Final = 5
_GROUP_DEPTH: Final = 100  # as in protobuf's own parsers


class WireError(ValueError):
    """The bytes are no protobuf message."""


def pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Field number and content of each length-delimited field of a message, in order; skips the other fields.

    :raises WireError: the bytes are no message.
    """
    for number, content in views(data):
        yield number, bytes(content)


def views(data: Buffer) -> Iterator[tuple[int, memoryview]]:
    """The same without copies."""
    data = memoryview(data)
    position = 0
    groups: list[int] = []
    while position < len(data):
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError("field number 0")
        if kind == _BYTES:
            size, position = _varint(data, position)
            if size > len(data) - position:
                raise WireError("a field is longer than its message")
            if not groups:
                yield number, data[position : position + size]
            position += size
        elif kind == _GROUP:
            groups.append(number)
            if len(groups) > _GROUP_DEPTH:
                raise WireError("groups are too deep")
        elif kind == _GROUP_END:
            if not groups or groups.pop() != number:
                raise WireError("a group ends that did not begin")
        else:
            position = _skip(data, position, kind)
    if groups:
        raise WireError("a group does not end")


def trailing(data: Buffer, field: int) -> tuple[Buffer, Buffer] | None:
    """A message whose last field is a length-delimited one: what is before it, and its content, not copied.

    None when the field is not the last, or not there.

    :raises WireError: the bytes are no message.
    """
    position = 0
    while position < len(data):
        begin = position
        tag, position = _varint(data, position)
        if tag & 7 == _BYTES:
            size, position = _varint(data, position)
            if size > len(data) - position:
                raise WireError("a field is longer than its message")
            if tag >> 3 == field and position + size == len(data):
                return data[:begin], data[position:]
            position += size
        elif tag & 7 in (_GROUP, _GROUP_END):
            return None
        else:
            position = _skip(data, position, tag & 7)
    return None


def chosen(data: bytes, messages: Collection[int], plain: Collection[int]) -> tuple[int, bytes] | None:
    """The member of a oneof that a message holds, as field number and bytes.

    :param messages: field numbers of the oneof that are sub-messages: their pieces are joined.
    :param plain: field numbers of the oneof that are `bytes`: the last one counts.
    :raises WireError: the bytes are no message.
    """
    number, content = 0, [b""]
    for found, piece in pieces(data):
        if found in messages and found == number:
            content.append(piece)
        elif found in messages or found in plain:
            number, content = found, [piece]
    return (number, b"".join(content)) if number else None


def _varint(data: Buffer, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    raise WireError("a number does not end")


def _skip(data: Buffer, position: int, kind: int) -> int:
    if kind == _VARINT:
        return _varint(data, position)[1]
    if kind not in (_FIXED32, _FIXED64):
        raise WireError(f"wire type {kind}")
    position += 4 if kind == _FIXED32 else 8
    if position > len(data):
        raise WireError("a number does not end")
    return position
