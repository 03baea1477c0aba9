"""Builds PointBatches: the columns of elements as bytes, with dictionaries of the runs and series in them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runstream.digest import U64, mix
from runstream.internal.v1 import twin_pb2
from runstream.sender.definitions import Definitions
from runstream.sender.elements import DECLARATION, U32, Elements, has_no_step, keep
from runstream.sender.tally import Tallies, Tally
from runstream.spool import layout
from runstream.v1 import point_pb2


@dataclass(frozen=True, slots=True)
class Batch:
    """A serialized PointBatch, and what the sender must know of it."""

    data: bytes
    logged: Tallies  # by run index


def build(elements: Elements, definitions: Definitions) -> Batch:
    """Serialize elements. Every run and series in them is defined."""
    run_indexes, run_column = _compact(elements.run)
    series_indexes, series_column = _compact(elements.series)
    seq = elements.seq
    first, last, count = int(seq[0]), int(seq[-1]), len(seq)
    if last - first != count - 1 or elements.idx is not None or not _is_range(seq):
        first = int(seq.min())
        offsets = (seq - first).astype(np.uint32).tobytes()
    else:
        offsets = b""
    message = twin_pb2.PointBatch(
        writer=definitions.writer,
        first_seq=first,
        count=count,
        rank=definitions.rank,
        run_index=b"" if run_column is None else run_column.tobytes(),
        series_index=b"" if series_column is None else series_column.tobytes(),
        seq_offset=offsets,
        idx=b"" if elements.idx is None or not elements.idx.any() else elements.idx.tobytes(),
        step=b"" if has_no_step(elements.step) else elements.step.tobytes(),
        type=b"" if elements.type is None else elements.type.astype(np.uint32).tobytes(),
        doubles=elements.doubles.tobytes(),
        integers=elements.integers.tobytes(),
        strings=elements.strings,
        time_ns=elements.time_ns.tobytes(),
    )
    if not np.array_equal(elements.time_ns, elements.logged_time_ns):
        message.logged_time_ns = elements.logged_time_ns.tobytes()
    # Joined messages are one message: the dictionaries are serialized once for each writer.
    data = b"".join(
        (
            message.SerializeToString(),
            *definitions.dictionaries(run_indexes, series_indexes),
        )
    )
    return Batch(data, _tallies(elements, run_indexes, run_column, definitions.factors))


def _is_range(seq: npt.NDArray[np.int64]) -> bool:
    return bool((seq[1:] - seq[:-1] == 1).all())


def _tallies(elements: Elements, run_indexes: list[int], run_column: U32 | None, factors: U64) -> Tallies:
    parts = mix(elements.seq, elements.idx)
    parts *= factors[elements.series]
    counted = None if elements.type is None else elements.type < DECLARATION
    if run_column is None:
        count = len(elements) if counted is None else int(np.count_nonzero(counted))
        return {run_indexes[0]: Tally(count, int(parts.sum()))}
    counts = np.bincount(run_column if counted is None else run_column[counted], minlength=len(run_indexes))
    order = np.argsort(run_column, kind="stable")
    digests = np.add.reduceat(parts[order], np.searchsorted(run_column[order], np.arange(len(run_indexes))))
    return {
        index: Tally(count, digest)
        for index, count, digest in zip(run_indexes, counts.tolist(), digests.tolist(), strict=True)
    }


def _compact(indexes: U32) -> tuple[list[int], U32 | None]:
    """The different values, and for each element its value's place in them; None: all are one."""
    low, high = int(indexes.min()), int(indexes.max())
    if low == high:
        return [low], None
    if high > 4 * len(indexes) + 4096:
        values, places = np.unique(indexes, return_inverse=True)
        return values.tolist(), places.astype(np.uint32)
    there = np.zeros(high + 1, np.bool_)
    there[indexes] = True
    used = np.flatnonzero(there)
    if len(used) == high + 1:
        return used.tolist(), indexes
    place = np.cumsum(there, dtype=np.uint32) - np.uint32(1)
    return used.tolist(), place[indexes]


def without_undefined(elements: Elements, definitions: Definitions) -> tuple[Elements | None, dict[int, int]]:
    """The elements whose run and series are defined, and by run how many are not.

    Definitions are written before they are used: one that can't be read was damaged on the disk.
    """
    runs, series = _compact(elements.run)[0], _compact(elements.series)[0]
    bad_runs, bad_series = definitions.undefined(runs, series)
    if not bad_runs and not bad_series:
        return elements, {}
    wanted = ~(np.isin(elements.run, bad_runs) | np.isin(elements.series, bad_series))
    values, counts = np.unique(elements.run[~wanted], return_counts=True)
    lost = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return (keep(elements, wanted) if wanted.any() else None), lost


def limit_texts(elements: Elements, most: int) -> tuple[Elements | None, dict[int, int]]:
    """The elements whose texts have at most `most` bytes, and by run how many have more."""
    if not any(len(text) * 4 > most and len(text.encode()) > most for text in elements.strings):
        return elements, {}
    assert elements.type is not None
    long = np.array([len(text.encode()) > most for text in elements.strings])
    text = (elements.type == layout.STRING) | (elements.type == layout.BIG_INTEGER)
    whole = text | (elements.type == layout.INT64) | (elements.type == layout.BOOL)
    wanted = np.ones(len(elements), np.bool_)
    wanted[text] = ~long[elements.integers[text[whole]]]
    values, counts = np.unique(elements.run[~wanted], return_counts=True)
    refused = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return (keep(elements, wanted) if wanted.any() else None), refused


def halves(data: bytes, indexes: dict[str, int]) -> list[Batch]:
    """A refused batch as two of different runs and series; [] when it has one of each.

    `indexes` gives the writer's index of a run by its id.
    """
    message = twin_pb2.PointBatch.FromString(data)
    run = _column(message.run_index, "<u4", np.zeros(message.count, np.uint32))
    series = _column(message.series_index, "<u4", np.zeros(message.count, np.uint32))
    pair = run.astype(np.uint64) << np.uint64(32) | series
    pairs = np.unique(pair)
    if len(pairs) < 2:
        return []
    lower = pair < pairs[len(pairs) // 2]
    places = np.array([indexes[reference.run] for reference in message.runs], np.uint32)
    elements = _elements(message, places[run], series)
    definitions = Definitions(message.writer, message.rank if message.HasField("rank") else None)
    for index, reference in zip(places.tolist(), message.runs, strict=True):
        definitions.add_run_bytes(index, twin_pb2.PointBatch(runs=[reference]).SerializeToString())
    for index, one in enumerate(message.series):
        definitions.add_series(index, point_pb2.Series.FromString(one.SerializeToString()))
    return [build(keep(elements, wanted), definitions) for wanted in (lower, ~lower)]


def _elements(message: twin_pb2.PointBatch, run: U32, series: U32) -> Elements:
    count = message.count
    offsets = _column(message.seq_offset, "<u4", np.arange(count))
    time_ns = np.frombuffer(message.time_ns, "<i8")
    return Elements(
        seq=offsets.astype(np.int64) + message.first_seq,
        run=run,
        series=series,
        time_ns=time_ns,
        logged_time_ns=_column(message.logged_time_ns, "<i8", time_ns),
        step=_column(message.step, "<i8", np.full(count, layout.NO_STEP)),
        type=np.frombuffer(message.type, "<u4").astype(np.uint8) if message.type else None,
        idx=np.frombuffer(message.idx, "<u4") if message.idx else None,
        doubles=np.frombuffer(message.doubles, "<f8"),
        integers=np.frombuffer(message.integers, "<i8"),
        strings=list(message.strings),
    )


def _column(data: bytes, form: str, default: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.frombuffer(data, form) if data else default
