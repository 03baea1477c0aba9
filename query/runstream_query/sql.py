"""SQL with values beside it.

Names and numbers of a request reach the engine as bound values only, never as a part of the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runstream_store.tables import Tables

_PLACEHOLDER: Final = re.compile(r"{(\w+):")


@dataclass(frozen=True, slots=True)
class Clause:
    """A condition and the values of its placeholders. Without text it always holds."""

    sql: str = ""
    params: Mapping[str, object] = field(default_factory=dict)

    def __and__(self, other: Clause) -> Clause:
        """Both hold."""
        sql = f"{self.sql} AND {other.sql}" if self.sql and other.sql else self.sql or other.sql
        return Clause(sql, {**self.params, **other.params})

    @property
    def further(self) -> str:
        """The text, to stand after another condition."""
        return f" AND {self.sql}" if self.sql else ""


def nanoseconds(name: str) -> str:
    """SQL for a bound time in Unix nanoseconds."""
    return f"fromUnixTimestamp64Nano({{{name}:Int64}}, 'UTC')"


async def ask(
    tables: Tables, sql: str, params: Mapping[str, object], timeout_s: float, *, heavy: bool = False
) -> Any:
    """The columns of a query, as an Arrow table. Values that the query does not use are left out."""
    used = {name: params[name] for name in _PLACEHOLDER.findall(sql)}
    return await tables.query(sql, used, heavy=heavy, timeout_s=timeout_s)


async def ask_rows(
    tables: Tables, sql: str, params: Mapping[str, object], timeout_s: float, *, heavy: bool = False
) -> list[dict[str, Any]]:
    """The rows of a query that has few of them."""
    rows: list[dict[str, Any]] = (await ask(tables, sql, params, timeout_s, heavy=heavy)).to_pylist()
    return rows
