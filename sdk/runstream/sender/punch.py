"""Gives the space of a file's delivered part back, where the file's system can."""

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_PAGE = 4096


@cache
def _fallocate() -> Any:
    """The C library's function; None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    function = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function


def punch(path: Path, start: int, end: int) -> None:
    """Make a hole from `start` to `end`. What can't be done is left: the file goes as a whole later."""
    fallocate = _fallocate()
    start, end = start + -start % _PAGE, end - end % _PAGE
    if fallocate is None or start >= end:
        return
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError:
        return
    try:
        fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, start, end - start)
    finally:
        os.close(fd)
