"""The HTTP port: the services in the Connect protocol, pages, health, metrics.

Only requests that name this server as their host are answered: a page of another site whose name was bound
to this address (DNS rebinding) has the same address, but another host.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from runstream_query import login
from runstream_query.access import Access
from runstream_query.connect import ServiceApplication
from runstream_query.docs import Docs
from runstream_query.errors import QueryServiceError, Unauthenticated
from runstream_query.files import Downloads
from runstream_query.log_files import LogDownloads
from runstream_query.page import Page
from runstream_query.portal_files import PortalFiles
from runstream_query.service import QueryServicer
from runstream_query.services import Service, translated
from runstream_query.shell import Shell

_log = logging.getLogger("runstream.query")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_STATUS: Final = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "UNAVAILABLE": 503,
}
_VERSION: Final = version("runstream").encode()
_NOT_ME: Final = "This server does not go by that name. Its settings say by which it may be asked for.\n"
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    b" connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_MAX_FORM: Final = 10_000
_SHARE: Final = re.compile(r"/s/(rss_[A-Za-z0-9_-]{1,200})(?=/|$)")
_SHARE_ENDED: Final = "This link has expired, or was taken back. Ask whoever gave it to you for a new one."
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_SECURITY: Final = (
    (
        b"content-security-policy",
        _POLICY,
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler needs to know."""

    method: str
    path: str
    segments: tuple[str, ...]
    """Parts of the path, with escapes undone."""
    query: dict[str, str]
    host: str
    headers: dict[str, str]
    secure: bool
    prefix: str
    """Path below which people reach this port; empty at the root. `path` and `segments` are without it."""

    @property
    def authorization(self) -> str | None:
        """The credential."""
        return self.headers.get("authorization") or login.bearer(self.headers.get("cookie"), self.host)


def build_app(
    servicer: QueryServicer,
    services: Sequence[Service],
    access: Access,
    downloads: Sequence[Downloads | LogDownloads] = (),
    files: PortalFiles | None = None,
) -> App:
    """The ASGI application of the HTTP port.

    :param servicer: answers the pages.
    :param services: what is spoken in the Connect protocol.
    :param downloads: answer requests for files and logs.
    :param files: the built portal, where it is another than the package's own.
    """
    return HttpPort(servicer, services, access, downloads, files)


class HttpPort:
    """Sends each request where it belongs."""

    def __init__(
        self,
        servicer: QueryServicer,
        services: Sequence[Service],
        access: Access,
        downloads: Sequence[Downloads | LogDownloads] = (),
        files: PortalFiles | None = None,
    ) -> None:
        """See `build_app`."""
        self._servicer = servicer
        self._downloads = downloads
        self._access = access
        applications = [ServiceApplication(service, access) for service in services]
        self._services = {application.path: application for application in applications}
        self._files = files or PortalFiles()
        self._docs = Docs()
        self._shell = Shell(servicer, self._files)
        public = urlsplit(servicer.settings.public_url)
        self._prefix = _prefix(public.path)
        self._public = (public.hostname or "").lower()
        self._public_secure = public.scheme == "https"
        self._names = {"localhost", self._public, *(name.lower() for name in servicer.settings.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        host = headers.get("host", "")
        if not self.is_me(host):
            await _respond(send, _plain(421, _NOT_ME))
            return
        prefix = _prefix(headers.get("x-forwarded-prefix", "")) or self._prefix
        path = _below(prefix, scope["path"])
        share = _SHARE.match(path)
        if share is not None:
            # A shared link is a portal of its own: what it loads is below it, and asked for with its token.
            prefix, path = prefix + share[0], path[share.end() :] or "/"
            headers["authorization"] = f"Bearer {share[1]}"
        service = self._services.get(path.rpartition("/")[0])
        if service is not None:
            asked = {**scope, "path": path}
            if share is not None:
                asked["headers"] = [
                    (key.encode("latin-1"), text.encode("latin-1")) for key, text in headers.items()
                ]
            await service(cast(Any, asked), cast(Any, receive), cast(Any, send))
            return
        raw = scope.get("raw_path") or scope["path"].encode()
        request = Request(
            method=scope["method"],
            path=path,
            segments=_segments(_below(prefix, raw.decode("latin-1"))),
            query=_fields(scope["query_string"]),
            host=host,
            headers=headers,
            secure=scope.get("scheme") == "https" or self._is_public(host),
            prefix=prefix,
        )
        page = await self._answer(request, receive, send)
        if page is not None:
            await _respond(send, page, head=request.method == "HEAD")

    def is_me(self, host: str) -> bool:
        """Whether a `host` header names this server. Plain addresses are good: nobody can bind them to
        another one."""
        name = _name(host)
        if name in self._names and name:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.endswith(".localhost")
        return True

    def _is_public(self, host: str) -> bool:
        """Whether people reach the server by this name through something that speaks TLS for it."""
        return self._public_secure and _name(host) == self._public

    async def _answer(self, request: Request, receive: Receive, send: Send) -> Page | None:
        """The page; None when an answer was sent."""
        sent = _Sending(send)
        try:
            if request.path == "/login":
                return await self._login(request, receive)
            if request.method not in ("GET", "HEAD"):
                return _plain(405, "Only GET.\n", (b"allow", b"GET, HEAD"))
            if request.path == "/healthz":
                return await self._health()
            if request.path == "/metrics":
                return Page(200, generate_latest(), CONTENT_TYPE_LATEST)
            if (page := self._docs.answer(request.prefix, request.segments)) is not None:
                return page
            file = self._files.answer(request.segments, request.headers.get("accept-encoding", ""))
            if file is not None:
                return file
            for downloads in self._downloads:
                if downloads.takes(request.segments):
                    return await self._download(request, sent, downloads)
            caller = await self._access.visit(request.authorization)
            if caller.share is not None:
                return self._shell.shared(request.prefix, request.segments, caller.share)
            return await self._shell.page(request.prefix, request.segments, request.query)
        except Unauthenticated:
            if _SHARE.search(request.prefix):
                return self._shell.error(401, request.prefix, _SHARE_ENDED)
            return self._shell.login(401, request.prefix, _again(request), wrong=False)
        except QueryServiceError as error:
            if sent.begun:  # the connection is cut, so that nobody takes this for the whole
                raise
            return self._shell.error(_STATUS.get(error.code, 500), request.prefix, str(error))
        except Exception:
            if sent.begun:
                raise
            _log.exception("a page could not be made")
            return self._shell.error(
                500, request.prefix, "The page could not be made; the server's log says why."
            )

    async def _download(
        self, request: Request, sent: _Sending, downloads: Downloads | LogDownloads
    ) -> Page | None:
        """Sends a file or a log. What is wrong is told to people by the page, to programs in plain text."""
        try:
            await downloads.answer(
                request.method,
                request.segments,
                request.query,
                request.headers,
                request.authorization,
                sent,
            )
        except QueryServiceError as error:
            if sent.begun or "text/html" in request.headers.get("accept", ""):
                raise
            return _plain(_STATUS.get(error.code, 500), f"{error}\n")
        return None

    async def _health(self) -> Page:
        """Whether reads can be answered."""
        try:
            await translated(self._servicer.check())
        except QueryServiceError as error:
            return _plain(503, f"{error}\n")
        return _plain(200, "ok\n", (b"runstream-version", _VERSION))

    async def _login(self, request: Request, receive: Receive) -> Page:
        """Takes a token from the link that the server prints, or from the form."""
        given = dict(request.query)
        if request.method == "POST":
            given |= await _form(receive)
        after = login.local_path(given.get("next", f"{request.prefix}/"))
        token = given.get("token", "").strip()
        if not token:
            return self._shell.login(200, request.prefix, after, wrong=False)
        if not self._access.knows(token):
            return self._shell.login(403, request.prefix, after, wrong=True)
        cookie = login.set_cookie(token, request.host, secure=request.secure, path=f"{request.prefix}/")
        headers = (
            (b"location", after.encode()),
            (b"set-cookie", cookie.encode()),
            (b"cache-control", b"no-store"),
        )
        return Page(303, b"", "text/plain; charset=utf-8", headers)


class _Sending:
    """Sends, and knows whether it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.begun = True
        await self._send(message)


def _name(host: str) -> str:
    """The name in a `host` header; empty when there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower().rstrip(".")
    except ValueError:
        return ""


def _prefix(path: str) -> str:
    """A path prefix without a slash at its end; empty when there is none, or it is no plain one."""
    plain = path.rstrip("/")
    return plain if _PREFIX.fullmatch(plain) else ""


def _below(prefix: str, path: str) -> str:
    """A path without the prefix, which a proxy may have taken off already."""
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        return path[len(prefix) :] or "/"
    return path


def _again(request: Request) -> str:
    """The address of a request, to come back to."""
    path = request.prefix + request.path if request.path.startswith("/") else "/"
    return login.local_path(f"{path}?{urlencode(request.query)}" if request.query else path)


def _segments(raw: str) -> tuple[str, ...]:
    path = raw.split("?", 1)[0].strip("/")
    return tuple(unquote(part, errors="replace") for part in path.split("/")) if path else ()


async def _form(receive: Receive) -> dict[str, str]:
    body = b""
    while len(body) <= _MAX_FORM:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    return _fields(body[:_MAX_FORM])


def _fields(data: bytes) -> dict[str, str]:
    """The fields of a query or a form; of several with one name the last."""
    fields = parse_qs(data.decode("latin-1"), keep_blank_values=True)  # `?download` has no value
    return {key: values[-1] for key, values in fields.items()}


def _plain(status: int, text: str, *headers: tuple[bytes, bytes]) -> Page:
    return Page(status, text.encode(), "text/plain; charset=utf-8", headers)


async def _respond(send: Send, page: Page, *, head: bool = False) -> None:
    headers = [
        (b"content-type", page.content_type.encode()),
        (b"content-length", str(len(page.body)).encode()),
        *_SECURITY,
        *page.headers,
    ]
    await send({"type": "http.response.start", "status": page.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else page.body})
