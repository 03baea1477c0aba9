"""`runstream logs`: what a run has printed, also while it goes on printing."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from runstream.cli_numbers import ordinal
from runstream.cli_read import NOT_FOUND, CommandError, chosen_workspace, connected

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def register(commands: Commands) -> None:
    """Add the command."""
    logs = commands.add_parser("logs", help="what a run has printed")
    logs.add_argument("id", metavar="RUN", help="id of the run")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run is over")
    logs.add_argument("--file", metavar="NAME", help="which log; default: what the run printed")
    logs.add_argument("--list", action="store_true", help="names and sizes of the logs instead")
    logs.add_argument("--tail", metavar="N", type=ordinal, help="begin with the last N lines")
    logs.add_argument("--rank", metavar="N", type=ordinal, action="append", default=[], help="only of these")
    logs.add_argument("--workspace", metavar="NAME", help="default: the configuration's, else local")
    logs.add_argument("--server", metavar="HOST:PORT", help="default: as a script would find it")
    logs.set_defaults(run=_logs)


def _logs(arguments: argparse.Namespace) -> int:
    workspace = chosen_workspace(arguments) or "local"
    with connected(arguments.server) as client:
        if arguments.list:
            for log in client.list_logs(workspace, arguments.id).logs:
                print(f"{log.size:>14,}  {log.path}")
            return 0
        path = arguments.file or _usual(client, workspace, arguments)
        if path:
            _print(client, workspace, path, arguments)
    return 0


def _usual(client: Any, workspace: str, arguments: argparse.Namespace) -> str:
    """The log that is meant when none is named."""
    from runstream.core.logs import choose

    wanted = f"logs/user_log_rank_{arguments.rank[0]}.txt" if arguments.rank else ""
    found = client.list_logs(workspace, arguments.id)
    paths = [log.path for log in found.logs]
    path = wanted if wanted in paths else choose(paths)
    if path or not arguments.follow or found.ended:
        if not path:
            print(f"runstream: run {arguments.id} has no logs", file=sys.stderr)
        return path
    return wanted or "logs/user_log.txt"  # it will print


def _print(client: Any, workspace: str, path: str, arguments: argparse.Namespace) -> None:
    first: dict[str, Any] = {"ranks": arguments.rank}
    if arguments.tail is not None:
        first["tail_lines"] = arguments.tail
    empty = True
    out = getattr(sys.stdout, "buffer", None)
    for part in client.read_log(workspace, arguments.id, path, follow=arguments.follow, **first):
        empty = False
        if out is None:
            sys.stdout.write(part.data.decode("utf-8", "replace"))
        else:
            out.write(part.data)
        sys.stdout.flush()
    if empty and arguments.file and not arguments.follow and arguments.tail is None:
        names = [log.path for log in client.list_logs(workspace, arguments.id).logs]
        if path not in names:
            have = ", ".join(names) or "none"
            raise CommandError(f"run {arguments.id} has no log {path!r}; it has: {have}", NOT_FOUND)
