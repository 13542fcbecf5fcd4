"""System checks: what is missing or does not fit, with what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.checks import CheckMessage, Error, Info, Tags, register
from django.db import connections

from celery_flows.contrib.django.borrowed import borrowing_engine
from celery_flows.contrib.django.options import alias, names, option
from celery_flows.contrib.django.place import url_of, wrapper_of
from celery_flows.errors import ConfigurationError, FlowsError, NoFlows
from celery_flows.messaging.runtime import Runtime, find_runtime
from celery_flows.messaging.tasks import RECONCILE
from celery_flows.store import schema
from celery_flows.store.urls import read_url

#: What Django asks of the settings before there is a Celery app, and the app must therefore say as well.
_SHARED = ("django_database", "table_prefix", "schema")


@register()
def check_app(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """Look at the Celery app and its settings."""
    try:
        runtime = find_runtime()
    except NoFlows:
        return [
            Error(
                "No Celery app with Flows was found.",
                hint="Write Flows(app) in the project's celery.py, and import the app in its __init__.py.",
                id="celery_flows.E001",
            )
        ]
    try:
        return [*_disagreements(runtime), *_no_beat(runtime)]
    except FlowsError as error:
        return [Error(str(error), id="celery_flows.E002")]


def _disagreements(runtime: Runtime) -> Iterator[CheckMessage]:
    wrapper_of(runtime.settings.django_database)
    for name in _SHARED:
        apps_own, djangos = getattr(runtime.settings, name), option(name)
        if apps_own != djangos:
            yield Error(
                f"The Celery app has flows_{name} = {apps_own!r}, but Django's migrations and models go by "
                f"{djangos!r}.",
                hint=f"Set CELERY_FLOWS_{name.upper()} = {apps_own!r} in Django's settings, and nowhere else.",
                id="celery_flows.E003",
            )
    given = runtime.settings.database_url
    if given is None:
        return
    there, here = read_url(given), url_of(wrapper_of(alias()))
    is_same = (there.get_backend_name(), there.database) == (here.get_backend_name(), here.database)
    if not is_same:
        yield Error(
            f"The batches are at flows_database_url, but Django's {alias()!r} is another database.",
            hint="Leave flows_database_url away, or name the alias of that database with "
            "CELERY_FLOWS_DJANGO_DATABASE.",
            id="celery_flows.E004",
        )
    else:
        yield checks.Warning(
            "flows_database_url is set, so batches do not take part in Django's transactions.",
            hint="Leave it away: the database is taken from DATABASES.",
            id="celery_flows.W005",
        )


def _no_beat(runtime: Runtime) -> Iterator[CheckMessage]:
    schedule = runtime.app.conf.beat_schedule or {}
    has_beat = bool(schedule) or apps.is_installed("django_celery_beat")
    if has_beat and RECONCILE not in [entry.get("task") for entry in schedule.values()]:
        yield Info(
            f"Celery beat is in use, and does not run {RECONCILE}.",
            hint="Workers sweep by themselves while they live. To repair also while none does, add "
            f'{{"task": "{RECONCILE}", "schedule": 60.0}} to CELERY_BEAT_SCHEDULE.',
            id="celery_flows.I007",
        )


@register(Tags.database)
def check_tables(app_configs: Any = None, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Look whether the tables are there, where databases may be looked at."""
    # Who migrates need not be told to.
    if alias() not in (databases or ()) or sys.argv[1:2] == ["migrate"]:
        return []
    wrapper = connections[alias()]
    try:
        with borrowing_engine(alias(), url_of(wrapper)).connect() as connection:
            found = schema.revision_on(connection, names())
    except ConfigurationError as error:
        return [Error(str(error), id="celery_flows.E002")]
    if found is not None and int(found) >= int(schema.head()):
        return []
    return [
        checks.Warning(
            f"The tables of celery-flows in {alias()!r} are missing."
            if found is None
            else f"The tables of celery-flows in {alias()!r} are at revision {found} of {schema.head()}.",
            hint="Run manage.py migrate celery_flows.",
            id="celery_flows.W006",
        )
    ]
