"""What is stored is text that every database takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_flows.codec import decode, encode, safe_text

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(st.recursive(st.none() | st.booleans() | st.integers() | ANY_TEXT, st.lists, max_leaves=5))
def test_json_comes_back_as_it_was(value: object) -> None:
    """And lies there as plain ASCII, without a NUL, so that no column can choke on it."""
    text = encode(value)
    assert decode(text) == value
    assert text.isascii()
    assert "\x00" not in text


def test_celerys_own_types_come_back_as_they_were() -> None:
    """Dates, decimals and UUIDs, as Celery's serializer has them."""
    value = {"at": datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC), "price": Decimal("1.10"), "id": UUID(int=7)}
    assert decode(encode(value)) == value
    assert decode(None) is None


def test_what_json_can_not_hold_is_refused() -> None:
    """An object, and a list that holds itself."""
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(TypeError):
        encode(object())
    with pytest.raises((ValueError, RecursionError)):
        encode(endless)


@given(ANY_TEXT, st.none() | st.integers(0, 50))
def test_safe_text_can_be_stored_anywhere(text: str, limit: int | None) -> None:
    """It is UTF-8 without a NUL, no longer than asked for, and safe text stays as it is."""
    safe = safe_text(text, limit)
    assert "\x00" not in safe.encode("utf-8").decode("utf-8")
    assert len(safe) == (len(text) if limit is None else min(limit, len(text)))
    assert safe_text(safe) == safe


def test_safe_text_is_made_of_anything() -> None:
    """Of an exception too."""
    assert safe_text(ValueError("no \x00 user")) == "no \ufffd user"
    assert json.dumps(safe_text("\udcff")) == '"?"'
