"""Runs one submitted script from beginning to end, and says how it ended.

It is a process of its own in a session of its own: whoever submitted may go. It is the run's main process;
when it is killed the run ends as Failed, since its sender sees that, and the script gets SIGTERM from the
kernel.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from time import time_ns
from typing import Any, Final, NamedTuple

from runstream.capture import folders as log_folders
from runstream.core import keeping, outputs
from runstream.core.experiment import Experiment
from runstream.core.notices import say
from runstream.core.run import Run
from runstream.core.workspace import Workspace
from runstream.errors import RunConfigurationError, SnapshotError
from runstream.submit import snapshot, surroundings
from runstream.submit.interpreter import Progress, prepare
from runstream.submit.job import Job
from runstream.submit.output import OutputTail, last_words, log_name
from runstream.submit.processes import Ranks, told

RUN_TYPE: Final = "azureml.scriptrun"
PHASE: Final = "phase"
"""System attribute: what a run that is going on is doing, as its supervisor has it."""
_LOOK_S: Final = 0.1
_CLOCK_NS: Final = 20_000_000  # as far as a file's times lag behind
_ENVIRONMENT_LOG: Final = "system_logs/environment.txt"


class End(NamedTuple):
    """How a run ended."""

    status: str
    message: str = ""
    code: str = ""
    exit_code: int | None = None


class _Asked(Exception):
    """Somebody asked for the end."""


class Supervisor:
    """One run."""

    def __init__(self, job: Job, inherited: Mapping[str, str]) -> None:
        """`inherited`: variables of the process that submitted."""
        self._job = job
        self._inherited = inherited
        self._told: Mapping[str, Any] = job.read("job.json")
        self._signaled = False
        self._next_look = 0.0
        self._tails: list[OutputTail] = []
        self._ranks = Ranks()
        self._run: Run

    def supervise(self, ready: Callable[[], None]) -> None:
        """From the run's start to its end. `ready` is called when the start is kept."""
        signal.signal(signal.SIGTERM, self._note_signal)
        sys.orig_argv = self._command_line()
        if os.path.isdir(self._told["source_directory"]):
            os.chdir(self._told["source_directory"])  # whose Git state is the run's
        self._begin()
        os.chdir("/")
        ready()
        try:
            end = self._to_the_end()
        except _Asked:
            end = self._asked() or End("Canceled")
        except (RunConfigurationError, SnapshotError) as error:
            end = End("Failed", str(error), type(error).__name__)
        except Exception as error:
            self._ranks.end(self._told["grace_s"])
            end = End("Failed", f"runstream could not run it: {error!r}", "InternalError")
        self._finish(end)

    # ------------------------------------------------------------------------------------ start

    def _command_line(self) -> list[str]:
        """What is recorded as the run's."""
        told_ = self._told
        if isinstance(told_["command"], str):
            return [told_["command"]]
        return list(told_["command"] or ["python", told_["script"], *told_["arguments"]])

    def _begin(self) -> None:
        told_ = self._told
        experiment = Experiment(Workspace(workspace_name=told_["workspace"]), told_["experiment"])
        run = self._run = experiment._begin(
            run_id=told_["run"],
            outputs=False,
            display_name=told_["display_name"] or None,
            tags=told_["tags"],
            parent=told_["parent"],
            run_type=RUN_TYPE,
            whole=True,
        )
        if told_["properties"]:
            run.add_properties(told_["properties"])
        run._set("system", "run_definition", told_["definition"])
        run._set("system", "target", told_["target"])
        self._phase("Preparing")

    def _phase(self, phase: str) -> None:
        running = phase == "Running"  # which everybody sees anyway
        self._run._set("system", PHASE, None if running else phase, removed=running)
        self._job.set_state(phase)

    # -------------------------------------------------------------------------------------- run

    def _to_the_end(self) -> End:
        job, state = self._job, self._run._state
        self._check()
        code = job.file("code")
        if self._told["snapshot"]:
            keeping.keep_path(state, snapshot.name_of(self._told["snapshot"]), job.file("source.zip"))
        snapshot.unpack(job.file("source.zip"), code)
        log = job.file("environment.txt")
        self._tails = [OutputTail(log, _ENVIRONMENT_LOG)]
        interpreter = prepare(self._told["environment"], Progress(log, self._check))
        self._phase("Starting")
        os.chdir(code)
        os.makedirs(outputs.DEFAULT, exist_ok=True)
        os.makedirs(log_folders.NAME, exist_ok=True)
        outputs.watch(state, [outputs.DEFAULT], time_ns() + _CLOCK_NS)
        time.sleep(_CLOCK_NS / 1e9)  # so that what the script writes is younger than what was copied
        os.environ.pop("RUNSTREAM_CAPTURE_LOGS", None)
        if self._inherited.get("RUNSTREAM_CAPTURE_LOGS"):
            os.environ["RUNSTREAM_CAPTURE_LOGS"] = self._inherited["RUNSTREAM_CAPTURE_LOGS"]
        log_folders.begin(state)
        self._check()
        self._start(interpreter)
        self._phase("Running")
        return self._watch()

    def _start(self, interpreter: str) -> None:
        told_ = self._told
        given = told_["command"]
        if isinstance(given, str):
            command = ["/bin/sh", "-c", given]
        else:
            command = list(given) if given else [interpreter, told_["script"], *told_["arguments"]]
        script = surroundings.of_script(self._inherited, told_, interpreter, self._run.id)
        count = told_["ranks"]
        port = surroundings.free_port() if count else 0
        for rank in range(count or 1):
            variables = surroundings.of_rank(script, rank, count, port) if count else script
            log = self._job.log(rank)
            try:
                self._ranks.start(command, self._job.file("code"), variables, log)
            except OSError as error:
                self._ranks.end(0)
                raise RunConfigurationError(f"{command[0]} can't be started: {error.strerror}") from None
            self._tails.append(OutputTail(log, log_name(rank)))

    def _watch(self) -> End:
        limit = self._told["max_run_duration_s"]
        deadline = time.monotonic() + limit if limit else float("inf")
        while True:
            news = [tail for tail in self._tails if tail.feed(self._run._state)]
            asked = self._asked()
            if asked:
                self._ranks.end(self._told["grace_s"])
                return asked
            failed = self._ranks.failed()
            if failed:
                self._ranks.end(self._told["grace_s"])
                return self._failure(*failed)
            if self._ranks.over():
                self._ranks.end_leftovers(self._told["grace_s"])
                return End("Completed", exit_code=0)
            if time.monotonic() > deadline:
                self._ranks.end(self._told["grace_s"])
                return End(
                    "Canceled",
                    f"it took longer than max_run_duration_seconds, {limit:g} s",
                    "MaxRunDurationExceeded",
                )
            if not news:
                time.sleep(_LOOK_S)

    def _failure(self, rank: int, code: int) -> End:
        count = self._told["ranks"]
        who = f"rank {rank} of {count}" if count else self._told["script"] or "the command"
        said = last_words(self._job.log(rank))
        message = f"{who} ended: {told(code)}" + (f"\n\n{said}" if said else "")
        return End("Failed", message, "UserError", code)

    # ---------------------------------------------------------------------------------- requests

    def _note_signal(self, *_: object) -> None:
        self._signaled = True

    def _check(self) -> None:
        """While it is prepared: raises _Asked when somebody asked for the end; keeps what was printed."""
        for tail in self._tails:
            tail.feed(self._run._state)
        if self._asked():
            raise _Asked

    def _asked(self) -> End | None:
        """The end that somebody asked for, of this job or at the server."""
        request = self._job.read("request.json")
        if request:
            status = str(request.get("status"))
            said = str(request.get("message") or ""), str(request.get("code") or "")
            return End(status if status in ("Failed", "Canceled") else "Canceled", *said)
        if self._signaled:
            return End("Canceled", "its supervisor was told to end (SIGTERM)")
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + 2 * _LOOK_S
            if self._run.cancel_requested:
                return End("Canceled", "canceled on request")
        return None

    # -------------------------------------------------------------------------------------- end

    def _finish(self, end: End) -> None:
        job, run = self._job, self._run
        self._phase("Finalizing")
        for tail in self._tails:
            tail.feed_all(run._state)
        if end.exit_code is not None:
            run._set("system", "exit_code", str(end.exit_code))
        run._set("system", PHASE, None, removed=True)
        run._end(end.status, end.message, end.code)
        job.set_state(
            end.status,
            exit_code=end.exit_code,
            error_message=end.message,
            error_code=end.code,
            ended_ns=time_ns(),
        )
        os.chdir("/")
        for name in ("code", "source.zip"):
            place = job.file(name)
            try:
                shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
            except OSError as error:
                say(f"{place} can't be removed: {error}")
