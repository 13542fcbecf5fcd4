"""Settings: each has a name, a type and a range, and what is not one is refused by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from celery_flows.errors import InvalidSetting, UnknownSetting
from celery_flows.settings import Settings, names


def test_defaults_are_allowed() -> None:
    """Every default passes its own check."""
    defaults = Settings()
    assert Settings.build({name: getattr(defaults, name) for name in names()}) == defaults


def test_every_setting_says_what_is_allowed() -> None:
    """A setting without a word on what is allowed could not refuse in words."""
    assert all(one.metadata["allowed"] for one in fields(Settings))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database_url", 5),
        ("engine_options", [("pool_size", 5)]),
        ("table_prefix", "drop table;"),
        ("table_prefix", "x" * 21),
        ("table_prefix", None),
        ("schema", 1),
        ("callback_queue", b"queue"),
        ("chunk_size", 0),
        ("chunk_size", 10_001),
        ("chunk_size", "1000"),
        ("chunk_size", True),
        ("chunk_size", 1.5),
        ("lease_timeout", 0),
        ("lease_timeout", "60"),
        ("lease_timeout", float("nan")),
        ("lease_timeout", float("inf")),
        ("sweep_interval", -1),
    ],
)
def test_wrong_values_are_refused(name: str, value: Any) -> None:
    """A value of the wrong type or out of range is refused with the name, the value and what is allowed."""
    allowed = {one.name: one.metadata["allowed"] for one in fields(Settings)}[name]
    with pytest.raises(InvalidSetting) as caught:
        Settings.build({name: value})
    assert str(caught.value) == f"Setting {name!r} is {value!r}, but must be {allowed}."


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """A name that no setting has is refused with the nearest one, and all of them."""
    with pytest.raises(UnknownSetting, match=r"'chunksize'. Did you mean chunk_size?") as caught:
        Settings.build({"chunksize": 1})
    assert all(name in str(caught.value) for name in names())
