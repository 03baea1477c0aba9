"""SLURM: a batch script that becomes the job's supervisor on the node that it is given.

The folder of jobs (RUNSTREAM_JOBS) must be on a file system that the nodes share, as the interpreter must be.
"""

import os
import re
import shlex
import shutil
import subprocess
from typing import Final

from runstream.errors import ExperimentExecutionError
from runstream.submit.executors.local import supervisor_command
from runstream.submit.job import Job

OPTIONS: Final = "RUNSTREAM_SLURM_OPTIONS"
_PATIENCE_S: Final = 60.0
_JOB: Final = re.compile(r"(\d+)(;[\w.\-]+)?")
_SLACK_S: Final = 300.0  # for the environment, the end, and delivery


class SlurmExecutor:
    """See `Executor`. Needs `sbatch` and `scancel` in the path."""

    def start(self, job: Job, environment: dict[str, str]) -> None:
        """See `Executor`."""
        script = job.file("job.sh")
        script.write_text(self._script(job, environment), encoding="utf-8")
        job.write("state.json", {"status": "Queued"})
        answer = _call(["sbatch", "--parsable", str(script)], environment)
        found = _JOB.fullmatch(answer.strip())
        if found is None:
            raise ExperimentExecutionError(f"sbatch gave no job id: {answer.strip()!r:.300}")
        job.write("slurm.json", {"job": found.group(1)})

    def withdraw(self, job: Job) -> bool:
        """See `Executor`."""
        number = str(job.read("slurm.json").get("job") or "")
        if not number or job.read("state.json").get("status") != "Queued":
            return False
        _call(["scancel", "--state=PENDING", number], dict(os.environ))
        return job.read("state.json").get("status") == "Queued"

    def _script(self, job: Job, environment: dict[str, str]) -> str:
        told = job.read("job.json")
        options = [
            f"--job-name={str(told['run'])[:100]}",
            f"--output={job.file('supervisor.log')}",
            "--open-mode=append",
            "--nodes=1",
            "--ntasks=1",
            "--signal=B:TERM@60",
            "--no-requeue",
        ]
        limit = told["max_run_duration_s"]
        if limit:
            options.append(f"--time={int((limit + _SLACK_S + 59) // 60)}")
        given = shlex.split(environment.get(OPTIONS, ""))  # last, so that they count
        lines = [f"#SBATCH {option}" for option in [*options, *given]]
        command = shlex.join(supervisor_command(job, "--foreground"))
        return "\n".join(["#!/bin/sh", *lines, f"exec {command}", ""])


def _call(command: list[str], environment: dict[str, str]) -> str:
    program = shutil.which(command[0])
    if program is None:
        raise ExperimentExecutionError(
            f"{command[0]} is not in the path: is this machine part of a SLURM cluster?"
        )
    try:
        done = subprocess.run(
            [program, *command[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExperimentExecutionError(f"{command[0]}: {error}") from None
    if done.returncode:
        raise ExperimentExecutionError(f"{command[0]} refused: {(done.stderr or done.stdout).strip()[:2000]}")
    return done.stdout
