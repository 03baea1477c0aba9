"""ClickHouse's HTTP interface in front of chDB: the real engine, so that the network client is tried without
a server's binary.

Run as `python clickhouse_server.py FOLDER`; prints its port. Knows as much of the interface as our client
uses. What only a cluster of servers can show (replicas, keepers, failing nodes) stays untried here.
"""

from __future__ import annotations

import os
import re
import sys
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb

OF_TRANSPORT = {
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
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*$", re.IGNORECASE)
INSERT = re.compile(r"\s*INSERT\s+INTO\b", re.IGNORECASE)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder = ""

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.body())

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, body: bytes) -> None:
        address = urlsplit(self.path)
        if address.path == "/ping":
            self.reply(200, b"Ok.\n", {})
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
        self.reply(200, result, {"X-ClickHouse-Format": named} if result else {})

    def run(self, given: dict[str, str], body: bytes) -> tuple[bytes, str]:
        """A connection for each request: settings and the database are the connection's."""
        params = {name[6:]: value for name, value in given.items() if name.startswith("param_")}
        connection: Any = chdb.connect(self.folder)
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
            if INSERT.match(sql) and match:
                return self.insert(connection, sql[: match.start()], match[1], body), "TabSeparated"
            named = match[1] if match else "TabSeparated"
            return connection.query(sql + body.decode(), named, params=params).bytes(), named
        finally:
            connection.close()

    def insert(self, connection: Any, statement: str, named: str, body: bytes) -> bytes:
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
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def main(folder: str) -> None:
    Handler.folder = folder
    keeps_the_engine_open = chdb.connect(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
    keeps_the_engine_open.close()


if __name__ == "__main__":
    main(sys.argv[1])
