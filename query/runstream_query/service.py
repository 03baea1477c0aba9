"""The query service: what each call does, whatever protocol it came by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

import numpy as np

from runstream.internal.v1 import twin_pb2
from runstream.v1 import point_pb2, query_service_pb2, run_pb2
from runstream_query import links, tokens
from runstream_query.barrier import Barrier, Ends, Epochs, RunEnds, run_ends
from runstream_query.completion import Completer
from runstream_query.errors import InvalidArgument, NotFound
from runstream_query.experiments import list_experiments
from runstream_query.figures import FiguresReader
from runstream_query.ledger import LedgerReader, checked_claims
from runstream_query.levels import Levels
from runstream_query.live import LiveStates
from runstream_query.metrics import MetricReader
from runstream_query.reduce import Reducer
from runstream_query.runs import RunReader
from runstream_query.search import RunSearch
from runstream_query.selection import Selection, checked_run, checked_selection
from runstream_query.series import list_series
from runstream_query.services import Service
from runstream_query.settings import QuerySettings
from runstream_query.stored import StoredReader
from runstream_query.watch import Watcher
from runstream_store.hot import HotState
from runstream_store.position import Position
from runstream_store.tables import Tables

_SHARED: Final = frozenset(
    (
        "GetMetrics",
        "GetMetricsPage",
        "ListSeries",
        "GetRun",
        "GetLedger",
        "WatchRun",
        "PollRun",
        "GetPortalLink",
    )
)
_SPARKLINE_PARTS: Final = 64
_INTERVAL_MS: Final = 500
_MAX_WAIT_MS: Final = 60_000
_PAGE: Final = 10_000
_MAX_PAGE: Final = 1_000_000


class QueryServicer:
    """Answers requests."""

    def __init__(
        self,
        tables: Tables,
        hot: HotState,
        settings: QuerySettings | None = None,
        *,
        epochs: Epochs | None = None,
        ends: Ends | None = None,
    ) -> None:
        """
        :param epochs: gives the epoch that a topic of the event log has now: `EventLog.epoch`. Without it a
            read that waits for a position of another log waits until its time is over, where it could be
            refused at once.
        """
        self._tables = tables
        self._hot = hot
        self.settings = settings or QuerySettings()
        self.barrier = self._barrier = Barrier(hot, epochs, self.settings.barrier_timeout_ms, ends)
        self.runs = self._runs = RunReader(tables, hot, self._barrier, self.settings)
        stored = StoredReader(tables, self.settings.query_timeout_s)
        self._ledgers = LedgerReader(self._runs, hot, self._barrier, stored)
        self._live = LiveStates(self._runs)
        self._search = RunSearch(self._runs, self._live)
        self._levels = Levels()
        self._figures = FiguresReader(tables, self.settings.query_timeout_s)
        self._watcher = Watcher(self._runs, self._barrier, self._figures)

    async def check(self) -> None:
        """Raises unless reads can be answered."""
        await self._tables.query("SELECT 1", {}, timeout_s=5)

    async def get_metrics(
        self, request: query_service_pb2.GetMetricsRequest
    ) -> AsyncGenerator[twin_pb2.GetMetricsResponse, None]:
        """Streams elements or buckets."""
        info, reader = await self._prepare(request)
        yield twin_pb2.GetMetricsResponse(info=info)
        if request.HasField("reduction"):
            async for buckets in Reducer(reader, request.reduction.buckets, self._levels).stream():
                yield twin_pb2.GetMetricsResponse(buckets=buckets)
        else:
            async for points in reader.stream(identity=request.include_identity):
                yield twin_pb2.GetMetricsResponse(points=points)

    async def get_metrics_page(
        self, request: query_service_pb2.GetMetricsPageRequest
    ) -> twin_pb2.GetMetricsPageResponse:
        """A page of elements or buckets."""
        size = request.page_size or _PAGE
        if size > _MAX_PAGE:
            raise InvalidArgument(f"page_size is {size:,}; at most {_MAX_PAGE:,}")
        wanted = request.request
        # What a page waits for may differ from page to page.
        same = query_service_pb2.GetMetricsRequest()
        same.CopyFrom(wanted)
        same.ClearField("barrier")
        bound_to = tokens.digest("GetMetricsPage", same.SerializeToString(deterministic=True))
        info, reader = await self._prepare(wanted)
        response = twin_pb2.GetMetricsPageResponse(info=info)
        if wanted.HasField("reduction"):
            reducer = Reducer(reader, wanted.reduction.buckets, self._levels)
            buckets, response.next_page_token = await reducer.page(bound_to, request.page_token, size)
            response.buckets.extend(buckets)
        else:
            identity = wanted.include_identity
            points, response.next_page_token = await reader.page(
                bound_to, request.page_token, size, identity=identity
            )
            response.points.extend(points)
        return response

    async def list_series(
        self, request: query_service_pb2.ListSeriesRequest
    ) -> query_service_pb2.ListSeriesResponse:
        """The series of a run."""
        workspace, run = checked_run(request.run)
        ends, _ = await self._reach(request.barrier, {workspace: (run,)})
        relaunched = run in ends[workspace].relaunched
        timeout_s = self.settings.query_timeout_s
        series = await list_series(
            self._tables, self._figures, workspace, run, relaunched, timeout_s, request.attempt
        )
        return query_service_pb2.ListSeriesResponse(series=series)

    async def get_run(self, request: query_service_pb2.GetRunRequest) -> query_service_pb2.GetRunResponse:
        """A run, whole."""
        workspace, run = checked_run(request.run)
        deadline = self._barrier.deadline(request.barrier)
        await self._barrier.reach(request.barrier, deadline)
        try:
            found = await self._runs.get(workspace, run)
        except NotFound:
            await self._barrier.reach_ends(deadline)
            found = await self._runs.get(workspace, run)
        return query_service_pb2.GetRunResponse(run=found)

    async def list_experiments(
        self, request: query_service_pb2.ListExperimentsRequest
    ) -> query_service_pb2.ListExperimentsResponse:
        """A page of experiments."""
        bound_to = tokens.digest("ListExperiments", request.workspace, str(request.archive))
        deadline = self._barrier.deadline(request.barrier)
        await self._barrier.reach(request.barrier, deadline)
        await self._barrier.reach_summaries(request.barrier, deadline)
        return await list_experiments(self._live, request, bound_to, self.settings.query_timeout_s)

    async def search_runs(
        self, request: query_service_pb2.SearchRunsRequest
    ) -> query_service_pb2.SearchRunsResponse:
        """A page of runs."""
        for status in request.statuses:
            if status not in run_pb2.RunStatus.values():
                raise InvalidArgument(f"statuses: {status} is no status")
        same = query_service_pb2.SearchRunsRequest()
        same.CopyFrom(request)
        for name in "barrier", "page_token", "page_size", "columns", "sparklines":
            same.ClearField(name)
        bound_to = tokens.digest("SearchRuns", same.SerializeToString(deterministic=True))
        deadline = self._barrier.deadline(request.barrier)
        await self._barrier.reach(request.barrier, deadline)
        await self._barrier.reach_summaries(request.barrier, deadline)
        response = await self._search.search(request, bound_to)
        await self._add_sparklines(response.runs, list(dict.fromkeys(request.sparklines)))
        return response

    async def _add_sparklines(self, runs: Sequence[query_service_pb2.Run], metrics: Sequence[str]) -> None:
        """Adds small lines of some metrics to runs."""
        if not runs or not metrics:
            return
        by_workspace: dict[str, list[str]] = {}
        for run in runs:
            by_workspace.setdefault(run.ref.workspace, []).append(run.ref.run)
        selection = Selection(
            {workspace: tuple(sorted(by_workspace[workspace])) for workspace in sorted(by_workspace)},
            tuple(metrics),
        )
        relaunched = {
            workspace: frozenset((await self._ends(workspace, names)).relaunched)
            for workspace, names in selection.runs.items()
        }
        reader = MetricReader(self._tables, self.settings, selection, relaunched)
        lines: dict[tuple[str, str, str], list[float]] = {}
        async for chunk in Reducer(reader, _SPARKLINE_PARTS, self._levels).stream():
            if not chunk.column:
                line = np.frombuffer(chunk.last, np.float64).tolist()
                lines[chunk.run.workspace, chunk.run.run, chunk.metric] = line
        for run in runs:
            for metric in metrics:
                if line := lines.get((run.ref.workspace, run.ref.run, metric)):
                    run.sparklines.add(metric=metric, values=line)

    async def get_ledger(
        self, request: query_service_pb2.GetLedgerRequest
    ) -> query_service_pb2.GetLedgerResponse:
        """What became of all that a run's writers logged."""
        workspace, run = checked_run(request.run)
        claims = checked_claims(request.claims)
        await self._barrier.reach(request.barrier, self._barrier.deadline(request.barrier))
        return await self._ledgers.get(workspace, run, compare=request.compare, claims=claims)

    async def complete_filter(
        self, request: query_service_pb2.CompleteFilterRequest
    ) -> query_service_pb2.CompleteFilterResponse:
        """What may stand at a place of a filter."""
        return await Completer(self._tables, self.settings.query_timeout_s).complete(request)

    async def watch_run(
        self, request: query_service_pb2.WatchRunRequest
    ) -> AsyncGenerator[query_service_pb2.WatchRunResponse, None]:
        """Streams what changes of a run."""
        if request.interval_ms > _MAX_WAIT_MS:
            raise InvalidArgument(f"interval_ms is {request.interval_ms:,}; at most {_MAX_WAIT_MS:,}")
        interval_s = (request.interval_ms or _INTERVAL_MS) / 1000
        stream = self._watcher.stream(*checked_run(request.run), request.cursor, interval_s)
        async for change in stream:
            yield query_service_pb2.WatchRunResponse(change=change)

    async def poll_run(self, request: query_service_pb2.PollRunRequest) -> query_service_pb2.PollRunResponse:
        """What has changed of a run, once something has."""
        if request.wait_ms > _MAX_WAIT_MS:
            raise InvalidArgument(f"wait_ms is {request.wait_ms:,}; at most {_MAX_WAIT_MS:,}")
        workspace, run = checked_run(request.run)
        change = await self._watcher.poll(workspace, run, request.cursor, request.wait_ms / 1000)
        return query_service_pb2.PollRunResponse(change=change)

    async def get_portal_link(
        self, request: query_service_pb2.GetPortalLinkRequest
    ) -> query_service_pb2.GetPortalLinkResponse:
        """The address of a run's page."""
        url = links.run_url(self.settings.public_url, *checked_run(request.run))
        return query_service_pb2.GetPortalLinkResponse(url=url)

    async def over(self, workspace: str, run: str) -> bool:
        """Whether a run has ended, and all that its writers are known to have logged is in the tables.

        :raises NotFound: nothing is known of it.
        """
        await self._runs.check_kept(workspace, [run])
        ends = await self._ends(workspace, [run])
        if run not in ends.heard_of:
            deadline = time.monotonic() + self.settings.barrier_timeout_ms / 1000
            ends = await self._look_for(ends, [run], [run], deadline)
        if not await self._runs.ended(workspace, [run]):
            return False
        return not await self._barrier.unsettled(ends)

    async def workspaces_of(self, run: str) -> list[str]:
        """The workspaces that have a run with this id."""
        return await self._runs.workspaces_of(run)

    async def _prepare(
        self, request: query_service_pb2.GetMetricsRequest
    ) -> tuple[query_service_pb2.ReadInfo, MetricReader]:
        """Checks a request, waits for what it waits for, and gives what reads it."""
        selection: Selection = checked_selection(request.selection)
        if request.HasField("reduction"):
            if request.include_identity:
                raise InvalidArgument(
                    "include_identity: buckets have no identity; leave it out with a reduction"
                )
            Reducer.check(request.reduction.buckets)
        ends, unsettled = await self._reach(request.barrier, selection.runs)
        info = query_service_pb2.ReadInfo(
            as_of=[
                run_pb2.LogPosition(topic=p.topic, partition=p.partition, offset=p.offset, epoch=p.epoch)
                for p in await self._barrier.as_of()
            ],
            settling=[point_pb2.RunRef(workspace=workspace, run=run) for workspace, run in unsettled],
        )
        relaunched = {
            workspace: frozenset(of_workspace.relaunched) for workspace, of_workspace in ends.items()
        }
        return info, MetricReader(self._tables, self.settings, selection, relaunched)

    async def _reach(
        self, barrier: query_service_pb2.ReadBarrier, runs: Mapping[str, Sequence[str]]
    ) -> tuple[dict[str, RunEnds], list[tuple[str, str]]]:
        """Waits for a barrier. Gives what is known of the runs, and those that are settling."""
        deadline = self._barrier.deadline(barrier)
        points = await self._barrier.reach_runs(barrier, deadline)
        # While points are being inserted, what is known of the runs is read.
        reading = asyncio.gather(*(self._ends(workspace, names) for workspace, names in runs.items()))
        kept = asyncio.gather(*(self._runs.check_kept(workspace, names) for workspace, names in runs.items()))
        found_first, _, _ = await asyncio.gather(reading, kept, self._barrier.reach_points(points, deadline))
        ends = dict(zip(runs, found_first, strict=True))
        for workspace, names in runs.items():
            if unknown := sorted(set(names) - ends[workspace].heard_of):
                ends[workspace] = await self._look_for(ends[workspace], names, unknown, deadline)
                await self._runs.check_kept(workspace, unknown)
        settling: list[tuple[str, str]] = []
        for workspace, names in runs.items():
            waited = 0
            log_ends: Sequence[Position] = ()
            direct: frozenset[str] = frozenset()
            while True:
                if waited:
                    ends[workspace] = await self._ends(workspace, names)
                found = ends[workspace]
                if found.direct - direct:  # asked once: under load the log's end never stands still
                    direct |= found.direct
                    log_ends = await self._barrier.points_now()
                found = found.direct_by(log_ends)
                unsettled = await self._ended(workspace, await self._barrier.unsettled(found))
                if not unsettled or barrier.allow_settling:
                    break
                await self._barrier.approach(found, unsettled, deadline, waited)
                waited += 1
            settling += [(workspace, run) for run in unsettled]
        return ends, settling

    async def _look_for(
        self, ends: RunEnds, names: Sequence[str], unknown: Sequence[str], deadline: float
    ) -> RunEnds:
        """Makes sure that runs of which there was no event are there. Gives what is known of all by then.

        :raises NotFound: of one of them the log held nothing when it was asked for.
        """
        try:
            await self._runs.check_there(ends.workspace, unknown)
        except NotFound:
            await self._barrier.reach_ends(deadline)
            ends = await self._ends(ends.workspace, names)
            await self._runs.check_there(ends.workspace, sorted(set(names) - ends.heard_of))
        return ends

    async def _ends(self, workspace: str, runs: Sequence[str]) -> RunEnds:
        """`run_ends`, in parts."""
        size = self.settings.plan_runs
        parts = [
            await run_ends(
                self._tables, self._hot, workspace, runs[low : low + size], self.settings.query_timeout_s
            )
            for low in range(0, len(runs), size)
        ]
        return RunEnds.joined(workspace, parts)

    async def _ended(self, workspace: str, runs: Sequence[str]) -> list[str]:
        """Those of the runs that are over: a live run is read as it is, whichever of its workers have
        ended."""
        return await self._runs.ended(workspace, runs) if runs else []


def query_service(servicer: QueryServicer) -> Service:
    """The service, to be mounted."""
    return Service(
        query_service_pb2.DESCRIPTOR.services_by_name["QueryService"],
        servicer,
        shared=_SHARED,
        shared_by_experiment=frozenset(("SearchRuns", "CompleteFilter")),
        twins={
            twin_pb2.GetMetricsResponse: query_service_pb2.GetMetricsResponse,
            twin_pb2.GetMetricsPageResponse: query_service_pb2.GetMetricsPageResponse,
        },
    )
