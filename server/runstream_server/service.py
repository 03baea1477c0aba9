"""`runstream ingest`, `runstream writer`, `runstream query`: one service of a cluster in this process.

It has no data of its own: what services share are the engines, and the files with keys and token.
"""

from __future__ import annotations

import asyncio
import socket

from runstream import __version__
from runstream_ingest.errors import IngestError
from runstream_server.config import ServerConfig
from runstream_server.errors import ServerError
from runstream_server.identity import credentials, identify
from runstream_server.lean import keep_lean
from runstream_server.listen import authority, bind, local_host, port_of, reserve
from runstream_server.roles import Part
from runstream_server.serving import serve
from runstream_server.telemetry import configure_logging
from runstream_store.credentials import Authenticator
from runstream_store.errors import StoreError


def run(config: ServerConfig) -> int:
    """Serve until SIGTERM or Ctrl-C. Returns the exit code; raises ServerError when it can't start."""
    configure_logging(config.log_level, config.log_format)
    try:
        authenticator, _ = credentials(config)
        grpc_port = None
        if config.grpc_port is None:
            http = bind(config.host, config.http_port, "--http-port")
        else:
            grpc_port, http = reserve(config.host, config.grpc_port, config.http_port)
        with http:
            return asyncio.run(_serve(config, authenticator, grpc_port, http))
    except (StoreError, IngestError) as error:
        raise ServerError(str(error)) from error


async def _serve(
    config: ServerConfig, authenticator: Authenticator, grpc_port: int | None, http: socket.socket
) -> int:
    keep_lean()
    from runstream_server.process import ServerProcess  # after the cheap checks: it takes a second

    identity = identify(config, authenticator, port_of(http))
    process = ServerProcess(config, identity, grpc_port, http)
    return await serve(process, lambda: _announce(config, grpc_port, port_of(http)))


def _announce(config: ServerConfig, grpc_port: int | None, http_port: int) -> None:
    host = local_host(config.host)
    lines = [f"runstream {config.role.name} {__version__}"]
    if grpc_port is not None:
        lines.append(f"  gRPC  {authority(host, grpc_port)}")
    lines.append(f"  HTTP  http://{authority(host, http_port)}")
    if Part.INGEST in config.role.parts and not config.public_url:
        lines.append("Scripts are not told where to read: RUNSTREAM_PUBLIC_URL is not set.")
    print("\n".join(lines), flush=True)
