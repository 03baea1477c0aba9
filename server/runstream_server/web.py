"""The HTTP port: uvicorn on a socket that is bound already, in the loop of the rest.

uvicorn's own main loop wakes ten times a second to look at a flag and to write the date header, and it wants
the signals. An idle server sleeps, so the two halves around that loop are used without it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from typing import Any

import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class WebServer:
    """Serves an ASGI application until `stop`."""

    def __init__(self, app: App, bound: socket.socket) -> None:
        """`bound` is a listening socket; it is closed by `stop`."""
        self._app = app
        self._socket = bound
        self._open = 0
        self.requests = 0
        self.last_request = time.monotonic()
        config = uvicorn.Config(
            self._watched,
            interface="asgi3",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,  # that loop keeps it
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)

    async def _watched(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._open += 1
        self.requests += 1

        async def dated(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                date = (b"date", formatdate(usegmt=True).encode())
                message = {**message, "headers": [*message.get("headers", ()), date]}
            await send(message)

        try:
            await self._app(scope, receive, dated)
        finally:
            self._open -= 1
            self.last_request = time.monotonic()

    @property
    def busy(self) -> bool:
        """True while a request is being answered."""
        return self._open > 0

    async def start(self) -> None:
        """Accept connections."""
        await self._server.startup(sockets=[self._socket])

    async def stop(self, within_s: float) -> None:
        """Close the port at once, let requests end, cancel those that take longer."""
        self._server.config.timeout_graceful_shutdown = max(1, round(within_s))
        await self._server.shutdown(sockets=[self._socket])
        await asyncio.sleep(0)
