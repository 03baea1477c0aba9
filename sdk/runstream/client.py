"""Reads: the query service over HTTP, in the Connect protocol.

For the training process and everything else in Python: the standard library at import, protobuf when a call
is made, NumPy when columns are looked at, gRPC never. Safe for many threads, and after a fork.

    from runstream.client import Client

    with Client("http://127.0.0.1:7301", token) as client:
        for series in client.get_metrics("local", ["run_1"], ["loss"]).series:
            print(series.run, series.metric, series.values())
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from runstream.artifacts import Artifacts
from runstream.changes import Changes
from runstream.connections import Connections
from runstream.errors import (
    AuthenticationError,
    DeadlineError,
    NotFoundError,
    RunstreamError,
    ServiceError,
    ServiceUnavailableError,
    UserError,
    VersionError,
)
from runstream.log_reads import LogReads

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from runstream.columns import Buckets, Series
    from runstream.v1 import query_service_pb2, run_pb2

_SERVICE: Final = "/runstream.v1.QueryService/"
_ERRORS: Final[Mapping[str, type[RunstreamError]]] = {
    "unauthenticated": AuthenticationError,
    "permission_denied": AuthenticationError,
    "not_found": NotFoundError,
    "deadline_exceeded": DeadlineError,
    "unavailable": ServiceUnavailableError,
    "invalid_argument": UserError,
    "unimplemented": VersionError,
}
ArchiveView = Literal["active", "all", "archived"]
"""Without archived ones, all, or only archived ones."""

_BARRIER_S: Final = 30.0
_COMPRESSED: Final = 1
_END: Final = 2


class LogPosition(NamedTuple):
    """A position in the event log, as the sender gives it: what a read is to wait for."""

    topic: str
    partition: int
    offset: int
    epoch: bytes

    @classmethod
    def of(cls, position: LogPosition | run_pb2.LogPosition | Mapping[str, Any]) -> LogPosition:
        """A position, also from a message, and from the sender's JSON, where the epoch is hexadecimal."""
        if isinstance(position, LogPosition):
            return position
        if not isinstance(position, Mapping):
            return cls(position.topic, position.partition, position.offset, position.epoch)
        epoch = position["epoch"]
        return cls(
            str(position["topic"]),
            int(position["partition"]),
            int(position["offset"]),
            bytes.fromhex(epoch) if isinstance(epoch, str) else bytes(epoch),
        )


Positions = Iterable["LogPosition | run_pb2.LogPosition | Mapping[str, Any]"]


@dataclass(frozen=True, slots=True)
class Metrics:
    """An answer of `Client.get_metrics`."""

    series: Sequence[Series]
    """One for each run, metric and column, in this order. Those that were declared and have no element are
    there."""
    settling: Sequence[tuple[str, str]]
    """Workspace and run of those that have ended, and whose last points were not there yet."""
    as_of: Sequence[LogPosition]
    """How far the server was when it began to read."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which points to read. All conditions must hold."""

    metrics: Sequence[str] = ()
    """Exact names; empty for all."""
    ranks: Sequence[int] = ()
    """Empty for all, and for points without a rank."""
    min_step: int | None = None
    max_step: int | None = None
    min_time_ns: int | None = None
    max_time_ns: int | None = None
    attempt: int = 0
    """All that this attempt of each run logged, from 1, hidden by newer ones or not; 0 for what counts."""


class Client(Changes, Artifacts, LogReads):
    """Asks a server. Keeps connections open; `close` or a `with` block ends them."""

    def __init__(
        self,
        http_url: str,
        token: str | None = None,
        *,
        connect_timeout_s: float = 5.0,
        timeout_s: float = 60.0,
        advice: str = "",
    ) -> None:
        """
        :param http_url: base address of the server's HTTP port.
        :param token: credential; None sends none.
        :param connect_timeout_s: how long to wait for a connection.
        :param timeout_s: how long to wait for the next piece of an answer, beside what the read itself waits
            for.
        :param advice: what is said to people when it can't be reached.
        :raises UserError: that is no address.
        """
        try:
            address = urlsplit(http_url if "//" in http_url else f"http://{http_url}")
            good = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:  # brackets around what is no address, a port that is no number
            address, good = urlsplit(""), False
        if not good:
            raise UserError(f"{http_url!r} is no address of a server, such as http://127.0.0.1:7301")
        self.url = f"{address.scheme}://{address.netloc}{address.path.rstrip('/')}"
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._advice = f". {advice}" if advice else ""
        self._connections = Connections(address, connect_timeout_s, timeout_s)

    def get_metrics(
        self,
        workspace: str,
        runs: Iterable[str],
        metrics: Iterable[str] | Selection = (),
        *,
        identity: bool = False,
        positions: Positions = (),
        timeout_s: float = _BARRIER_S,
        allow_settling: bool = False,
    ) -> Metrics:
        """Reads every selected point of some runs.

        :param metrics: exact names, empty for all; or a `Selection`.
        :param identity: with writer, sequence number, idx and rank of each element.
        :param positions: what must be readable first.
        :param timeout_s: how long the server waits for that, and for the last points of runs that have ended.
        :param allow_settling: do not wait for these.
        :raises DeadlineError: it did not come in time.
        """
        from runstream.columns import SeriesBuilder

        request = self._metrics_request(workspace, runs, metrics, positions, timeout_s, allow_settling)
        request.include_identity = identity
        builder = SeriesBuilder()
        settling: list[tuple[str, str]] = []
        as_of: list[LogPosition] = []
        for message in self._stream(request, timeout_s):
            if message.HasField("points"):
                builder.add(message.points)
            elif message.HasField("info"):
                settling = [(ref.workspace, ref.run) for ref in message.info.settling]
                as_of = [LogPosition(p.topic, p.partition, p.offset, p.epoch) for p in message.info.as_of]
        return Metrics(builder.series(), settling, as_of)

    def get_buckets(
        self,
        workspace: str,
        runs: Iterable[str],
        metrics: Iterable[str] | Selection = (),
        *,
        buckets: int = 1000,
        positions: Positions = (),
        timeout_s: float = _BARRIER_S,
        allow_settling: bool = False,
    ) -> list[Buckets]:
        """Reads series of numbers, reduced to buckets of equal width. Parameters as of `get_metrics`."""
        from runstream.columns import buckets_of

        request = self._metrics_request(workspace, runs, metrics, positions, timeout_s, allow_settling)
        request.reduction.buckets = buckets
        return [
            buckets_of(message.buckets)
            for message in self._stream(request, timeout_s)
            if message.HasField("buckets")
        ]

    def get_run(
        self, workspace: str, run: str, *, positions: Positions = (), timeout_s: float = _BARRIER_S
    ) -> query_service_pb2.Run:
        """One run, whole.

        :raises NotFoundError: nothing is known of it.
        """
        from runstream.v1 import point_pb2
        from runstream.v1 import query_service_pb2 as messages

        request = messages.GetRunRequest(run=point_pb2.RunRef(workspace=workspace, run=run))
        bar(request.barrier, positions, timeout_s, allow_settling=True)
        answer: messages.GetRunResponse = self._call(
            _SERVICE + "GetRun", request, messages.GetRunResponse, timeout_s
        )
        return answer.run

    def get_ledger(
        self,
        workspace: str,
        run: str,
        *,
        compare: bool = True,
        claims: Iterable[query_service_pb2.WriterClaim] = (),
        positions: Positions = (),
        timeout_s: float = _BARRIER_S,
    ) -> query_service_pb2.GetLedgerResponse:
        """What became of all that a run's writers logged.

        :param compare: compare it with what is stored, identity by identity: reads every element of the run.
        :param claims: what senders say now of writers that have not ended.
        :raises NotFoundError: nothing is known of the run.
        """
        from runstream.v1 import point_pb2
        from runstream.v1 import query_service_pb2 as messages

        request = messages.GetLedgerRequest(
            run=point_pb2.RunRef(workspace=workspace, run=run), compare=compare, claims=claims
        )
        bar(request.barrier, positions, timeout_s, allow_settling=True)
        answer: messages.GetLedgerResponse = self._call(
            _SERVICE + "GetLedger", request, messages.GetLedgerResponse, timeout_s
        )
        return answer

    def poll_run(
        self, workspace: str, run: str, cursor: str = "", *, wait_s: float = 0.0
    ) -> query_service_pb2.RunChange:
        """What of a run has changed since the answer with this cursor; everything without one.

        :param wait_s: how long the server waits for a change, at most 60.
        :raises NotFoundError: nothing is known of it.
        """
        from runstream.v1 import point_pb2
        from runstream.v1 import query_service_pb2 as messages

        request = messages.PollRunRequest(
            run=point_pb2.RunRef(workspace=workspace, run=run), cursor=cursor, wait_ms=round(wait_s * 1000)
        )
        answer: messages.PollRunResponse = self._call(
            _SERVICE + "PollRun", request, messages.PollRunResponse, wait_s
        )
        return answer.change

    def list_series(
        self,
        workspace: str,
        run: str,
        *,
        attempt: int = 0,
        positions: Positions = (),
        timeout_s: float = _BARRIER_S,
        allow_settling: bool = False,
    ) -> list[query_service_pb2.SeriesInfo]:
        """The series of a run, in short; of one attempt as `Selection.attempt`."""
        from runstream.v1 import point_pb2
        from runstream.v1 import query_service_pb2 as messages

        ref = point_pb2.RunRef(workspace=workspace, run=run)
        request = messages.ListSeriesRequest(run=ref, attempt=attempt)
        bar(request.barrier, positions, timeout_s, allow_settling=allow_settling)
        return list(
            self._call(_SERVICE + "ListSeries", request, messages.ListSeriesResponse, timeout_s).series
        )

    def search_runs(
        self,
        workspace: str = "",
        experiments: Iterable[str] = (),
        statuses: Iterable[run_pb2.RunStatus.ValueType] = (),
        *,
        filter: str = "",
        order_by: Iterable[tuple[str, bool]] = (),
        top_level: bool = False,
        children_of: str | None = None,
        descendants_of: str | None = None,
        archive: ArchiveView = "active",
        columns: Iterable[str] = (),
        limit: int | None = None,
        positions: Positions = (),
        all_events: bool = False,
        timeout_s: float = _BARRIER_S,
    ) -> Iterator[query_service_pb2.Run]:
        """Runs, page by page as they are taken; newest start first, unless ordered otherwise.

        :param workspace: empty for all.
        :param experiments: empty for all.
        :param statuses: empty for all.
        :param filter: condition in the filter language.
        :param order_by: fields of that language, each with whether it goes from great to small.
        :param top_level: only runs without a parent.
        :param children_of: only children of the run with this id.
        :param descendants_of: these, their children, and so on.
        :param columns: what is wanted of each run, as `params.*`; empty for tags and system attributes.
        :param limit: at most so many.
        :param all_events: wait for all that the server's log has of runs now; a server that is too slow for
            that gives a DeadlineError, never an older list. Without it the wait ends after 2 s.
        """
        from runstream.v1 import query_service_pb2 as messages

        request = messages.SearchRunsRequest(
            workspace=workspace,
            experiments=experiments,
            statuses=statuses,
            page_size=1000,
            filter=filter,
            archive=_archive_view(archive),
            columns=columns,
        )
        for field, descending in order_by:
            request.order_by.add(field=field, descending=descending)
        if top_level:
            request.family.top_level = True
        if children_of is not None:
            request.family.children_of = children_of
        if descendants_of is not None:
            request.family.descendants_of = descendants_of
        bar(request.barrier, positions, timeout_s, allow_settling=True, all_events=all_events)
        left = limit
        while left is None or left > 0:
            if left is not None:
                request.page_size = min(left, 1000)
            page = self._call(_SERVICE + "SearchRuns", request, messages.SearchRunsResponse, timeout_s)
            yield from page.runs
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
            left = None if left is None else left - len(page.runs)

    def list_experiments(
        self,
        workspace: str = "",
        *,
        archive: ArchiveView = "active",
        positions: Positions = (),
        all_events: bool = False,
        timeout_s: float = _BARRIER_S,
    ) -> Iterator[query_service_pb2.Experiment]:
        """Experiments, the last active first.

        :param workspace: empty for all.
        :param all_events: as in `search_runs`.
        """
        from runstream.v1 import query_service_pb2 as messages

        request = messages.ListExperimentsRequest(workspace=workspace, archive=_archive_view(archive))
        bar(request.barrier, positions, timeout_s, allow_settling=True, all_events=all_events)
        while True:
            page = self._call(
                _SERVICE + "ListExperiments", request, messages.ListExperimentsResponse, timeout_s
            )
            yield from page.experiments
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def get_portal_link(self, workspace: str, run: str) -> str:
        """The address of a run's page, as the server gives it out."""
        from runstream.v1 import point_pb2
        from runstream.v1 import query_service_pb2 as messages

        request = messages.GetPortalLinkRequest(run=point_pb2.RunRef(workspace=workspace, run=run))
        return str(self._call(_SERVICE + "GetPortalLink", request, messages.GetPortalLinkResponse).url)

    def close(self) -> None:
        """Ends the connections."""
        self._connections.close()

    def __enter__(self) -> Client:
        """Itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Ends the connections."""
        self.close()

    def _metrics_request(
        self,
        workspace: str,
        runs: Iterable[str],
        metrics: Iterable[str] | Selection,
        positions: Positions,
        timeout_s: float,
        allow_settling: bool,
    ) -> query_service_pb2.GetMetricsRequest:
        from runstream.v1 import query_service_pb2 as messages

        selected = metrics if isinstance(metrics, Selection) else Selection(tuple(metrics))
        request = messages.GetMetricsRequest()
        request.selection.metrics.extend(selected.metrics)
        request.selection.ranks.extend(selected.ranks)
        for run in runs:
            request.selection.runs.add(workspace=workspace, run=run)
        for name in "min_step", "max_step", "min_time_ns", "max_time_ns":
            if (value := getattr(selected, name)) is not None:
                setattr(request.selection, name, value)
        request.selection.attempt = selected.attempt
        bar(request.barrier, positions, timeout_s, allow_settling=allow_settling)
        return request

    def _call(self, path: str, request: Message, response: type[Any], wait_s: float = 0.0) -> Any:
        """One request, one response."""
        with self._answer(path, request.SerializeToString(), "application/proto", wait_s) as answer:
            data = answer.read()
            if answer.status != 200:
                raise _refused(answer, data)
            return response.FromString(data)

    def _stream(self, request: Message, wait_s: float) -> Iterator[Any]:
        """The messages of GetMetrics."""
        from runstream.internal.v1 import twin_pb2

        data = request.SerializeToString()
        body = b"\0" + len(data).to_bytes(4, "big") + data
        with self._answer(_SERVICE + "GetMetrics", body, "application/connect+proto", wait_s) as answer:
            if answer.status != 200:
                raise _refused(answer, answer.read())
            while True:
                head = _exactly(answer, 5)
                data = _exactly(answer, int.from_bytes(head[1:], "big"))
                if head[0] & _COMPRESSED:
                    raise ServiceError(f"{self.url} sent a compressed message, which was not asked for")
                if head[0] & _END:
                    answer.read()
                    if error := json.loads(data or b"{}").get("error"):
                        raise _error(error.get("code", "unknown"), error.get("message", ""))
                    return
                yield twin_pb2.GetMetricsResponse.FromString(data)

    @contextmanager
    def _answer(self, path: str, body: bytes, kind: str, wait_s: float) -> Iterator[HTTPResponse]:
        """Sends a request. What goes wrong on the way becomes one of our errors."""
        headers = {"content-type": kind, "connect-protocol-version": "1"}
        with self._exchange(path, body, headers, wait_s) as answer:
            yield answer

    @contextmanager
    def _exchange(
        self, path: str, body: bytes | None, headers: Mapping[str, str], wait_s: float = 0.0
    ) -> Iterator[HTTPResponse]:
        try:
            with self._connections.send(path, body, {**self._headers, **headers}, wait_s) as answer:
                yield answer
        except TimeoutError as error:
            raise DeadlineError(f"the server at {self.url} did not answer in time") from error
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise ServiceUnavailableError(
                f"the server at {self.url} can't be reached: {reason}{self._advice}"
            ) from error


def bar(
    barrier: query_service_pb2.ReadBarrier,
    positions: Positions,
    timeout_s: float,
    *,
    allow_settling: bool,
    all_events: bool = False,
) -> None:
    """Fills in what a read waits for."""
    for position in map(LogPosition.of, positions):
        barrier.positions.add(**position._asdict())
    barrier.timeout_ms = min(300_000, max(1, round(timeout_s * 1000)))
    barrier.allow_settling = allow_settling
    barrier.all_events = all_events


def _archive_view(view: ArchiveView) -> query_service_pb2.ArchiveView.ValueType:
    from runstream.v1 import query_service_pb2 as messages

    return {
        "active": messages.ARCHIVE_VIEW_UNSPECIFIED,
        "all": messages.ARCHIVE_VIEW_ALL,
        "archived": messages.ARCHIVE_VIEW_ARCHIVED,
    }[view]


def _exactly(answer: HTTPResponse, size: int) -> bytes:
    """Bytes of a stream."""
    data = answer.read(size)
    if len(data) != size:
        raise ConnectionResetError("the answer ended before its end")
    return data


def _refused(answer: HTTPResponse, data: bytes) -> RunstreamError:
    """The error of an answer."""
    try:
        error = json.loads(data)
        return _error(error["code"], error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        text = data[:200].decode("utf-8", "replace").strip()
        if answer.status in (404, 405):
            return VersionError(
                "the server doesn't know this call: is it of an older version, or another program?"
            )
        kind = ServiceUnavailableError if answer.status in (502, 503, 504) else ServiceError
        return kind(f"the answer is not one of a runstream server: HTTP {answer.status} {text}".rstrip())


def _error(code: str, message: str) -> RunstreamError:
    """One of our errors for a code of the protocol."""
    if code == "unimplemented":
        message = f"the server is of another version than this client, and doesn't know this: {message}"
    return _ERRORS.get(code, ServiceError)(message or code)
