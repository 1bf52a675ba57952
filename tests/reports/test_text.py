from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.reports import text


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (1234.5, "1,234"), (12.345, "12.3"), (0.012345, "0.0123"), (1e-9, "1e-09"), (-5.5, "-5.50")],
)
def test_number_keeps_three_digits(value, expected):
    assert text.number(value) == expected


@pytest.mark.parametrize("write", [text.number, text.count, text.duration, text.percent, text.binary_bytes])
@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_is_not_known_is_a_dash(write, value):
    assert write(value) == text.UNKNOWN


def test_units():
    assert text.si(3.1e14, "FLOP/s") == "310 TFLOP/s"
    assert text.si(12, "B") == "12.0 B"
    assert text.binary_bytes(1.5 * 2**30) == "1.50 GiB"
    assert text.duration(12.3) == "12.3 µs"
    assert text.duration(4560) == "4.56 ms"
    assert text.duration(1.2e6) == "1.20 s"


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, "0.0 %"), (0.0004, "<0.1 %"), (0.5, "50.0 %"), (0.9999, ">99.9 %"), (1, "100 %"), (1.83, "183 %")],
)
def test_percent_tells_little_from_nothing_and_almost_from_all(share, expected):
    assert text.percent(share) == expected


def test_counts_show_a_decimal_only_where_steps_differ():
    assert [text.count(value) for value in (3.0, 2.5, 1234.5)] == ["3", "2.5", "1,234"]


def test_a_column_has_one_number_of_decimals():
    assert text.column([132.31, 0.2, 0.0001, None, 0.0]) == ["132.3", "0.2", "<0.1", text.UNKNOWN, "0"]


def test_clean_takes_escapes_overrides_and_surrogates_away():
    assert text.clean("a\x1b[31mb\u202ec\ud800d\ne\u2028f") == "a�[31mb�c�d e f"


def test_shorten_keeps_both_ends():
    assert text.shorten("abcdefghij", 5) == "ab…ij"
    assert text.shorten("abc", 5) == "abc"


@given(st.text(max_size=60), st.integers(min_value=5, max_value=40))
def test_shortened_text_fits_and_keeps_its_ends(value, width):
    short = text.shorten(value, width)
    assert len(short) == min(len(value), width)
    assert value.startswith(short[:2])
    assert value.endswith(short[-2:])


@given(st.text())
def test_clean_text_can_be_printed_anywhere(value):
    assert text.clean(value).isprintable()
    text.clean(value).encode("utf-8")


def test_numbers_keep_their_units():
    said = text.unbroken("1.3 ms of 4 % at 16 GB/s, 2 steps of 512 tokens")
    assert said == "1.3\u00a0ms of 4\u00a0% at 16\u00a0GB/s, 2 steps of 512 tokens"
