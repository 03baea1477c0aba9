"""`runstream sync DIR`: delivers spools that were copied from elsewhere."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def register(commands: Commands) -> None:
    """Add the command."""
    sync = commands.add_parser("sync", help="deliver a spool folder that was copied here")
    sync.add_argument("folder", metavar="DIR")
    sync.set_defaults(run=_sync)


def _sync(arguments: argparse.Namespace) -> int:
    return 1
