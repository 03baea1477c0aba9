"""What of a printed stream is kept: every line, and of lines that are drawn anew their last state."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream.capture.lines import Lines

TEXTS = st.lists(st.text("ab\n\r", max_size=6), max_size=30)


def shown(text: str) -> list[str]:
    """The lines of a terminal that has printed a text and never shortens what a line shows."""
    return [line.rstrip("\r").split("\r")[-1] for line in text.split("\n")]


@given(TEXTS, st.integers(0, 1 << 30))
def test_a_terminal_shows_the_same(texts: list[str], seed: int) -> None:
    chance, lines, now, kept = random.Random(seed), Lines(), 0.0, ""
    for text in texts:
        now += chance.choice((0.0, 0.3, 1.5))
        kept += lines.feed(text, now)
    kept += lines.rest()
    assert shown(kept) == shown("".join(texts))


@given(st.lists(st.text(st.characters(exclude_characters="\r"), max_size=6), max_size=30))
def test_without_carriage_returns_nothing_is_changed(texts: list[str]) -> None:
    lines = Lines()
    assert "".join([lines.feed(text, 0.1 * n) for n, text in enumerate(texts)]) + lines.rest() == "".join(
        texts
    )


def test_a_line_is_given_when_it_ends() -> None:
    lines = Lines()
    assert lines.feed("a", 0.0) == ""
    assert lines.feed("b\nc", 0.0) == "ab\n"
    assert lines.rest() == "c"


def test_a_progress_bar_is_bounded_and_ends_as_it_did() -> None:
    lines, kept = Lines(), ""
    for n in range(100_000):  # a hundred seconds
        kept += lines.feed(f"\r{n:6d}/100000 |{'#' * 50}", n / 1000)
    assert 0 < len(kept) < 110 * 70
    assert lines.feed("\rdone\n", 100.0) == "\rdone\n"


@pytest.mark.parametrize("text", ["x" * 100_000, "\r" + "y" * 20_000])
def test_an_endless_line_is_not_held_back(text: str) -> None:
    assert Lines().feed(text, 0.0).strip("\r") == text.strip("\r")
