"""The shapes of `get_metrics`, from columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runstream.columns import DECLARATION, TABLE_DECLARATION, Series
from runstream.core.metrics import shapes

TYPES: dict[type, int] = {float: 1, int: 2, bool: 3, type(None): 4, str: 5}


def series(
    metric: str, values: list[Any], column: str = "", rows: list[int] | None = None, declared: int = 0
) -> Series:
    texts = tuple(value for value in values if isinstance(value, str))
    integers = [
        texts.index(value) if isinstance(value, str) else int(value)
        for value in values
        if isinstance(value, str | int)
    ]
    count = len(values)
    return Series(
        *("ws", "run", metric, column),
        row=np.array(range(count) if rows is None else rows, np.int64),
        type=np.array([TYPES[type(value)] for value in values], np.uint8),
        doubles=np.array([value for value in values if isinstance(value, float)], np.float64),
        integers=np.array(integers, np.int64),
        strings=texts,
        step=np.zeros(count, np.int64),
        logged_time_ns=np.zeros(count, np.int64),
        identity=None,
        declared=frozenset({declared} - {0}),
    )


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([series("m", [0.5])], 0.5),
        ([series("m", [None])], None),
        ([series("m", [0.5, 1, "x", True, None])], [0.5, 1, "x", True, None]),
        ([series("m", [], declared=DECLARATION)], []),
        ([series("m", [], declared=TABLE_DECLARATION)], {}),
        ([series("m", [1], "a"), series("m", ["x"], "b")], {"a": 1, "b": "x"}),
        ([series("m", [1, 2], "a"), series("m", [3, 4], "b")], {"a": [1, 2], "b": [3, 4]}),
        (
            [series("m", [1, 2], "a", [0, 2]), series("m", [3], "b", [1])],
            {"a": [1, None, 2], "b": [None, 3, None]},
        ),
        ([series("m", [], "a", declared=DECLARATION)], {"a": []}),
        (
            [series("m", [], "a", declared=DECLARATION), series("m", [1, 2], "b")],
            {"a": [None, None], "b": [1, 2]},
        ),
        ([series("m", [1, 2], "a"), series("m", [], declared=TABLE_DECLARATION)], {"a": [1, 2]}),
        (
            [series("m", [7, 8], "", [0, 3]), series("m", [1, 2], "a", [1, 2])],
            {"": [7, 8], "a": [1, 2]},
        ),
        ([series("m", [7]), series("m", [1], "a", [1])], {"": 7, "a": 1}),
        ([series("m", [], declared=DECLARATION), series("m", [1], "a")], {"": [], "a": 1}),
        ([series("m", [7, 8], declared=TABLE_DECLARATION)], {"": [7, 8]}),
    ],
)
def test_shapes(columns: list[Series], expected: object) -> None:
    found = shapes(columns)
    assert found == {"m": expected}
    assert repr(found["m"]) == repr(expected)


def test_metrics_are_kept_apart() -> None:
    assert shapes([series("a", [1]), series("a ", [2]), series("b", [3], "x")]) == {
        "a": 1,
        "a ": 2,
        "b": {"x": 3},
    }
    assert shapes([]) == {}
