"""`runstream submit SCRIPT -- ARGUMENTS`: runs a script under a run of its own."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from runstream.cli_numbers import count, seconds
from runstream.cli_read import CommandError
from runstream.errors import RunstreamError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def register(commands: Commands) -> None:
    """Add the command."""
    submit = commands.add_parser("submit", help="run a script under a run of its own")
    submit.add_argument("script", metavar="SCRIPT", help="path of the script")
    submit.add_argument(
        "arguments", metavar="ARGUMENT", nargs="*", default=[], help="for the script; put -- before them"
    )
    submit.add_argument("--experiment", metavar="NAME", required=True, help="experiment of the run")
    submit.add_argument("--source", metavar="DIR", help="folder that is submitted; default: the script's own")
    submit.add_argument("--name", metavar="NAME", help="display name of the run")
    submit.add_argument("--tag", metavar="KEY[=VALUE]", action="append", default=[], help="may be repeated")
    submit.add_argument("--target", metavar="TARGET", default="local", help="local or slurm")
    submit.add_argument("--processes", metavar="N", type=count, help="ranks to start on the machine")
    submit.add_argument(
        "--max-seconds", metavar="SECONDS", type=seconds, help="cancel the run when it takes longer"
    )
    submit.add_argument("-f", "--follow", action="store_true", help="print its log, until it is over")
    submit.set_defaults(run=_submit)


def _submit(arguments: argparse.Namespace) -> int:
    from runstream.core.experiment import Experiment
    from runstream.core.runconfig import PyTorchConfiguration
    from runstream.core.script_run_config import MONTH_S, ScriptRunConfig
    from runstream.core.workspace import Workspace

    source = arguments.source or os.path.dirname(arguments.script) or "."
    tags = dict(tag.partition("=")[::2] if "=" in tag else (tag, None) for tag in arguments.tag)
    try:
        count = arguments.processes
        config = ScriptRunConfig(
            source,
            os.path.relpath(arguments.script, source),
            arguments.arguments,
            compute_target=arguments.target,
            distributed_job_config=PyTorchConfiguration(process_count=count) if count is not None else None,
            max_run_duration_seconds=arguments.max_seconds or MONTH_S,
        )
        experiment = Experiment(Workspace.from_config(), arguments.experiment)
        run = experiment.submit(config, tags=tags, display_name=arguments.name)
        if not arguments.follow:
            print(run.id)
            return 0
        details = run.wait_for_completion(show_output=True, raise_on_error=False)
    except RunstreamError as error:
        raise CommandError(str(error)) from None
    return 0 if details["status"] == "Completed" else 1
