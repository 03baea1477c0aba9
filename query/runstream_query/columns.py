"""What a search tells of each run beside its own fields: the columns of a table of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from runstream.v1 import query_service_pb2, run_pb2
from runstream_query.errors import InvalidArgument
from runstream_query.filter_fields import GROUPS
from runstream_query.filter_grammar import parse_field
from runstream_query.filter_tokens import FilterSyntaxError
from runstream_query.sql import Clause

KINDS: Final = {
    "tags": run_pb2.ATTRIBUTE_KIND_TAG,
    "properties": run_pb2.ATTRIBUTE_KIND_PROPERTY,
    "params": run_pb2.ATTRIBUTE_KIND_PARAM,
    "system": run_pb2.ATTRIBUTE_KIND_SYSTEM,
}
"""Kinds of attributes by their groups in the filter language."""

_FIGURES: Final = ("last", "min", "max", "first", "count")
_USUAL: Final = ("tags.*", "system.*")
_MAX_COLUMNS: Final = 1_000
_MAX_SPARKLINES: Final = 10
_MAX_PAGE_OF_SPARKLINES: Final = 1_000


@dataclass(frozen=True, slots=True)
class WantedColumns:
    """Columns of a request."""

    whole: frozenset[str]
    """Groups of which all names are wanted."""
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By group: single names; of metrics keys in the summaries."""
    sparklines: Sequence[str] = ()
    """Metrics."""

    @classmethod
    def of(cls, request: query_service_pb2.SearchRunsRequest, size: int) -> WantedColumns:
        """The columns of a request with so many runs a page.

        :raises InvalidArgument: there are too many, or a `FilterSyntaxError`.
        """
        if len(request.columns) > _MAX_COLUMNS:
            raise InvalidArgument(f"columns has {len(request.columns):,} names; at most {_MAX_COLUMNS:,}")
        sparklines = list(dict.fromkeys(request.sparklines))
        if len(sparklines) > _MAX_SPARKLINES:
            raise InvalidArgument(f"sparklines has {len(sparklines)} metrics; at most {_MAX_SPARKLINES}")
        if sparklines and size > _MAX_PAGE_OF_SPARKLINES:
            raise InvalidArgument(
                f"page_size is {size:,}; with sparklines at most {_MAX_PAGE_OF_SPARKLINES:,}"
            )
        whole: set[str] = set()
        names: dict[str, set[str]] = {}
        for number, column in enumerate(request.columns or _USUAL):
            group, _, rest = column.partition(".")
            if rest == "*" and group in GROUPS:
                whole.add(group)
                continue
            found = parse_field(column, f"columns[{number}]")
            if not found.group:
                raise FilterSyntaxError(
                    f"{column!r} comes with every run",
                    0,
                    len(column),
                    [f"{group}.NAME" for group in GROUPS],
                    f"columns[{number}]",
                )
            names.setdefault(found.group, set()).add(found.key if found.group == "metrics" else found.name)
        return cls(
            frozenset(whole), {group: frozenset(of_group) for group, of_group in names.items()}, sparklines
        )

    @classmethod
    def all(cls) -> WantedColumns:
        """Everything but metrics."""
        return cls(frozenset(KINDS))

    def wants(self, group: str) -> bool:
        """Whether anything of a group is wanted."""
        return group in self.whole or group in self.names

    def maps(self) -> Clause:
        """What of the maps of `run_summaries AS r` is wanted, to stand behind other columns."""
        parts: list[str] = []
        params: dict[str, object] = {}
        for group in (*KINDS, "metrics"):
            if not self.wants(group):
                continue
            for name in (f"metrics_{f}" for f in _FIGURES) if group == "metrics" else (group,):
                value = f"r.{name}"
                if group not in self.whole:
                    value = f"mapFilter((k, v) -> k IN {{wanted_{group}:Array(String)}}, {value})"
                    params[f"wanted_{group}"] = sorted(self.names[group])
                parts.append(f", {value} AS {name}")
        return Clause("".join(parts), params)

    def chosen(self, group: str, pairs: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Those of the names and values of a group that are wanted, by name."""
        names = self.names.get(group, frozenset())
        return iter(sorted(pair for pair in pairs if group in self.whole or pair[0] in names))

    def metrics(self, row: Mapping[str, Any]) -> Iterator[query_service_pb2.MetricSummary]:
        """The metrics of a row of `run_summaries` that are wanted."""
        figures = {figure: dict(row[f"metrics_{figure}"]) for figure in ("last", "min", "max", "first")}
        for key, count in self.chosen("metrics", row["metrics_count"]):
            metric, _, column = key.partition("\0")
            summary = query_service_pb2.MetricSummary(metric=metric, column=column, count=count)
            for figure, values in figures.items():
                if key in values:
                    setattr(summary, figure, values[key])
            yield summary
