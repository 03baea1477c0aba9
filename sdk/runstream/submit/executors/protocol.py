"""What a place is asked where scripts can run.

An executor starts `python -m runstream.submit JOB` somewhere, now or when there is room. All that follows is
the supervisor's: it says that the run began and how it ended, and looks into the job's folder for requests.
So the folder must be seen from where the job runs.
"""

from typing import Protocol

from runstream.submit.job import Job


class Executor(Protocol):
    """One kind of place."""

    def start(self, job: Job, environment: dict[str, str]) -> None:
        """Have the job run, with these variables. Returns when it is sure to begin, or waits in a queue: then
        the job's state is `Queued`. Raises ExperimentExecutionError when that was refused; nothing runs then.
        """

    def withdraw(self, job: Job) -> bool:
        """Take back a job that waits in a queue. False when it does not wait any more."""
