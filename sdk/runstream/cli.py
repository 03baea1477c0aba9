"""The `runstream` command: reads runs through the server, syncs spools, loads the server's commands.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no server answers, 4 not found; `verify` has more.
Results go to stdout, all else to stderr. See docs/cli.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from runstream import cli_cancel, cli_doctor, cli_files, cli_logs, cli_read, cli_submit, cli_sync, cli_verify
from runstream.cli_read import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except CommandError as error:
        print(f"runstream: {error}", file=sys.stderr)
        return error.code
    except BrokenPipeError:  # somebody's `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter flushes and complains
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runstream", description="Log experiments, lose nothing, read them back."
    )
    parser.set_defaults(run=lambda _: _usage(parser))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    cli_read.register(commands)
    cli_submit.register(commands)
    cli_cancel.register(commands)
    cli_files.register(commands)
    cli_logs.register(commands)
    cli_sync.register(commands)
    cli_verify.register(commands)
    cli_doctor.register(commands)
    shown = commands.add_parser("version", help="print the version")
    shown.set_defaults(run=_version)
    for entry in metadata.entry_points(group="runstream.commands"):
        try:
            entry.load()(commands)
        except ImportError as error:
            print(f"runstream: the commands of {entry.value} can't be loaded: {error}", file=sys.stderr)
    return parser


def _usage(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    return 2


def _version(_: argparse.Namespace) -> int:
    print(metadata.version("runstream"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
