"""ClickHouse's HTTP endpoint: chDB behind ClickHouse's interface, see `clickhouse_http`."""

from __future__ import annotations

import http.client
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from deploy.engines.process import HOST, ROOT, Engine, free_ports


@dataclass(frozen=True)
class Login:
    """What a client has to show, and how the endpoint shows who it is."""

    user: str
    password: str
    tls: Path | None = None
    """Certificate and key, PEM."""


class ClickHouse:
    """One endpoint. Its data stay in the folder."""

    def __init__(self, folder: Path, *, port: int = 0, login: Login | None = None) -> None:
        """`port` 0 takes a free one."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_ports(1)[0]
        self._login = login
        data, self._tls = folder / "data", login is not None and login.tls is not None
        self.url = f"clickhouse{'s' if self._tls else ''}://{HOST}:{self.port}"
        """The address of the tables on it, without a database."""
        command = [sys.executable, "-m", "deploy.engines.clickhouse_http", str(data), str(self.port)]
        if login is not None:
            given = folder / "password"
            given.touch(mode=0o600)
            given.write_text(login.password)
            command += ["--user", login.user, "--password-file", str(given)]
            if login.tls is not None:
                command += ["--tls", str(login.tls)]
            user = f"{quote(login.user, safe='')}:{quote(login.password, safe='')}"
            self.url = self.url.replace("://", f"://{user}@")
        self.engine = Engine(
            "clickhouse endpoint", command, folder / "clickhouse.log", self._ready, folder=ROOT
        )

    def start(self) -> Self:
        """Returns when it answers."""
        self.engine.start()
        return self

    def stop(self) -> None:
        """Ends it."""
        self.engine.stop()

    def version(self) -> str:
        """What the engine says it is."""
        return f"ClickHouse {self._ask('/?query=SELECT+version()').strip()} (chDB behind HTTP)"

    def _ready(self) -> bool:
        return self._ask("/ping") == "Ok.\n" and self._ask("/?query=SELECT+1") == "1\n"

    def _ask(self, path: str) -> str:
        connection: http.client.HTTPConnection
        if self._tls:
            trusting = ssl.create_default_context()
            trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(HOST, self.port, timeout=10, context=trusting)
        else:
            connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            headers = {}
            if self._login is not None:
                headers = {"X-ClickHouse-User": self._login.user, "X-ClickHouse-Key": self._login.password}
            connection.request("GET", path, headers=headers)
            return connection.getresponse().read().decode()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()
