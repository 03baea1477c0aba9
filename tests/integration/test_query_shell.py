"""The page that the portal runs in, as the HTTP port sends it: first answers, signing in, prefixes, files."""

from __future__ import annotations

import asyncio
import base64
import html.parser
import http.client
import json
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from runstream.v1 import query_service_pb2
from runstream_query.http import build_app
from runstream_query.portal_files import PortalFiles
from runstream_query.settings import QuerySettings
from runstream_server.web import WebServer
from tests.reads import TOKEN, Reads, W, opened, scalars

pytestmark = pytest.mark.asyncio(loop_scope="module")
BEARER: dict[str, Any] = {"authorization": f"Bearer {TOKEN}"}
EVIL = "</script><script>alert(1)</script>\"'&{{7*7}}/../%2e%2e\n\x01"
SCRIPT = b"console.log('portal');" * 100


@dataclass
class Site:
    reads: Reads
    port: int

    async def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: Any
    ) -> tuple[int, dict[str, str], bytes]:
        def exchange() -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
                answer = connection.getresponse()
                return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            finally:
                connection.close()

        return await asyncio.to_thread(exchange)


class Parsed(html.parser.HTMLParser):
    """A page: what it loads, and what it carries. Nothing else may be in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.carried = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        assert tag in ("html", "head", "meta", "title", "link", "script", "body", "div", "noscript")
        assert not any(name.startswith("on") or name == "style" for name in known)
        self._inside = tag if tag == "script" and "src" not in known else ""
        address = known.get("src") or known.get("href")
        if address is not None and known.get("rel") != "icon":
            self.loads.append(address)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.carried += data


def built(folder: Path) -> PortalFiles:
    """A portal of two files, as Vite leaves it."""
    (folder / "assets").mkdir()
    (folder / "assets" / "main-1a.js").write_bytes(SCRIPT)
    (folder / "assets" / "main-2b.css").write_bytes(b"p{}")
    manifest = {"src/main.tsx": {"file": "assets/main-1a.js", "css": ["assets/main-2b.css"], "isEntry": True}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return PortalFiles(folder)


@asynccontextmanager
async def serving(reads: Reads, files: PortalFiles) -> AsyncIterator[Site]:
    bound = socket.create_server(("127.0.0.1", 0))
    web = WebServer(build_app(reads.servicer, reads.services, reads.access, files=files), bound)
    await web.start()
    try:
        yield Site(reads, bound.getsockname()[1])
    finally:
        await web.stop(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    settings = QuerySettings(public_url="https://runs.example/")
    async with (
        opened(tmp_path_factory.mktemp("query"), settings) as reads,
        serving(reads, built(tmp_path_factory.mktemp("static"))) as site,
    ):
        yield site


async def shell(site: Site, path: str, status: int = 200, **headers: Any) -> dict[str, Any]:
    """What the page at a path carries."""
    found, given, body = await site.ask(path, **{**BEARER, **headers})
    assert found == status, body
    assert given["content-type"] == "text/html; charset=utf-8"
    policy = given["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert given["x-content-type-options"] == "nosniff"
    assert given["cache-control"] == "no-store"
    parsed = Parsed(body.decode())
    carried: dict[str, Any] = json.loads(parsed.carried)
    prefix = carried["prefix"]
    assert parsed.loads == [f"{prefix}/assets/main-2b.css", f"{prefix}/assets/main-1a.js"]
    return carried


def answer(carried: dict[str, Any], method: str, message: Any) -> Any:
    (found,) = [one for one in carried["answers"] if one["method"] == f"runstream.v1.QueryService/{method}"]
    return message.FromString(base64.b64decode(found["response"]))


async def start(site: Site, run: str, experiment: str = "pages") -> None:
    await site.reads.log(scalars([1.0, math.nan, 2.0], run=run, metric="loss"))
    await site.reads.events(run, W[1], ("run_started", {"experiment": experiment, "launch": "l"}))


async def test_each_page_carries_its_first_answer(site: Site) -> None:
    run = site.reads.run()
    await start(site, run)
    front = answer(await shell(site, "/"), "ListExperiments", query_service_pb2.ListExperimentsResponse)
    assert "pages" in [one.name for one in front.experiments]
    listed = answer(await shell(site, "/w/ws/e/pages"), "SearchRuns", query_service_pb2.SearchRunsResponse)
    assert run in [one.ref.run for one in listed.runs]
    for path in (f"/w/ws/r/{run}", f"/w/ws/r/{run}/metrics"):
        carried = await shell(site, path)
        assert answer(carried, "GetRun", query_service_pb2.GetRunResponse).run.experiment == "pages"
        series = answer(carried, "ListSeries", query_service_pb2.ListSeriesResponse).series
        assert [one.series.metric for one in series] == ["loss"]
    carried = await shell(site, f"/w/ws/compare?runs={run},{quote(EVIL, safe='')},{run}")
    (first,) = carried["answers"]
    request = query_service_pb2.SearchRunsRequest.FromString(base64.b64decode(first["request"]))
    assert request.filter == f"id in ({json.dumps(run)}, {json.dumps(EVIL)})"
    listed = answer(carried, "SearchRuns", query_service_pb2.SearchRunsResponse)
    assert [one.ref.run for one in listed.runs] == [run]
    for path in "/w/ws/compare", "/w/ws/compare?e=pages&f=x", "/compare?runs=a":
        assert (await shell(site, path))["answers"] == []


async def test_what_is_not_there(site: Site) -> None:
    for path in ("/w/ws/r/none", "/r/none", "/nothing/here", "/w/ws/r/none/nonsense"):
        assert (await shell(site, path, 404))["error"]["status"] == 404
    run = site.reads.run()
    await start(site, run)
    status, headers, _ = await site.ask(f"/r/{run}", **BEARER)
    assert (status, headers["location"]) == (302, f"/w/ws/r/{run}")
    await shell(site, "/w/empty")
    await shell(site, "/w/ws/e/none")
    assert (await site.ask("/", method="DELETE", **BEARER))[0] == 405
    assert (await site.ask("/", method="HEAD", **BEARER))[2] == b""


async def test_signing_in(site: Site) -> None:
    carried = await shell(site, "/w/ws?x=1", 401, authorization="")
    assert carried["signIn"] == {"next": "/w/ws?x=1", "wrong": False}
    assert "answers" not in carried
    status, headers, _ = await site.ask(f"/login?token={TOKEN}&next=/w/ws")
    assert (status, headers["location"]) == (303, "/w/ws")
    assert "Path=/; " in headers["set-cookie"]
    assert "HttpOnly; SameSite=Lax" in headers["set-cookie"]
    cookie = headers["set-cookie"].split(";")[0]
    assert (await site.ask("/", cookie=cookie))[0] == 200
    assert (await site.ask("/", cookie=cookie, host="127.0.0.1:1"))[0] == 401  # a server on another port
    assert (await shell(site, "/login?token=wrong", 403))["signIn"]["wrong"] is True
    form: dict[str, Any] = {"content_type": "application/x-www-form-urlencoded"}
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
        assert headers["location"] == "/", away


async def test_below_a_prefix_whether_or_not_the_proxy_takes_it_off(site: Site) -> None:
    run = site.reads.run()
    await start(site, run)
    forwarded: dict[str, Any] = {"x_forwarded_prefix": "/team/runs"}
    for path in (f"/w/ws/r/{run}", f"/team/runs/w/ws/r/{run}"):
        carried = await shell(site, path, **forwarded)
        assert carried["prefix"] == "/team/runs"
        assert [one["method"].split("/")[1] for one in carried["answers"]] == ["GetRun", "ListSeries"]
    assert (await site.ask("/team/runs/assets/main-1a.js", **forwarded))[2] == SCRIPT
    status, headers, _ = await site.ask(f"/r/{run}", **BEARER, **forwarded)
    assert headers["location"] == f"/team/runs/w/ws/r/{run}"
    carried = await shell(site, "/w/ws", 401, authorization="", **forwarded)
    assert carried["signIn"]["next"] == "/team/runs/w/ws"
    status, headers, _ = await site.ask(f"/login?token={TOKEN}", **forwarded)
    assert (status, headers["location"]) == (303, "/team/runs/")
    assert "Path=/team/runs/; " in headers["set-cookie"]
    called = "/team/runs/runstream.v1.QueryService/ListExperiments"
    json_type: dict[str, Any] = {"content_type": "application/json"}
    status, _, body = await site.ask(called, method="POST", body=b"{}", **BEARER, **forwarded, **json_type)
    assert status == 200, body
    for wrong in ("//evil.example", "/a/../b", "evil", "/<script>", "/a b", "https://evil.example"):
        assert (await shell(site, "/", x_forwarded_prefix=wrong))["prefix"] == ""


async def test_the_public_address_may_have_a_path(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = QuerySettings(public_url="https://runs.example/tracking/")
    monkeypatch.setattr(site.reads.servicer, "settings", settings)
    async with serving(site.reads, built(tmp_path)) as other:
        for path in ("/", "/tracking", "/tracking/"):
            assert (await shell(other, path))["prefix"] == "/tracking"


async def test_files_may_be_kept_for_good(site: Site) -> None:
    status, headers, body = await site.ask("/assets/main-1a.js")
    assert (status, body) == (200, SCRIPT)
    assert headers["content-type"] == "text/javascript; charset=utf-8"
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    _, headers, packed = await site.ask("/assets/main-1a.js", accept_encoding="br, gzip")
    assert headers["content-encoding"] == "gzip"
    assert len(packed) < len(SCRIPT)
    for path in ("/assets/none.js", "/assets/..%2fmanifest.json", "/assets/%2e%2e", "/manifest.json"):
        assert (await site.ask(path, **BEARER))[0] == 404, path


async def test_a_portal_that_is_not_built_says_so(site: Site, tmp_path: Path) -> None:
    async with serving(site.reads, PortalFiles(tmp_path)) as other:
        status, _, body = await other.ask("/", **BEARER)
        assert status == 503
        assert b"make portal" in body
        assert (await other.ask("/healthz"))[0] == 200


async def test_hostile_names_stay_texts(site: Site) -> None:
    run = EVIL + site.reads.run()
    await site.reads.log(scalars([1.0], run=run, metric=EVIL))
    fields = {"experiment": EVIL, "launch": "l", "display_name": EVIL, "parent": EVIL, "run_type": EVIL}
    await site.reads.events(
        run,
        W[1],
        ("run_started", fields),
        ("attribute_set", {"kind": 1, "key": EVIL, "value": EVIL}),
        ("run_ended", {"status": 10, "error_message": EVIL, "error_code": EVIL, "seq": 9}),
    )
    front = answer(await shell(site, "/"), "ListExperiments", query_service_pb2.ListExperimentsResponse)
    assert EVIL in [one.name for one in front.experiments]
    quoted = "".join(f"%{byte:02x}" for byte in run.encode())
    carried = await shell(site, f"/w/ws/r/{quoted}")
    assert answer(carried, "GetRun", query_service_pb2.GetRunResponse).run.display_name == EVIL
    await shell(site, f"/r/%3C%2Fscript%3E{quoted}", 404)
