"""The HTTP port: the services in the Connect protocol, pages, health, metrics.

Only requests that name this server as their host are answered: a page of another site whose name was bound
to this address (DNS rebinding) has the same address, but another host.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from runstream_query import login
from runstream_query.access import Access
from runstream_query.connect import ServiceApplication
from runstream_query.errors import NotFound, QueryServiceError, Unauthenticated
from runstream_query.files import Downloads
from runstream_query.pages import Page, Pages
from runstream_query.service import QueryServicer
from runstream_query.services import Service, translated

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
_NOT_ME: Final = "This server does not go by that name. Its settings say by which it may be asked for.\n"
_POLICY: Final = (
    b"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none';"
    b" frame-ancestors 'none'"
)
_MAX_FORM: Final = 10_000
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

    @property
    def authorization(self) -> str | None:
        """The credential."""
        return self.headers.get("authorization") or login.bearer(self.headers.get("cookie"), self.host)


def build_app(
    servicer: QueryServicer,
    services: Sequence[Service],
    access: Access,
    downloads: Downloads | None = None,
) -> App:
    """The ASGI application of the HTTP port.

    :param servicer: answers the pages.
    :param services: what is spoken in the Connect protocol.
    :param downloads: answers requests for files.
    """
    return HttpPort(servicer, services, access, downloads)


class HttpPort:
    """Sends each request where it belongs."""

    def __init__(
        self,
        servicer: QueryServicer,
        services: Sequence[Service],
        access: Access,
        downloads: Downloads | None = None,
    ) -> None:
        """See `build_app`."""
        self._servicer = servicer
        self._downloads = downloads
        self._access = access
        applications = [ServiceApplication(service, access) for service in services]
        self._services = {application.path: application for application in applications}
        self._pages = Pages(servicer)
        public = urlsplit(servicer.settings.public_url)
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
        service = self._services.get(scope["path"].rpartition("/")[0])
        if service is not None:
            await service(cast(Any, scope), cast(Any, receive), cast(Any, send))
            return
        raw = scope.get("raw_path") or scope["path"].encode()
        request = Request(
            method=scope["method"],
            path=scope["path"],
            segments=_segments(raw),
            query={
                key: values[-1] for key, values in parse_qs(scope["query_string"].decode("latin-1")).items()
            },
            host=host,
            headers=headers,
            secure=scope.get("scheme") == "https" or self._is_public(host),
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
            if request.path == "/style.css":
                return self._pages.style()
            if self._downloads is not None and self._downloads.takes(request.segments):
                await self._downloads.answer(
                    request.method,
                    request.segments,
                    request.query,
                    request.headers,
                    request.authorization,
                    sent,
                )
                return None
            self._access.sign_in(request.authorization)
            page = await translated(self._pages.page(request.segments, request.query))
            if page is None:
                raise NotFound("There is nothing at this address.")
            return cast(Page, page)
        except Unauthenticated:
            after = request.path if request.path.startswith("/") else "/"
            return self._pages.login(401, _again(request, after), wrong=False)
        except QueryServiceError as error:
            if sent.begun:  # the connection is cut, so that nobody takes this for the whole
                raise
            return self._pages.error(_STATUS.get(error.code, 500), str(error))
        except Exception:
            if sent.begun:
                raise
            _log.exception("a page could not be made")
            return self._pages.error(500, "The page could not be made; the server's log says why.")

    async def _health(self) -> Page:
        """Whether reads can be answered."""
        try:
            await translated(self._servicer.check())
        except QueryServiceError as error:
            return _plain(503, f"{error}\n")
        return _plain(200, "ok\n")

    async def _login(self, request: Request, receive: Receive) -> Page:
        """Takes a token from the link that the server prints, or from the form."""
        given = dict(request.query)
        if request.method == "POST":
            given |= await _form(receive)
        after = login.local_path(given.get("next", "/"))
        token = given.get("token", "").strip()
        if not token:
            return self._pages.login(200, after, wrong=False)
        if not self._access.knows(token):
            return self._pages.login(403, after, wrong=True)
        cookie = login.set_cookie(token, request.host, secure=request.secure)
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


def _again(request: Request, path: str) -> str:
    """The address of a request, to come back to."""
    return login.local_path(f"{path}?{urlencode(request.query)}" if request.query else path)


def _segments(raw: bytes) -> tuple[str, ...]:
    path = raw.split(b"?", 1)[0].decode("latin-1").strip("/")
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
    return {key: values[-1] for key, values in parse_qs(data.decode("latin-1")).items()}


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
