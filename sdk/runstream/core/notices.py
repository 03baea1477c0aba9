"""Lines for the person who watches the script. Each is printed once in a process, and none ever raises."""

import sys

_said: set[str] = set()


def say(line: str, *, once: str | None = None) -> None:
    """Print a line on standard error; with `once` only the first of those with that key."""
    if once is not None:
        if once in _said:
            return
        _said.add(once)
    try:
        print(f"runstream: {line}", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):  # closed, full, or there is none
        pass


def was_said(key: str) -> bool:
    """Whether a line with this key was printed."""
    return key in _said
