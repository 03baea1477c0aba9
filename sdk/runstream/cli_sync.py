"""`runstream sync`: delivers what was logged offline, and spools that were copied from elsewhere."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from runstream import home
from runstream.cli_numbers import seconds
from runstream.cli_read import UNREACHABLE, CommandError

if TYPE_CHECKING:
    from runstream.sender.sync import SyncResult

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def register(commands: Commands) -> None:
    """Add the command."""
    sync = commands.add_parser(
        "sync",
        help="deliver what was logged offline, or a spool that was copied here; again changes nothing",
    )
    sync.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        help="a spool root, a folder of one boot, or one writer's. Default: what was logged here with "
        "RUNSTREAM_MODE=offline; it is removed when it is delivered",
    )
    sync.add_argument("--server", metavar="HOST:PORT", help="default: as a script would find it")
    sync.add_argument("--delete", action="store_true", help="remove what was delivered whole")
    sync.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=30.0,
        help="give up after so long without progress (30)",
    )
    sync.set_defaults(run=_sync)


def _sync(arguments: argparse.Namespace) -> int:
    from runstream.core.mode import offline_root
    from runstream.sender.sync import SyncError, sync
    from runstream.spool.listing import find_writers

    target = home.resolve_server(arguments.server)
    shown = _progress if sys.stderr.isatty() else None
    folder, delete = arguments.folder, arguments.delete
    try:
        if folder is None:
            folder, delete = offline_root(), True
            if next(find_writers(folder), None) is None:
                print("Nothing was logged offline.", file=sys.stderr)
                return 0
        result = sync(folder, target, delete=delete, timeout_s=arguments.timeout, progress=shown)
    except SyncError as error:
        raise CommandError(str(error), 2) from None
    for problem in result.problems:
        print(f"runstream: {problem}", file=sys.stderr)
    print(
        f"{result.logged:,} elements of {len(result.runs):,} runs by {result.writers:,} processes delivered"
    )
    if result.living:
        print(f"{result.living:,} processes still log; sync again when they have ended", file=sys.stderr)
    if result.rejected:
        print(f"{result.rejected:,} elements were refused for good", file=sys.stderr)
    if result.undelivered:
        raise CommandError(f"{result.undelivered:,} calls are not delivered. Sync again later.", UNREACHABLE)
    return 0 if result.complete else 1


def _progress(result: SyncResult) -> None:
    print(f"\r{result.writers:,} processes, {result.logged:,} elements", end="", file=sys.stderr, flush=True)
