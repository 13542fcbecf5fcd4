"""What a project's Django settings say of ours, for what Django asks before there is a Celery app."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings

from celery_flows.settings import Settings
from celery_flows.store.revisions import Names

_PREFIX: Final = "CELERY_FLOWS_"


def option(name: str) -> Any:
    """A setting, as Django's settings have it, or its default."""
    return getattr(settings, _PREFIX + name.upper(), getattr(Settings(), name))


def alias() -> str:
    """The database that holds the batches, by its name in DATABASES."""
    return str(option("django_database"))


def names() -> Names:
    """What the tables are called."""
    return Names(option("table_prefix"), option("schema"))


def table(noun: str) -> str:
    """The name of a table, as Django's models take it."""
    name, schema = names().table(noun), names().schema
    # Django knows no schemas: what is in quotes already it leaves as it is.
    return name if schema is None else f'"{schema}"."{name}"'
