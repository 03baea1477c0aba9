"""How long a script that is to end may take for it: RUNSTREAM_CANCEL_GRACE_S."""

import os
from typing import Final

from runstream.core.notices import say

_NAME: Final = "RUNSTREAM_CANCEL_GRACE_S"
_DEFAULT_S: Final = 10.0


def grace_s() -> float:
    """Seconds from SIGTERM to SIGKILL."""
    told = os.environ.get(_NAME, "").strip()
    try:
        return max(0.0, float(told)) if told else _DEFAULT_S
    except ValueError:
        say(f"{_NAME} is no number of seconds: {told}", once=_NAME)
        return _DEFAULT_S
