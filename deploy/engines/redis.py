"""Redis, from Debian's `redis-server`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from deploy.engines.process import HOST, Engine, EngineMissing, exchange, free_ports


def program(*, install: bool = False) -> str:
    """The path of `redis-server`.

    :param install: get it with apt when it is missing and we may.
    :raises EngineMissing: it is not there.
    """
    found = shutil.which("redis-server")
    if found is None and install and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "-q", "update"], check=True, env=environment)
        subprocess.run(
            ["apt-get", "-qy", "install", "--no-install-recommends", "redis-server"],
            check=True,
            env=environment,
        )
        found = shutil.which("redis-server")
    if found is None:
        raise EngineMissing("redis-server is not installed: apt-get install redis-server")
    return found


class Redis:
    """A Redis server that keeps nothing: what it holds can be made anew."""

    def __init__(self, folder: Path, *, port: int = 0, install: bool = False) -> None:
        """`folder` gets its log; `port` 0 takes a free one."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_ports(1)[0]
        self.url = f"redis://{HOST}:{self.port}"
        command = [
            *(program(install=install), "--bind", HOST, "--port", str(self.port), "--dir", str(folder)),
            *("--save", "", "--appendonly", "no"),
        ]
        self.engine = Engine("redis", command, folder / "redis.log", self._ready)

    def start(self) -> Self:
        """Returns when it answers."""
        self.engine.start()
        return self

    def stop(self) -> None:
        """Ends it."""
        self.engine.stop()

    def version(self) -> str:
        """What the server says it is."""
        about = exchange(self.port, b"INFO server\r\n").decode()
        return f"Redis {about.partition('redis_version:')[2].split()[0]}"

    def _ready(self) -> bool:
        return exchange(self.port, b"PING\r\n").startswith(b"+PONG")
