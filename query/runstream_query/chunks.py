"""Elements as messages.

The messages are the private twins, whose columns are bytes: they are the same on the wire as the public ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runstream.internal.v1 import twin_pb2
from runstream.v1 import point_pb2
from runstream_query.elements import Elements, whole
from runstream_query.plan import Unit
from runstream_query.settings import QuerySettings
from runstream_store.tables.schema import NO_STEP

_DOUBLE: Final = point_pb2.VALUE_TYPE_DOUBLE
_INT64: Final = point_pb2.VALUE_TYPE_INT64
_BOOL: Final = point_pb2.VALUE_TYPE_BOOL
_STRING: Final = point_pb2.VALUE_TYPE_STRING
_BIG_INTEGER: Final = point_pb2.VALUE_TYPE_BIG_INTEGER

_EXACT: Final = 2.0**53


def declarations(workspace: str, unit: Unit) -> Iterator[twin_pb2.MetricChunk]:
    """Chunks that tell what was declared and has no element: one element each, of type (TABLE_)DECLARATION,
    in no row."""
    for column, kind in unit.declarations:
        yield twin_pb2.MetricChunk(
            run=point_pb2.RunRef(workspace=workspace, run=unit.run),
            metric=unit.metric,
            column=column,
            count=1,
            type=np.uint32(kind).tobytes(),
        )


def chunks(
    workspace: str, elements: Elements, rows: NDArray[np.int64], settings: QuerySettings, *, identity: bool
) -> Iterator[twin_pb2.MetricChunk]:
    """The chunks of elements, metric by metric and in it column by column.

    :param rows: row number of each element in its metric.
    """
    count = len(elements)
    if not count:
        return
    unit = elements.unit
    bounds = np.concatenate(([0], np.flatnonzero(unit[1:] != unit[:-1]) + 1, [count]))
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        of_unit = elements.units[unit[low]]
        run = point_pb2.RunRef(workspace=workspace, run=of_unit.run)
        for column, part in _columns(elements, low, high):
            for piece in _pieces(elements, part, settings):
                chunk = twin_pb2.MetricChunk(run=run, metric=of_unit.metric, column=column)
                _fill(chunk, elements, rows, piece)
                if identity:
                    _identify(chunk, elements, piece)
                yield chunk


Part = slice | NDArray[np.int64]
"""Some elements: a range, which costs nothing to take, or their places."""


def _columns(elements: Elements, low: int, high: int) -> Iterator[tuple[str, Part]]:
    """The elements of each column, by the column's name."""
    codes = elements.column[low:high]
    if (codes == codes[0]).all():
        yield elements.columns[codes[0]], slice(low, high)
        return
    order = np.argsort(codes, kind="stable")
    found, first = np.unique(codes[order], return_index=True)
    parts = np.split(order + low, first[1:])
    for code, part in sorted(
        zip(found.tolist(), parts, strict=True), key=lambda pair: elements.columns[pair[0]]
    ):
        yield elements.columns[code], part


def _pieces(elements: Elements, part: Part, settings: QuerySettings) -> Iterator[Part]:
    """Cuts what is too much for one message."""
    count = part.stop - part.start if isinstance(part, slice) else len(part)
    cuts = list(range(0, count, settings.chunk_elements))
    if elements.text is not None:
        import pyarrow.compute as pc

        # Where the running number of bytes passes a multiple of the limit.
        sizes = np.asarray(pc.binary_length(_take(elements.text, part)), np.int64)
        blocks = np.cumsum(sizes) // settings.chunk_text_bytes
        cuts = sorted({*cuts, *(np.flatnonzero(np.diff(blocks)) + 1).tolist()})
    for low, high in zip(cuts, [*cuts[1:], count], strict=True):
        if isinstance(part, slice):
            yield slice(part.start + low, part.start + high)
        else:
            yield part[low:high]


def _take(column: Any, part: Part) -> Any:
    """Elements of an Arrow array."""
    return column[part] if isinstance(part, slice) else column.take(part)


def _fill(chunk: twin_pb2.MetricChunk, elements: Elements, rows: NDArray[np.int64], part: Part) -> None:
    row = rows[part]
    count = len(row)
    chunk.count = count
    first = int(row[0])
    chunk.first_row = first
    if int(row[-1]) - first != count - 1:  # rows only grow: otherwise each follows the one before
        chunk.row_offset = (row - first).astype(np.uint32).tobytes()
    assert elements.step is not None
    step = elements.step[part]
    if (step != NO_STEP).any():
        chunk.step = step.tobytes()
    chunk.logged_time_ns = elements.logged_time[part].tobytes()
    value = elements.value[part]
    kind = None if elements.type is None else elements.type[part]
    if kind is None or (kind == _DOUBLE).all():
        chunk.doubles = value.tobytes()
        return
    chunk.type = kind.astype(np.uint32).tobytes()
    chunk.doubles = value[kind == _DOUBLE].tobytes()
    text = None if elements.text is None else _take(elements.text, part)
    integers, strings = _integers(kind, value, text)
    chunk.integers = integers.tobytes()
    chunk.strings.extend(strings)


def _integers(
    kind: NDArray[np.uint8], value: NDArray[np.float64], text: Any
) -> tuple[NDArray[np.int64], list[str]]:
    """What goes into `integers`: numbers, and indexes into the texts that are given beside them."""
    numeric = (kind == _INT64) | (kind == _BOOL)
    textual = (kind == _STRING) | (kind == _BIG_INTEGER)
    result = np.zeros(len(kind), np.int64)
    # Not all at once: what a double does not hold may be out of range.
    small = numeric & (np.abs(value) < _EXACT)  # 2^53 + 1 rounds to 2^53
    result[small] = value[small].astype(np.int64)
    for at in np.flatnonzero(numeric & ~small).tolist():
        exact = "" if text is None else text[at].as_py()
        result[at] = int(exact) if exact else int(value[at])
    strings: list[str] = []
    if textual.any():
        coded = whole_dictionary(text.take(np.flatnonzero(textual)))
        result[textual] = coded.indices.to_numpy(zero_copy_only=False)
        strings = coded.dictionary.to_pylist()
    return result[numeric | textual], strings


def whole_dictionary(texts: Any) -> Any:
    """Texts as a dictionary of each once, and indexes."""
    return whole(texts.dictionary_encode()) if hasattr(texts, "chunks") else texts.dictionary_encode()


def _identify(chunk: twin_pb2.MetricChunk, elements: Elements, part: Part) -> None:
    assert elements.writer is not None
    assert elements.seq is not None
    assert elements.idx is not None
    assert elements.rank is not None
    writer = elements.writer[part]
    if (writer == writer[0]).all():
        chunk.writers.append(writer[0].tobytes())
    else:
        writers, index = np.unique(writer, axis=0, return_inverse=True)
        chunk.writers.extend(each.tobytes() for each in writers)
        chunk.writer_index = index.reshape(-1).astype(np.uint32).tobytes()
    chunk.seq = elements.seq[part].tobytes()
    idx = elements.idx[part]
    if idx.any():
        chunk.idx = idx.tobytes()
    rank = elements.rank[part]
    if (rank != -1).any():
        chunk.rank = rank.tobytes()
