"""Django's migrate makes the tables, by our own steps and over Django's connection."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import override_settings
from djangos import alias_of, meant, own_settings
from sqlalchemy import inspect

from celery_flows.contrib.django import migrations
from celery_flows.contrib.django.place import url_of
from celery_flows.store import schema
from celery_flows.store.database import Database

#: The steps that Django's migrations take.
STEPS = [step.name[:4] for step in Path(migrations.__file__).parent.glob("0*.py")]


@pytest.fixture
def alias(database_kind: str, tmp_path: Path) -> Iterator[str]:
    """An empty database, which the project's settings mean."""
    with ExitStack() as stack:
        database = stack.enter_context(own_settings(database_kind, tmp_path))
        alias = stack.enter_context(alias_of(f"new_{database_kind}", database))
        stack.enter_context(meant(alias))
        yield alias


@pytest.fixture
def ours(alias: str) -> Iterator[Database]:
    """The same database, on connections of our own."""
    database = Database(url_of(connections[alias]))
    yield database
    database.close()


def migrate(alias: str, *to: str, **options: Any) -> str:
    """Run Django's migrate for our app; return what it says."""
    out = io.StringIO()
    call_command("migrate", "celery_flows", *to, database=alias, no_color=True, stdout=out, **options)
    return out.getvalue()


def described(database: Database) -> dict[str, Any]:
    """What the tables of celery-flows in a database look like."""
    found = inspect(database.engine)
    return {
        name: (
            [{**column, "type": repr(column["type"])} for column in found.get_columns(name)],
            found.get_pk_constraint(name),
            sorted(_index(one) for one in found.get_indexes(name)),
            found.get_table_options(name) if database.dialect == "mysql" else None,
        )
        for name in found.get_table_names()
        if name.startswith("flows_")
    }


def _index(one: Any) -> str:
    options = {key: str(value) for key, value in one.get("dialect_options", {}).items()}
    return repr((one["name"], one["column_names"], one["unique"], options))


def test_both_roads_lead_to_one_schema(alias: str, ours: Database, database_url: str) -> None:
    """What Django's migrate makes is what `celery flows upgrade` makes, to the last index and collation."""
    migrate(alias)
    other = Database(database_url)
    assert described(ours) == described(other)
    schema.check(ours)
    other.close()


def test_there_and_back(alias: str, ours: Database) -> None:
    """The migrations are undone one by one, as ours are, and done again."""
    migrate(alias)
    migrate(alias, "0001")
    assert schema.current(ours) == "0001"
    migrate(alias, "zero")
    assert (schema.current(ours), set(described(ours))) == (None, {"flows_version"})
    migrate(alias)
    assert schema.current(ours) == schema.head()


def test_the_other_road_first(alias: str, ours: Database) -> None:
    """Tables that `celery flows upgrade` has made are taken as they are, and it goes on with those of Django's."""
    schema.upgrade(ours, "0001")
    migrate(alias)
    assert schema.current(ours) == schema.head()
    before = described(ours)
    migrate(alias, "zero", fake=True)
    migrate(alias)
    assert described(ours) == before
    schema.downgrade(ours, "0001")
    schema.upgrade(ours)
    assert described(ours) == before


def test_sqlmigrate_says_the_same(alias: str, ours: Database) -> None:
    """What sqlmigrate prints makes the same tables, and what it prints backwards takes them away."""
    wrapper = connections[alias]
    for backwards in (False, True):
        for number in sorted(STEPS, reverse=backwards):
            out = io.StringIO()
            call_command("sqlmigrate", "celery_flows", number, database=alias, backwards=backwards, stdout=out)
            with wrapper.cursor() as cursor:
                for statement in out.getvalue().split(";\n"):
                    if statement.strip():
                        cursor.execute(statement)
        assert schema.current(ours) == (None if backwards else schema.head())


def test_nothing_is_left_for_makemigrations(alias: str) -> None:
    """Nothing is found to do by makemigrations, whatever the tables are called."""
    with override_settings(CELERY_FLOWS_TABLE_PREFIX="other_"):
        call_command("makemigrations", "celery_flows", check=True, dry_run=True, verbosity=0)


class Nowhere:
    """A router that lets our app be in no database."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if app_label == "celery_flows" else None


def test_where_the_tables_are_not_wanted(alias: str, ours: Database) -> None:
    """A router's allow_migrate is respected, and a database that the settings don't mean gets no tables."""
    with override_settings(DATABASE_ROUTERS=[Nowhere()]):
        migrate(alias)
    assert described(ours) == {}
    migrate(alias, "zero")
    with override_settings(CELERY_FLOWS_DJANGO_DATABASE="default"):
        migrate(alias)
    assert described(ours) == {}


def test_steps_that_somebody_has_taken(alias: str, ours: Database) -> None:
    """Tables that are newer than this code, and tables that are gone, are left as they are."""
    migrate(alias)
    schema.downgrade(ours, "base")
    migrate(alias, "zero")
    assert schema.current(ours) is None
    migrate(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute("UPDATE flows_version SET version_num = '9999'")
    migrate(alias, "zero", fake=True)
    migrate(alias)
    assert schema.current(ours) == "9999"
