"""How much may go wrong, as users write it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celery_flows.errors import InvalidSetting
from celery_flows.tolerance import Tolerance


@pytest.mark.parametrize(
    ("written", "stored", "of_199", "is_share"),
    [
        (0, "0", 0, False),
        (10, "10", 10, False),
        ("10", "10", 10, False),
        (" 7 ", "7", 7, False),
        ("0%", "0%", 0, True),
        ("5%", "5%", 9, True),
        ("5 %", "5%", 9, True),
        ("2.5%", "2.5%", 4, True),
        ("100%", "100%", 199, True),
    ],
)
def test_a_tolerance_is_a_number_or_a_share(written: int | str, stored: str, of_199: int, is_share: bool) -> None:
    """It is stored in one form, and a share is rounded down."""
    tolerance = Tolerance.parse(written)
    assert (str(tolerance), tolerance.limit(199), tolerance.is_share) == (stored, of_199, is_share)
    assert tolerance.is_none is (of_199 == 0)


@pytest.mark.parametrize(
    "nonsense",
    [-1, "-1", 10**16, "101%", "-5%", "many", "", "%", "5.5", 5.5, True, None, "nan%", "inf%", "1e400%", [5]],
)
def test_nonsense_is_refused_with_what_is_allowed(nonsense: object) -> None:
    """The message names the setting, what was given, and both ways to write it."""
    with pytest.raises(InvalidSetting) as caught:
        Tolerance.parse(nonsense)  # type: ignore[arg-type] # as a user would
    assert caught.value.name == "tolerate"
    assert caught.value.value is nonsense
    assert "10" in str(caught.value)
    assert "100%" in str(caught.value)


@example(57, 10_000)
@given(st.integers(0, 10_000), st.integers(0, 100_000))
def test_whole_shares_are_exact(hundredths: int, total: int) -> None:
    """Rounding down is that of the written number, whatever a float makes of it."""
    written = f"{hundredths / 100:g}%"
    assert Tolerance.parse(written).limit(total) == hundredths * total // 10_000


@given(st.one_of(st.integers(0, 10**6).map(str), st.integers(0, 10_000).map(lambda number: f"{number / 100:g}%")))
def test_what_is_stored_is_read_back(written: str) -> None:
    """Parsing what was stored gives the same tolerance, and fits its column."""
    tolerance = Tolerance.parse(written)
    assert Tolerance.parse(str(tolerance)) == tolerance
    assert len(str(tolerance)) <= 16
