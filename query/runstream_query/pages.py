"""Plain pages: what there is, in a browser, without scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from runstream.v1 import query_service_pb2, run_pb2
from runstream_query import links
from runstream_query.charts import number_text
from runstream_query.errors import InvalidArgument
from runstream_query.runpage import RunPage
from runstream_query.service import QueryServicer

STATUS_NAMES: Final[Mapping[run_pb2.RunStatus.ValueType, str]] = {
    number: "".join(part.capitalize() for part in name.removeprefix("RUN_STATUS_").split("_"))
    for name, number in run_pb2.RunStatus.items()
    if number
} | {run_pb2.RUN_STATUS_UNSPECIFIED: "Unknown"}
"""Statuses, as scripts know them."""

_RUNS_A_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Pages:
    """Makes the pages."""

    def __init__(self, servicer: QueryServicer) -> None:
        """`servicer` is asked as any other client would."""
        self._servicer = servicer
        self._templates = Environment(
            loader=PackageLoader("runstream_query"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "time": time_text,
            "duration": duration_text,
            "number": number_text,
            "count": lambda value: f"{value:,}",
            "status": lambda value: STATUS_NAMES.get(value, "Unknown"),
        }
        self._templates.globals |= {
            "run_path": links.run_path,
            "experiment_path": links.experiment_path,
            "query": lambda **values: urlencode(values),
        }
        self._style = resources.files("runstream_query").joinpath("templates/style.css").read_bytes()

    def style(self) -> Page:
        """The style sheet."""
        return Page(200, self._style, "text/css; charset=utf-8", ((b"cache-control", b"max-age=300"),))

    def login(self, status: int, after: str, *, wrong: bool) -> Page:
        """The form that asks for a token."""
        return self._page("login.html", status, after=after, wrong=wrong)

    def error(self, status: int, text: str) -> Page:
        """A page that says what went wrong."""
        return self._page("error.html", status, text=text)

    async def page(self, segments: Sequence[str], query: Mapping[str, str]) -> Page | None:
        """The page at a path; None when there is none."""
        match segments:
            case []:
                return await self._experiments("", query)
            case ["w", workspace]:
                return await self._experiments(workspace, query)
            case ["w", workspace, "e", experiment]:
                return await self._runs(workspace, experiment, query)
            case ["w", workspace, "r", run]:
                found = await RunPage.read(self._servicer, workspace, run, query)
                return await asyncio.to_thread(
                    self._page, "run.html", 200, page=found, run=found.run, ref=found.run.ref
                )
            case ["r", run]:
                return await self._redirect(run)
        return None

    async def _experiments(self, workspace: str, query: Mapping[str, str]) -> Page:
        request = query_service_pb2.ListExperimentsRequest(
            workspace=workspace, page_size=_RUNS_A_PAGE, page_token=query.get("page", "")
        )
        found = await self._servicer.list_experiments(request)
        return self._page(
            "experiments.html",
            200,
            workspace=workspace,
            experiments=found.experiments,
            more=found.next_page_token,
        )

    async def _runs(self, workspace: str, experiment: str, query: Mapping[str, str]) -> Page:
        statuses = [number for number, name in STATUS_NAMES.items() if name == query.get("status")]
        if query.get("status") and not statuses:
            raise InvalidArgument(f"there is no status {query['status']!r}")
        request = query_service_pb2.SearchRunsRequest(
            workspace=workspace,
            experiments=[experiment],
            statuses=statuses,
            page_size=_RUNS_A_PAGE,
            page_token=query.get("page", ""),
        )
        found = await self._servicer.search_runs(request)
        return await asyncio.to_thread(
            self._page,
            "runs.html",
            200,
            workspace=workspace,
            experiment=experiment,
            status=query.get("status", ""),
            statuses=("Running", "NotResponding", "Completed", "Failed", "Canceled"),
            runs=found.runs,
            tags={run.ref.run: _tags(run) for run in found.runs},
            total=found.total,
            more=found.next_page_token,
        )

    async def _redirect(self, run: str) -> Page | None:
        workspaces = await self._servicer.workspaces_of(run)
        if not workspaces:
            return None
        if len(workspaces) > 1:
            return self._page("choose.html", 300, run=run, workspaces=workspaces)
        location = links.run_path(workspaces[0], run)
        return Page(302, b"", "text/plain; charset=utf-8", ((b"location", location.encode()),))

    def _page(self, template: str, code: int, /, **values: Any) -> Page:
        text = self._templates.get_template(template).render(**values)
        return Page(code, text.encode("utf-8", "replace"), headers=((b"cache-control", b"no-store"),))


def _tags(run: query_service_pb2.Run) -> list[query_service_pb2.Attribute]:
    return [attribute for attribute in run.attributes if attribute.kind == run_pb2.ATTRIBUTE_KIND_TAG]


def time_text(nanoseconds: int) -> Markup:
    """A time for people and programs."""
    if not nanoseconds:
        return Markup("–")
    try:
        moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return escape(f"{nanoseconds} ns")
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M:%S")
    )


def duration_text(nanoseconds: int) -> str:
    """A duration for people: the two largest units."""
    seconds = max(0, nanoseconds) / 1e9
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
