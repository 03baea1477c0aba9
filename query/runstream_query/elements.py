"""Elements as columns, in reading order.

`fetch` asks for the elements of some metrics with one query: ordered, without repeats, without what is
hidden. A piece of a large metric is cut out by a `Window` of its leading key (which the tables' sorting key
can skip to), and by the `Key` of the last element that was read before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runstream_query.attempts import Hidden
from runstream_query.plan import Unit
from runstream_query.selection import DECLARATION, Selection
from runstream_query.sql import Clause, ask, nanoseconds
from runstream_store.tables import Tables
from runstream_store.tables.schema import NO_STEP

_HEAVY_WEIGHT: Final = 100_000


class Key(NamedTuple):
    """Place of an element in the order of its metric."""

    step: int
    """NO_STEP when the order is not that of the steps."""
    time_ns: int
    writer: bytes
    seq: int
    idx: int
    column: str


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a metric: `low <= x < high`."""

    axis: str
    """What x is: `step` or `time`."""
    low: int | None
    high: int | None
    seqs: tuple[int, int] | None = None
    """Smallest and largest sequence number in it; only so that it is found faster."""

    def clause(self) -> Clause:
        """As a condition."""
        parts: list[str] = []
        params: dict[str, object] = {}
        for name, sign, value in ("window_low", ">=", self.low), ("window_high", "<", self.high):
            if value is not None:
                bound = nanoseconds(name) if self.axis == "time" else f"{{{name}:Int64}}"
                parts.append(f"p.{self.axis} {sign} {bound}")
                params[name] = value
        if self.seqs is not None:
            parts.append("p.seq BETWEEN {first_seq:UInt64} AND {last_seq:UInt64}")
            params["first_seq"], params["last_seq"] = self.seqs
        return Clause(" AND ".join(parts), params)


@dataclass(slots=True)
class Elements:
    """Elements of some metrics, in the order of metric and place. Columns that nobody asked for are None."""

    units: Sequence[Unit]
    unit: NDArray[np.int32]
    """Index into `units`."""
    columns: Sequence[str]
    """Names that `column` points at."""
    column: NDArray[np.int32]
    value: NDArray[np.float64]
    logged_time: NDArray[np.int64]
    type: NDArray[np.uint8] | None = None
    text: Any = None
    """Arrow array."""
    step: NDArray[np.int64] | None = None
    time: NDArray[np.int64] | None = None
    writer: NDArray[np.uint64] | None = None
    """Two words an element."""
    seq: NDArray[np.uint64] | None = None
    idx: NDArray[np.uint32] | None = None
    rank: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.value)

    def starts(self) -> NDArray[np.bool_]:
        """True for each element that begins a row: cells of one row have the same writer, seq and idx."""
        count = len(self)
        if self.writer is None or self.seq is None or self.idx is None:
            return np.ones(count, np.bool_)
        starts = np.ones(count, np.bool_)
        starts[1:] = self.unit[1:] != self.unit[:-1]
        for part in self.seq, self.idx, self.writer[:, 0], self.writer[:, 1]:
            starts[1:] |= part[1:] != part[:-1]
        return starts

    def key(self, at: int) -> Key:
        """Place of an element; needs all parts of it."""
        assert self.step is not None
        assert self.time is not None
        assert self.writer is not None
        assert self.seq is not None
        assert self.idx is not None
        return Key(
            step=int(self.step[at]) if self.units[self.unit[at]].stepped else NO_STEP,
            time_ns=int(self.time[at]),
            writer=self.writer[at].tobytes(),
            seq=int(self.seq[at]),
            idx=int(self.idx[at]),
            column=self.columns[self.column[at]],
        )

    def head(self, count: int) -> Elements:
        """The first elements."""
        parts = {
            part.name: getattr(self, part.name)
            for part in fields(self)
            if part.name not in ("units", "columns")
        }
        return replace(self, **{name: part[:count] for name, part in parts.items() if part is not None})


@dataclass(frozen=True, slots=True)
class Source:
    """Where elements of one workspace come from."""

    tables: Tables
    workspace: str
    selection: Selection
    hidden: Hidden
    timeout_s: float

    async def fetch(
        self,
        units: Sequence[Unit],
        *,
        identity: bool = False,
        place: bool = False,
        text: bool = True,
        numbered: bool = True,
        window: Window | None = None,
        after: Key | None = None,
        limit: int | None = None,
    ) -> Elements:
        """Reads the elements of metrics that follow each other.

        :param identity: with writer, seq, idx and rank.
        :param place: with all that `Elements.key` needs.
        :param text: with texts.
        :param numbered: with what tells rows from each other, where elements alone don't.
        :param window: only a part of a single metric.
        :param after: only what comes after this place in a single metric.
        :param limit: at most so many.
        """
        one = len(units) == 1
        # Only of one metric: several may have got a column since the plan.
        column = units[0].columns[0] if one and len(units[0].columns) == 1 else None
        needs = _Needs(
            column=column,
            rows=identity or place or (numbered and column is None),  # a single column: a row an element
            types=not all(unit.doubles_only for unit in units),
            text=text and any(unit.may_have_text for unit in units),
            place=place,
            rank=identity,
        )
        join, condition = self.hidden.clause(unit.key for unit in units)
        where = self._where(units) & self._which(units, after, window) & condition
        sql = (
            f"SELECT {needs.sql(one)} FROM points AS p FINAL {join} WHERE {where.sql}"
            f" ORDER BY {_order(units)}{'' if limit is None else f' LIMIT {limit:d}'}"
        )
        size = min(sum(unit.weight for unit in units), limit or 1 << 63)
        table = await ask(self.tables, sql, where.params, self.timeout_s, heavy=size > _HEAVY_WEIGHT)
        return needs.elements(units, table)

    def _where(self, units: Sequence[Unit]) -> Clause:
        """The metrics, exactly: what began since the plan is left to the next read."""
        elements = self.selection.elements()
        params: dict[str, object] = {"workspace": self.workspace, **elements.params}
        if len(units) == 1:
            unit = units[0]
            sql = "p.workspace = {workspace:String} AND p.run = {run:String} AND p.metric = {metric:String}"
            params |= {"run": unit.run, "metric": unit.metric}
            if unit.columns:
                sql += " AND p.column IN {columns:Array(String)}"
                params["columns"] = list(unit.columns)
        else:
            sql = (
                "p.workspace = {workspace:String}"
                " AND (p.run, p.metric) IN {units:Array(Tuple(String, String))}"
            )
            params["units"] = [unit.key for unit in units]
            stepless = [unit.key for unit in units if not unit.stepped]
            if 0 < len(stepless) < len(units):
                params["stepless"] = stepless
        return Clause(f"{sql} AND p.type < {DECLARATION}{elements.further}", params)

    def _which(self, units: Sequence[Unit], after: Key | None, window: Window | None) -> Clause:
        clause = Clause() if window is None else window.clause()
        if after is None:
            return clause
        (unit,) = units
        names = (
            ("after_time", "Int64"),
            ("after_seq", "UInt64"),
            ("after_idx", "UInt32"),
            ("after_column", "String"),
        )
        values: dict[str, object] = {
            **dict(
                zip(
                    (name for name, _ in names),
                    (after.time_ns, after.seq, after.idx, after.column),
                    strict=True,
                )
            ),
            "after_writer": after.writer.hex(),
        }
        left = "p.time, p.writer, p.seq, p.idx, p.column"
        right = (
            f"{nanoseconds('after_time')}, toFixedString(unhex({{after_writer:String}}), 16),"
            " {after_seq:UInt64}, {after_idx:UInt32}, {after_column:String}"
        )
        if unit.stepped:  # the first condition is the one that the sorting key can skip by
            sql = f"p.step >= {{after_step:Int64}} AND (p.step, {left}) > ({{after_step:Int64}}, {right})"
            values["after_step"] = after.step
        else:
            sql = f"({left}) > ({right})"
        return clause & Clause(sql, values)


def _order(units: Sequence[Unit]) -> str:
    """The reading order, for ORDER BY."""
    place = "p.time, p.writer, p.seq, p.idx, p.column"
    stepless = sum(not unit.stepped for unit in units)
    if stepless == 0:
        place = f"p.step, {place}"
    elif stepless < len(units):
        step = f"if((p.run, p.metric) IN {{stepless:Array(Tuple(String, String))}}, {NO_STEP}, p.step)"
        place = f"{step}, {place}"
    return place if len(units) == 1 else f"p.run, p.metric, {place}"


@dataclass(frozen=True, slots=True)
class _Needs:
    """Which columns a read needs."""

    column: str | None
    """The only one that there is."""
    rows: bool
    types: bool
    text: bool
    place: bool
    rank: bool

    def sql(self, one: bool) -> str:
        names = ["value", "step", "logged_time"]
        names += ["column"] if self.column is None else []
        names += [] if one else ["run", "metric"]
        names += ["writer", "seq", "idx"] if self.rows else []
        names += ["type"] if self.types else []
        names += ["text"] if self.text else []
        names += ["time"] if self.place else []
        names += ["rank"] if self.rank else []
        return ", ".join(f"p.{name} AS {name}" for name in names)

    def elements(self, units: Sequence[Unit], table: Any) -> Elements:
        table = table.unify_dictionaries().combine_chunks()
        found = set(table.column_names)

        def numbers(name: str, kind: Any) -> Any:
            return array(table[name]).view(kind) if name in found else None

        columns, column = [self.column or ""], np.zeros(table.num_rows, np.int32)
        if self.column is None:
            columns, column = names(table["column"])
        return Elements(
            units=units,
            unit=_unit_index(units, table),
            columns=columns,
            column=column,
            value=numbers("value", np.float64),
            logged_time=numbers("logged_time", np.int64),
            type=numbers("type", np.uint8),
            text=whole(table["text"]) if self.text else None,
            step=numbers("step", np.int64),
            time=numbers("time", np.int64),
            writer=fixed(table["writer"]) if self.rows else None,
            seq=numbers("seq", np.uint64),
            idx=numbers("idx", np.uint32),
            rank=numbers("rank", np.int32),
        )


def _unit_index(units: Sequence[Unit], table: Any) -> NDArray[np.int32]:
    """Which unit each row belongs to. Rows are ordered, so only the places where a name changes are looked
    at."""
    count = table.num_rows
    if len(units) == 1 or not count:
        return np.zeros(count, np.int32)
    runs, run = names(table["run"])
    metrics, metric = names(table["metric"])
    begins = np.flatnonzero(np.concatenate(([True], (run[1:] != run[:-1]) | (metric[1:] != metric[:-1]))))
    numbers = {unit.key: number for number, unit in enumerate(units)}
    found = np.array([numbers[runs[run[at]], metrics[metric[at]]] for at in begins], np.int32)
    return np.repeat(found, np.diff(np.append(begins, count)))


def whole(column: Any) -> Any:
    """A chunked Arrow column as one array."""
    chunks = column.chunks
    return chunks[0] if len(chunks) == 1 else column.combine_chunks()


def array(column: Any) -> NDArray[Any]:
    """An Arrow column of numbers or times as a NumPy array of its machine type."""
    values: NDArray[Any] = whole(column).to_numpy(zero_copy_only=False)
    return values


def names(column: Any) -> tuple[list[str], NDArray[np.int32]]:
    """A column of repeating names: the names, and an index for each row."""
    coded = whole(column)
    if not len(coded):
        return [], np.zeros(0, np.int32)
    if not hasattr(coded, "dictionary"):
        coded = coded.dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy(zero_copy_only=False).astype(
        np.int32, copy=False
    )


def fixed(column: Any) -> NDArray[np.uint64]:
    """A column of 16 bytes as two words an element."""
    coded = whole(column)
    count = len(coded)
    data = np.frombuffer(coded.buffers()[-1], np.uint8) if count else np.zeros(0, np.uint8)
    return data[coded.offset * 16 : (coded.offset + count) * 16].view(np.uint64).reshape(count, 2)
