"""The fields of the filter language: what they are called, and what can be asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from runstream.v1 import run_pb2

Type = Literal["metric", "text", "status", "time", "duration", "number", "flag"]

GROUPS: Final = ("metrics", "params", "tags", "properties", "system")
"""Fields with names of the users' own."""
FIGURES: Final = ("last", "min", "max", "first", "count")
"""What can be asked of a metric; `last` when nothing is."""

PLAIN: Final[dict[str, Type]] = {
    "status": "status",
    "name": "text",
    "id": "text",
    "experiment": "text",
    "workspace": "text",
    "type": "text",
    "parent": "text",
    "description": "text",
    "started": "time",
    "ended": "time",
    "duration": "duration",
    "age": "duration",
    "attempts": "number",
    "archived": "flag",
}
"""Fields of every run."""

ALIASES: Final = {
    "metric": "metrics",
    "param": "params",
    "parameters": "params",
    "tag": "tags",
    "property": "properties",
    "run": "id",
    "run_id": "id",
    "run_type": "type",
    "start_time": "started",
    "end_time": "ended",
}

SYSTEM: Final = ("host", "user", "git_commit", "git_branch")
"""System attributes that are fields by their own name."""

STATUSES: Final = {
    "".join(part.capitalize() for part in name.removeprefix("RUN_STATUS_").split("_")): number
    for name, number in run_pb2.RunStatus.items()
    if number
}
"""Statuses by their names: Completed, NotResponding."""

STATUS_BY_WORD: Final = {name.lower(): number for name, number in STATUSES.items()} | {
    name.removeprefix("RUN_STATUS_").lower(): number for name, number in run_pb2.RunStatus.items() if number
}
"""Statuses by everything that people type, in small letters."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a filter, an order or a column."""

    group: str
    """One of GROUPS, or empty for a plain one."""
    name: str
    figure: str = ""
    """Of a metric: one of FIGURES."""
    column: str = ""
    """Of a metric that is a table."""
    start: int = 0
    end: int = 0

    @property
    def type(self) -> Type:
        """What it holds."""
        if self.group == "metrics":
            return "metric"
        return "text" if self.group else PLAIN[self.name]

    @property
    def key(self) -> str:
        """Key of a metric in the summaries of runs."""
        return series_key(self.name, self.column)


def series_key(metric: str, column: str) -> str:
    """Key of a series in the summaries: a column of a table has its name behind a zero character."""
    return f"{metric}\0{column}" if column else metric
