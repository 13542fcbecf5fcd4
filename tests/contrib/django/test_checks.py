"""System checks: each finds what it is there for, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from apps import plain_app
from celery import Celery, _state
from django.core.checks import Tags, run_checks
from django.db import connections
from djangos import alias_of, django_app, file_database, meant
from locks import on_sqlite

from celery_flows import Flows
from celery_flows.contrib.django.place import url_of
from celery_flows.messaging.tasks import RECONCILE

pytestmark = on_sqlite


def found(*databases: str) -> list[str]:
    """The ids of what our checks find."""
    messages = run_checks(databases=databases, tags=[Tags.database] if databases else None)
    assert all(one.hint for one in messages if one.id.startswith("celery_flows") and one.id[-1] != "2")
    return [one.id for one in messages if one.id.startswith("celery_flows")]


@contextmanager
def current(app: Celery) -> Iterator[Celery]:
    """The app that is found, until the end of the block."""
    before = _state._tls.current_app
    app.set_current()
    try:
        yield app
    finally:
        _state._set_current_app(before)


def test_all_is_well(app: Celery, alias: str) -> None:
    """A project that follows the how-to hears nothing."""
    assert (found(), found(alias)) == ([], [])


def test_no_flows(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no app of the process has Flows, that is said."""
    monkeypatch.setattr("celery_flows.messaging.runtime.living", list)
    with current(plain_app()):
        assert found() == ["celery_flows.E001"]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"django_database": "nowhere"}, ["celery_flows.E002"]),
        ({"chunk_size": 0}, ["celery_flows.E002"]),
        ({"table_prefix": "other_"}, ["celery_flows.E003"]),
        ({"django_database": "default"}, ["celery_flows.E003"]),
        ({"database_url": "sqlite:///elsewhere.sqlite3"}, ["celery_flows.E004"]),
    ],
)
def test_settings_that_disagree(alias: str, settings: dict[str, Any], wanted: list[str]) -> None:
    """What the app's settings and Django's say differently is found, and what neither can mean."""
    app = plain_app()
    Flows(app)
    for name, value in {"django_database": alias, **settings}.items():
        app.conf[f"flows_{name}"] = value
    with current(app):
        assert found() == wanted


def test_a_url_beside_the_alias(alias: str) -> None:
    """A URL of the same database is warned of: it costs the one transaction."""
    app = plain_app()
    url = url_of(connections[alias]).render_as_string(hide_password=False)
    Flows(app, django_database=alias, database_url=url)
    with current(app):
        assert found() == ["celery_flows.W005"]


def test_pending_migrations(alias: str, tmp_path: Path) -> None:
    """Tables that are missing are found where that database may be asked, and only there."""
    with alias_of("empty", file_database(tmp_path / "empty.sqlite3")) as empty, meant(empty), django_app(empty):
        assert (found(), found(alias), found(empty)) == ([], [], ["celery_flows.W006"])


def test_beat(app: Celery) -> None:
    """A schedule without the sweep is remarked on."""
    app.conf.beat_schedule = {"mine": {"task": "shop.add", "schedule": 60}}
    assert found() == ["celery_flows.I007"]
    app.conf.beat_schedule["sweep"] = {"task": RECONCILE, "schedule": 60}
    assert found() == []
