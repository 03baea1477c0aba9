"""The page that the portal runs in. It carries the first answers, so that the first paint shows content.

An answer is the same message that the portal would ask for as its first call; a request that differs in
anything is simply asked again.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from google.protobuf.message import Message

from runstream.v1 import query_service_pb2, run_service_pb2
from runstream_query import links
from runstream_query.errors import NotFound
from runstream_query.page import Page
from runstream_query.portal_files import PortalFiles
from runstream_query.service import QueryServicer
from runstream_query.services import translated

_NO_STORE: Final = (b"cache-control", b"no-store")
_NOT_BUILT: Final = (
    "The portal is not built. In a checkout: make portal. The services are here all the same.\n"
)
_NO_SCRIPT: Final = "The portal needs JavaScript. The same can be read from Python and on the command line."
_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 20'%3E%3Cpath d='M2 14c3 0"
    " 3-8 6-8s3 8 6 8 2-4 4-4' fill='none'"
    " stroke='%230b7bd0' stroke-width='2.6' stroke-linecap='round'/%3E%3C/svg%3E"
)
_ACTIVITY_PARTS: Final = 30
_ACTIVITY_SPAN_S: Final = 30 * 86_400
_RUNS: Final = 50
_COMPARED: Final = 500
_COLUMNS: Final = ("params.*", "tags.*", "properties.*", "metrics.*")
_TABS: Final = frozenset(
    (
        "overview",
        "metrics",
        "tables",
        "images",
        "system",
        "logs",
        "files",
        "source",
        "children",
        "attempts",
        "ledger",
    )
)

Answers = list[tuple[str, Message, Awaitable[Message]]]


class Shell:
    """Makes the page for each address."""

    def __init__(self, servicer: QueryServicer, files: PortalFiles) -> None:
        """`servicer` is asked as any other client would."""
        self._servicer = servicer
        self._files = files

    def login(self, status: int, prefix: str, after: str, *, wrong: bool) -> Page:
        """The form that asks for a key."""
        return self._page(status, prefix, {"signIn": {"next": after, "wrong": wrong}})

    def error(self, status: int, prefix: str, text: str) -> Page:
        """A page that says what went wrong."""
        return self._page(status, prefix, {"error": {"status": status, "text": text}})

    def shared(self, prefix: str, segments: Sequence[str], share: run_service_pb2.Share) -> Page:
        """A page of a shared link. It carries no answers: what may be read is looked at call by call."""
        if segments:
            return self._page(200, prefix, {"share": {"expiresMs": share.expires_time_ns // 1_000_000}})
        scope = share.scope
        if scope.experiment:
            path = links.experiment_path(share.workspace, scope.experiment)
        elif len(scope.runs) == 1:
            path = links.run_path(share.workspace, scope.runs[0].run)
        else:
            runs = ",".join(quote(run.run, safe="") for run in scope.runs)
            path = f"/w/{quote(share.workspace, safe='')}/compare?runs={runs}"
        return Page(
            302, b"", "text/plain; charset=utf-8", ((b"location", (prefix + path).encode()), _NO_STORE)
        )

    async def page(self, prefix: str, segments: Sequence[str], query: Mapping[str, str]) -> Page:
        """The page at a path.

        :raises NotFound: there is none.
        """
        match segments:
            case [] | ["w", _]:
                asked = self._experiments(segments[1] if segments else "", query)
            case ["w", workspace, "e", experiment]:
                asked = self._runs(workspace, experiment, query)
            case ["w", workspace, "r", run] | ["w", workspace, "r", run, str()] if _is_tab(segments):
                asked = self._run(workspace, run)
            case ["w", workspace, "compare"]:
                asked = self._compared(workspace, query)
            case ["w", _, "models", *_] | ["compare"] | ["health"]:
                asked = []
            case ["r", run]:
                return await self._redirect(prefix, run)
            case _:
                raise NotFound("There is nothing at this address.")
        messages = await asyncio.gather(*(translated(answer) for _, _, answer in asked))
        answers = [
            {
                "method": f"runstream.v1.QueryService/{method}",
                "request": _text(request),
                "response": _text(message),
            }
            for (method, request, _), message in zip(asked, messages, strict=True)
        ]
        return self._page(200, prefix, {"answers": answers})

    def _experiments(self, workspace: str, query: Mapping[str, str]) -> Answers:
        request = query_service_pb2.ListExperimentsRequest(
            workspace=workspace, activity_parts=_ACTIVITY_PARTS, activity_span_s=_ACTIVITY_SPAN_S
        )
        if query.get("archived") == "1":
            request.archive = query_service_pb2.ARCHIVE_VIEW_ALL
        return [("ListExperiments", request, self._servicer.list_experiments(request))]

    def _runs(self, workspace: str, experiment: str, query: Mapping[str, str]) -> Answers:
        request = query_service_pb2.SearchRunsRequest(
            workspace=workspace, experiments=[experiment], columns=_COLUMNS, page_size=_RUNS
        )
        request.barrier.allow_settling = True
        if query.get("archived") == "1":
            request.archive = query_service_pb2.ARCHIVE_VIEW_ALL
        if query.get("children") != "1":
            request.family.top_level = True
        return [("SearchRuns", request, self._servicer.search_runs(request))]

    def _compared(self, workspace: str, query: Mapping[str, str]) -> Answers:
        runs = list(dict.fromkeys(run for run in query.get("runs", "").split(",") if run))
        if not runs or query.get("e"):
            return []
        named = ", ".join(json.dumps(run, ensure_ascii=False) for run in runs)
        request = query_service_pb2.SearchRunsRequest(
            workspace=workspace,
            filter=f"id in ({named})",
            archive=query_service_pb2.ARCHIVE_VIEW_ALL,
            columns=(*_COLUMNS, "system.*"),
            page_size=_COMPARED,
        )
        request.barrier.allow_settling = True
        return [("SearchRuns", request, self._servicer.search_runs(request))]

    def _run(self, workspace: str, run: str) -> Answers:
        of_run = query_service_pb2.GetRunRequest()
        of_run.run.workspace, of_run.run.run = workspace, run
        of_run.barrier.allow_settling = True
        series = query_service_pb2.ListSeriesRequest(run=of_run.run, barrier=of_run.barrier)
        return [
            ("GetRun", of_run, self._servicer.get_run(of_run)),
            ("ListSeries", series, self._servicer.list_series(series)),
        ]

    async def _redirect(self, prefix: str, run: str) -> Page:
        workspaces = await translated(self._servicer.workspaces_of(run))
        if not workspaces:
            raise NotFound(f"There is no run {run!r}.")
        if len(workspaces) > 1:
            named = ", ".join(prefix + links.run_path(workspace, run) for workspace in workspaces)
            return self.error(300, prefix, f"Several workspaces have a run {run!r}: {named}")
        location = prefix + links.run_path(workspaces[0], run)
        return Page(302, b"", "text/plain; charset=utf-8", ((b"location", location.encode()), _NO_STORE))

    def _page(self, status: int, prefix: str, content: Mapping[str, Any]) -> Page:
        entry = self._files.entry()
        if entry is None:
            return Page(max(status, 503), _NOT_BUILT.encode(), "text/plain; charset=utf-8", (_NO_STORE,))
        data = {"prefix": prefix, **content}
        # No text of others can end the element: a script's end begins with this character.
        carried = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
        at = html.escape(prefix)
        lines = [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark"><title>runstream</title>',
            f'<link rel="icon" href="{_ICON}">',
            *(f'<link rel="stylesheet" href="{at}/{name}">' for name in entry.styles),
            *(f'<link rel="modulepreload" href="{at}/{name}">' for name in entry.preloads),
            f'<script type="application/json" id="shell">{carried}</script>',
            f'<script type="module" src="{at}/{entry.script}"></script>',
            f'</head><body><div id="portal"><noscript>{_NO_SCRIPT}</noscript></div></body></html>',
        ]
        return Page(status, "\n".join(lines).encode("utf-8", "replace"), headers=(_NO_STORE,))


def _is_tab(segments: Sequence[str]) -> bool:
    return len(segments) == 4 or segments[4] in _TABS


def _text(message: Message) -> str:
    return base64.b64encode(message.SerializeToString()).decode()
