"""A script, its folder, and how it is to be run: what `Experiment.submit` takes."""

import os
from collections.abc import Sequence
from typing import Any, Final

from runstream.core.environment import Environment
from runstream.core.guarded import Guarded
from runstream.core.notices import say
from runstream.core.runconfig import DistributedConfiguration, DockerConfiguration, RunConfiguration
from runstream.errors import UserError

MONTH_S: Final = 2_592_000


class ScriptRunConfig(Guarded):
    """The whole of `source_directory` is submitted, and `script` (a path in it) or `command` run there.

    `arguments` may be of any types, and reach the script as texts. `run_config` may be changed, or replaced,
    until it is submitted. With a `run_config` given, `compute_target` and `environment` have no effect.
    `max_run_duration_seconds`: a run that takes longer is canceled; None for no limit.
    """

    def __init__(
        self,
        source_directory: str | os.PathLike[str] | None = None,
        script: str | None = None,
        arguments: Sequence[Any] | None = None,
        run_config: RunConfiguration | None = None,
        compute_target: Any = None,
        environment: Environment | None = None,
        distributed_job_config: DistributedConfiguration | None = None,
        resume_from: Any = None,
        max_run_duration_seconds: float | None = MONTH_S,
        command: str | Sequence[str] | None = None,
        docker_runtime_config: DockerConfiguration | None = None,
        **_: Any,
    ) -> None:
        if script is not None and command is not None:
            raise UserError("a ScriptRunConfig has a script or a command, not both")
        if not isinstance(source_directory, str | os.PathLike | None):
            raise UserError(f"source_directory is the path of a folder, not {source_directory!r:.100}")
        if isinstance(arguments, str):
            raise UserError("arguments is a list, such as ['--alpha', 0.1], not a text")
        if environment is not None and not isinstance(environment, Environment):
            raise UserError(f"environment is an Environment, not {environment!r:.100}")
        if run_config is not None and (compute_target is not None or environment is not None):
            say("ScriptRunConfig: run_config is given, so compute_target and environment have no effect")
        self.source_directory = os.fspath(source_directory) if source_directory is not None else "."
        self.run_config = run_config if run_config is not None else RunConfiguration()
        self.script = script if script is not None or command is not None else self.run_config.script
        self.arguments: list[Any] = list(arguments if arguments is not None else self.run_config.arguments)
        given = command if command is not None else self.run_config.command or None
        self.command: str | list[str] | None = given if isinstance(given, str | None) else list(given)
        if self.script is not None:
            self.command = None
        self.max_run_duration_seconds = max_run_duration_seconds
        self.resume_from = resume_from
        if run_config is None:
            if environment is not None:
                self.run_config.environment = environment
            if compute_target is not None:
                self.run_config.target = str(getattr(compute_target, "name", compute_target))
        if distributed_job_config is not None:
            if not isinstance(distributed_job_config, DistributedConfiguration):
                raise UserError(
                    "distributed_job_config is a PyTorchConfiguration or MpiConfiguration, not "
                    f"{distributed_job_config!r:.100}"
                )
            self.run_config.distributed = distributed_job_config
        if docker_runtime_config is not None:
            self.run_config.docker = docker_runtime_config
        self._seal()
