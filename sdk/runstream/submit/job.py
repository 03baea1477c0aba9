"""The folder of a submitted run: what is to be run, how far it is, what was asked of it.

    <jobs>/<run id>-<digest>/
        job.json        what is to be run; written once, before the supervisor starts
        state.json      the supervisor's: status, process, how it ended
        request.json    from others: end it as Canceled or Failed
        source.zip      the snapshot, until it is uploaded
        code/           the copy that the script runs in, until it has ended
        std_log.txt     what the script prints; std_log_process_1.txt, … of other ranks
        supervisor.log  what the supervisor itself has to say

The supervisor need not be on the machine that the run was submitted from, as long as both see the folder.
"""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Final

from runstream import home
from runstream.core.record import FINAL
from runstream.spool.folder import lives, machine, process_start

JOBS: Final = "RUNSTREAM_JOBS"
FORMAT: Final = 1
_KEPT_S: Final = 30 * 86_400.0
_MOST_NAME: Final = 120


def jobs_root() -> Path:
    """Folder of all jobs of this user: RUNSTREAM_JOBS, else in RUNSTREAM_HOME. Raises OSError."""
    told = os.environ.get(JOBS)
    root = Path(told).expanduser().absolute() if told else home.home() / "jobs"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


def job_of(workspace: str, run_id: str) -> "Job | None":
    """The job of a run that was submitted where this machine sees its folder."""
    try:
        job = Job(jobs_root() / _name(workspace, run_id))
    except OSError:
        return None
    return job if job.file("job.json").exists() else None


def make_job(workspace: str, run_id: str) -> "Job":
    """A folder for a new run. Raises FileExistsError when the run was submitted before, OSError."""
    root = jobs_root()
    _tidy(root)
    job = Job(root / _name(workspace, run_id))
    job.path.mkdir(mode=0o700)
    return job


class Job:
    """One submitted run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str) -> Path:
        """A file of it."""
        return self.path / name

    def log(self, rank: int) -> Path:
        """What a rank prints."""
        return self.path / ("std_log.txt" if rank == 0 else f"std_log_process_{rank}.txt")

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Replace a JSON file as a whole."""
        home.write_json(self.file(name), content)

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file; empty when it is not there."""
        return dict(home.read_json(self.file(name)) or {})

    def set_state(self, status: str, **more: Any) -> None:
        """The supervisor's word on how far it is."""
        here = machine()
        self.write(
            "state.json",
            {
                **self.read("state.json"),
                "status": status,
                "time_ns": time.time_ns(),
                "pid": os.getpid(),
                "pid_start": process_start(),
                "host": here.host,
                "boot_id": here.boot_id,
                **more,
            },
        )

    def ask(self, status: str, message: str = "", code: str = "") -> None:
        """Ask the supervisor to end the run so. The first request counts."""
        made = self.file(f".request.{os.getpid()}.{time.monotonic_ns()}")
        made.write_text(json.dumps({"status": status, "message": message, "code": code}), encoding="utf-8")
        try:
            os.link(made, self.file("request.json"))
        except FileExistsError:
            pass
        finally:
            made.unlink()
        state = self.read("state.json")
        if self.is_supervised(state):  # so that it need not find it by itself
            try:
                os.kill(int(state["pid"]), signal.SIGTERM)
            except (OSError, KeyError):
                return

    def status(self) -> str:
        """As its supervisor has it; Failed when that is gone without having said an end."""
        state = self.read("state.json")
        status = str(state.get("status") or "NotStarted")
        if status in FINAL or self.is_supervised(state) is not False:
            return status
        again = self.read("state.json")  # it may have ended between the two looks
        return str(again["status"]) if again.get("status") in FINAL else "Failed"

    def is_supervised(self, state: dict[str, Any] | None = None) -> bool | None:
        """Whether the supervisor lives; None when that can't be told from here."""
        state = self.read("state.json") if state is None else state
        pid, start = state.get("pid"), state.get("pid_start")
        if not isinstance(pid, int) or not isinstance(start, int):
            return None
        here = machine()
        if state.get("host") != here.host:
            return None
        return state.get("boot_id") == here.boot_id and lives(pid, start)


def _name(workspace: str, run_id: str) -> str:
    readable = "".join(c if (c.isalnum() and c.isascii()) or c in "-_." else "_" for c in run_id)
    key = f"{workspace}\n{run_id}".encode("utf-8", "surrogatepass")
    return f"{readable[:_MOST_NAME]}-{home.digest(key, 6)}"


def _tidy(root: Path) -> None:
    """Remove jobs that ended a month ago. Their runs are kept by the server."""
    before = time.time() - _KEPT_S
    with os.scandir(root) as entries:
        for entry in entries:
            try:
                old = entry.stat().st_mtime < before and Job(Path(entry.path)).status() in FINAL
            except OSError:
                continue
            if old:
                shutil.rmtree(entry.path, ignore_errors=True)
