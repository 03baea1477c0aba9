"""Submits: checks a configuration, keeps the folder, and has an executor start the run's supervisor."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runstream.context.ranks import mint
from runstream.core import values
from runstream.core.script_run_config import ScriptRunConfig
from runstream.errors import ExperimentExecutionError, RunConfigurationError, UserError
from runstream.submit import snapshot, surroundings
from runstream.submit.executors.local import LocalExecutor
from runstream.submit.executors.protocol import Executor
from runstream.submit.executors.slurm import SlurmExecutor
from runstream.submit.grace import grace_s
from runstream.submit.interpreter import describe
from runstream.submit.job import FORMAT, Job, make_job

if TYPE_CHECKING:
    from runstream.core.experiment import Experiment

_RUN_ID: Final = re.compile(r"[\w.:\-]{1,256}")
EXECUTORS: "Final[Mapping[str, Callable[[], Executor]]]" = {"local": LocalExecutor, "slurm": SlurmExecutor}


def executor_of(target: str) -> Executor:
    """Raises RunConfigurationError for a target that there is none for."""
    made = EXECUTORS.get(target)
    if made is None:
        raise RunConfigurationError(
            f"there is no compute target {target!r}: runs can be submitted to {', '.join(EXECUTORS)}"
        )
    return made()


def submit(
    experiment: "Experiment",
    run_id: str,
    config: ScriptRunConfig,
    *,
    tags: Mapping[str, str | None],
    parent: str = "",
    display_name: str = "",
) -> tuple[Job, dict[str, Any]]:
    """Have a script run. Returns when its supervisor has begun, or it waits in a queue; asks no server.

    Raises UserError, RunConfigurationError, SnapshotError for a configuration that can't be run,
    ExperimentExecutionError when it could not be started. Then there is no run.
    """
    told = _checked(experiment, run_id, config)
    executor = executor_of(told["target"])
    told |= {"tags": dict(tags), "parent": parent, "display_name": display_name}
    try:
        job = make_job(experiment.workspace.name, run_id)
    except FileExistsError:
        raise UserError(f"run {run_id} was submitted before: choose another run_id, or none") from None
    except OSError as error:
        raise ExperimentExecutionError(f"there is no place for the run (RUNSTREAM_JOBS): {error}") from None
    try:
        kept = snapshot.take(config.source_directory, job.file("source.zip"))
        if config.run_config.history.snapshot_project:
            told["snapshot"] = kept.id
            told["properties"] = {snapshot.PROPERTY: kept.id}
        job.write("job.json", told)
        executor.start(job, _variables(experiment))
    except BaseException:
        if job.read("state.json").get("status") in (None, "Queued"):  # else it has begun all the same
            shutil.rmtree(job.path, ignore_errors=True)
        raise
    return job, told


def _checked(experiment: "Experiment", run_id: str, config: ScriptRunConfig) -> dict[str, Any]:
    """What the supervisor is told. Raises for what can't be run."""
    how = config.run_config
    source = Path(config.source_directory)
    if not source.is_dir():
        raise UserError(f"source_directory {config.source_directory!r} is no folder")
    if config.script is None and not config.command:
        raise UserError("there is nothing to run: give a ScriptRunConfig a script, or a command")
    if config.script is not None and not (source / config.script).is_file():
        raise UserError(
            f"there is no script {config.script!r} in {source.absolute()}: its path is from source_directory"
        )
    arguments = [_text(argument) for argument in config.arguments]
    if isinstance(config.command, str):
        command: str | list[str] | None = " ".join([config.command, *arguments])
    elif config.command:
        command = [*map(_text, config.command), *arguments]
    else:
        command = None
    variables = {**how.environment.environment_variables, **how.environment_variables}
    ranks = how.distributed
    if ranks is not None and ranks.node_count > 1:
        raise RunConfigurationError(
            f"node_count is {ranks.node_count}: runstream starts the ranks of one machine. To use several, "
            "submit a command that starts them, as srun or torchrun do; they find the run by themselves"
        )
    limit = config.max_run_duration_seconds
    if limit is not None and (type(limit) not in (int, float) or limit <= 0):
        raise RunConfigurationError(
            f"max_run_duration_seconds is a number above 0, or None, not {limit!r:.100}"
        )
    definition = {
        "script": config.script,
        "command": command,
        "arguments": arguments,
        "sourceDirectory": str(source.absolute()),
        "target": how.target,
        "environment": {"name": how.environment.name, "docker": {"enabled": how.environment.docker.enabled}},
        "environmentVariables": sorted(variables),  # their values may be secrets
        "nodeCount": 1,
        "processCount": ranks.processes if ranks else 1,
        "maxRunDurationSeconds": limit,
    }
    return {
        "format": FORMAT,
        "run": run_id,
        "experiment": experiment.name,
        "workspace": experiment.workspace.name,
        "launch": mint(),
        "target": how.target,
        "script": config.script,
        "arguments": arguments,
        "command": command,
        "environment": describe(how.environment),
        "variables": {str(name): _text(value) for name, value in variables.items()},
        "ranks": ranks.processes if ranks else 0,
        "max_run_duration_s": limit,
        "snapshot": None,
        "grace_s": grace_s(),
        "properties": {},
        "definition": json.dumps(definition),
        "source_directory": str(source.absolute()),
        "time_ns": time.time_ns(),
    }


def _text(value: Any) -> str:
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else str(value)
    if not isinstance(text, str) or "\0" in text:
        raise UserError(f"{value!r:.100} can't be an argument or variable of a process")
    return text


def _variables(experiment: "Experiment") -> dict[str, str]:
    """This process's, and where the run's records go: the script may be where no configuration is found."""
    workspace = experiment.workspace
    found = surroundings.inherited(os.environ)
    config = workspace.config
    target = workspace.target
    named = {
        "RUNSTREAM_WORKSPACE": workspace.name,
        "RUNSTREAM_SERVER": target.server,
        "RUNSTREAM_API_KEY": target.api_key,
        "RUNSTREAM_HTTP_SERVER": found.get("RUNSTREAM_HTTP_SERVER")
        or (config.http_server if config else None),
        "RUNSTREAM_PUBLIC_URL": found.get("RUNSTREAM_PUBLIC_URL") or (config.public_url if config else None),
    }
    return {**found, **{name: value for name, value in named.items() if value}}


def run_id_for(experiment: str) -> str:
    """A new run's id."""
    return f"{experiment[:230]}_{int(time.time())}_{os.urandom(4).hex()}"


def checked_id(run_id: Any) -> str:
    """A run id that was given. Raises UserError for what can't be one."""
    if not values.is_text(run_id, 256) or not _RUN_ID.fullmatch(run_id):
        raise UserError(f"{run_id!r:.300} is no run id: 1 to 256 letters, digits, and _ - . :")
    return str(run_id)
