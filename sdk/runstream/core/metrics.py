"""What `get_metrics` returns, made from the columns that were read.

one value        → the value            a list of one   → the value
several          → a list               an empty list   → []
one row          → {column: value}      several         → {column: list}, None where a row has no such cell
an empty column  → {column: []}         an empty table  → {}
lists and rows   → {"": as above, column: as above}
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from runstream.columns import Series

_TABLE: Final = 8  # ValueType TABLE_DECLARATION


def shapes(series: "Iterable[Series]") -> dict[str, Any]:
    """Metrics by name, from the series of one run."""
    by_metric: dict[str, list[Series]] = {}
    for found in series:
        by_metric.setdefault(found.metric, []).append(found)
    return {metric: _shape(columns) for metric, columns in by_metric.items()}


def _shape(found: "list[Series]") -> Any:
    vector = [series for series in found if not series.column]
    table = [series for series in found if series.column]
    is_table = bool(table) or any(_TABLE in series.declared for series in vector)
    is_vector = any(len(series) or series.declared - {_TABLE} for series in vector)
    if not is_table:
        return _vector(vector)
    columns = _table(table)
    return {"": _vector(vector), **columns} if is_vector else columns


def _vector(vector: "list[Series]") -> Any:
    values = [value for series in vector for value in series.values()]
    return values[0] if len(values) == 1 else values


def _table(table: "list[Series]") -> dict[str, Any]:
    if len({len(series) for series in table}) == 1 and _same_rows(table):
        columns = {series.column: series.values() for series in table}
    else:
        rows = sorted({row for series in table for row in series.row.tolist()})
        places = {row: place for place, row in enumerate(rows)}
        columns = {}
        for series in table:
            column: list[Any] = [None] * len(rows)
            for row, value in zip(series.row.tolist(), series.values(), strict=True):
                column[places[row]] = value
            columns[series.column] = column
    if all(len(column) == 1 for column in columns.values()):
        return {name: column[0] for name, column in columns.items()}
    return columns


def _same_rows(table: "list[Series]") -> bool:
    first = table[0].row
    return all(bool((series.row == first).all()) for series in table[1:])
