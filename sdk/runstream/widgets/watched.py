"""What is known of a run, kept up to date: only metrics that have changed are read again, and of long ones a
bounded part."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from runstream.core import reads
from runstream.core.metrics import shapes
from runstream.core.record import FINAL
from runstream.core.run import Run
from runstream.errors import NotFoundError
from runstream.widgets.cells import cells_message
from runstream.widgets.data import as_lists, children_of, properties_of, state_of, tail_of
from runstream.widgets.images import images_of
from runstream.widgets.lines import Line, line_of_buckets, line_of_elements, rows_message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from runstream.client import Client
    from runstream.columns import Series

FEW: Final = 1_200  # elements of a metric that are read as they are; of more, buckets
BUCKETS: Final = 512
MOST_ELEMENTS: Final = 50_000  # of what can't be reduced: texts and rows
MOST_METRICS: Final = 60
_GROWN: Final = 1.1  # what can't be reduced is read again when there is so much more
_SYSTEM: Final = "system/"
_NUMBERS: Final = frozenset({1, 2, 3, 4, 7})  # ValueType: DOUBLE, INT64, BOOL, NONE, DECLARATION


class Reduced(NamedTuple):
    """In the place of a metric's values when they are many: a line, or nothing where they are no numbers."""

    size: int
    line: Line | None


@dataclass(slots=True)
class Info:
    """A series in short, as the query service lists it."""

    metric: str
    column: str
    description: str
    types: list[int]
    count: int
    has_steps: bool
    last: float | None

    def message(self) -> dict[str, Any]:
        """For the front end; a number that JSON can't say is a text."""
        last = self.last if self.last is None or isfinite(self.last) else repr(self.last)
        return {
            "metric": self.metric,
            "column": self.column,
            "description": self.description,
            "types": self.types,
            "count": self.count,
            "has_steps": self.has_steps,
            "last": last,
        }


@dataclass(slots=True)
class Watched:
    """A run. `read` brings it up to date; what is here is replaced then, never changed."""

    run: Run
    properties: dict[str, Any] = field(default_factory=dict)
    series: dict[tuple[str, str], Info] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    """As of `widget_data`, with `Reduced` where the values are many."""
    charts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Lines and rows by metric, as the front end takes them."""
    images: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Path and step of each, by metric."""
    children: list[dict[str, Any]] = field(default_factory=list)
    child_metrics: dict[str, Mapping[str, float]] = field(default_factory=dict)
    """The last number of each metric, by run id."""
    log: str = ""
    settled: bool = False
    """Nothing more is expected of it."""
    waited_s: float = 0.0
    """Of the last reading, for a change."""
    _cursor: str = ""
    _counts: dict[str, int] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether it has ended. Its last points may still be on their way."""
        return self.run._state.silent or self.properties.get("status") in FINAL

    def data(self) -> dict[str, Any]:
        """For the static page."""
        return {
            "run_properties": self.properties,
            "run_metrics": self.metrics,
            "child_runs": self.children,
            "run_logs": self.log,
        }

    def read(self, wait_s: float = 0.0) -> None:
        """Read what has changed, waiting so long for a change. Raises as `widget_data`."""
        began = time.monotonic()
        if wait_s and self._cursor and not self.over:
            self._client().poll_run(self._workspace, self.run.id, self._cursor, wait_s=wait_s)
        self.waited_s = time.monotonic() - began
        record = self.run._record(fresh=True)
        logs = self.run._log_files()
        if not self.properties:  # something to see, should the rest fail
            self.properties = properties_of(self.run, record, logs)
        if not self.run._state.silent:
            self._read_metrics()
        children = children_of(self.run, metrics=True)
        self.children = [state_of(child) for child in children]
        self.child_metrics = {child.id: child.metrics for child in children}
        self.log = tail_of(self.run, list(logs))
        self.properties = properties_of(self.run, record, logs)

    def line(self, metric: str, *, buckets: int, low: int | None, high: int | None) -> Line | None:
        """A part of a metric, by step: the elements themselves where they are few. None when there is none.

        :param low: least step; None for all.
        """
        from runstream.client import Selection

        info = self.series.get((metric, ""))
        if info is None:
            return None
        by_step = info.has_steps and low is not None and high is not None
        chosen = Selection((metric,), min_step=low, max_step=high) if by_step else Selection((metric,))
        client, names = self._client(), [self.run.id]
        few = info.count <= FEW or (not by_step and info.count <= MOST_ELEMENTS)
        if not few:
            found = client.get_buckets(
                self._workspace, names, chosen, buckets=buckets if by_step else 20_000, allow_settling=True
            )
            lines = [line_of_buckets(one) for one in found if not one.column]
            # Fewer buckets than asked for, or one a step: the elements are few enough to look at.
            crowded = bool(lines) and len(lines[0].x) > 0.9 * buckets
            wide = low is None or high is None or high - low > buckets
            if not by_step or (crowded and wide) or not lines:
                return lines[0] if lines else None
        elements = client.get_metrics(self._workspace, names, chosen, allow_settling=True)
        return next((line_of_elements(one) for one in elements.series if not one.column), None)

    def _read_metrics(self) -> None:
        if folders := reads._offline_folders(self.run._state.target):
            self._read_offline(folders)
            return
        client = self._client()
        try:
            change = client.poll_run(self._workspace, self.run.id, self._cursor)
        except NotFoundError:
            if not self.run._state.used:
                raise
            return  # whatever was logged to it could not be kept, or is not there yet
        moved = {(one.metric, one.column): one for one in change.series}
        if moved.keys() - self.series.keys() or change.ended:
            self._list(client)
        for key, one in moved.items():
            if key in self.series:
                info = self.series[key]
                info.count = max(info.count, one.count)
                info.last = one.last if one.HasField("last") else info.last
        self._read_changed(client, change.ended)
        self._cursor, self.settled = change.cursor, change.ended

    def _list(self, client: Client) -> None:
        found = client.list_series(self._workspace, self.run.id, allow_settling=True)
        self.series = {
            (one.series.metric, one.series.column): Info(
                one.series.metric,
                one.series.column,
                one.series.description,
                list(one.types),
                one.count,
                one.has_steps,
                one.last if one.HasField("last") else None,
            )
            for one in found
            if not one.series.metric.startswith(_SYSTEM)
        }

    def _read_changed(self, client: Client, ended: bool) -> None:
        """Read the metrics that have grown: those with few elements as they are, others reduced."""
        groups: dict[str, list[Info]] = {}
        for info in self.series.values():
            groups.setdefault(info.metric, []).append(info)
        whole, reduced = [], []
        for metric, infos in list(groups.items())[:MOST_METRICS]:
            count, before = sum(info.count for info in infos), self._counts.get(metric, -1)
            if count == before:
                continue
            plain = len(infos) == 1 and not infos[0].column and _NUMBERS.issuperset(infos[0].types)
            if count <= FEW:
                whole.append(metric)
            elif plain:
                reduced.append(metric)
            elif count > MOST_ELEMENTS:
                self.metrics[metric] = Reduced(count, None)
                self.charts.pop(metric, None)
            elif ended or count > before * _GROWN:
                whole.append(metric)
            else:
                continue
            self._counts[metric] = count
        try:
            if whole:
                self._read_whole(client, whole)
            if reduced:
                self._read_reduced(client, reduced, groups)
        except BaseException:
            for metric in (*whole, *reduced):
                self._counts.pop(metric, None)
            raise

    def _read_whole(self, client: Client, metrics: list[str]) -> None:
        found = client.get_metrics(self._workspace, [self.run.id], metrics, allow_settling=True)
        self._take(found.series)

    def _read_offline(self, folders: list[Path]) -> None:
        """What is on this machine, whole: there is nobody who reduces it."""
        from runstream.unsent import unsent_series

        found = [
            series
            for series in unsent_series(folders, [self.run.id], (), ())
            if not series.metric.startswith(_SYSTEM)
        ]
        self.series = {
            (series.metric, series.column): Info(
                series.metric,
                series.column,
                "",
                sorted({*series.type.tolist(), *series.declared}),
                len(series),
                bool((series.step != -(2**63)).all()),
                next((float(last) for last in series.numbers()[-1:] if last == last), None),
            )
            for series in found
        }
        self._take(found)
        self.settled = True

    def _take(self, found: Iterable[Series]) -> None:
        by_metric: dict[str, list[Series]] = {}
        for series in found:
            by_metric.setdefault(series.metric, []).append(series)
        for metric, columns in by_metric.items():
            self.metrics[metric] = value = as_lists(shapes(columns)[metric])
            chart: dict[str, Any] = {"metric": metric}
            for series in columns:
                if not series.column and len(series):
                    chart["line"] = line_of_elements(series).message()
                    if images := images_of(self.run.id, series):
                        self.images = {**self.images, metric: images}
            if rows := [series for series in columns if series.column and len(series)]:
                chart["rows"] = rows_message(rows)
            chart |= cells_message(value)
            self.charts[metric] = chart

    def _read_reduced(self, client: Client, metrics: list[str], groups: dict[str, list[Info]]) -> None:
        found = client.get_buckets(
            self._workspace, [self.run.id], metrics, buckets=BUCKETS, allow_settling=True
        )
        for buckets in found:
            if not buckets.column:
                line = line_of_buckets(buckets)
                self.metrics[buckets.metric] = Reduced(groups[buckets.metric][0].count, line)
                self.charts[buckets.metric] = {"metric": buckets.metric, "line": line.message()}

    @property
    def _workspace(self) -> str:
        return self.run.experiment.workspace.name

    def _client(self) -> Client:
        return reads.client(self.run.experiment.workspace)
