"""`runstream up`: claims a data folder and two ports, runs the parts, says where, ends when asked."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time

from runstream.home import Discovery, discovery_path, read_discovery, remove_discovery, write_discovery
from runstream.sender.start import ensure_sender
from runstream.spool.folder import spool_root
from runstream_ingest.errors import IngestError
from runstream_server.config import ServerConfig
from runstream_server.data_folder import DataFolder
from runstream_server.errors import ServerError
from runstream_server.identity import credentials, identify
from runstream_server.lean import keep_lean
from runstream_server.listen import authority, local_host, port_of, reserve, reserve_kept
from runstream_server.serving import serve
from runstream_server.telemetry import configure_logging
from runstream_store.credentials import Authenticator
from runstream_store.errors import StoreError

_log = logging.getLogger("runstream.server")


def run(config: ServerConfig) -> int:
    """Serve until SIGTERM or Ctrl-C. Returns the exit code; raises ServerError when it can't start."""
    configure_logging(config.log_level, config.log_format)
    data = DataFolder(config.data)
    try:
        return _run(config, data)
    except (StoreError, IngestError) as error:
        raise ServerError(str(error)) from error
    finally:
        data.release()


def _run(config: ServerConfig, data: DataFolder) -> int:
    authenticator, token = credentials(config)
    assert config.grpc_port is not None
    if config.autostarted:
        grpc_port, http = reserve_kept(config.host)
    else:
        grpc_port, http = reserve(config.host, config.grpc_port, config.http_port)
    with http:
        return asyncio.run(_serve(config, data, authenticator, token or "", grpc_port, http))


async def _serve(
    config: ServerConfig,
    data: DataFolder,
    authenticator: Authenticator,
    token: str,
    grpc_port: int,
    http: socket.socket,
) -> int:
    keep_lean()
    from runstream_server.process import ServerProcess  # after the cheap checks: it takes a second

    host = local_host(config.host)
    grpc_address = authority(host, grpc_port)
    http_url = f"http://{authority(host, port_of(http))}"
    identity = identify(config, authenticator, port_of(http))
    process = ServerProcess(config, identity, grpc_port, http)

    def listens() -> None:
        discovery = Discovery(
            grpc=grpc_address,
            http=http_url,
            pid=os.getpid(),
            token=token,
            started_ns=time.time_ns(),
            data=str(config.data),
            version=identity.version,
            epoch=process.epoch.hex(),
            autostarted=config.autostarted,
        )
        data.describe({"grpc": grpc_address, "http": http_url})
        _announce(config, discovery)
        write_discovery(discovery)
        _deliver_what_waits()

    return await serve(
        process,
        listens,
        lambda: remove_discovery(os.getpid()),
        idle_exit_s=config.idle_exit_s if config.autostarted else 0,
    )


def _deliver_what_waits() -> None:
    """Start this user's sender if there is a spool: scripts may have ended before there was a server."""
    try:
        root = spool_root()
        if root.is_dir() and any(root.iterdir()):
            ensure_sender(root)
    except OSError as error:
        _log.info("no spool is looked at", extra={"reason": error})


def _announce(config: ServerConfig, discovery: Discovery) -> None:
    before = read_discovery()
    lines = [
        f"runstream {discovery.version}, data in {config.data}",
        f"  gRPC     {discovery.grpc}",
        f"  HTTP     {discovery.http}",
        f"  sign in  {config.public_url or discovery.http}/login?token={discovery.token}",
        "Scripts of this user on this machine find it by themselves. Ctrl-C ends it.",
    ]
    if not config.loopback:
        port = discovery.grpc.rpartition(":")[2]
        lines.insert(-1, f"  others   RUNSTREAM_SERVER=<this machine>:{port} and an API key")
    if before is not None and before.pid != discovery.pid and before.alive():
        lines.append(f"Until now {discovery_path()} sent them to the server with pid {before.pid}.")
    print("\n".join(lines), flush=True)
