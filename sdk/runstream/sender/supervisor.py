"""Restarts the sender when it dies badly: `python -I -S supervisor.py PYTHON MAIN LOCK ROOT WAIT_S`.

Nothing but what the bare interpreter has is imported here, because this process stays as long as the
sender: it takes about 4 MB.
"""

import os
import sys
import time

_SUPERVISOR_BYTE = 1  # see start.py
_GIVE_UP_AFTER = 12  # quick failures in a row: something is wrong that another try doesn't change
_LONG_LIFE_S = 5.0
_LONGEST_PAUSE_S = 5.0


def main() -> None:
    """Detach, take the supervisor's lock, keep the sender running."""
    python, script, lock, root, wait_s = sys.argv[1:]
    if os.fork():
        os._exit(0)  # the caller reaps this process; its child belongs to nobody
    try:
        os.setsid()
    except PermissionError:
        pass  # posix_spawn has done it
    os.chdir("/")
    os.umask(0o077)
    os.closerange(3, max(1024, os.sysconf("SC_OPEN_MAX")) if os.sysconf("SC_OPEN_MAX") < 1 << 17 else 1 << 17)
    patience = time.monotonic() + float(wait_s)
    while not _take(lock):
        if time.monotonic() > patience:  # a sender is there already, or is starting
            os._exit(0)
        time.sleep(0.02)
    environment = dict(os.environ)
    # Threads of a small process need no heaps of their own, and no BLAS.
    environment.setdefault("MALLOC_ARENA_MAX", "1")
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    environment.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    failures = 0
    while failures < _GIVE_UP_AFTER:
        began = time.monotonic()
        arguments = [python, "-P", script, "--spool", root]
        pid = os.posix_spawn(python, arguments, environment)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == 0:
            return
        failures = 1 if time.monotonic() - began > _LONG_LIFE_S else failures + 1
        print(f"runstream sender {pid} ended with {code}; starting it again", file=sys.stderr, flush=True)
        time.sleep(min(0.1 * 2**failures, _LONGEST_PAUSE_S))


def _take(lock: str) -> bool:
    import fcntl

    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _SUPERVISOR_BYTE)
    except OSError:
        os.close(descriptor)
        return False
    return True  # the descriptor stays open until this process ends


if __name__ == "__main__":
    main()
