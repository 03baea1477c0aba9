"""The same protobuf messages, written as no library of ours would, but as the format allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)

PACKED = {7: 4, 8: 4, 9: 4, 10: 4, 11: 8, 12: 4, 13: 8, 14: 8, 16: 8, 17: 8}
"""Columns of PointBatch: field number and bytes of an element."""


def varint(value: int, *, longer: int = 0) -> bytes:
    """A number; `longer` adds so many bytes that say nothing."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    if longer:
        out.append(value | 0x80)
        out.extend(b"\x80" * (longer - 1) + b"\0")
    else:
        out.append(value)
    return bytes(out)


def tag(number: int, kind: int) -> bytes:
    return varint(number << 3 | kind)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return tag(number, BYTES) + varint(len(content)) + content


def split(data: bytes) -> list[tuple[int, int, bytes]]:
    """Fields of a message that has no groups: number, wire type, content."""
    fields, at = [], 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            at += 1
            if data[at - 1] < 0x80:
                return value
            shift += 7

    while at < len(data):
        key = number()
        kind = key & 7
        if kind == VARINT:
            content = varint(number())
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(kind) or number()
            content = data[at : at + size]
            at += size
        fields.append((key >> 3, kind, content))
    return fields


def join(number: int, kind: int, content: bytes) -> bytes:
    """A field as bytes."""
    return field(number, content) if kind == BYTES else tag(number, kind) + content


def unusual(
    data: bytes,
    random: Random,
    packed: Mapping[int, int] = PACKED,
    nested: Mapping[int, Callable[[bytes, Random], bytes]] | None = None,
) -> bytes:
    """A message, written differently: columns in pieces or unpacked, unknown fields, another order.

    :param packed: fields that are packed columns, with the size of an element.
    :param nested: how sub-messages in these fields are written.
    """
    pieces: dict[int, list[bytes]] = {}
    for number, kind, content in split(data):
        out = pieces.setdefault(number, [])
        if kind == BYTES and number in packed:
            out.extend(_column(number, content, packed[number], random))
        elif kind == BYTES and nested and number in nested:
            out.append(field(number, nested[number](content, random)))
        elif kind == VARINT and random.random() < 0.5:
            out.append(tag(number, VARINT) + content)  # the last one counts
            out.append(tag(number, VARINT) + content)
        else:
            out.append(join(number, kind, content))
    for number in range(900, 900 + random.randrange(3)):
        pieces[number] = [random.choice(_UNKNOWN)(number)]
    written = bytearray()
    while pieces:  # fields may come in any order and mixed; the pieces of one stay in theirs
        number = random.choice(sorted(pieces))
        written += pieces[number].pop(0)
        if not pieces[number]:
            del pieces[number]
    return bytes(written)


def _column(number: int, content: bytes, size: int, random: Random) -> list[bytes]:
    elements = [content[at : at + size] for at in range(0, len(content), size)]
    pieces, at = [], 0
    while at < len(elements):
        many = random.randint(1, len(elements) - at)
        some = elements[at : at + many]
        if random.random() < 0.5:
            pieces.append(field(number, b"".join(some)))
        else:
            pieces.extend(tag(number, FIXED64 if size == 8 else FIXED32) + element for element in some)
        at += many
    if random.random() < 0.2:
        pieces.append(field(number, b""))
    return pieces


_UNKNOWN: list[Callable[[int], bytes]] = [
    lambda number: tag(number, VARINT) + varint(300, longer=2),
    lambda number: tag(number, FIXED32) + b"abcd",
    lambda number: tag(number, FIXED64) + b"abcdefgh",
    lambda number: field(number, b"\xff" * 9),
    lambda number: tag(number, GROUP) + field(1, b"inside") + tag(number, GROUP_END),
]
