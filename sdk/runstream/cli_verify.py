"""`runstream verify RUN`: whether all that was logged to a run is stored."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from runstream.cli_numbers import seconds
from runstream.cli_read import chosen_workspace, connected

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_CODES = """\
Exit codes: 0 all that was logged is stored, compared by identity; 1 something is missing, or more is stored
than was logged, or the server refuses the command (only the reason is printed then); 3 no server answers;
4 there is no such run; 5 not all is here yet: in a spool, in the event log, or a process still logs; 6 all is
accounted for, and something was refused, dropped or lost, as told."""


def register(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "verify",
        help="whether all that was logged to a run is stored",
        description="Compares what is stored of a run with what its processes logged, identity by identity.",
        epilog=_CODES,
    )
    command.add_argument("id", metavar="RUN", help="id of the run")
    command.add_argument("--json", action="store_true", help="all that was found out, as a JSON object")
    command.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=30.0,
        help="wait so long for what is on its way (30)",
    )
    command.add_argument("--workspace", metavar="NAME", help="default: the configuration's, else local")
    command.add_argument("--server", metavar="HOST:PORT", help="default: as a script would find it")
    command.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    from runstream.spool.folder import spool_root
    from runstream.verification import Local, verify

    workspace = chosen_workspace(arguments) or "local"
    try:
        roots = [str(spool_root())]
    except OSError:  # nobody can have logged here
        roots = []
    with connected(arguments.server) as client:
        found = verify(lambda: client, Local(roots, workspace, arguments.id), arguments.timeout)
    print(json.dumps(found.to_dict(), ensure_ascii=False) if arguments.json else found)
    return found.exit_code
