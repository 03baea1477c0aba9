"""Keeps pandas out of the server process.

pyarrow, clickhouse-connect and chDB import pandas when it happens to be installed, which in a training
environment it is: two seconds of start, one and a half more at the first insert, and 60 MB for good, for nothing
that the server does. All three work without it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_UNWANTED = "pandas"


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
