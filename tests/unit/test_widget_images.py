"""Which values of a metric are images that a notebook shows."""

from typing import Any

import numpy as np
import pytest

from runstream.columns import NO_STEP, Series
from runstream.core.artifact import uri
from runstream.errors import UserError
from runstream.widgets.images import image, images_of

STRING = 5


def series(texts: list[str], steps: list[int | None]) -> Series:
    """Texts as they are read."""
    count = len(texts)
    return Series(
        workspace="ws",
        run="r/1",
        metric="m",
        column="",
        row=np.arange(count),
        type=np.full(count, STRING, np.uint8),
        doubles=np.zeros(0),
        integers=np.arange(count),
        strings=tuple(texts),
        step=np.array([NO_STEP if step is None else step for step in steps]),
        logged_time_ns=np.zeros(count, np.int64),
        identity=None,
    )


def test_images_are_those_of_the_run_by_their_ending() -> None:
    logged = {
        uri("r/1", "a b/ü.PNG"): None,
        uri("r/1", "x.jpeg"): 7,
        uri("other", "y.png"): None,
        uri("r/1", "draws.svg"): None,  # it may hold scripts
        uri("r/1", "png"): None,
        uri("r/1", "page.png.html"): None,
        "x.png": None,
    }
    found = images_of("r/1", series(list(logged), list(logged.values())))
    assert found == [{"path": "a b/ü.PNG", "step": None}, {"path": "x.jpeg", "step": 7}]


def test_nothing_else_is_read() -> None:
    run: Any = None  # it is not asked
    for path in ("model.pkl", "draws.svg", "png"):
        with pytest.raises(UserError, match="no image"):
            image(run, path)
