"""Completes filters: what may stand where the cursor is, with the names and values that there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from runstream.v1 import query_service_pb2
from runstream_query.errors import InvalidArgument
from runstream_query.filter_fields import ALIASES, FIGURES, GROUPS, PLAIN, STATUSES, Field
from runstream_query.filter_grammar import operators_of, parse_filter, parse_start, values_of
from runstream_query.filter_sql import ENDED, STARTED, STATUS, Compiler
from runstream_query.filter_tokens import FilterSyntaxError, quoted_name, quoted_text
from runstream_query.search import scope_of
from runstream_query.sql import Clause, ask_rows
from runstream_store.tables import Tables

FIELD: Final = query_service_pb2.COMPLETION_KIND_FIELD
NAME: Final = query_service_pb2.COMPLETION_KIND_NAME
OPERATOR: Final = query_service_pb2.COMPLETION_KIND_OPERATOR
VALUE: Final = query_service_pb2.COMPLETION_KIND_VALUE
KEYWORD: Final = query_service_pb2.COMPLETION_KIND_KEYWORD

_MAX: Final = 200
_LONGEST_VALUE: Final = 200

# What is being typed before the cursor: a name behind a group, a text in quotes, or a word.
_NAME: Final = re.compile(r"([^\W\d]\w*)\.(`[^`]*|[\w/:@%.-]*)$")
_WORD: Final = re.compile(r"[\w/:@%.+-]*$|[=!<>]+$")

_NAMES: Final = """
SELECT name, count() AS runs FROM (
    SELECT arrayJoin(mapKeys(r.{map})) AS name FROM run_summaries AS r FINAL WHERE {scope}
)
WHERE positionCaseInsensitiveUTF8(name, {typed:String}) > 0
GROUP BY name
ORDER BY startsWith(lowerUTF8(name), lowerUTF8({typed:String})) DESC, runs DESC, name LIMIT {limit:UInt32}
"""
_VALUES: Final = f"""
SELECT value, count() AS runs FROM (
    SELECT {{value}} AS value, r.status AS {STATUS}, r.started AS {STARTED}, r.ended AS {ENDED}
    FROM run_summaries AS r FINAL WHERE {{scope}} AND {{exists}}
)
WHERE positionCaseInsensitiveUTF8(value, {{typed:String}}) > 0 AND lengthUTF8(value) <= {_LONGEST_VALUE}
GROUP BY value ORDER BY runs DESC, value LIMIT {{limit:UInt32}}
"""


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands before the cursor."""

    base: str
    """The filter up to what is being typed."""
    text: str
    """What is being typed, without a quote or backtick."""
    group: str = ""
    """The group that it is a name in."""


@dataclass(frozen=True, slots=True)
class Completer:
    """Completes filters."""

    tables: Tables
    timeout_s: float

    async def complete(
        self, request: query_service_pb2.CompleteFilterRequest
    ) -> query_service_pb2.CompleteFilterResponse:
        """Completions at the cursor.

        :raises InvalidArgument: the cursor is not in the filter.
        """
        if request.cursor > len(request.filter):
            raise InvalidArgument(
                f"cursor is {request.cursor}; the filter has {len(request.filter)} characters"
            )
        limit = request.limit or 20
        if limit > _MAX:
            raise InvalidArgument(f"limit is {limit}; at most {_MAX}")
        typed = _typed(request.filter[: request.cursor])
        scope = scope_of(request.workspace, request.experiments)
        found = await self._found(typed, scope, limit)
        response = query_service_pb2.CompleteFilterResponse(
            completions=list(found)[:limit], start=len(typed.base), end=request.cursor
        )
        try:
            parse_filter(request.filter)
        except FilterSyntaxError as error:
            response.error.CopyFrom(error.to_message())
        return response

    async def _found(self, typed: Typed, scope: Clause, limit: int) -> Iterable[query_service_pb2.Completion]:
        if typed.group:
            return await self._names(typed, scope, limit)
        field, error = parse_start(typed.base)
        if error is not None and error.position < len(typed.base.rstrip()):
            return ()  # something before is wrong
        if error is None and typed.base.strip():
            found = [(word, KEYWORD) for word in ("and", "or")]
            if field is not None:
                found = [(word, OPERATOR) for word in operators_of(field)] + found
            return _starting(typed, found)
        if error is None or any(word.endswith(".NAME") for word in error.expected):
            return _starting(
                typed,
                [(f"{group}.", FIELD) for group in GROUPS]
                + [(name, FIELD) for name in PLAIN]
                + [("not", KEYWORD)],
            )
        if field is not None and set(error.expected) == set(values_of(field)):
            return await self._values(field, typed, scope, limit)
        return _starting(typed, [(word, OPERATOR) for word in error.expected if " " not in word])

    async def _names(self, typed: Typed, scope: Clause, limit: int) -> list[query_service_pb2.Completion]:
        """Names in a group; of a metric whose name is whole the figures, too."""
        column = "metrics_count" if typed.group == "metrics" else typed.group
        sql = _NAMES.replace("{map}", column).replace("{scope}", scope.sql)
        rows = await self._ask(sql, scope, {"typed": typed.text, "limit": limit})
        found = [
            query_service_pb2.Completion(
                text=f"{typed.group}.{_written(row['name'])}", kind=NAME, runs=row["runs"]
            )
            for row in rows
        ]
        name, dot, figure = typed.text.rpartition(".")
        if typed.group == "metrics" and dot and name:
            found += [
                query_service_pb2.Completion(text=f"metrics.{quoted_name(name)}.{one}", kind=FIELD)
                for one in FIGURES
                if one.startswith(figure.lower())
            ]
        return found

    async def _values(
        self, field: Field, typed: Typed, scope: Clause, limit: int
    ) -> list[query_service_pb2.Completion]:
        if field.type == "status":
            return list(_starting(typed, [(name, VALUE) for name in STATUSES]))
        if field.type == "flag":
            return list(_starting(typed, [("true", VALUE), ("false", VALUE)]))
        if field.type != "text":
            return []
        compiler = Compiler(0)
        sql = _VALUES.replace("{value}", compiler.text(field)).replace("{exists}", compiler.exists(field))
        values = {"typed": typed.text, "limit": limit, **compiler.values}
        rows = await self._ask(sql.replace("{scope}", scope.sql), scope, values)
        return [
            query_service_pb2.Completion(text=_value(row["value"]), kind=VALUE, runs=row["runs"])
            for row in rows
        ]

    async def _ask(self, sql: str, scope: Clause, values: Mapping[str, object]) -> list[dict[str, Any]]:
        return await ask_rows(self.tables, sql, {**scope.params, **values}, self.timeout_s)


def _typed(before: str) -> Typed:
    quote = _open_quote(before)
    if quote is not None and before[quote] != "`":
        return Typed(before[:quote], before[quote + 1 :])
    name = _NAME.search(before)
    if name is not None:
        group = ALIASES.get(name[1].lower(), name[1].lower())
        if group in GROUPS:
            return Typed(before[: name.start()], name[2].removeprefix("`"), group)
    word = _WORD.search(before)
    start = len(before) if word is None else word.start()
    return Typed(before[:start], before[start:])


def _open_quote(before: str) -> int | None:
    """Where a quote begins that is not closed."""
    quote: int | None = None
    for at, character in enumerate(before):
        if quote is None and character in "'\"`":
            quote = at
        elif quote is not None and character == before[quote]:
            quote = None
    return quote


def _starting(typed: Typed, found: list[tuple[str, Any]]) -> list[query_service_pb2.Completion]:
    start = typed.text.lower()
    return [
        query_service_pb2.Completion(text=text, kind=kind)
        for text, kind in found
        if text.lower().startswith(start)
    ]


def _written(key: str) -> str:
    """A name from the summaries; of a column of a table with the column."""
    name, zero, column = key.partition("\0")
    return f"{quoted_name(name)}[{quoted_name(column)}]" if zero else quoted_name(name)


def _value(text: str) -> str:
    """A value as it is written: numbers as they are."""
    try:
        float(text)
    except ValueError:
        return quoted_text(text)
    return text if re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", text, re.IGNORECASE) else quoted_text(text)
