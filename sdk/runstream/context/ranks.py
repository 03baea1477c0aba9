"""Rank, world size and launch of this process, as torchrun, SLURM, MPI, Ray and Lightning tell them.

A launch is one start of a job: all its ranks share it, a restart is another one with the same job. With
more than one rank each process must find the same run by itself, so the run id is made from the job.
"""

import os
import time
from collections.abc import Mapping, MutableMapping
from typing import Final, NamedTuple

from runstream.home import digest

LAUNCH: Final = "RUNSTREAM_LAUNCH_ID"  # set by a launcher, for its processes
# Set by start_logging for the processes that it will start: Lightning starts the script anew for each rank.
_PARENT_JOB: Final = "RUNSTREAM_PARENT_JOB"


class Ranks(NamedTuple):
    """This process's place among those that were started together. None when it was started alone."""

    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None

    @property
    def many(self) -> bool:
        """Whether there are others."""
        return (self.world_size or 1) > 1


class Launch(NamedTuple):
    """What this process was started by."""

    job: str  # the same in all ranks and after a restart
    id: str  # another one after each restart
    restart: int
    ranks: Ranks
    shared: bool  # with other ranks, or with the process that this one replaces

    def run_suffix(self, experiment: str, nth: int) -> str:
        """End of the id of the nth run that each of its processes starts."""
        return digest(f"{self.job}\n{experiment}\n{nth}".encode(), 6)

    def started_at(self) -> int | None:
        """When the job was made, Unix seconds; None unless runstream made it."""
        first, _, rest = self.job.partition("-")
        return int(first) if len(rest) == 12 and first.isdigit() else None

    def export(self, environment: MutableMapping[str, str]) -> None:
        """Let the processes that this one starts find it."""
        environment[_PARENT_JOB] = f"{self.job} {environment.get(LAUNCH, '')}"


_SOURCES: Final = (  # rank, local rank, world size; the first with a rank and a size counts
    ("RANK", "LOCAL_RANK", "WORLD_SIZE"),  # torchrun, Ray Train, accelerate
    ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS"),  # srun; sbatch alone has no step size
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE"),  # MPICH, Intel MPI
)


def read_ranks(environment: Mapping[str, str]) -> Ranks:
    """The place that the environment gives this process."""
    for rank_name, local_name, size_name in _SOURCES:
        rank, size = _number(environment.get(rank_name)), _number(environment.get(size_name))
        if rank is not None and size is not None and rank < size:
            return Ranks(rank, _number(environment.get(local_name)), size)
    node, local, size = (_number(environment.get(name)) for name in ("NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"))
    if node is not None and local is not None and size:  # Lightning gives its processes no rank
        count = _number(environment.get("LOCAL_WORLD_SIZE")) or _number(environment.get("NUM_PROCESSES"))
        rank = node * count + local if count else local if node == 0 else None
        return Ranks(rank, local, size)
    return Ranks()


def read_launch(environment: Mapping[str, str]) -> Launch:
    """The launch that this process belongs to; a new one when nothing says."""
    ranks = read_ranks(environment)
    name = environment.get(LAUNCH, "")
    if not ranks.many and environment.get("TORCHELASTIC_RUN_ID", "none") == "none":
        job = mint()
        return Launch(job, name[:200] or job, 0, ranks, shared=False)
    parent_job, _, parent_name = environment.get(_PARENT_JOB, "").partition(" ")
    if name and name != parent_name:  # set for these processes, not passed on from further above
        job = name
    else:
        job = _scheduler_job(environment) or parent_job or name or _parent(environment)
    restart = _number(environment.get("TORCHELASTIC_RESTART_COUNT"))
    if restart is None:
        restart = _number(environment.get("SLURM_RESTART_COUNT"))
    job = job[:200]
    return Launch(job, f"{job}.{restart}" if restart else job, restart or 0, ranks, shared=True)


def mint() -> str:
    """A new job's identity. It tells the time, so that ids made from it can."""
    return f"{int(time.time())}-{os.urandom(6).hex()}"


def _scheduler_job(environment: Mapping[str, str]) -> str | None:
    """Identity that the scheduler gives to all processes of the job, if it does."""
    torch = environment.get("TORCHELASTIC_RUN_ID")
    slurm = environment.get("SLURM_JOB_ID")
    if torch and torch != "none":
        return f"torch-{torch}" + (f"-slurm-{slurm}" if slurm else "")
    if slurm:
        cluster = environment.get("SLURM_CLUSTER_NAME", "")
        return f"slurm-{cluster}-{slurm}-{environment.get('SLURM_STEP_ID', '')}"
    ray = environment.get("RAY_JOB_ID")
    if ray:
        return f"ray-{ray}"
    for name in ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_JOBID"):
        if environment.get(name):
            return f"mpi-{environment[name]}"
    return None


def _parent(environment: Mapping[str, str]) -> str:
    """The process that started the ranks; across hosts the address that they meet at."""
    from runstream.spool.folder import machine, process_start

    address = environment.get("MASTER_ADDR", "")
    meeting = f"{address}:{environment.get('MASTER_PORT', '')}"
    local = _number(environment.get("LOCAL_WORLD_SIZE"))
    if address in ("", "localhost", "127.0.0.1", "::1") or (
        local and local == _number(environment.get("WORLD_SIZE"))
    ):
        parent = os.getppid()
        return f"parent-{machine().boot_id}-{parent}-{process_start(parent)}"
    return f"meeting-{meeting}"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
