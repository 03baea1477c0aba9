"""Keeps the server process small.

*pandas* is kept out. pyarrow, clickhouse-connect and chDB import it when it is installed, which in a training
environment it is: two seconds of start, one and a half more at the first insert, and 60 MB for good,
for nothing that the server does. All three work without it.

*Memory* that a load needed is given back after it: Arrow's pool and the C library would keep it.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_UNWANTED = "pandas"
_LOOK_S = 10.0


class _Absent:
    """Finds no pandas, and ends the search."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Asked first for every import."""
        if name.partition(".")[0] == _UNWANTED:
            raise ModuleNotFoundError(f"{name} is kept out of the server", name=name)
        return None


def keep_lean() -> None:
    """From now on pandas can't be imported in this process, unless it was before."""
    if _UNWANTED not in sys.modules:
        sys.meta_path.insert(0, _Absent)


async def give_back(work: Callable[[], int]) -> None:
    """Give memory back whenever the work has rested for a while. Never returns.

    :param work: a number that rises with what is done.
    """
    given_at = before = work()
    while True:
        await asyncio.sleep(_LOOK_S)
        now = work()
        if now == before != given_at:
            await asyncio.to_thread(_give_back)
            given_at = now
        before = now


def _give_back() -> None:
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another C library
        pass
