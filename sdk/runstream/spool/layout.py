"""The bytes of a spool folder, version 1, as docs/formats.md has them. Writers and readers share this."""

import json
import zlib
from collections.abc import Mapping
from struct import Struct

FORMAT = 1

# Files of a writer's folder.
LOCK = "lock"
HEADER = "writer.json"
CREDENTIAL = "credential"
NAMES = "names.records"
STATE = "state.json"

# Engines.
MMAP = "mmap"
APPEND = "append"

# ---------------------------------------------------------------------------------------- slots

SLOT_BYTES = 32
MOST_TEXT_BYTES = 2 << 20  # of one text, in UTF-8
NO_STEP = -(2**63)
WRITER_ITSELF = 0xFFFFFF  # run index of what concerns the writer
MAX_RUNS = WRITER_ITSELF
MAX_SERIES = 2**32

DOUBLE = 1
INT64 = 2
BOOL = 3
NONE = 4
STRING = 5  # as an element's type; a STRING scalar is a record
BIG_INTEGER = 6
RECORD = 64
ABANDONED = 65

SLOT = Struct("<qqQq")  # value, step, key, time; a double's value has the bits of an f64
SLOT_DOUBLE = Struct("<dqQq")

_FIRST_SLOTS = 2048
_DOUBLINGS = 7  # from 64 KiB to 8 MiB
_LARGE_SLOTS = _FIRST_SLOTS << _DOUBLINGS
_LARGE_START = _FIRST_SLOTS * ((1 << _DOUBLINGS) - 1)


def segment_start(number: int) -> int:
    """First sequence number of a segment."""
    if number < _DOUBLINGS:
        return _FIRST_SLOTS * ((1 << number) - 1)
    return _LARGE_START + _LARGE_SLOTS * (number - _DOUBLINGS)


def segment_slots(number: int) -> int:
    """How many sequence numbers a segment has."""
    return _FIRST_SLOTS << min(number, _DOUBLINGS)


def segment_of(seq: int) -> int:
    """The segment that holds a sequence number."""
    if seq < _LARGE_START:
        return (seq // _FIRST_SLOTS + 1).bit_length() - 1
    return _DOUBLINGS + (seq - _LARGE_START) // _LARGE_SLOTS


def slots_name(number: int) -> str:
    """File of a segment's slots."""
    return f"{number:08d}.slots"


def records_name(number: int) -> str:
    """File of a segment's records. Absent while it has none."""
    return f"{number:08d}.records"


def make_key(kind: int, run: int, series: int) -> int:
    """Third word of a slot."""
    return kind << 56 | run << 32 | series


CONSOLE_ENDING = ".console"
CONSOLE_BYTES = 4 << 20  # a file of logs is left for the next when it has reached this
CONSOLE_SPAN = 1 << 32  # offsets from one such file to the next


def console_name(number: int) -> str:
    """File of a writer's logs."""
    return f"{number:08d}{CONSOLE_ENDING}"


# -------------------------------------------------------------------------------------- records

MAGIC = 0x31435352
RECORD_HEADER = Struct("<IIIHHQ")  # magic, CRC, payload's length, kind, flags, seq
RECORD_HEADER_BYTES = RECORD_HEADER.size
_CHECKED = Struct("<IHHQ")  # the header behind the CRC
HAS_SLOT = 1  # flag
MAX_PAYLOAD = 1 << 30

TEXT_RECORD = 1
BIG_INTEGER_RECORD = 2
BLOCK_RECORD = 3
SLOT_RECORD = 4
RUN_STARTED = 16
RUN_ENDED = 17
ATTRIBUTE_SET = 18
WRITER_EXIT = 19
GAP = 20
MODEL_REGISTERED = 24
RUN = 32
SERIES = 33

# In files of logs.
LOG_PIECE = 40
LOG_FOLDER = 41
LOG_PIECE_HEADER = Struct("<qH")  # time, length of the path
MOST_PIECE_BYTES = 1 << 16

# Layouts of a block's columns.
LAYOUT_DOUBLE = 1
LAYOUT_INT64 = 2
LAYOUT_BOOL = 3
LAYOUT_MIXED = 4
LAYOUT_DECLARATION = 5
LAYOUT_TABLE_DECLARATION = 6
BLOCK_HEADER = Struct("<II")  # columns, first idx
COLUMN_HEADER = Struct("<IIII")  # series, layout, count, size

Bytes = bytes | bytearray | memoryview  # a view of bytes, so that len() counts them


def record_crc(writer: bytes, length: int, kind: int, flags: int, seq: int, pieces: list[Bytes]) -> int:
    """CRC of a record. It covers the writer, so that another writer's record never counts."""
    crc = zlib.crc32(_CHECKED.pack(length, kind, flags, seq), zlib.crc32(writer))
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


def record(writer: bytes, kind: int, seq: int, pieces: list[Bytes], flags: int = 0) -> list[Bytes]:
    """A whole record, in pieces for one `writev`: large payloads are not copied."""
    length = sum(map(len, pieces))
    crc = record_crc(writer, length, kind, flags, seq, pieces)
    return [RECORD_HEADER.pack(MAGIC, crc, length, kind, flags, seq), *pieces, b"\0" * (-length % 8)]


# ----------------------------------------------------------------------------------------- text


def clean(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which UTF-8 doesn't have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


def utf8(text: str) -> bytes:
    """The text's bytes, with U+FFFD for lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return clean(text).encode()


def json_bytes(content: Mapping[str, object]) -> bytes:
    """Payload of an event or a definition."""
    return utf8(json.dumps(content, ensure_ascii=False, separators=(",", ":")))
