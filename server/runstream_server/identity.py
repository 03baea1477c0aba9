"""Who a server process is to others, and who may talk to it."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from runstream import __version__
from runstream_server.config import ServerConfig
from runstream_server.errors import ConfigError
from runstream_server.listen import authority, local_host
from runstream_server.roles import Part
from runstream_store.credentials import Authenticator, KeyFile, local_token


@dataclass(frozen=True, slots=True)
class Identity:
    """What this server is, and what opens it."""

    authenticator: Authenticator
    version: str
    http_url: str
    """Base of links, as people reach the HTTP port."""
    advertised_url: str
    """What senders are told; empty when they know better."""
    hosts: tuple[str, ...]
    """Names by which the HTTP port may be asked for."""


def credentials(config: ServerConfig) -> tuple[Authenticator, str | None]:
    """What lets callers in, and the token, if there is one: given, or in a file, which is made if need be.

    Several processes may share both files.

    :raises ConfigError: nobody, or not those who could reach it, would be let in.
    """
    token = config.token or (local_token(config.token_file) if config.token_file else None)
    authenticator = Authenticator(token, KeyFile(config.keys_file))
    others = config.token is not None or authenticator.has_keys()
    if not others and not config.loopback:
        raise ConfigError(
            f"--host {config.host} lets other machines in, and there is no API key yet in "
            f"{config.keys_file}. Make one first: runstream keys add NAME --keys-file {config.keys_file}"
        )
    if token is None and not others and config.role.serves:
        raise ConfigError(
            f"nobody could sign in: there is no API key in {config.keys_file}, and no token. Set "
            "RUNSTREAM_KEYS_FILE to the file that `runstream keys add NAME` made, the same for all services, "
            "or RUNSTREAM_TOKEN_FILE"
        )
    return authenticator, token


def identify(config: ServerConfig, authenticator: Authenticator, http_port: int) -> Identity:
    """What this process tells of itself."""
    host = local_host(config.host)
    own = f"http://{authority(host, http_port)}" if Part.QUERY in config.role.parts else ""
    # Who reaches a wildcard address knows a name of this machine that it does not know itself.
    advertised = config.public_url or (own if host == config.host else "")
    # Behind loopback there is nobody to know this machine by its name.
    names = () if config.loopback else (socket.gethostname(), socket.getfqdn(), config.host)
    return Identity(
        authenticator=authenticator,
        version=__version__,
        http_url=config.public_url or own,
        advertised_url=advertised,
        hosts=(*config.hosts, *names),
    )
