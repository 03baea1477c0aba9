"""The HTTP port of a service that has no other use for one: health and figures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from runstream_server.web import App, Receive, Scope, Send

Check = Callable[[], Awaitable[str]]
"""What is wrong with a part; empty when nothing is."""


def operations_app(check: Check) -> App:
    """Answers `/healthz` (200, or 503 with what is wrong) and `/metrics`. Neither needs a credential."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, body, kind = 200, b"ok\n", "text/plain; charset=utf-8"
        if scope["path"] == "/metrics":
            body, kind = generate_latest(), CONTENT_TYPE_LATEST
        elif scope["path"] != "/healthz":
            status, body = 404, b"There are /healthz and /metrics here.\n"
        elif wrong := await check():
            status, body = 503, f"{wrong}\n".encode()
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app
