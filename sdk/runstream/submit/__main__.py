"""`python -m runstream.submit JOB`: becomes the supervisor of a submitted run.

Detaches first, and ends with 0 as soon as the supervisor has kept the run's start; else with 1, and the
reason on standard error. With `--foreground` it stays, for schedulers that watch it.
"""

import os
import sys

TYPE_CHECKING = False  # as in `typing`: nothing is loaded before this process detaches

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    """The process that was started; the supervisor does not return from here."""
    foreground = "--foreground" in sys.argv[1:]
    folder = next(argument for argument in sys.argv[1:] if not argument.startswith("-"))
    if foreground:
        _supervise(folder, lambda: None)
        return 0
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        _detach(folder)
        try:
            _supervise(folder, lambda: _say_once(writer, b"ready"))
        except BaseException as error:
            _say_once(writer, repr(error).encode())
            raise
        return 0
    os.close(writer)
    with open(reader, "rb") as said:
        answer = said.read().decode("utf-8", "replace")
    if answer == "ready":
        return 0
    print(answer or "the supervisor ended before it began", file=sys.stderr)
    return 1


def _detach(folder: str) -> None:
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    log = os.open(os.path.join(folder, "supervisor.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _say_once(writer: int, answer: bytes) -> None:
    try:
        os.write(writer, answer)
        os.close(writer)
    except OSError:  # it was said
        return


def _supervise(folder: str, ready: "Callable[[], None]") -> None:
    from pathlib import Path

    from runstream.submit import surroundings

    inherited = surroundings.inherited(os.environ)
    own = {
        "RUNSTREAM_CAPTURE_CONSOLE": "0",  # what this process prints is no output of the script
        "RUNSTREAM_CAPTURE_LOGS": "0",  # there is no folder yet
        "RUNSTREAM_CAPTURE_SYSTEM": "0",  # the script is looked at, where it logs
        "RUNSTREAM_INTERRUPT": "0",  # it looks for requests itself
    }
    os.environ.clear()
    os.environ.update({**inherited, **own})
    from runstream.submit.job import Job

    job = Job(Path(folder))
    os.environ["RUNSTREAM_LAUNCH_ID"] = str(job.read("job.json")["launch"])
    from runstream.submit.supervisor import Supervisor

    Supervisor(job, inherited).supervise(ready)


if __name__ == "__main__":
    sys.exit(main())
