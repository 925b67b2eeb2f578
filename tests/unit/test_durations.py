from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.durations import LONGEST, UNITS, duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90.0),
        (0, 0.0),
        (0.25, 0.25),
        ("90", 90.0),
        ("0.5", 0.5),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("2d", 172_800.0),
        ("1h30m", 5400.0),
        ("1d 2h 3m 4s 5ms", 93_784.005),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        ("5m1ms", 300.001),
        (" 5M ", 300.0),
        ("3650d", LONGEST),
    ],
)
def test_spans(text: str | float, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "m5",
        "5 minutes",
        "5x",
        "1h30",
        "30m1h",
        "1h1h",
        "5mm",
        "-5m",
        "+5m",
        "1e3",
        "0x10",
        "1_000",
        "٣m",
        "5m\x00",
        "5;m",
        "1..5h",
        ".5h",
        "5.h",
        "9" * 5000,
        "9" * 5000 + "d",
        "nan",
        "inf",
    ],
)
def test_other_text_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected seconds, or text like \"90s\""):
        duration(text)


@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, -math.inf, 10**400, -(10**400), "3651d"])
def test_spans_out_of_range_are_refused(value: str | float) -> None:
    with pytest.raises(ValueError, match="from 0 to 3650 days"):
        duration(value)


@pytest.mark.parametrize("value", [True, False, None, [], {}, b"5m"])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected seconds"):
        duration(value)  # type: ignore[arg-type]


@given(st.text(max_size=40) | st.text("0123456789.smhd ", max_size=12))
def test_any_text_is_a_span_or_a_value_error(text: str) -> None:
    try:
        seconds = duration(text)
    except ValueError:
        return
    assert 0 <= seconds <= LONGEST


@given(st.dictionaries(st.sampled_from(list(UNITS)), st.integers(0, 100), min_size=1))
def test_a_written_out_span_reads_as_its_sum(parts: dict[str, int]) -> None:
    text = "".join(f"{parts[unit]}{unit}" for unit in UNITS if unit in parts)
    assert duration(text) == pytest.approx(sum(count * UNITS[unit] for unit, count in parts.items()))
