"""Commands that the server adds to `runstream`: up, ingest, writer, query, health, token, keys.

The client's command line loads this module by its entry point, also for `runstream --help`: what is heavy is
imported inside.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runstream_server.config import SETTINGS, ServerConfig, read_config
from runstream_server.errors import ServerError
from runstream_server.roles import SERVICES, UP

if TYPE_CHECKING:
    from runstream_store.credentials import KeyFile

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def register(commands: Commands) -> None:
    """Add the server's commands."""
    for role in (UP, *SERVICES):
        server = commands.add_parser(role.name, help=role.summary)
        for setting in SETTINGS:
            if setting.option and getattr(role, setting.name, 0) is not None:
                _add_option(server, setting.name)
        if role is UP:
            server.add_argument("--autostarted", action="store_true", help=argparse.SUPPRESS)  # by a sender
        server.set_defaults(run=_serve, role=role)

    health = commands.add_parser("health", help="ask the server on this machine whether all is well")
    _add_option(health, "http_port")
    health.set_defaults(run=_health)

    token = commands.add_parser("token", help="print this user's token for the server on this machine")
    token.add_argument("--link", action="store_true", help="print the link that signs a browser in")
    _add_option(token, "data")
    token.set_defaults(run=_token)

    keys = commands.add_parser("keys", help="API keys, for other machines and people")
    verbs = keys.add_subparsers(metavar="VERB", required=True)
    add = verbs.add_parser("add", help="make a key and print it; it can't be shown again")
    add.add_argument("name", metavar="NAME", help="whose it is; stored with all that is written with it")
    add.set_defaults(run=_keys_add)
    listed = verbs.add_parser("list", help="print the names of the keys and when they were made")
    listed.set_defaults(run=_keys_list)
    revoke = verbs.add_parser("revoke", help="remove a key; a running server refuses it at once")
    revoke.add_argument("name", metavar="NAME")
    revoke.set_defaults(run=_keys_revoke)
    for verb in (add, listed, revoke):
        _add_option(verb, "data")
        _add_option(verb, "keys_file")


def _add_option(parser: argparse.ArgumentParser, name: str) -> None:
    setting = next(setting for setting in SETTINGS if setting.name == name)
    parser.add_argument(
        f"--{name.replace('_', '-')}",
        metavar=setting.unit.upper() or "VALUE",
        help=setting.meaning.replace("`", "").replace("%", "%%")
        + (f" Default: {setting.default}." if setting.default else ""),
    )


def _config(arguments: argparse.Namespace) -> ServerConfig:
    options = {setting.name: getattr(arguments, setting.name, None) for setting in SETTINGS}
    return read_config(
        options,
        os.environ,
        role=getattr(arguments, "role", UP),
        autostarted=getattr(arguments, "autostarted", False),
    )


def _failed(error: Exception) -> int:
    print(f"runstream: {error}", file=sys.stderr)
    return 1


def _serve(arguments: argparse.Namespace) -> int:
    try:
        config = _config(arguments)
        if config.autostarted:
            from runstream_server.autostart import run_autostarted

            return run_autostarted(config)
        if config.role is UP:
            from runstream_server.up import run
        else:
            from runstream_server.service import run

        return run(config)
    except ServerError as error:
        return _failed(error)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("runstream"):
            raise
        return _failed(
            ServerError(f"{error.name} is missing. The server needs more: pip install 'runstream[server]'")
        )


def _health(arguments: argparse.Namespace) -> int:
    """0 when the server with this HTTP port says so: for containers, where there is no curl."""
    import http.client

    try:
        port = _config(arguments).http_port
    except ServerError as error:
        return _failed(error)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace").strip()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        return _failed(ServerError(f"no server answers at port {port}: {error}"))
    print(said, file=sys.stdout if answer.status == 200 else sys.stderr)
    return 0 if answer.status == 200 else 1


def _token(arguments: argparse.Namespace) -> int:
    """The token of the running server, else the one in the data folder."""
    from runstream.home import read_discovery

    found = read_discovery()
    try:
        config = _config(arguments)
    except ServerError as error:
        return _failed(error)
    if found is not None and (not found.alive() or (arguments.data and Path(found.data) != config.data)):
        found = None
    if arguments.link:
        if found is None:
            return _failed(
                ServerError("no server of this user runs on this machine. Start one: runstream up")
            )
        print(f"{found.http}/login?token={found.token}")
        return 0
    try:
        assert config.token_file is not None  # of `up` there is one
        print(found.token if found else config.token or config.token_file.read_text("ascii").strip())
    except OSError:
        return _failed(
            ServerError(f"there is no token in {config.token_file} yet. A server makes it: runstream up")
        )
    return 0


def _key_file(arguments: argparse.Namespace) -> KeyFile:
    from runstream_store.credentials import KeyFile

    return KeyFile(_config(arguments).keys_file)


def _keys_add(arguments: argparse.Namespace) -> int:
    from runstream_store.errors import StoreError

    try:
        made = _key_file(arguments).add(arguments.name)
    except (ServerError, StoreError, OSError) as error:
        return _failed(error)
    print(made)
    print(f"Give it to {arguments.name}: RUNSTREAM_API_KEY={made}. It is not shown again.", file=sys.stderr)
    return 0


def _keys_list(arguments: argparse.Namespace) -> int:
    import time

    from runstream_store.errors import StoreError

    try:
        keys = _key_file(arguments).load()
    except (ServerError, StoreError, OSError) as error:
        return _failed(error)
    for key in keys:
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(key.created_ns / 1e9))
        print(f"{key.name}\t{made}")
    if not keys:
        print("There is no API key. Make one: runstream keys add NAME", file=sys.stderr)
    return 0


def _keys_revoke(arguments: argparse.Namespace) -> int:
    from runstream_store.errors import StoreError

    try:
        _key_file(arguments).revoke(arguments.name)
    except (ServerError, StoreError, OSError) as error:
        return _failed(error)
    return 0
