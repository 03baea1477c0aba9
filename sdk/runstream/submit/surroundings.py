"""Environment variables: what a submitted script's processes find, and what they must not inherit."""

import os
import socket
from collections.abc import Mapping
from typing import Any, Final

from runstream.context.ranks import LAUNCH

_RUN: Final = "RUNSTREAM_RUN_ID"
_EXPERIMENT: Final = "RUNSTREAM_EXPERIMENT"
_WORKSPACE: Final = "RUNSTREAM_WORKSPACE"

# Who submits may be a rank, or a submitted script itself: its place there is not that of the new run.
_NOT_INHERITED: Final = (
    _RUN,
    _EXPERIMENT,
    LAUNCH,
    "RUNSTREAM_RUN_TAKEN",
    "RUNSTREAM_PARENT_JOB",
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "NODE_RANK",
    "ROLE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "NUM_PROCESSES",
    "RAY_JOB_ID",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_STEP_ID",
    "SLURM_STEP_NUM_TASKS",
)
_NOT_INHERITED_FAMILIES: Final = ("TORCHELASTIC_", "OMPI_", "PMI_", "PMIX_", "MPI_LOCAL")
# Folders and addresses that are meant from where the submitting process is.
_PATHS: Final = ("RUNSTREAM_HOME", "RUNSTREAM_SPOOL", "RUNSTREAM_JOBS")


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """What of a process's variables a new run gets."""
    kept = {
        name: value
        for name, value in environment.items()
        if name not in _NOT_INHERITED and not name.startswith(_NOT_INHERITED_FAMILIES)
    }
    for name in _PATHS:
        if kept.get(name):
            kept[name] = os.path.abspath(os.path.expanduser(kept[name]))
    return kept


def of_script(
    base: Mapping[str, str], job: Mapping[str, Any], interpreter: str, run_id: str
) -> dict[str, str]:
    """For a script of one process."""
    folder = os.path.dirname(interpreter)
    return {
        "PYTHONUNBUFFERED": "1",  # its log is to be seen as it is written
        **base,
        **job["variables"],
        "PATH": os.pathsep.join([folder, base.get("PATH", os.defpath)]),
        _RUN: run_id,
        _EXPERIMENT: job["experiment"],
        _WORKSPACE: job["workspace"],
        LAUNCH: job["launch"],
    }


def of_rank(script: Mapping[str, str], rank: int, count: int, port: int) -> dict[str, str]:
    """For one of several processes on this machine, as torchrun has it."""
    return {
        **script,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    """A port of this machine that nobody has just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
