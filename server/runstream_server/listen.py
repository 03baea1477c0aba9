"""Ports: taken ones are told clearly, free ones are picked in pairs."""

from __future__ import annotations

import errno
import socket

from runstream.home import DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT, read_ports, write_ports
from runstream_server.errors import AddressTaken, ConfigError


def bind(host: str, port: int, option: str) -> socket.socket:
    """A socket bound to the address, not yet listening; port 0 is a free one.

    `option` is what chooses the port, for the message. Raises AddressTaken, ConfigError.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(f"--host {host}: {error.strerror}") from None
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of a server that just ended
        made.bind(address)
        made.listen(1)  # Linux lets two sockets with SO_REUSEADDR bind, and refuses the second that listens
    except OSError as error:
        made.close()
        raise _explain(error, host, port, option) from None
    made.setblocking(False)
    return made


def _explain(error: OSError, host: str, port: int, option: str) -> AddressTaken:
    if error.errno == errno.EADDRINUSE:
        return AddressTaken(
            f"port {port} on {host} is taken. Choose another with {option} PORT; {option} 0 picks a free one."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return AddressTaken(f"{host} is not an address of this machine. Choose another with --host.")
    if error.errno == errno.EACCES:
        return AddressTaken(
            f"port {port} needs more rights than this user has. Choose one above 1023 with {option}."
        )
    return AddressTaken(f"can't listen on {host} port {port}: {error.strerror}")


def port_of(made: socket.socket) -> int:
    """The port that a socket is bound to."""
    port: int = made.getsockname()[1]
    return port


def reserve(host: str, grpc_port: int, http_port: int) -> tuple[int, socket.socket]:
    """A free gRPC port, and the bound HTTP socket. gRPC binds by itself, right afterwards.

    Raises AddressTaken, ConfigError.
    """
    if grpc_port and grpc_port == http_port:
        raise ConfigError(f"--grpc-port and --http-port are both {grpc_port}. They have to differ.")
    grpc = bind(host, grpc_port, "--grpc-port")
    try:
        return port_of(grpc), bind(host, http_port, "--http-port")
    finally:
        grpc.close()


def reserve_kept(host: str) -> tuple[int, socket.socket]:
    """As `reserve`, for the server that starts on demand: the ports of last time, so that links stay good.

    The first time 7300 and 7301 if both are free, else any. Keeps the choice.
    """
    kept = read_ports()
    for ports in (kept, (DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT)):
        if ports is not None:
            try:
                grpc_port, http = reserve(host, *ports)
            except AddressTaken:
                continue
            break
    else:
        grpc_port, http = reserve(host, 0, 0)
    if kept != (grpc_port, port_of(http)):
        write_ports(grpc_port, port_of(http))
    return grpc_port, http


def authority(host: str, port: int) -> str:
    """host:port as it stands in an address."""
    host = host.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def local_host(host: str) -> str:
    """The host under which this machine's own processes reach a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}.get(host.strip("[]"), host)
