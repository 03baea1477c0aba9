"""The HTTP port as browsers, curl and the Python client see it."""

from __future__ import annotations

import asyncio
import html.parser
import http.client
import json
import math
import os
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
EVIL = "<script>alert(1)</script>\"'&{{7*7}}/../%2e%2e\n\x01"


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


class Checked(html.parser.HTMLParser):
    """Fails on markup that came from data."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "img")
        for name, value in attrs:
            assert not name.startswith("on")
            assert name != "style"
            if name in ("href", "action"):
                assert value is not None
                assert value.startswith(("/", "?")), value
                assert not value.startswith("//")
                self.links.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


async def page(site: Site, path: str, status: int = 200) -> Checked:
    found, headers, body = await site.ask(path, **BEARER)
    assert found == status, body
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src" not in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"
    checked = Checked()
    checked.feed(body.decode())
    return checked


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


async def test_signing_in(site: Site) -> None:
    status, _, body = await site.ask("/")
    assert status == 401
    assert b"Sign in" in body
    status, headers, _ = await site.ask(f"/login?token={TOKEN}&next=/w/ws")
    assert (status, headers["location"]) == (303, "/w/ws")
    assert "HttpOnly; SameSite=Lax" in headers["set-cookie"]
    cookie = headers["set-cookie"].split(";")[0]
    assert (await site.ask("/", cookie=cookie))[0] == 200
    assert (await site.call("ListExperiments", {}, cookie=cookie))[0] == 200
    assert (await site.ask("/", cookie=cookie, host="127.0.0.1:1"))[0] == 401  # a server on another port
    assert (await site.ask("/login?token=wrong"))[0] == 403
    form = {"content_type": "application/x-www-form-urlencoded"}
    status, headers, _ = await site.ask("/login", method="POST", body=f"token={TOKEN}".encode(), **form)
    assert (status, headers["location"]) == (303, "/")
    for away in (
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/%5Cevil.example",
        "/%0D%0Ax:%20y",
        "/%2Fevil",
    ):
        _, headers, _ = await site.ask(f"/login?token={TOKEN}&next={away}")
        assert headers["location"] in ("/",), away


async def test_pages(site: Site) -> None:
    run = site.reads.run()
    columns = [
        Row(n**2 if c == "y" else n, "curve", c, run=run, seq=n, time=T0 + n) for n in range(9) for c in "xy"
    ]
    rows = [
        *scalars([1.0, math.nan, 2.0, math.inf], run=run, metric="loss"),
        *scalars(["adam"], run=run, metric="optimizer"),
        *scalars([0.25], run=run, metric="alpha"),
        *columns,
        Row(DECLARE, "nothing", run=run),
    ]
    await site.reads.log(rows)
    await site.reads.events(
        run,
        W[1],
        ("run_started", {"experiment": "pages", "launch": "l"}),
        ("writer_started", {"role": 1, "launch": "l", "host": "host", "pid": 3}),
        ("attribute_set", {"kind": 1, "key": "color", "value": "green"}),
        ("run_ended", {"status": 10, "error_message": "it broke", "seq": 9}),
    )
    front = await page(site, "/")
    assert "/w/ws/e/pages" in front.links
    listed = await page(site, "/w/ws/e/pages")
    assert f"/w/ws/r/{run}" in listed.links
    assert "color: green" in listed.text
    assert (await page(site, "/w/ws/e/pages?status=Running")).text.count(run) == 0
    shown = await page(site, f"/w/ws/r/{run}")
    for text in (
        "it broke",
        "Settling",
        "color",
        "0.25",
        "adam",
        "host:3",
        "Failed",
        "y over x",
        "NaN",
        "+Infinity",
    ):
        assert text in shown.text, text
    narrowed = await page(site, f"/w/ws/r/{run}?q=alph")
    assert "adam" not in narrowed.text
    status, headers, _ = await site.ask(f"/r/{run}", **BEARER)
    assert (status, headers["location"]) == (302, f"/w/ws/r/{run}")
    await page(site, "/w/ws/r/none", 404)
    await page(site, "/r/none", 404)
    await page(site, "/nothing/here", 404)
    await page(site, "/w/empty")
    await page(site, "/w/ws/e/none")
    await page(site, "/?page=nonsense", 400)
    assert (await site.ask("/", method="DELETE", **BEARER))[0] == 405
    assert (await site.ask("/", method="HEAD", **BEARER))[2] == b""
    assert (await site.ask("/style.css"))[1]["content-type"].startswith("text/css")


async def test_hostile_names_do_no_harm(site: Site) -> None:
    run = EVIL + site.reads.run()
    rows = [
        *scalars([1.0, 2.0], run=run, metric=EVIL),
        *scalars([EVIL], run=run, metric=EVIL + "text"),
        *(Row(float(n), "t" + EVIL, EVIL + c, run=run, seq=n) for n in range(3) for c in "ab"),
    ]
    await site.reads.log(rows)
    await site.reads.events(
        run,
        W[1],
        (
            "run_started",
            {"experiment": EVIL, "launch": "l", "display_name": EVIL, "parent": EVIL, "run_type": EVIL},
        ),
        ("writer_started", {"role": 1, "launch": "l", "host": EVIL}),
        ("attribute_set", {"kind": 1, "key": EVIL, "value": EVIL}),
        ("run_ended", {"status": 10, "error_message": EVIL, "error_code": EVIL, "seq": 9}),
    )
    front = await page(site, "/")
    (experiment,) = [link for link in front.links if "script" in link]
    listed = await page(site, experiment)
    (address,) = [link for link in listed.links if "/r/" in link]
    shown = await page(site, address)
    assert shown.text.count("<script>alert(1)</script>") > 5
    assert "49" not in shown.text.replace("1.49", "")
    metrics = await site.client(lambda client: client.get_metrics("ws", [run], allow_settling=True))
    check(metrics.series, rows)


async def test_extreme_numbers_can_be_drawn(site: Site) -> None:
    run = site.reads.run()
    largest = 1.7976931348623157e308
    rows = [
        *scalars([largest, -largest, 0.0], run=run, metric="large"),
        *scalars([5e-324, 0.0], run=run, metric="small"),
        *scalars([largest, largest], run=run, metric="flat"),
        *scalars([math.nan, math.nan], run=run, metric="nans"),
        *scalars([1e16, 1e16 + 2], run=run, metric="near"),
        *scalars([1.0, 2.0], [-(2**63) + 1, 2**63 - 1], run=run, metric="wide"),
        *(Row(10**400 if c == "x" else n, "big", c, run=run, seq=n) for n in range(3) for c in "xy"),
        *(Row(math.nan if c == "x" else n, "nanx", c, run=run, seq=n) for n in range(3) for c in "xy"),
        *(Row(2**62 + n if c == "x" else True, "bools", c, run=run, seq=n) for n in range(3) for c in "xy"),
    ]
    await site.reads.log(rows)
    shown = await page(site, f"/w/ws/r/{run}")
    assert "nan," not in shown.text
    assert "wide" in shown.text


# ------------------------------------------------------------------------------------- gRPC


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
