"""`runstream cancel RUN…`: asks for the end of runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from runstream.cli_read import FAILED, NOT_FOUND, CommandError, chosen_workspace, connected, wait_for_local
from runstream.errors import NotFoundError, ServiceError, ServiceUnavailableError, UserError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def register(commands: Commands) -> None:
    """Add the command."""
    cancel = commands.add_parser("cancel", help="ask for the end of runs")
    cancel.add_argument("ids", metavar="RUN", nargs="+", help="ids of the runs")
    cancel.add_argument("--reason", metavar="TEXT", default="", help="for the people who will wonder")
    cancel.add_argument("--workspace", metavar="NAME", help="default: the configuration's, else local")
    cancel.add_argument("--server", metavar="HOST:PORT", help="default: as a script would find it")
    cancel.set_defaults(run=_cancel)


def _cancel(arguments: argparse.Namespace) -> int:
    workspace = chosen_workspace(arguments) or "local"
    failed: dict[str, ServiceError | UserError] = {}
    with connected(arguments.server) as client:
        wait_for_local(arguments.server)
        for run_id in arguments.ids:
            try:
                client.cancel_run(workspace, run_id, arguments.reason)
            except ServiceUnavailableError:
                raise
            except (ServiceError, UserError) as error:
                failed[run_id] = error
            else:
                print(run_id)
    if failed:
        told = "; ".join(f"{run_id}: {error}" for run_id, error in failed.items())
        unknown = all(isinstance(error, NotFoundError) for error in failed.values())
        raise CommandError(told, NOT_FOUND if unknown else FAILED)
    return 0
