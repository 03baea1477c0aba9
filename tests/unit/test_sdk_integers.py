import random

import pytest

from runstream.integers import from_decimal, to_decimal


@pytest.mark.parametrize("digits", [1, 18, 599, 600, 601, 1200, 1201, 4000])
def test_as_the_interpreter_converts(digits: int) -> None:
    seeded = random.Random(digits)
    for value in (10**digits, 10**digits - 1, seeded.randrange(10**digits)):
        for signed in (value, -value):
            assert to_decimal(signed) == str(signed)
            assert from_decimal(str(signed)) == signed


def test_more_digits_than_the_interpreter_converts() -> None:
    value = 7 * 10**20_000 + 12_345
    text = to_decimal(value)
    assert text == "7" + "0" * 19_995 + "12345"
    assert from_decimal(text) == value
    assert from_decimal("-" + text) == -value


@pytest.mark.parametrize("text", ["", "1x", "9" * 700 + "x", "--" + "1" * 700, "٣" * 700])
def test_what_is_no_integer_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_decimal(text)
