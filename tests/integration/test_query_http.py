"""The HTTP port as browsers, curl and the Python client see it."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import os
import re
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
import numpy as np
import pytest
import pytest_asyncio

from runstream.client import Client, LogPosition, Selection
from runstream.errors import (
    AuthenticationError,
    DeadlineError,
    NotFoundError,
    ServiceError,
    ServiceUnavailableError,
    UserError,
    VersionError,
)
from runstream.v1 import point_pb2, query_service_pb2, query_service_pb2_grpc
from runstream_query.http import build_app
from runstream_query.rpc import add_services
from runstream_query.settings import QuerySettings
from runstream_server.web import WebServer
from tests.reads import DECLARE, T0, TOKEN, Reads, Row, W, check, opened, same, scalars

pytestmark = pytest.mark.asyncio(loop_scope="module")
T = TypeVar("T")
BEARER: dict[str, Any] = {"authorization": f"Bearer {TOKEN}"}


@dataclass
class Site:
    reads: Reads
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: Any
    ) -> tuple[int, dict[str, str], bytes]:
        """One request, as curl would make it."""

        def exchange() -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
                answer = connection.getresponse()
                return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            finally:
                connection.close()

        return await asyncio.to_thread(exchange)

    async def call(self, method: str, message: Any, **headers: str) -> tuple[int, Any]:
        """A method in plain JSON."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        headers = {"content_type": "application/json", **(headers or BEARER)}
        status, _, answer = await self.ask(
            f"/runstream.v1.QueryService/{method}", method="POST", body=data, **headers
        )
        return status, json.loads(answer)

    async def client(self, work: Callable[[Client], T], token: str | None = TOKEN) -> T:
        """Work with the Python client, in a thread."""

        def run() -> T:
            with Client(self.url, token) as client:
                return work(client)

        return await asyncio.to_thread(run)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    settings = QuerySettings(public_url="https://runs.example/", hosts=("extra.example",), chunk_elements=100)
    async with opened(tmp_path_factory.mktemp("query"), settings) as reads:
        bound = socket.create_server(("127.0.0.1", 0))
        web = WebServer(build_app(reads.servicer, reads.services, reads.access), bound)
        await web.start()
        try:
            yield Site(reads, bound.getsockname()[1])
        finally:
            await web.stop(1)


MIXED = [1.5, math.nan, math.inf, -math.inf, -0.0, 2**63 - 1, 2**63, True, None, "ü\n", 7, ""]


async def test_json_of_each_unary_method(site: Site) -> None:
    run = site.reads.run()
    await site.reads.log(scalars(MIXED, run=run))
    start = ("run_started", {"experiment": "json", "launch": "l"})
    await site.reads.events(run, W[1], start)
    ref = {"workspace": "ws", "run": run}

    status, page = await site.call("GetMetricsPage", {"request": {"selection": {"runs": [ref]}}})
    assert status == 200
    (chunk,) = page["points"]
    assert chunk["doubles"] == [1.5, "NaN", "Infinity", "-Infinity", -0.0]
    assert chunk["integers"] == [str(2**63 - 1), "0", "1", "1", "7", "2"]
    assert chunk["strings"] == [str(2**63), "ü\n", ""]
    assert chunk["type"] == [1, 1, 1, 1, 1, 2, 6, 3, 4, 5, 2, 5]

    assert (await site.call("GetRun", {"run": ref}))[1]["run"]["status"] == "RUN_STATUS_RUNNING"
    assert (await site.call("ListSeries", {"run": ref}))[1]["series"][0]["count"] == "12"
    _, found = await site.call("SearchRuns", {"workspace": "ws", "experiments": ["json"]})
    assert (found["total"], found["runs"][0]["ref"]) == ("1", ref)
    assert (await site.call("ListExperiments", {}))[1]["experiments"]
    _, link = await site.call("GetPortalLink", {"run": ref})
    assert link["url"] == f"https://runs.example/w/ws/r/{run}"


async def test_errors_of_the_protocol(site: Site) -> None:
    ref = {"workspace": "ws", "run": "nobody's"}
    assert (await site.call("GetRun", {"run": ref}))[0] == 404
    assert (await site.call("GetRun", {"run": ref}))[1]["code"] == "not_found"
    assert (await site.call("GetRun", {}))[1]["code"] == "invalid_argument"
    assert (await site.call("GetRun", b"{"))[1]["code"] == "invalid_argument"
    status, error = await site.call("GetRun", {"run": ref}, authorization="Bearer wrong")
    assert (status, error["code"]) == (401, "unauthenticated")
    assert TOKEN not in json.dumps(error)
    status, _, _ = await site.ask("/runstream.v1.QueryService/Nothing", method="POST", **BEARER)
    assert status == 404
    status, _, _ = await site.ask("/runstream.v1.QueryService/GetRun", **BEARER)
    assert status in (400, 405, 415)


async def test_the_client_reads_what_was_logged(site: Site) -> None:
    run = site.reads.run()
    rows = [
        *scalars(MIXED * 40, run=run, metric="mixed"),
        *(Row(f"{c}{n}", "table", c, run=run, seq=n, time=T0 + n) for n in range(300) for c in "ab" if n % 3),
        Row(DECLARE, "empty", run=run),
    ]
    await site.reads.log(rows)
    metrics = await site.client(lambda client: client.get_metrics("ws", [run], identity=True))
    check(metrics.series, rows)
    assert metrics.settling == []
    numbers = metrics.series[1].numbers()[:12]
    wanted = [
        1.5,
        math.nan,
        math.inf,
        -math.inf,
        -0.0,
        2.0**63,
        math.nan,
        1.0,
        math.nan,
        math.nan,
        7.0,
        math.nan,
    ]
    assert all(same(a, b) for a, b in zip(numbers.tolist(), wanted, strict=True))
    one = await site.client(lambda c: c.get_metrics("ws", [run], Selection(("table",), min_time_ns=T0 + 290)))
    assert [len(series) for series in one.series] == [7, 7]
    assert (await site.client(lambda client: client.get_metrics("ws", [run], ["none"]))).series == []


async def test_the_client_calls_everything(site: Site) -> None:
    run = site.reads.run()
    await site.reads.log(scalars([float(n) for n in range(50)], run=run))
    await site.reads.events(run, W[1], ("run_started", {"experiment": "client", "launch": "l"}))

    def everything(client: Client) -> None:
        (buckets,) = client.get_buckets("ws", [run], buckets=5)
        assert (buckets.by_step, buckets.last.tolist()) == (False, [9.0, 19.0, 29.0, 39.0, 49.0])
        assert client.get_run("ws", run).experiment == "client"
        assert [found.ref.run for found in client.search_runs("ws", ["client"], limit=1)] == [run]
        assert [series.count for series in client.list_series("ws", run)] == [50]
        assert "client" in {experiment.name for experiment in client.list_experiments("ws")}
        assert client.get_portal_link("ws", run).endswith(run)

    await site.client(everything)


async def test_errors_of_the_client(site: Site) -> None:
    site.reads.epochs["points"] = b"e" * 16
    waiting = [LogPosition("points", 0, 10**9, b"e" * 16)]
    sent = [{"topic": "points", "partition": 0, "offset": 1, "epoch": bytes(16).hex()}]
    with pytest.raises(NotFoundError, match="no run"):
        await site.client(lambda client: client.get_run("ws", "none"))
    with pytest.raises(NotFoundError, match="no run"):
        await site.client(lambda client: client.get_metrics("ws", [site.reads.run(), "none"]))
    with pytest.raises(AuthenticationError):
        await site.client(lambda client: client.get_run("ws", "none"), token="wrong")
    with pytest.raises(AuthenticationError):
        await site.client(lambda client: client.get_metrics("ws", ["none"]), token=None)
    with pytest.raises(DeadlineError, match="yet"):
        await site.client(lambda c: c.get_metrics("ws", ["none"], positions=waiting, timeout_s=0.01))
    with pytest.raises(ServiceError, match="epoch"):
        await site.client(lambda client: client.get_metrics("ws", ["none"], positions=sent))
    with pytest.raises(UserError):
        await site.client(lambda client: client.get_metrics("ws", []))
    for address in "nothing", "ftp://host", "http://", "http://host:99999":
        with pytest.raises((UserError, ServiceError)):
            Client(address).get_run("ws", "run")
    with pytest.raises(ServiceUnavailableError, match="can't be reached"):
        Client("http://127.0.0.1:9").get_run("ws", "run")


async def test_the_client_keeps_its_connection_and_survives_its_loss(site: Site) -> None:
    run = site.reads.run()
    await site.reads.log(scalars([1.0], run=run))

    def work(client: Client) -> None:
        assert len(client.get_metrics("ws", [run]).series) == 1
        (connection,) = client._connections._idle
        client.get_portal_link("ws", run)
        assert client._connections._idle == [connection]
        connection.sock.shutdown(socket.SHUT_RDWR)
        assert len(client.get_metrics("ws", [run]).series) == 1
        client._connections._pid = os.getpid() + 1  # as in a forked child
        assert len(client.get_metrics("ws", [run]).series) == 1

    await site.client(work)


async def test_the_client_does_not_take_what_is_no_answer(site: Site) -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + struct.pack(">BI", 0, 100) + b"short",
        b"nonsense\r\n\r\n",
    ]
    kinds = [
        ServiceError,
        ServiceUnavailableError,
        ServiceError,
        ServiceUnavailableError,
        ServiceUnavailableError,
    ]
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for kind in kinds:
            with pytest.raises(kind), Client(f"http://127.0.0.1:{port}", timeout_s=10) as client:
                await asyncio.to_thread(client.get_metrics, "ws", ["run"])
    finally:
        await asyncio.to_thread(thread.join)
        listener.close()


# ------------------------------------------------------------------------------------- browsers


async def test_only_requests_for_this_server_are_answered(site: Site) -> None:
    for host in (
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:80",
        "[::1]:7",
        "192.0.2.7",
        "runs.example",
        "extra.example:9",
    ):
        assert (await site.ask("/healthz", host=host))[0] == 200, host
    for host in (
        "evil.example",
        "",
        "localhost.evil.example",
        "runs.example.evil",
        "@",
        "127.0.0.1.evil.example",
    ):
        assert (await site.ask("/healthz", host=host))[0] == 421, host
        status, _, _ = await site.ask("/runstream.v1.QueryService/GetRun", method="POST", host=host, **BEARER)
        assert status == 421


async def test_health_and_figures(site: Site) -> None:
    assert (await site.ask("/healthz"))[2] == b"ok\n"
    await site.call("GetRun", {})
    status, headers, body = await site.ask("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert (
        b'runstream_query_requests_total{code="INVALID_ARGUMENT",method="GetRun",protocol="connect"}' in body
    )


# ------------------------------------------------------------------------------------- gRPC


async def test_the_documentation_is_there(site: Site) -> None:
    status, headers, body = await site.ask("/docs")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = body.decode()
    assert "# Getting started" in page
    assert '<a href="/docs/settings.md">settings.md</a>' in page
    for name in set(re.findall(r'href="(/docs/[^"]+)"', page)):
        status, _, body = await site.ask(name)
        assert status == 200, name
        assert b"<script" not in body
    for path in (
        "/docs/../pyproject.toml",
        "/docs/%2e%2e%2fpyproject.toml",
        "/docs/nonesuch.md",
        "/docs/a/b",
    ):
        status, _, body = await site.ask(path)
        assert status != 200, path
        assert b"[project]" not in body


async def test_a_call_that_the_server_does_not_know(site: Site) -> None:
    def call(client: Client) -> None:
        for path in ("/runstream.v1.QueryService/Nonesuch", "/runstream.v9.Later/Do"):
            with pytest.raises(VersionError, match="version"):
                client._call(path, query_service_pb2.GetRunRequest(), query_service_pb2.GetRunResponse)

    await site.client(call)


async def test_grpc_says_the_same(site: Site) -> None:
    run = site.reads.run()
    await site.reads.log(scalars(MIXED, run=run))
    server = grpc.aio.server()
    add_services(server, site.reads.services, site.reads.access)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = query_service_pb2_grpc.QueryServiceStub(channel)
            known = (("authorization", f"Bearer {TOKEN}"),)
            messages = [m async for m in stub.GetMetrics(site.reads.request(run), metadata=known)]
            assert [m.WhichOneof("content") for m in messages] == ["info", "points"]
            points = messages[1].points
            assert np.array_equal(points.doubles, [x for x in MIXED if isinstance(x, float)], equal_nan=True)
            assert list(points.strings) == [str(2**63), "ü\n", ""]
            page = query_service_pb2.GetMetricsPageRequest(request=site.reads.request(run), page_size=5)
            assert (await stub.GetMetricsPage(page, metadata=known)).next_page_token
            for metadata, code in ((known, "NOT_FOUND"), ((), "UNAUTHENTICATED")):
                request = query_service_pb2.GetRunRequest(run=point_pb2.RunRef(workspace="ws", run="none"))
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await stub.GetRun(request, metadata=metadata)
                assert error.value.code() is grpc.StatusCode[code]
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await stub.GetMetrics(site.reads.request("none"), metadata=metadata).read()
                assert error.value.code() is grpc.StatusCode[code]
            with pytest.raises(grpc.aio.AioRpcError) as error:
                async for _ in stub.GetMetrics(query_service_pb2.GetMetricsRequest(), metadata=known):
                    pass
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    finally:
        await server.stop(0)
