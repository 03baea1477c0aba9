"""What this process says of itself for those who look at it from outside."""

import os
import sys

from runstream.capture.switches import wanted

_MOST_COMMAND = 10_000


def self_description() -> dict[str, object] | None:
    """What to look at, and what only the process itself knows; None when nothing is to be looked at."""
    what = [
        name
        for name, setting in (
            ("system", "RUNSTREAM_CAPTURE_SYSTEM"),
            ("source", "RUNSTREAM_CAPTURE_SOURCE"),
        )
        if wanted(setting)
    ]
    if not what:
        return None
    try:
        folder = os.getcwd()
    except OSError:
        folder = ""
    names = [name.strip() for name in os.environ.get("RUNSTREAM_CAPTURE_ENV", "").split(",") if name.strip()]
    return {
        "what": what,
        "folder": folder,
        "command": [part[:_MOST_COMMAND] for part in sys.orig_argv[:1000]],
        "python": ".".join(map(str, sys.version_info[:3])),
        "prefix": sys.prefix,
        "variables": {name: os.environ[name] for name in names if name in os.environ},
    }
