"""ClickHouse's HTTP interface in front of chDB: the real engine behind the real client, without a server's
binary.

`python -m deploy.engines.clickhouse_http FOLDER PORT [options]`. Knows as much of the interface as our client
uses. For development and tests: it is not a ClickHouse server, and what a cluster of them adds (replicas,
keepers) is not here.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import os
import re
import signal
import socket
import ssl
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import chdb

from deploy.engines.process import HOST

connect: Any = chdb.connect

OF_TRANSPORT: Final = {
    "buffer_size",
    "client_protocol_version",
    "compress",
    "database",
    "decompress",
    "enable_http_compression",
    "query",
    "query_id",
    "quota_key",
    "role",
    "session_check",
    "session_id",
    "session_timeout",
    "wait_end_of_query",
}
FORMAT: Final = re.compile(r"\bFORMAT\s+(\w+)\s*$", re.IGNORECASE)
INSERT: Final = re.compile(r"\s*INSERT\s+INTO\b", re.IGNORECASE)


def quoted(text: str) -> str:
    """A literal of SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_GET(self) -> None:
        """A request without a body."""
        self.answer(b"")

    def do_POST(self) -> None:
        """One with a body. When the client goes away in the middle of it, nothing is run."""
        body = self.body()
        if body is None:
            self.close_connection = True
        else:
            self.answer(body)

    def body(self) -> bytes | None:
        """All of the body; None when the connection ended before it was whole."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            return body if len(body) == length else None
        parts: list[bytes] = []
        while True:
            size = self.rfile.readline().strip()
            if not size:
                return None
            part = self.rfile.read(int(size, 16))
            self.rfile.readline()
            if not int(size, 16):
                return b"".join(parts)
            if len(part) != int(size, 16):
                return None
            parts.append(part)

    def allowed(self) -> bool:
        """Whether the request names the user and the password."""
        user, password = self.server.login
        given = (self.headers.get("X-ClickHouse-User", ""), self.headers.get("X-ClickHouse-Key", ""))
        scheme, _, coded = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            name, _, word = base64.b64decode(coded).decode().partition(":")
            given = name, word
        if not password:
            return True
        return given[0] == user and hmac.compare_digest(given[1].encode(), password.encode())

    def answer(self, body: bytes) -> None:
        """Runs a request, and replies."""
        address = urlsplit(self.path)
        if address.path == "/ping":
            self.reply(200, b"Ok.\n", {})
            return
        if not self.allowed():
            self.reply(403, b"Code: 516. Authentication failed", {"X-ClickHouse-Exception-Code": "516"})
            return
        given = dict(parse_qsl(address.query, keep_blank_values=True))
        if self.headers.get_content_type() == "multipart/form-data":  # what is too long for an address
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            for part in BytesParser().parsebytes(head + body).walk():
                name = part.get_param("name", header="Content-Disposition")
                content = part.get_payload(decode=True)
                if isinstance(name, str) and isinstance(content, bytes):
                    given[name] = content.decode()
            body = b""
        try:
            result, named = self.run(given, body)
        except Exception as error:
            text = str(error)
            code = re.search(r"Code: (\d+)", text)
            self.reply(500, text.encode(), {"X-ClickHouse-Exception-Code": code[1] if code else "1002"})
            return
        headers = {"X-ClickHouse-Format": named} if result else {}
        if INSERT.match(given.get("query", "")):
            headers["X-ClickHouse-Summary"] = '{"written_rows": "0"}'  # not counted here; the last header
        self.reply(200, result, headers)

    def run(self, given: dict[str, str], body: bytes) -> tuple[bytes, str]:
        """A connection for each request: settings and the database are the connection's."""
        params = {name[6:]: value for name, value in given.items() if name.startswith("param_")}
        connection = connect(self.server.folder)
        try:
            connection.query(f"SET max_memory_usage = {1 << 30}", "TabSeparated")
            if database := given.get("database"):
                connection.query(f"USE `{database}`", "TabSeparated")
            for name, value in given.items():
                if name not in OF_TRANSPORT and not name.startswith("param_"):
                    connection.query(f"SET {name} = {quoted(value)}", "TabSeparated")
            sql = given.get("query", "")
            if not sql:
                sql, body = body.decode(), b""
            match = FORMAT.search(sql)
            if body and match and INSERT.match(sql):  # without a body it brings its own SELECT
                return self.insert(connection, sql[: match.start()], match[1], body), "TabSeparated"
            named = match[1] if match else "TabSeparated"
            return connection.query(sql + body.decode(), named, params=params).bytes(), named
        finally:
            connection.close()

    def insert(self, connection: Any, statement: str, named: str, body: bytes) -> bytes:
        """Inserts a body, from memory."""
        descriptor = os.memfd_create("body")
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(body)
            source = f"FROM INFILE '/proc/self/fd/{descriptor}' COMPRESSION 'none' FORMAT {named}"
            result: bytes = connection.query(f"{statement} {source}", "TabSeparated").bytes()
            return result
        finally:
            os.close(descriptor)

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Sends an answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class Endpoint(ThreadingHTTPServer):
    """Listens."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, folder: str, port: int, login: tuple[str, str] = ("default", ""), tls: Path | None = None
    ) -> None:
        """`tls` is a file with a certificate and its key, PEM."""
        super().__init__((HOST, port), Handler)
        self.folder = folder
        self.login = login
        self._tls: ssl.SSLContext | None = None
        if tls is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(tls)

    def get_request(self) -> tuple[socket.socket, Any]:
        """A new connection; the handshake is left to its thread."""
        connection, address = super().get_request()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away as they like."""


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", help="data")
    parser.add_argument("port", type=int)
    parser.add_argument("--user", default="default")
    parser.add_argument("--password-file", type=Path, help="without one every password is good")
    parser.add_argument("--tls", type=Path, metavar="PEM", help="certificate and key: speak TLS")
    given = parser.parse_args()
    password = given.password_file.read_text("utf-8").strip() if given.password_file else ""
    keeps_the_engine_open = connect(given.folder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = Endpoint(given.folder, given.port, (given.user, password), given.tls)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
    keeps_the_engine_open.close()


if __name__ == "__main__":
    main()
