"""The run service: what people change about runs and experiments, and what they share.

Nothing is changed in place: each call appends events, and what they amount to is worked out by who reads.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Final

from runstream.v1 import ingest_service_pb2, point_pb2, run_pb2, workspace_pb2
from runstream.v1 import run_service_pb2 as messages
from runstream_query import links
from runstream_query.access import Caller
from runstream_query.barrier import Barrier
from runstream_query.errors import FailedPrecondition, InvalidArgument, NotFound
from runstream_query.event_writer import Call, EventWriter, message_of
from runstream_query.runs import DISPLAY_NAME, RunReader, these
from runstream_query.selection import checked_run
from runstream_query.services import Service
from runstream_query.shares import Shares, digest, new_token
from runstream_query.status import FINAL
from runstream_query.summaries import ARCHIVED, DELETED
from runstream_store.hot import HotState
from runstream_store.hot.channels import COMMANDS

DESCRIPTION: Final = "description"
"""Key of the system attribute that describes a run or an experiment."""

_TAG: Final = run_pb2.ATTRIBUTE_KIND_TAG
_PROPERTY: Final = run_pb2.ATTRIBUTE_KIND_PROPERTY
_SYSTEM: Final = run_pb2.ATTRIBUTE_KIND_SYSTEM

_MAX_RUNS: Final = 10_000
_MAX_KEYS: Final = 1_000
_MAX_KEY: Final = 1_000
_MAX_TEXT: Final = 2 << 20
_MAX_NAME: Final = 1_000
_MAX_DESCRIPTION: Final = 100_000
_MAX_NOTE: Final = 1_000
_MAX_EXPERIMENT: Final = 255
_MAX_SHARED_RUNS: Final = 100
_MAX_REQUEST_ID: Final = 100
_DAY_S: Final = 86_400
_USUAL_SHARE_S: Final = 7 * _DAY_S
_LONGEST_SHARE_S: Final = 366 * _DAY_S
_ID_BYTES: Final = 16
_TELL_S: Final = 5.0

_KNOWN: Final = """
SELECT DISTINCT toString(e.workspace) AS workspace, e.run AS run FROM run_events AS e WHERE {scope}
"""
_PROPERTIES: Final = f"""
SELECT workspace, run, key FROM (
    SELECT toString(e.workspace) AS workspace, e.run AS run, e.key AS key,
        argMax((e.value, e.removed), (e.version, e.writer, e.seq)) AS newest
    FROM attributes AS e FINAL WHERE {{scope}} AND e.kind = {_PROPERTY} GROUP BY workspace, run, key
) WHERE newest.2 = 0
"""


class RunServicer:
    """Implements `runstream.v1.RunService`."""

    def __init__(
        self,
        writer: EventWriter,
        runs: RunReader,
        barrier: Barrier,
        shares: Shares,
        hot: HotState,
        public_url: str,
    ) -> None:
        """
        :param public_url: base of the links that are given out.
        """
        self._writer = writer
        self._runs = runs
        self._barrier = barrier
        self._shares = shares
        self._hot = hot
        self._public_url = public_url

    # --------------------------------------------------------------------------------- attributes

    async def set_tags(self, request: messages.SetTagsRequest, caller: Caller) -> messages.SetTagsResponse:
        """Sets tags."""
        events = [_set(_TAG, pair) for pair in _pairs("tags", request.tags)]
        return messages.SetTagsResponse(positions=await self._to_runs(request, caller, events))

    async def remove_tags(
        self, request: messages.RemoveTagsRequest, caller: Caller
    ) -> messages.RemoveTagsResponse:
        """Removes tags."""
        events = [_removed(_TAG, key) for key in _keys("keys", request.keys)]
        return messages.RemoveTagsResponse(positions=await self._to_runs(request, caller, events))

    async def set_display_name(
        self, request: messages.SetDisplayNameRequest, caller: Caller
    ) -> messages.SetDisplayNameResponse:
        """Names a run."""
        _check_length("display_name", request.display_name, _MAX_NAME)
        event = _text(DISPLAY_NAME, request.display_name.strip())
        positions = await self._to_run(request, caller, event)
        return messages.SetDisplayNameResponse(positions=positions)

    async def set_description(
        self, request: messages.SetDescriptionRequest, caller: Caller
    ) -> messages.SetDescriptionResponse:
        """Describes a run."""
        _check_length("description", request.description, _MAX_DESCRIPTION)
        positions = await self._to_run(request, caller, _text(DESCRIPTION, request.description))
        return messages.SetDescriptionResponse(positions=positions)

    async def add_properties(
        self, request: messages.AddPropertiesRequest, caller: Caller
    ) -> messages.AddPropertiesResponse:
        """Sets properties that runs do not have yet."""
        pairs = _pairs("properties", request.properties)
        keys = await self._known_runs(request.runs)
        scope = these(keys, "e.")
        rows = await self._runs.query(_PROPERTIES.replace("{scope}", scope.sql), scope.params)
        had = {(row["workspace"], row["run"], row["key"]) for row in rows}
        call = self._begin(request, caller)
        for workspace, run in keys:
            events = [_set(_PROPERTY, pair) for pair in pairs if (workspace, run, pair.key) not in had]
            if events:
                call.about_run(point_pb2.RunRef(workspace=workspace, run=run), events)
        return messages.AddPropertiesResponse(positions=await self._write(call))

    async def archive_runs(
        self, request: messages.ArchiveRunsRequest, caller: Caller
    ) -> messages.ArchiveRunsResponse:
        """Hides runs."""
        event = _set(_SYSTEM, messages.KeyValue(key=ARCHIVED, value=str(self._now(caller))))
        return messages.ArchiveRunsResponse(positions=await self._to_runs(request, caller, [event]))

    async def restore_runs(
        self, request: messages.RestoreRunsRequest, caller: Caller
    ) -> messages.RestoreRunsResponse:
        """Shows runs again."""
        positions = await self._to_runs(request, caller, [_removed(_SYSTEM, ARCHIVED)])
        return messages.RestoreRunsResponse(positions=positions)

    async def delete_runs(
        self, request: messages.DeleteRunsRequest, caller: Caller
    ) -> messages.DeleteRunsResponse:
        """Removes runs from all reads."""
        keys = await self._known_runs(request.runs)
        for state in await self._runs.states(these(keys, "e.")):
            if state["status"] not in FINAL:
                raise FailedPrecondition(f"run {state['run']!r} is going on: cancel it first")
        event = _set(_SYSTEM, messages.KeyValue(key=DELETED, value=str(self._now(caller))))
        return messages.DeleteRunsResponse(positions=await self._to_runs(request, caller, [event]))

    # ------------------------------------------------------------------------------------- cancel

    async def cancel_run(
        self, request: messages.CancelRunRequest, caller: Caller
    ) -> messages.CancelRunResponse:
        """Asks for the end of a run."""
        _check_length("reason", request.reason, _MAX_NOTE)
        (key,) = await self._known_runs([request.run])
        scope = these([key], "e.")
        states = await self._runs.states(scope)
        if states and states[0]["status"] in FINAL:
            raise FailedPrecondition(f"run {key[1]!r} is over")
        event = run_pb2.RunEvent(cancel_requested=run_pb2.CancelRequested(reason=request.reason))
        call = self._begin(request, caller)
        call.about_run(request.run, [event])
        positions = await self._write(call)
        told = 0
        for name in await self._runs.alive(scope):
            command = ingest_service_pb2.Command(writer=bytes.fromhex(name), cancel_run=key[1])
            await self._hot.publish(COMMANDS, command.SerializeToString())
            told += 1
        return messages.CancelRunResponse(positions=positions, told=told)

    # -------------------------------------------------------------------------------- experiments

    async def update_experiment(
        self, request: messages.UpdateExperimentRequest, caller: Caller
    ) -> messages.UpdateExperimentResponse:
        """Changes what is said about an experiment."""
        if not request.workspace or not 1 <= len(request.experiment) <= _MAX_EXPERIMENT:
            raise InvalidArgument("an experiment is named by its workspace and its name; one is missing")
        found = [_set(_TAG, pair) for pair in _pairs("set_tags", request.set_tags, least=0)]
        found += [_removed(_TAG, key) for key in _keys("remove_tags", request.remove_tags, least=0)]
        if request.HasField("description"):
            _check_length("description", request.description, _MAX_DESCRIPTION)
            found.append(_text(DESCRIPTION, request.description))
        if request.HasField("archived"):
            now = messages.KeyValue(key=ARCHIVED, value=str(self._now(caller)))
            found.append(_set(_SYSTEM, now) if request.archived else _removed(_SYSTEM, ARCHIVED))
        if not found:
            raise InvalidArgument("nothing of the experiment is to be changed")
        call = self._begin(request, caller)
        call.about_workspace(
            request.workspace,
            (
                workspace_pb2.WorkspaceEvent(
                    experiment_attribute_set=workspace_pb2.ExperimentAttributeSet(
                        experiment=request.experiment, attribute=event.attribute_set
                    )
                )
                for event in found
            ),
        )
        return messages.UpdateExperimentResponse(positions=await self._write(call))

    # ------------------------------------------------------------------------------------- shares

    async def share_run(self, request: messages.ShareRunRequest, caller: Caller) -> messages.ShareRunResponse:
        """Makes a share."""
        await self._check_scope(request)
        _check_length("note", request.note, _MAX_NOTE)
        seconds = request.expires_s or _USUAL_SHARE_S
        if seconds > _LONGEST_SHARE_S:
            raise InvalidArgument(f"expires_s is {seconds:,}; at most {_LONGEST_SHARE_S:,}: a year")
        call = self._writer.begin(caller.name)
        token = new_token()
        share = messages.Share(
            share=secrets.token_bytes(_ID_BYTES),
            workspace=request.workspace,
            scope=request.scope,
            created_time_ns=call.time_ns,
            expires_time_ns=call.time_ns + seconds * 10**9,
            principal=caller.name,
            note=request.note,
        )
        created = workspace_pb2.ShareCreated(
            share=share.share,
            token_sha256=digest(token),
            scope=share.scope,
            expires_time_ns=share.expires_time_ns,
            note=share.note,
            principal=share.principal,
        )
        call.about_workspace(request.workspace, [workspace_pb2.WorkspaceEvent(share_created=created)])
        positions = await self._write(call)
        url = links.share_url(self._public_url, token)
        return messages.ShareRunResponse(share=share, token=token, url=url, positions=positions)

    async def _check_scope(self, request: messages.ShareRunRequest) -> None:
        scope = request.scope
        if not request.workspace:
            raise InvalidArgument("workspace is missing")
        if bool(scope.experiment) == bool(scope.runs):
            raise InvalidArgument("scope: name runs, or an experiment")
        if len(scope.runs) > _MAX_SHARED_RUNS:
            raise InvalidArgument(f"scope.runs names {len(scope.runs)} runs; at most {_MAX_SHARED_RUNS}")
        if any(run.workspace != request.workspace for run in scope.runs):
            raise InvalidArgument("scope.runs: all are of the share's workspace")
        if scope.runs:
            await self._known_runs(scope.runs)

    async def list_shares(
        self, request: messages.ListSharesRequest, _caller: Caller
    ) -> messages.ListSharesResponse:
        """Shares that have not ended."""
        await self._barrier.catch_up()
        return messages.ListSharesResponse(shares=await self._shares.listed(request.workspace))

    async def revoke_share(
        self, request: messages.RevokeShareRequest, caller: Caller
    ) -> messages.RevokeShareResponse:
        """Ends a share: when this returns no query service takes it for longer than a second."""
        if not request.workspace or len(request.share) != _ID_BYTES:
            raise InvalidArgument("a share is named by its workspace and its id of 16 bytes")
        call = self._writer.begin(caller.name)
        revoked = workspace_pb2.ShareRevoked(share=request.share)
        call.about_workspace(request.workspace, [workspace_pb2.WorkspaceEvent(share_revoked=revoked)])
        positions = await self._writer.write(call)
        self._shares.forget(request.share)
        await self._hot.wait_applied("runs", positions, _TELL_S)
        return messages.RevokeShareResponse(positions=map(message_of, positions))

    async def get_caller(
        self, _request: messages.GetCallerRequest, caller: Caller
    ) -> messages.GetCallerResponse:
        """Who calls."""
        if caller.share is None:
            return messages.GetCallerResponse(principal=caller.name)
        return messages.GetCallerResponse(principal=caller.name, read_only=True, share=caller.share)

    # -------------------------------------------------------------------------------------- parts

    def _now(self, caller: Caller) -> int:
        return self._writer.begin(caller.name).time_ns

    def _begin(self, request: Any, caller: Caller) -> Call:
        _check_length("request_id", request.request_id, _MAX_REQUEST_ID)
        return self._writer.begin(caller.name, request.request_id)

    async def _write(self, call: Call) -> list[run_pb2.LogPosition]:
        return [message_of(position) for position in await self._writer.write(call)]

    async def _to_runs(
        self, request: Any, caller: Caller, events: Sequence[run_pb2.RunEvent]
    ) -> list[run_pb2.LogPosition]:
        """Appends events to each of the runs of a request."""
        keys = await self._known_runs(request.runs)
        call = self._begin(request, caller)
        for workspace, run in keys:
            call.about_run(point_pb2.RunRef(workspace=workspace, run=run), map(_copy, events))
        return await self._write(call)

    async def _to_run(
        self, request: Any, caller: Caller, event: run_pb2.RunEvent
    ) -> list[run_pb2.LogPosition]:
        await self._known_runs([request.run])
        call = self._begin(request, caller)
        call.about_run(request.run, [event])
        return await self._write(call)

    async def _known_runs(self, refs: Iterable[point_pb2.RunRef]) -> list[tuple[str, str]]:
        """Workspace and id of runs that are known, each once.

        :raises NotFound: one is not.
        """
        keys = list(dict.fromkeys(map(checked_run, refs)))
        if not 1 <= len(keys) <= _MAX_RUNS:
            raise InvalidArgument(f"runs names {len(keys):,} runs; from 1 to {_MAX_RUNS:,}")
        missing = await self._missing(keys)
        if missing:  # perhaps it started this moment
            await self._barrier.catch_up()
            missing = await self._missing(keys)
        for workspace, run in missing:
            raise NotFound(f"there is no run {run!r} in workspace {workspace!r}")
        return keys

    async def _missing(self, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        scope = these(keys, "e.")
        rows = await self._runs.query(_KNOWN.replace("{scope}", scope.sql), scope.params)
        known = {(row["workspace"], row["run"]) for row in rows}
        return [key for key in keys if key not in known]


def run_service(servicer: RunServicer) -> Service:
    """The service, to be mounted."""
    return Service(
        messages.DESCRIPTOR.services_by_name["RunService"],
        servicer,
        shared_freely=frozenset(("GetCaller",)),
        takes_caller=True,
    )


def _copy(event: run_pb2.RunEvent) -> run_pb2.RunEvent:
    copied = run_pb2.RunEvent()
    copied.CopyFrom(event)
    return copied


def _set(kind: run_pb2.AttributeKind.ValueType, pair: messages.KeyValue) -> run_pb2.RunEvent:
    attribute = run_pb2.AttributeSet(kind=kind, key=pair.key)
    if pair.HasField("value"):
        attribute.value = pair.value
    return run_pb2.RunEvent(attribute_set=attribute)


def _removed(kind: run_pb2.AttributeKind.ValueType, key: str) -> run_pb2.RunEvent:
    return run_pb2.RunEvent(attribute_set=run_pb2.AttributeSet(kind=kind, key=key, removed=True))


def _text(key: str, text: str) -> run_pb2.RunEvent:
    """A system attribute; an empty text removes it."""
    return _set(_SYSTEM, messages.KeyValue(key=key, value=text)) if text else _removed(_SYSTEM, key)


def _pairs(what: str, pairs: Sequence[messages.KeyValue], *, least: int = 1) -> Sequence[messages.KeyValue]:
    _keys(what, [pair.key for pair in pairs], least=least)
    for pair in pairs:
        if len(pair.value.encode()) > _MAX_TEXT:
            raise InvalidArgument(f"{what}: the value of {pair.key!r} is longer than {_MAX_TEXT:,} bytes")
    return pairs


def _keys(what: str, keys: Sequence[str], *, least: int = 1) -> Sequence[str]:
    if not least <= len(keys) <= _MAX_KEYS:
        raise InvalidArgument(f"{what} has {len(keys):,} keys; from {least} to {_MAX_KEYS:,}")
    for key in keys:
        if not 1 <= len(key) <= _MAX_KEY:
            raise InvalidArgument(f"{what}: a key has 1 to {_MAX_KEY:,} characters, not {len(key):,}")
    return keys


def _check_length(what: str, text: str, most: int) -> None:
    if len(text) > most:
        raise InvalidArgument(f"{what} has {len(text):,} characters; at most {most:,}")
