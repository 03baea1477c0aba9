"""Searches among runs: filtered and sorted in the tables, page by page, over the summaries of runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runstream.v1 import query_service_pb2
from runstream_query import tokens
from runstream_query.columns import WantedColumns
from runstream_query.errors import InvalidArgument, ResourceExhausted
from runstream_query.filter_fields import Field
from runstream_query.filter_grammar import Node, fields_of, parse_field, parse_filter
from runstream_query.filter_sql import STARTED, STATUS, Compiler
from runstream_query.filter_tokens import FilterSyntaxError
from runstream_query.live import Live, LiveStates, as_live, join_live
from runstream_query.runs import RunReader
from runstream_query.sql import Clause, ask_rows
from runstream_store.errors import QueryError

_MAX_PAGE: Final = 10_000
_MAX_ORDERS: Final = 8
_MAX_FAMILY: Final = 100_000
_MAX_GENERATIONS: Final = 100

_CHILDREN: Final = """
SELECT run FROM run_summaries FINAL WHERE workspace = {workspace:String} AND parent IN {parents:Array(String)}
"""


@dataclass(frozen=True, slots=True)
class Order:
    """What to sort by: three expressions, see `Compiler.order`."""

    parts: Sequence[str]
    descending: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends: what its last run is sorted by."""

    now_ns: int
    """Of the first page: so that what counts to now does not move between pages."""
    keys: Sequence[tuple[int, float, str]] = ()
    started: int = 0
    workspace: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class RunSearch:
    """Searches."""

    runs: RunReader
    live: LiveStates

    async def search(
        self, request: query_service_pb2.SearchRunsRequest, bound_to: str
    ) -> query_service_pb2.SearchRunsResponse:
        """A page of runs.

        :raises InvalidArgument: the request is none, or a `FilterSyntaxError`.
        """
        size = request.page_size or 100
        if size > _MAX_PAGE:
            raise InvalidArgument(f"page_size is {size}; at most {_MAX_PAGE:,}")
        columns = WantedColumns.of(request, size)
        tree = parse_filter(request.filter)
        fields = _orders(request)
        place = _place(bound_to, request.page_token, len(fields)) if request.page_token else None
        compiler = Compiler(place.now_ns if place else time.time_ns())
        where = compiler.condition(tree)
        orders = [Order(compiler.order(field), descending) for field, descending in fields]
        await self._check_patterns(compiler)
        scope = await self._scope(request, tree)
        live = await self.live.read(scope)
        if request.statuses:
            where &= Clause(f"{STATUS} IN {{statuses:Array(UInt8)}}", {"statuses": list(request.statuses)})
        rows = await self._rows(scope & where, compiler, orders, live, place, size + 1)
        total = rows[0]["total"] if rows else 0
        if not rows and place:
            total = await self._count(scope & where, compiler, live)
        response = query_service_pb2.SearchRunsResponse(total=total)
        keys = [(row["workspace"], row["run"]) for row in rows[:size]]
        response.runs.extend(await self.runs.listed(keys, columns, live.states))
        if len(rows) > size:
            response.next_page_token = _token(bound_to, compiler.now_ns, rows[size - 1], len(orders))
        return response

    async def _rows(
        self,
        where: Clause,
        compiler: Compiler,
        orders: Sequence[Order],
        live: Live,
        place: Place | None,
        limit: int,
    ) -> list[dict[str, Any]]:
        keys = "".join(
            f", {part} AS k{number}{letter}"
            for number, order in enumerate(orders)
            for letter, part in zip("cnt", order.parts, strict=True)
        )
        after = _after(orders, place, compiler) if place else ""
        order_by = "".join(
            f"k{number}c, k{number}n{_way(order)}, k{number}t{_way(order)}, "
            for number, order in enumerate(orders)
        )
        sql = f"""
            SELECT * FROM (
                SELECT toString(r.workspace) AS workspace, r.run AS run, {as_live(live)}{keys},
                    count() OVER () AS total
                FROM run_summaries AS r FINAL {join_live(live)}
                WHERE {where.sql}
            ) {after}
            ORDER BY {order_by}{STARTED} DESC, workspace, run LIMIT {limit}
        """
        return await self._ask(sql, {**where.params, **compiler.values, **live.params})

    async def _count(self, where: Clause, compiler: Compiler, live: Live) -> int:
        sql = f"""
            SELECT count() AS total FROM (
                SELECT {as_live(live)} FROM run_summaries AS r FINAL {join_live(live)} WHERE {where.sql}
            )
        """
        rows = await self._ask(sql, {**where.params, **compiler.values, **live.params})
        return int(rows[0]["total"])

    async def _check_patterns(self, compiler: Compiler) -> None:
        """The engine itself tells what is no regular expression for it."""
        for pattern in compiler.patterns:
            try:
                await self._ask("SELECT match('', {pattern:String})", {"pattern": pattern.text})
            except QueryError as error:
                reason = str(error).partition("OptimizedRegularExpression: ")[2].partition(". ")[0]
                raise FilterSyntaxError(
                    f"no regular expression{': ' + reason[:200] if reason else ''}",
                    pattern.start,
                    pattern.length,
                ) from None

    async def _scope(self, request: query_service_pb2.SearchRunsRequest, tree: Node | None) -> Clause:
        """What the request says beside its filter."""
        scope = scope_of(request.workspace, request.experiments)
        names_archive = any(not field.group and field.name == "archived" for field in fields_of(tree))
        if request.archive == query_service_pb2.ARCHIVE_VIEW_ARCHIVED:
            scope &= Clause("r.archived = 1")
        elif request.archive != query_service_pb2.ARCHIVE_VIEW_ALL and not names_archive:
            scope &= Clause("r.archived = 0")
        return scope & await self._family(request)

    async def _family(self, request: query_service_pb2.SearchRunsRequest) -> Clause:
        match request.family.WhichOneof("family"):
            case "top_level":
                return Clause("r.parent = ''" if request.family.top_level else "")
            case "children_of":
                return Clause("r.parent = {parent:String}", {"parent": request.family.children_of})
            case "descendants_of":
                if not request.workspace:
                    raise InvalidArgument("family.descendants_of: name the workspace, too")
                found = await self._descendants(request.workspace, request.family.descendants_of)
                return Clause("r.run IN {family:Array(String)}", {"family": found})
        return Clause()

    async def _descendants(self, workspace: str, run: str) -> list[str]:
        found: dict[str, None] = {}
        parents = [run]
        for _ in range(_MAX_GENERATIONS):
            rows = await self._ask(_CHILDREN, {"workspace": workspace, "parents": parents})
            parents = [row["run"] for row in rows if row["run"] not in found and row["run"] != run]
            found.update(dict.fromkeys(parents))
            if len(found) > _MAX_FAMILY:
                raise ResourceExhausted(f"run {run!r} has more than {_MAX_FAMILY:,} descendants")
            if not parents:
                break
        return list(found)

    async def _ask(self, sql: str, params: Mapping[str, object]) -> list[dict[str, Any]]:
        return await ask_rows(self.runs.tables, sql, params, self.runs.settings.query_timeout_s)


def scope_of(workspace: str, experiments: Iterable[str]) -> Clause:
    """The condition on `run_summaries AS r` that it is of a workspace and some experiments, and was not
    deleted."""
    scope = Clause("r.deleted = 0")
    if workspace:
        scope &= Clause("r.workspace = {workspace:String}", {"workspace": workspace})
    names = list(dict.fromkeys(experiments))
    if names:
        scope &= Clause("r.experiment IN {experiments:Array(String)}", {"experiments": names})
    return scope


def _orders(request: query_service_pb2.SearchRunsRequest) -> list[tuple[Field, bool]]:
    if len(request.order_by) > _MAX_ORDERS:
        raise InvalidArgument(f"order_by has {len(request.order_by)} parts; at most {_MAX_ORDERS}")
    return [
        (parse_field(order.field, f"order_by[{number}]"), order.descending)
        for number, order in enumerate(request.order_by)
    ]


def _way(order: Order) -> str:
    return " DESC" if order.descending else ""


def _after(orders: Sequence[Order], place: Place, compiler: Compiler) -> str:
    """The condition that a run comes after a place: for each key, equal in those before and beyond in it."""
    keys: list[tuple[str, str, str]] = []  # column, comparison, bound value
    for number, (order, (kind, value, text)) in enumerate(zip(orders, place.keys, strict=True)):
        beyond = "<" if order.descending else ">"
        keys.append((f"k{number}c", ">", compiler.bind(kind, "UInt8")))
        keys.append((f"k{number}n", beyond, compiler.bind(value, "Float64")))
        keys.append((f"k{number}t", beyond, compiler.bind(text, "String")))
    keys.append((STARTED, "<", compiler.bind(place.started, "Int64")))
    keys.append(("workspace", ">", compiler.bind(place.workspace, "String")))
    keys.append(("run", ">", compiler.bind(place.run, "String")))
    condition = ""
    for column, comparison, bound in reversed(keys):
        here = f"{column} {comparison} {bound}"
        condition = f"{here} OR ({column} = {bound} AND ({condition}))" if condition else here
    return f"WHERE {condition}"


def _token(bound_to: str, now_ns: int, row: Mapping[str, Any], orders: int) -> str:
    keys = [[row[f"k{n}c"], float(row[f"k{n}n"]).hex(), row[f"k{n}t"]] for n in range(orders)]
    return tokens.encode(bound_to, [now_ns, keys, row[STARTED], row["workspace"], row["run"]])


def _place(bound_to: str, token: str, orders: int) -> Place:
    now_ns, keys, started, workspace, run = tokens.decode(bound_to, token, int, list, int, str, str)
    try:
        found = [(int(kind), float.fromhex(number), str(text)) for kind, number, text in keys]
    except (TypeError, ValueError):
        raise InvalidArgument("page_token is not a token of this service") from None
    if len(found) != orders:
        raise InvalidArgument("page_token is not a token of this version")
    return Place(now_ns, found, started, workspace, run)
