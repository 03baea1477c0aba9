"""This machine: the supervisor is a process that detaches from the one that submits."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from runstream.errors import ExperimentExecutionError
from runstream.submit.job import Job

_ROOT: Final = str(Path(__file__).parents[3])  # where runstream is imported from, however that came about
_CODE: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from runstream.submit.__main__ import main; sys.exit(main())"
)
_PATIENCE_S: Final = 120.0


def supervisor_command(job: Job, *options: str) -> list[str]:
    """The command that becomes a job's supervisor."""
    return [sys.executable, "-c", _CODE, _ROOT, str(job.path), *options]


class LocalExecutor:
    """See `Executor`."""

    def start(self, job: Job, environment: dict[str, str]) -> None:
        """See `Executor`."""
        if sys.platform == "win32":
            raise ExperimentExecutionError("runs can be submitted on Linux and macOS only")
        try:
            done = subprocess.run(
                supervisor_command(job),
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_PATIENCE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExperimentExecutionError(f"the run's supervisor can't be started: {error}") from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise ExperimentExecutionError(f"the run's supervisor could not begin: {said} (see {job.path})")

    def withdraw(self, job: Job) -> bool:
        """See `Executor`."""
        return False
