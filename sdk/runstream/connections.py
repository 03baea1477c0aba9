"""HTTP connections to a server that are kept for their next use."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Final
from urllib.parse import SplitResult, urlsplit

_MAX_IDLE: Final = 4


class Connections:
    """Connections that wait for their next use. A process uses only its own."""

    def __init__(self, address: SplitResult, connect_timeout_s: float, timeout_s: float) -> None:
        self._address = address
        self._proxy = proxy_of(address.scheme, address.hostname or "")
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._idle: list[HTTPConnection] = []
        self._pid = os.getpid()

    @contextmanager
    def send(
        self, path: str, body: bytes | None, headers: Mapping[str, str], wait_s: float
    ) -> Iterator[HTTPResponse]:
        """Sends a POST, or without a body a GET, and gives the response; the connection is kept when it was
        read to its end."""
        address = self._address
        path = address.path.rstrip("/") + path
        if self._proxy is not None and address.scheme == "http":  # such a proxy is told the whole address
            path = f"http://{address.netloc}{path}"
        connection = self._take()
        answer: HTTPResponse | None = None
        try:
            if connection is not None:
                try:
                    answer = self._exchange(connection, path, body, headers, wait_s)
                except (ConnectionError, HTTPException):
                    # It was closed while it waited. Reads can be asked again.
                    connection.close()
                    connection = None
            if connection is None or answer is None:
                connection = self._open()
                answer = self._exchange(connection, path, body, headers, wait_s)
            yield answer
            if answer.isclosed() and not answer.will_close:
                self._give(connection)
                connection = None
        finally:
            if connection is not None:
                connection.close()

    def _exchange(
        self,
        connection: HTTPConnection,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        wait_s: float,
    ) -> HTTPResponse:
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(self._timeout_s + wait_s)
        connection.request("GET" if body is None else "POST", path, body, dict(headers))
        return connection.getresponse()

    def _open(self) -> HTTPConnection:
        address = self._address
        host, secure = address.hostname or "", address.scheme == "https"
        kind = HTTPSConnection if secure else HTTPConnection
        if self._proxy is None:
            return kind(host, address.port, timeout=self._connect_timeout_s)
        connection = kind(self._proxy.hostname or "", self._proxy.port, timeout=self._connect_timeout_s)
        if secure:
            connection.set_tunnel(host, address.port or 443)
        return connection

    def _take(self) -> HTTPConnection | None:
        if os.getpid() != self._pid:  # a fork: the parent goes on with what was open, and may hold the lock
            self._lock = threading.Lock()
            for connection in self._idle:
                connection.close()  # only this process's share in it
            self._idle = []
            self._pid = os.getpid()
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give(self, connection: HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < _MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Ends all."""
        while (connection := self._take()) is not None:
            connection.close()


def proxy_of(scheme: str, host: str) -> SplitResult | None:
    """The proxy of the environment for a host; this machine is never asked through one."""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return None
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    if scheme not in proxies or proxy_bypass(host):
        return None
    address = proxies[scheme]
    return urlsplit(address if "//" in address else f"//{address}")
