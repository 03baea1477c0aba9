"""RunService on a real log with real writers: what is changed, once; what is shared, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from runstream.v1 import error_pb2, health_service_pb2, ingest_service_pb2, point_pb2, run_pb2, workspace_pb2
from runstream.v1 import query_service_pb2 as reading
from runstream.v1 import run_service_pb2 as messages
from runstream_ingest.writers.loop import WriterLoop
from runstream_ingest.writers.runs import Events, RunsSink
from runstream_query.access import Access, Caller
from runstream_query.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    QueryServiceError,
    Unauthenticated,
)
from runstream_query.event_writer import EventWriter
from runstream_query.health_service import HealthServicer, health_service
from runstream_query.run_service import RunServicer, run_service
from runstream_query.service import QueryServicer, query_service
from runstream_query.services import Service
from runstream_query.shares import Shares, run_refs
from runstream_query.summariser import Summariser
from runstream_server.drain import log_ends
from runstream_store.credentials import Authenticator
from runstream_store.errors import ObjectsUnavailable
from runstream_store.hot import HotState, open_hot
from runstream_store.hot.channels import COMMANDS
from runstream_store.log import open_log
from runstream_store.objects import Objects, open_objects
from runstream_store.tables import Tables, open_tables
from tests.reads import T0, TOKEN, Row, W, points, to_table

ME = Caller("me")
WAIT = 60_000


class Site:
    """A log, a writer of runs, a summariser, and the two services."""

    def __init__(self, tables: Tables, hot: HotState, log: Any, objects: Objects) -> None:
        self.tables, self.hot = tables, hot
        self.log, self.objects = log, objects
        self.events = EventWriter(log)
        self.now_s = 0
        self.queries = QueryServicer(tables, hot, epochs=log.epoch, ends=partial(log_ends, log))
        self.shares = Shares(
            tables, self.queries.barrier.catch_up, clock_ns=lambda: time.time_ns() + self.now_s * 10**9
        )
        self.changes = RunServicer(
            self.events, self.queries.runs, self.queries.barrier, self.shares, hot, "http://here:7301"
        )
        self.access = Access(Authenticator(TOKEN), self.shares)
        self.made = 0

    async def start(
        self, *, experiment: str = "e", over: bool = False, role: int = 1, host: str = ""
    ) -> point_pb2.RunRef:
        """A run that has started; its writer is 16 times the same byte."""
        self.made += 1
        ref = point_pb2.RunRef(workspace="ws", run=f"run-{self.made}")
        call = self.events.begin("test")
        call.writer = bytes([self.made]) * 16
        events = [
            run_pb2.RunEvent(run_started=run_pb2.RunStarted(experiment=experiment, launch="L")),
            run_pb2.RunEvent(
                writer_started=run_pb2.WriterStarted(role=role, launch="L", host=host)  # type: ignore[arg-type]
            ),
        ]
        if over:
            ended = run_pb2.RunEnded(status=run_pb2.RUN_STATUS_COMPLETED)
            events.append(run_pb2.RunEvent(run_ended=ended))
        call.about_run(ref, events)
        await self.events.write(call)
        return ref

    async def end(self, ref: point_pb2.RunRef, **ended: Any) -> None:
        """The writer of a run is gone."""
        call = self.events.begin("test")
        call.writer = bytes([int(ref.run.removeprefix("run-"))]) * 16
        said = run_pb2.WriterEnded(role=run_pb2.WRITER_ROLE_MAIN, launch="L", observed=True, **ended)
        call.about_run(ref, [run_pb2.RunEvent(writer_ended=said)])
        await self.get(ref, positions=[reading_position(p) for p in await self.events.write(call)])

    async def get(self, ref: point_pb2.RunRef, positions: Any = ()) -> reading.Run:
        """A run, once these positions are there."""
        barrier = reading.ReadBarrier(positions=positions, timeout_ms=WAIT)
        return (await self.queries.get_run(reading.GetRunRequest(run=ref, barrier=barrier))).run

    async def search(self, positions: Any = (), **more: Any) -> list[str]:
        """Ids of runs, once these positions are there."""
        barrier = reading.ReadBarrier(positions=positions, timeout_ms=WAIT)
        request = reading.SearchRunsRequest(workspace="ws", barrier=barrier, **more)
        return sorted(run.ref.run for run in (await self.queries.search_runs(request)).runs)

    @property
    def services(self) -> tuple[Service, ...]:
        health = HealthServicer(self.log, self.tables, self.objects, self.hot, 30)
        return query_service(self.queries), run_service(self.changes), health_service(health)

    async def call(self, name: str, request: Any, token: str) -> Any:
        """A call as a port makes it."""
        call = next(call for service in self.services for call in service.calls() if call.name == name)
        if call.streams:
            return [m async for m in call.stream(self.access, f"Bearer {token}", request)]
        return await call.answer(self.access, f"Bearer {token}", request)


def reading_position(position: Any) -> run_pb2.LogPosition:
    return run_pb2.LogPosition(
        topic=position.topic, partition=position.partition, offset=position.offset, epoch=position.epoch
    )


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Site]:
    log = await open_log(f"sqlite://{folder}/log.sqlite")
    tables = await open_tables(f"chdb://{folder}/tables")
    hot = await open_hot("memory://")
    await tables.migrate()
    summariser = Summariser(tables, hot)
    writer = WriterLoop(log, tables, hot, RunsSink(), derived=summariser)
    summarising, writing = asyncio.create_task(summariser.run()), asyncio.create_task(writer.run())
    try:
        objects = await open_objects(f"file://{folder}/objects")
        yield Site(tables, hot, log, objects)
    finally:
        writer.stop()
        await writing
        summarising.cancel()
        await asyncio.wait([summarising])
        await hot.close()
        await tables.close()
        await log.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with opened(tmp_path_factory.mktemp("changes")) as found:
        yield found


pytestmark = pytest.mark.asyncio(loop_scope="module")


def tags(run: reading.Run, kind: int = run_pb2.ATTRIBUTE_KIND_TAG) -> dict[str, str | None]:
    return {a.key: a.value if a.HasField("value") else None for a in run.attributes if a.kind == kind}


async def test_tags_names_and_archive_are_read_at_once(site: Site) -> None:
    one, two = await site.start(), await site.start()
    pairs = [messages.KeyValue(key="a", value="1"), messages.KeyValue(key="b")]
    done = await site.changes.set_tags(messages.SetTagsRequest(runs=[one, two], tags=pairs), ME)
    assert tags(await site.get(one, done.positions)) == {"a": "1", "b": None}
    assert await site.search(done.positions, filter="tags.a == 1 and tags.b") == [one.run, two.run]
    gone = await site.changes.remove_tags(messages.RemoveTagsRequest(runs=[one], keys=["a", "x"]), ME)
    assert await site.search(gone.positions, filter="tags.a == 1") == [two.run]
    named = await site.changes.set_display_name(
        messages.SetDisplayNameRequest(run=one, display_name=" best one "), ME
    )
    described = await site.changes.set_description(
        messages.SetDescriptionRequest(run=one, description="# why"), ME
    )
    assert await site.search(described.positions, filter="name == 'best one'") == [one.run]
    found = await site.get(one, named.positions)
    assert (found.display_name, tags(found, run_pb2.ATTRIBUTE_KIND_SYSTEM)["description"]) == (
        "best one",
        "# why",
    )
    put_away = await site.changes.archive_runs(messages.ArchiveRunsRequest(runs=[two]), ME)
    assert two.run not in await site.search(put_away.positions)
    assert await site.search(archive=reading.ARCHIVE_VIEW_ARCHIVED) == [two.run]
    assert await site.search(filter="archived") == [two.run]
    back = await site.changes.restore_runs(messages.RestoreRunsRequest(runs=[two]), ME)
    assert two.run in await site.search(back.positions)


async def test_a_call_that_is_made_again_counts_once(site: Site) -> None:
    """What others set meanwhile is not undone by a repeat."""
    run = await site.start()

    async def tag(value: str, request_id: str) -> Any:
        pair = messages.KeyValue(key="k", value=value)
        request = messages.SetTagsRequest(runs=[run], tags=[pair], request_id=request_id)
        return await site.changes.set_tags(request, ME)

    await tag("first", "call-1")
    await tag("second", "call-2")
    again = await tag("first", "call-1")
    assert tags(await site.get(run, again.positions)) == {"k": "second"}
    rows = await site.tables.query(
        "SELECT count() AS n FROM attributes FINAL WHERE run = {run:String}", {"run": run.run}
    )
    assert rows.to_pylist() == [{"n": 2}]


async def test_properties_keep_their_value(site: Site) -> None:
    run = await site.start()
    for value in ("1", "2"):
        pairs = [messages.KeyValue(key=key, value=value) for key in ("p", f"q{value}")]
        request = messages.AddPropertiesRequest(runs=[run], properties=pairs)
        done = await site.changes.add_properties(request, ME)
        await site.get(run, done.positions)
    found = await site.get(run)
    assert tags(found, run_pb2.ATTRIBUTE_KIND_PROPERTY) == {"p": "1", "q1": "1", "q2": "2"}


async def test_cancel_tells_the_senders_and_decides_the_status(site: Site) -> None:
    run = await site.start()
    writer = bytes([site.made]) * 16
    await site.hot.renew_leases([writer], time.time_ns())
    async with await site.hot.subscribe(COMMANDS) as commands:
        done = await site.changes.cancel_run(messages.CancelRunRequest(run=run, reason="too slow"), ME)
        assert done.told == 1
        told = await commands.get(10.0)
    assert told is not None
    command = ingest_service_pb2.Command.FromString(told)
    assert (command.writer, command.cancel_run) == (writer, run.run)
    assert (await site.get(run, done.positions)).status == run_pb2.RUN_STATUS_CANCEL_REQUESTED
    assert await site.search(done.positions, filter="status == CancelRequested") == [run.run]
    await site.end(run, outcome=run_pb2.WRITER_OUTCOME_EXCEPTION)
    assert (await site.get(run)).status == run_pb2.RUN_STATUS_CANCELED
    with pytest.raises(FailedPrecondition, match="over"):
        await site.changes.cancel_run(messages.CancelRunRequest(run=run), ME)


async def test_what_a_run_says_itself_stays(site: Site) -> None:
    over = await site.start(over=True)
    await site.get(over)
    call = site.events.begin("late")
    call.about_run(over, [run_pb2.RunEvent(cancel_requested=run_pb2.CancelRequested())])
    positions = [reading_position(p) for p in await site.events.write(call)]
    assert (await site.get(over, positions)).status == run_pb2.RUN_STATUS_COMPLETED


async def test_deleted_runs_are_gone(site: Site) -> None:
    going, over = await site.start(), await site.start(over=True)
    with pytest.raises(FailedPrecondition, match="cancel it first"):
        await site.changes.delete_runs(messages.DeleteRunsRequest(runs=[over, going]), ME)
    done = await site.changes.delete_runs(messages.DeleteRunsRequest(runs=[over]), ME)
    assert over.run not in await site.search(done.positions, archive=reading.ARCHIVE_VIEW_ALL)
    with pytest.raises(NotFound):
        await site.get(over, done.positions)


async def test_experiments(site: Site) -> None:
    one = await site.start(experiment="lab", over=True)
    await site.start(experiment="lab")
    pair = messages.KeyValue(key="t", value="v")
    update = messages.UpdateExperimentRequest(
        workspace="ws", experiment="lab", description="of mice", set_tags=[pair]
    )
    done = await site.changes.update_experiment(update, ME)
    put_away = await site.changes.archive_runs(messages.ArchiveRunsRequest(runs=[one]), ME)

    async def listed(**more: Any) -> dict[str, reading.Experiment]:
        barrier = reading.ReadBarrier(positions=[*done.positions, *put_away.positions], timeout_ms=WAIT)
        request = reading.ListExperimentsRequest(workspace="ws", barrier=barrier, **more)
        return {found.name: found for found in (await site.queries.list_experiments(request)).experiments}

    lab = (await listed(activity_parts=4, activity_span_s=4000))["lab"]
    assert (lab.runs, lab.running, lab.failed, lab.archived_runs, lab.archived) == (2, 1, 0, 1, False)
    assert sum(lab.activity) == 2
    assert {(a.kind, a.key): a.value for a in lab.attributes} == {
        (1, "t"): "v",
        (4, "description"): "of mice",
    }
    hidden = messages.UpdateExperimentRequest(
        workspace="ws", experiment="lab", archived=True, remove_tags=["t"]
    )
    done = await site.changes.update_experiment(hidden, ME)
    assert "lab" not in await listed()
    assert list(await listed(archive=reading.ARCHIVE_VIEW_ARCHIVED)) == ["lab"]
    lab = (await listed(archive=reading.ARCHIVE_VIEW_ALL))["lab"]
    assert [a.key for a in lab.attributes] == ["archived", "description"]


@pytest.mark.parametrize(
    "request_",
    [
        messages.SetTagsRequest(tags=[messages.KeyValue(key="a")]),
        messages.SetTagsRequest(runs=[point_pb2.RunRef(workspace="ws", run="run-1")]),
        messages.SetTagsRequest(runs=[point_pb2.RunRef(run="run-1")], tags=[messages.KeyValue(key="a")]),
        messages.SetTagsRequest(
            runs=[point_pb2.RunRef(workspace="ws", run="run-1")], tags=[messages.KeyValue(key="x" * 1001)]
        ),
    ],
)
async def test_bad_requests_are_refused(site: Site, request_: messages.SetTagsRequest) -> None:
    with pytest.raises(InvalidArgument):
        await site.changes.set_tags(request_, ME)


async def test_unknown_runs_are_refused(site: Site) -> None:
    nobody = point_pb2.RunRef(workspace="ws", run="nobody")
    with pytest.raises(NotFound, match="nobody"):
        await site.changes.archive_runs(messages.ArchiveRunsRequest(runs=[nobody]), ME)


# --------------------------------------------------------------------------------------- shares


async def share(site: Site, **scope: Any) -> messages.ShareRunResponse:
    request = messages.ShareRunRequest(
        workspace="ws", scope=workspace_pb2.ShareScope(**scope), expires_s=3600, note="for you"
    )
    made: messages.ShareRunResponse = await site.call("ShareRun", request, TOKEN)
    return made


async def test_a_share_of_a_run_reads_that_run_and_nothing_else(site: Site) -> None:
    """Every call of every service, with a share's token: only reads of that run are answered."""
    mine, other = await site.start(), await site.start()
    await site.tables.insert_points(points([Row(1.0, run=mine.run), Row(2.0, run=other.run)]))
    made = await share(site, runs=[mine])
    assert made.url == f"http://here:7301/s/{made.token}"
    run = (await site.call("GetRun", reading.GetRunRequest(run=mine), made.token)).run
    assert run.ref == mine
    selection = reading.MetricSelection(runs=[mine])
    assert len(await site.call("GetMetrics", reading.GetMetricsRequest(selection=selection), made.token)) == 2
    caller = await site.call("GetCaller", messages.GetCallerRequest(), made.token)
    assert (caller.principal, caller.read_only, caller.share.scope.runs) == ("share", True, [mine])
    answered = set()
    for service in site.services:
        for call in service.calls():
            for refs in ([], [mine], [other], [mine, other]):
                request = filled(call.request(), refs)
                try:
                    await site.call(call.name, request, made.token)
                    answered.add((call.name, tuple(ref.run for ref in refs)))
                except (PermissionDenied, Unauthenticated):
                    pass
                except QueryServiceError:  # let in, and then refused for another reason
                    answered.add((call.name, tuple(ref.run for ref in refs)))
    reads = {"GetMetrics", "GetMetricsPage", "ListSeries", "GetRun", "PollRun", "GetPortalLink"}
    perhaps = {"GetLedger", "WatchRun", "GetCaller"}
    assert {name for name, _ in answered} <= reads | perhaps
    assert all(set(refs) <= {mine.run} for name, refs in answered if name != "GetCaller"), answered
    assert {name for name, refs in answered if refs == (mine.run,)} >= reads


def filled(request: Any, refs: list[point_pb2.RunRef]) -> Any:
    """A request that names runs wherever it can."""
    for field in request.DESCRIPTOR.fields:
        if field.message_type is None:
            if field.name == "workspace":
                request.workspace = "ws"
            continue
        name = field.message_type.name
        if name == "RunRef":
            if field.is_repeated:
                getattr(request, field.name).extend(refs)
            elif refs:
                getattr(request, field.name).CopyFrom(refs[-1])
        elif name in ("MetricSelection", "GetMetricsRequest", "ShareScope"):
            filled(getattr(request, field.name), refs)
    if request.DESCRIPTOR.name == "WatchRunRequest":
        request.run.run += "-nobody" if request.run.run else ""  # it would not end
    return request


async def test_a_share_of_an_experiment(site: Site) -> None:
    mine, other = await site.start(experiment="shared"), await site.start(experiment="not shared")
    made = await share(site, experiment="shared")
    assert (await site.call("GetRun", reading.GetRunRequest(run=mine), made.token)).run.ref == mine
    with pytest.raises(PermissionDenied):
        await site.call("GetRun", reading.GetRunRequest(run=other), made.token)
    elsewhere = point_pb2.RunRef(workspace="other", run=mine.run)
    with pytest.raises(PermissionDenied):
        await site.call("GetRun", reading.GetRunRequest(run=elsewhere), made.token)
    wanted = reading.SearchRunsRequest(workspace="ws", experiments=["shared"])
    assert [run.ref for run in (await site.call("SearchRuns", wanted, made.token)).runs] == [mine]
    for names in ([], ["not shared"], ["shared", "not shared"]):
        request = reading.SearchRunsRequest(workspace="ws", experiments=names)
        with pytest.raises(PermissionDenied):
            await site.call("SearchRuns", request, made.token)
    with pytest.raises(PermissionDenied):
        await site.call("ListExperiments", reading.ListExperimentsRequest(workspace="ws"), made.token)


async def test_shares_end(site: Site) -> None:
    run = await site.start()
    one, two = await share(site, runs=[run]), await share(site, runs=[run])
    listed = await site.call("ListShares", messages.ListSharesRequest(workspace="ws"), TOKEN)
    assert {s.share for s in listed.shares} >= {one.share.share, two.share.share}
    assert one.token not in str(listed)
    request = reading.GetRunRequest(run=run)
    await site.call("GetRun", request, one.token)
    await site.call("RevokeShare", messages.RevokeShareRequest(workspace="ws", share=one.share.share), TOKEN)
    with pytest.raises(Unauthenticated, match="ended"):
        await site.call("GetRun", request, one.token)
    fresh = Shares(site.tables, site.queries.barrier.catch_up)  # another query service
    with pytest.raises(Unauthenticated):
        await fresh.find(one.token)
    assert (await fresh.find(two.token)).share == two.share.share
    site.now_s = 3601
    try:
        with pytest.raises(Unauthenticated, match="ended"):
            await site.call("GetRun", request, two.token)
    finally:
        site.now_s = 0
    listed = await site.call("ListShares", messages.ListSharesRequest(), TOKEN)
    assert one.share.share not in {s.share for s in listed.shares}


async def test_tokens_can_not_be_made_up(site: Site) -> None:
    made = await share(site, runs=[await site.start()])
    sql = "SELECT hex(event) AS event, hex(token_sha256) AS d FROM share_events"
    stored = (await site.tables.query(sql)).to_pylist()
    for token in (made.token[:-1], made.token + "x", "rss_", "rss_' OR 1=1 --", f"rss_{stored[0]['d']}"):
        with pytest.raises(Unauthenticated):
            await site.call("GetCaller", messages.GetCallerRequest(), token)
    assert all(made.token.encode().hex().upper() not in row["event"] for row in stored)


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"experiment": "e", "runs": [point_pb2.RunRef(workspace="ws", run="run-1")]},
        {"runs": [point_pb2.RunRef(workspace="x", run="y")]},
    ],
)
async def test_a_share_shows_something_that_is_there(site: Site, scope: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        await share(site, **scope)


async def test_all_runs_of_a_request_are_found() -> None:
    refs = [point_pb2.RunRef(workspace="w", run=run) for run in "abc"]
    selection = reading.MetricSelection(runs=refs)
    page = reading.GetMetricsPageRequest(request=reading.GetMetricsRequest(selection=selection))
    assert list(run_refs(page)) == refs


async def test_how_the_server_is(site: Site) -> None:
    run = await site.start(host="here")
    await site.get(run)
    await site.hot.renew_leases([bytes([int(run.run.removeprefix("run-"))]) * 16], time.time_ns())
    both = [run.run, "another"]
    letters = [_letter(run=name, offset=n, elements=n + 1) for n, name in enumerate([*both, run.run, ""])]
    again = _letter(run=run.run, offset=9, elements=1, seq_end=5)
    repeated = [again, {**again, "offset": 10}]
    lost = _letter(run="", offset=7, elements=3, code=error_pb2.ERROR_CODE_UNAVAILABLE, workspace="")
    await site.tables.insert("dead_letters", to_table("dead_letters", [*letters, *repeated, lost]))
    found = await site.call("GetHealth", health_service_pb2.GetHealthRequest(), TOKEN)
    roles = [(one.role, one.engine, one.problem) for one in found.engines]
    assert roles == [
        (1, "sqlite", ""),
        (2, "chdb", ""),
        (3, site.objects.capabilities.name, ""),
        (4, "memory", ""),
    ]
    events = next(one for one in found.lags if one.topic == "runs")
    assert events.next_offset > 0
    assert events.waiting == 0
    assert {"run_events", "dead_letters"} <= {one.table for one in found.tables if one.rows}
    assert all(0 < disk.free_bytes < disk.total_bytes for disk in found.disks)
    assert found.disks
    (dead,) = found.dead_letters
    assert (dead.topic, dead.reason, dead.records, dead.elements, dead.runs) == ("points", "no", 5, 11, 2)
    assert (dead.workspace, dead.run) == ("ws", run.run)
    (expired,) = found.expired
    assert (expired.topic, expired.first, expired.records) == ("points", 7, 3)
    (here,) = (host for host in found.hosts if host.host == "here")
    assert (here.writers, here.responding) == (1, 1)


async def test_what_is_on_its_way(site: Site) -> None:
    """Who ended and has records to send is counted by machine, until its sender has sent all."""
    run = await site.start()
    await site.get(run)

    async def told() -> list[tuple[int, int]]:
        found = await site.call("GetHealth", health_service_pb2.GetHealthRequest(), TOKEN)
        return [(host.writers, host.unsent) for host in found.hosts if host.host == "node-7"]

    assert await told() == []
    writer, t = bytes([77]) * 16, time.time_ns()

    async def event(seq: int, **content: Any) -> None:
        sent = run_pb2.RunEvent(run=run, seq=seq, time_ns=t + seq, **content)
        batch = run_pb2.RunEventBatch(writer=writer, events=[sent])
        for table, block in RunsSink().build([Events(t, batch)]):
            await site.tables.insert(table, block)

    await event(1, writer_started=run_pb2.WriterStarted(role=run_pb2.WRITER_ROLE_WORKER, host="node-7"))
    assert await told() == [(1, 0)]
    await event(2, writer_ended=run_pb2.WriterEnded(outcome=run_pb2.WRITER_OUTCOME_CLEAN, drain_follows=True))
    assert await told() == [(0, 1)]
    await event(3, writer_drained=run_pb2.WriterDrained(seq_end=5))
    assert await told() == []


async def test_how_the_server_is_when_an_engine_is_away(site: Site) -> None:
    class Away:
        capabilities = site.objects.capabilities

        async def size(self, key: str) -> int:
            raise ObjectsUnavailable(f"nobody answers for {key[:3]}")

    away: Any = Away()
    servicer = HealthServicer(site.log, site.tables, away, site.hot, 30)
    found = await servicer.get_health(health_service_pb2.GetHealthRequest())
    assert [one.role for one in found.engines if one.problem] == [health_service_pb2.ENGINE_ROLE_OBJECTS]
    assert found.tables


async def test_a_shared_link_does_not_tell_how_the_server_is(site: Site) -> None:
    run = await site.start()
    made = await share(site, runs=[run])
    with pytest.raises(PermissionDenied):
        await site.call("GetHealth", health_service_pb2.GetHealthRequest(), made.token)


def _letter(**more: Any) -> dict[str, Any]:
    """A dead letter."""
    row = {
        "topic": "points",
        "partition": 0,
        "epoch": W[0],
        "offset": 0,
        "workspace": "ws",
        "run": "",
        "writer": W[1],
        "first_seq": 0,
        "seq_end": 0,
        "code": 1,
        "reason": "no",
        "elements": 0,
        "received_time": T0 + more["offset"],
        "digest": 0,
        "digested": 0,
        "events": 0,
    }
    return {**row, **more}
