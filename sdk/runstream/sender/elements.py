"""Elements as columns, on their way from slots and blocks to a batch. Nothing here loops over scalars."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runstream.spool import layout
from runstream.spool.layout import NO_STEP
from runstream.spool.reader import Taken

U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

# Values of ValueType, as in the slots; blocks add the declarations.
DECLARATION = 7
TABLE_DECLARATION = 8
_LAYOUT_TYPES = {
    layout.LAYOUT_DOUBLE: layout.DOUBLE,
    layout.LAYOUT_INT64: layout.INT64,
    layout.LAYOUT_BOOL: layout.BOOL,
}
_NO_INTEGERS = np.empty(0, np.int64)
_NO_DOUBLES = np.empty(0, np.float64)


@dataclass(slots=True)
class Elements:
    """Columns of equal length, but `doubles` and `integers`: they hold the values of their types."""

    seq: I64
    run: U32  # indexes of the writer's definitions
    series: U32
    time_ns: I64
    logged_time_ns: I64
    step: I64
    type: npt.NDArray[np.uint8] | None = None  # None: DOUBLE
    idx: U32 | None = None  # None: 0
    doubles: F64 = field(default_factory=lambda: _NO_DOUBLES)
    integers: I64 = field(default_factory=lambda: _NO_INTEGERS)
    strings: list[str] = field(default_factory=list)  # that integers of the text types point at

    def __len__(self) -> int:
        return len(self.seq)


def of_scalars(taken: Taken) -> Elements | None:
    """The scalars among the slots; None when there are none."""
    slots, time_ns = taken.slots, taken.time_ns
    seq = (
        np.arange(taken.first, taken.first + len(slots), dtype=np.int64)
        if taken.offsets is None
        else taken.offsets + np.int64(taken.first)
    )
    kind = np.ascontiguousarray(slots["kind"])
    low, high = int(kind.min()), int(kind.max())
    if high > layout.NONE:
        wanted = kind <= layout.NONE
        if not wanted.any():
            return None
        slots, time_ns, seq, kind = slots[wanted], time_ns[wanted], seq[wanted], kind[wanted]
        low, high = int(kind.min()), int(kind.max())
    elements = Elements(
        seq=seq,
        run=slots["run"] & np.uint32(layout.WRITER_ITSELF),
        series=np.ascontiguousarray(slots["series"]),
        time_ns=time_ns,
        logged_time_ns=np.ascontiguousarray(slots["time"]),
        step=np.ascontiguousarray(slots["step"]),
    )
    if low == high == layout.DOUBLE:
        elements.doubles = np.ascontiguousarray(slots["double"])
        return elements
    elements.type = kind
    elements.doubles = slots["double"][kind == layout.DOUBLE]
    elements.integers = slots["value"][(kind == layout.INT64) | (kind == layout.BOOL)]
    return elements


def of_texts(rows: list[tuple[int, int]], texts: list[str], taken: Taken) -> Elements:
    """Texts and big integers: (position among the slots, type) of each, and what it says."""
    at = np.array([row for row, _ in rows], np.int64)
    slots = taken.slots[at]
    return Elements(
        seq=(at if taken.offsets is None else taken.offsets[at].astype(np.int64)) + taken.first,
        run=slots["run"] & np.uint32(layout.WRITER_ITSELF),
        series=np.ascontiguousarray(slots["series"]),
        time_ns=taken.time_ns[at],
        logged_time_ns=np.ascontiguousarray(slots["time"]),
        step=np.ascontiguousarray(slots["step"]),
        type=np.array([kind for _, kind in rows], np.uint8),
        integers=np.arange(len(texts), dtype=np.int64),
        strings=texts,
    )


class Call(NamedTuple):
    """What the elements of one block have in common."""

    seq: int
    run: int
    step: int
    time_ns: int
    logged_time_ns: int

    def elements(self, count: int, series: int, first_idx: int) -> Elements:
        """Columns without values. What is the same for all takes no memory."""
        return Elements(
            seq=np.broadcast_to(np.int64(self.seq), count),
            run=np.broadcast_to(np.uint32(self.run), count),
            series=np.broadcast_to(np.uint32(series), count),
            time_ns=np.broadcast_to(np.int64(self.time_ns), count),
            logged_time_ns=np.broadcast_to(np.int64(self.logged_time_ns), count),
            step=np.broadcast_to(np.int64(self.step), count),
            idx=np.arange(first_idx, first_idx + count, dtype=np.uint32),
        )


def of_block(payload: bytes | memoryview, call: Call, most: int, most_text: int) -> Iterator[Elements]:
    """Elements of a BLOCK, column by column, in pieces.

    A piece has at most `most` elements and about `most_text` bytes of text. Raises ValueError when the
    payload is no block.
    """
    if len(payload) < layout.BLOCK_HEADER.size:
        raise ValueError("a block without a header")
    columns, first_idx = layout.BLOCK_HEADER.unpack_from(payload)
    at = layout.BLOCK_HEADER.size
    for _ in range(columns):
        if at + layout.COLUMN_HEADER.size > len(payload):
            raise ValueError("a block with fewer columns than it says")
        series, form, count, size = layout.COLUMN_HEADER.unpack_from(payload, at)
        at += layout.COLUMN_HEADER.size
        data = memoryview(payload)[at : at + size]
        if len(data) != size:
            raise ValueError("a block that ends in the middle of a column")
        yield from _of_column(call, series, form, count, first_idx, data, most, most_text)
        at += size + -size % 8


def _of_column(
    call: Call,
    series: int,
    form: int,
    count: int,
    first_idx: int,
    data: memoryview,
    most: int,
    most_text: int,
) -> Iterator[Elements]:
    if form in (layout.LAYOUT_DECLARATION, layout.LAYOUT_TABLE_DECLARATION):
        elements = call.elements(1, series, 0)
        elements.type = np.array(
            [DECLARATION if form == layout.LAYOUT_DECLARATION else TABLE_DECLARATION], np.uint8
        )
        yield elements
    elif form == layout.LAYOUT_MIXED:
        yield from _of_mixed(call, series, count, first_idx, data, most, most_text)
    elif form in _LAYOUT_TYPES:
        values = np.frombuffer(data, {1: "<f8", 2: "<i8", 3: "u1"}[form], count)
        for start in range(0, count, most):
            piece = values[start : start + most]
            elements = call.elements(len(piece), series, first_idx + start)
            if form == layout.LAYOUT_DOUBLE:
                elements.doubles = piece
            else:
                elements.type = np.broadcast_to(np.uint8(_LAYOUT_TYPES[form]), len(piece))
                elements.integers = piece.astype(np.int64, copy=False)
            yield elements
    else:
        raise ValueError(f"a column of layout {form}")


def _of_mixed(
    call: Call, series: int, count: int, first_idx: int, data: memoryview, most: int, most_text: int
) -> Iterator[Elements]:
    types = np.frombuffer(data, np.uint8, count)
    at = count + -count % 8
    values = np.frombuffer(data, "<i8", count, at)
    at += 8 * count
    texts = int.from_bytes(data[at : at + 4], "little")
    ends = np.frombuffer(data, "<u4", texts, at + 4).astype(np.int64)
    text = data[at + 4 + 4 * texts :]
    is_text = (types == layout.STRING) | (types == layout.BIG_INTEGER)
    # Bytes of text before each element decide where to cut.
    sizes = np.zeros(count, np.int64)
    if texts:
        sizes[is_text] = np.diff(ends, prepend=0)[values[is_text]]
    before = np.cumsum(sizes)
    start = 0
    while start < count:
        base = int(before[start - 1]) if start else 0
        stop = min(start + most, max(start + 1, int(np.searchsorted(before, base + most_text, "right"))))
        stop = min(stop, count)
        kind, value = types[start:stop], values[start:stop]
        elements = call.elements(stop - start, series, first_idx + start)
        elements.type = kind
        elements.doubles = value[kind == layout.DOUBLE].view(np.float64)
        whole = is_text[start:stop] | (kind == layout.INT64) | (kind == layout.BOOL)
        integers = value[whole]
        texts_here = is_text[start:stop][whole]
        wanted = integers[texts_here]
        elements.strings = [
            str(text[int(ends[i - 1]) if i else 0 : int(ends[i])], "utf-8", "replace")
            for i in wanted.tolist()
        ]
        integers[texts_here] = np.arange(len(wanted))
        elements.integers = integers
        yield elements
        start = stop


def keep(elements: Elements, wanted: npt.NDArray[np.bool_]) -> Elements:
    """Some of the elements, with their values."""
    kind = np.full(len(elements), layout.DOUBLE, np.uint8) if elements.type is None else elements.type
    whole = is_whole(kind)
    integers = elements.integers[wanted[whole]]
    texts = is_text(kind)[whole & wanted]
    strings = [elements.strings[i] for i in integers[texts].tolist()]
    integers[texts] = np.arange(len(strings))
    return Elements(
        seq=elements.seq[wanted],
        run=elements.run[wanted],
        series=elements.series[wanted],
        time_ns=elements.time_ns[wanted],
        logged_time_ns=elements.logged_time_ns[wanted],
        step=elements.step[wanted],
        type=kind[wanted],
        idx=None if elements.idx is None else elements.idx[wanted],
        doubles=elements.doubles[wanted[kind == layout.DOUBLE]],
        integers=integers,
        strings=strings,
    )


def is_text(kind: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which types stand in the table of strings."""
    return np.isin(kind, (layout.STRING, layout.BIG_INTEGER))


def is_whole(kind: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which types have an entry in `integers`."""
    return np.isin(kind, (layout.INT64, layout.BOOL, layout.STRING, layout.BIG_INTEGER))


def join(groups: list[Elements]) -> Elements:
    """All elements of several groups."""
    if len(groups) == 1:
        return groups[0]
    integers: list[I64] = []
    strings: list[str] = []
    for group in groups:
        if group.strings and strings and group.type is not None:
            moved = group.integers.copy()
            moved[is_text(group.type)[is_whole(group.type)]] += len(strings)
            integers.append(moved)
        else:
            integers.append(group.integers)
        strings += group.strings
    return Elements(
        seq=np.concatenate([group.seq for group in groups]),
        run=np.concatenate([group.run for group in groups]),
        series=np.concatenate([group.series for group in groups]),
        time_ns=np.concatenate([group.time_ns for group in groups]),
        logged_time_ns=np.concatenate([group.logged_time_ns for group in groups]),
        step=np.concatenate([group.step for group in groups]),
        type=None
        if all(group.type is None for group in groups)
        else np.concatenate(
            [np.full(len(g), layout.DOUBLE, np.uint8) if g.type is None else g.type for g in groups]
        ),
        idx=None
        if all(group.idx is None for group in groups)
        else np.concatenate([np.zeros(len(g), np.uint32) if g.idx is None else g.idx for g in groups]),
        doubles=np.concatenate([group.doubles for group in groups]),
        integers=np.concatenate(integers),
        strings=strings,
    )


def has_no_step(step: I64) -> bool:
    """Whether no element has a step."""
    return bool((step == NO_STEP).all())
