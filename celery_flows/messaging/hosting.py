"""Where an app's database is: at a URL of its settings, or with a framework that has databases itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from celery import Celery

from celery_flows.errors import ConfigurationError
from celery_flows.settings import DATABASE_URL_VARIABLE, Settings
from celery_flows.store.database import Database

#: Makes the object for a framework's database. It is told how to ask whether this process is a worker's, where
#: the framework's connections are its tasks' alone, and what else a `Database` is given.
Make = Callable[[Callable[[], bool], Mapping[str, Any]], Database]


class Place(NamedTuple):
    """Where a database is."""

    url: str
    engine_options: Mapping[str, Any]
    #: How its framework's own code is in it; None: no framework has it.
    make: Make | None = None


#: Frameworks that have databases, which the settings may name: once one is set up, it says so here.
hosts: list[Callable[[Settings], Place]] = []


def place_of(app: Celery, settings: Settings) -> Place:
    """Find the database that an app's settings mean.

    Raises:
        ConfigurationError: they name none, and no framework has one.
    """
    if settings.database_url is not None:
        return Place(settings.database_url, settings.engine_options)
    if not hosts:
        # Django is set up with this, where the app is a project's: in a worker Celery does so by itself.
        app.loader.import_default_modules()
    if not hosts:
        raise ConfigurationError(
            problem="No database is configured. Pass Flows(app, database_url=...), set "
            f"app.conf.flows_database_url, or the environment variable {DATABASE_URL_VARIABLE}; in a Django "
            "project add celery_flows.contrib.django to INSTALLED_APPS."
        )
    return hosts[-1](settings)
