"""Small blocks, mostly rows of tables: many calls with the same columns become columns in one go."""

import struct
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runstream.sender.elements import DECLARATION, TABLE_DECLARATION, Call, Elements, is_whole
from runstream.spool import layout

_FORMS = {
    layout.LAYOUT_DOUBLE: (layout.DOUBLE, "<f8", 8),
    layout.LAYOUT_INT64: (layout.INT64, "<i8", 8),
    layout.LAYOUT_BOOL: (layout.BOOL, "u1", 1),
}
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_ALIKE = 4  # fewer blocks of one shape are taken one by one


class SmallBlocks(NamedTuple):
    """Elements of many blocks, and those that are no blocks."""

    elements: list[Elements]
    damaged: list[tuple[Call, str]]


class _Shape(NamedTuple):
    """Where the headers are in a block, and its columns: (series, layout, count, offset of the data)."""

    header: npt.NDArray[np.int64]
    columns: list[tuple[int, int, int, int]]
    first_idx: int


def of_small_blocks(blocks: list[tuple[Call, bytes | memoryview]]) -> SmallBlocks:
    """Elements of all blocks, by shape."""
    result = SmallBlocks([], [])
    by_length: dict[int, list[tuple[Call, bytes | memoryview]]] = defaultdict(list)
    for block in blocks:
        by_length[len(block[1])].append(block)
    for alike in by_length.values():
        _of_same_length(alike, result)
    return result


def _of_same_length(blocks: list[tuple[Call, bytes | memoryview]], result: SmallBlocks) -> None:
    while len(blocks) >= _ALIKE and (shape := _shape(blocks[0][1])) is not None:
        length = len(blocks[0][1])
        data = np.frombuffer(b"".join(payload for _, payload in blocks), np.uint8).reshape(-1, length)
        same = (data[:, shape.header] == data[0, shape.header]).all(axis=1)
        if int(same.sum()) < _ALIKE:
            break
        calls = [call for (call, _), is_same in zip(blocks, same.tolist(), strict=True) if is_same]
        result.elements.extend(_of_shape(shape, calls, data[same]))
        blocks = [block for block, is_same in zip(blocks, same.tolist(), strict=True) if not is_same]
    if blocks:
        cells = _Cells()
        for call, payload in blocks:
            try:
                cells.add(call, payload)
            except (ValueError, IndexError, struct.error) as error:
                result.damaged.append((call, f"the block of call {call.seq} is damaged: {error}"))
        if cells.kind:
            result.elements.append(cells.elements())


class _Cells:
    """Elements of blocks of any shape. Cell by cell: these blocks are too small for arrays to pay."""

    def __init__(self) -> None:
        self.kind: list[int] = []
        self._calls: list[Call] = []
        self._call: list[int] = []  # place in `_calls`
        self._series: list[int] = []
        self._idx: list[int] = []
        self._words: list[bytes] = []
        self._strings: list[str] = []

    def add(self, call: Call, payload: bytes | memoryview) -> None:
        """Take over a block, as a whole or not at all. Raises ValueError, IndexError or struct.error."""
        columns, first_idx = layout.BLOCK_HEADER.unpack_from(payload)
        at = layout.BLOCK_HEADER.size
        strings = len(self._strings)
        kinds: list[int] = []
        words: list[bytes] = []
        series: list[int] = []
        idx: list[int] = []
        try:
            for _ in range(columns):
                index, form, count, size = layout.COLUMN_HEADER.unpack_from(payload, at)
                at += layout.COLUMN_HEADER.size
                data = bytes(payload[at : at + size])
                if len(data) != size:
                    raise ValueError("it ends in the middle of a column")
                at += size + -size % 8
                kind, word = self._column(form, count, data)
                kinds += kind
                words.append(word)
                series += [index] * len(kind)
                idx += range(first_idx, first_idx + count) if count else (0,)
        except BaseException:
            del self._strings[strings:]
            raise
        self._call += [len(self._calls)] * len(kinds)
        self._calls.append(call)
        self.kind += kinds
        self._words += words
        self._series += series
        self._idx += idx

    def _column(self, form: int, count: int, data: bytes) -> tuple[list[int], bytes]:
        """Types of a column's elements, and 8 bytes for each."""
        if form == layout.LAYOUT_MIXED:
            return self._mixed(count, data)
        if form in (layout.LAYOUT_DECLARATION, layout.LAYOUT_TABLE_DECLARATION):
            return [DECLARATION if form == layout.LAYOUT_DECLARATION else TABLE_DECLARATION], bytes(8)
        kind, _, size = _FORMS.get(form, (0, "", 0))
        if not kind or len(data) != size * count:
            raise ValueError(f"a column of layout {form} with {count} elements in {len(data)} bytes")
        return [kind] * count, data if size == 8 else b"".join(
            bytes((byte, 0, 0, 0, 0, 0, 0, 0)) for byte in data
        )

    def _mixed(self, count: int, data: bytes) -> tuple[list[int], bytes]:
        kinds = list(data[:count])
        at = count + -count % 8
        words = bytearray(data[at : at + 8 * count])
        at += 8 * count
        (texts,) = _U32.unpack_from(data, at)
        ends = struct.unpack_from(f"<{texts}I", data, at + 4)
        text = data[at + 4 + 4 * texts :]
        for i, kind in enumerate(kinds):
            if kind in (layout.STRING, layout.BIG_INTEGER):
                (number,) = _I64.unpack_from(words, 8 * i)
                _I64.pack_into(words, 8 * i, len(self._strings))
                begin = ends[number - 1] if number else 0
                self._strings.append(text[begin : ends[number]].decode("utf-8", "replace"))
        return kinds, bytes(words)

    def elements(self) -> Elements:
        """All of them."""
        of_calls = np.array([tuple(call) for call in self._calls], np.int64)
        seq, run, step, time_ns, logged = of_calls[self._call].T
        kind = np.array(self.kind, np.uint8)
        words = np.frombuffer(b"".join(self._words), "<i8")
        return Elements(
            seq=seq,
            run=run.astype(np.uint32),
            series=np.array(self._series, np.uint32),
            time_ns=time_ns,
            logged_time_ns=logged,
            step=step,
            type=kind,
            idx=np.array(self._idx, np.uint32),
            doubles=words[kind == layout.DOUBLE].view(np.float64),
            integers=words[is_whole(kind)],
            strings=self._strings,
        )


def _shape(payload: bytes | memoryview) -> _Shape | None:
    """The shape of a block of numbers; None for others."""
    if len(payload) < layout.BLOCK_HEADER.size:
        return None
    count_of_columns, first_idx = layout.BLOCK_HEADER.unpack_from(payload)
    at = layout.BLOCK_HEADER.size
    header = list(range(at))
    columns = []
    for _ in range(count_of_columns):
        if at + layout.COLUMN_HEADER.size > len(payload):
            return None
        series, form, count, size = layout.COLUMN_HEADER.unpack_from(payload, at)
        header += range(at, at + layout.COLUMN_HEADER.size)
        at += layout.COLUMN_HEADER.size
        if form not in _FORMS or size != count * _FORMS[form][2] or at + size > len(payload):
            return None
        columns.append((series, form, count, at))
        at += size + -size % 8
    return _Shape(np.array(header, np.int64), columns, first_idx)


def _of_shape(shape: _Shape, calls: list[Call], data: npt.NDArray[np.uint8]) -> list[Elements]:
    seq, run, step, time_ns, logged = np.array([tuple(call) for call in calls], np.int64).T
    result = []
    for series, form, count, at in shape.columns:
        kind, number, size = _FORMS[form]
        values = np.ascontiguousarray(data[:, at : at + size * count]).view(number).ravel()
        many = len(values)
        elements = Elements(
            seq=np.repeat(seq, count),
            run=np.repeat(run, count).astype(np.uint32),
            series=np.broadcast_to(np.uint32(series), many),
            time_ns=np.repeat(time_ns, count),
            logged_time_ns=np.repeat(logged, count),
            step=np.repeat(step, count),
            idx=np.tile(np.arange(shape.first_idx, shape.first_idx + count, dtype=np.uint32), len(calls)),
        )
        if form == layout.LAYOUT_DOUBLE:
            elements.doubles = values
        else:
            elements.type = np.broadcast_to(np.uint8(kind), many)
            elements.integers = values.astype(np.int64, copy=False)
        result.append(elements)
    return result
