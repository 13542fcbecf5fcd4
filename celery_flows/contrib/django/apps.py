"""The Django app: what is done once Django is set up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from django.apps import AppConfig

from celery_flows.messaging import hosting
from celery_flows.messaging.hosting import Place
from celery_flows.settings import Settings
from celery_flows.store.database import Database


class FlowsConfig(AppConfig):
    """Batches and flows, in the project's own database."""

    name = "celery_flows.contrib.django"
    label = "celery_flows"
    verbose_name = "Batches and flows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Give the project's database to Celery apps with Flows that name none."""
        # Registers itself; not before there are apps.
        import_module("celery_flows.contrib.django.checks")
        if place not in hosting.hosts:
            hosting.hosts.append(place)


def place(settings: Settings) -> Place:
    """Where the database of these settings is, and how Django's code is in it."""
    # Django has no databases before it is set up.
    from celery_flows.contrib.django.database import DjangoDatabase
    from celery_flows.contrib.django.place import engine_options, url_of, wrapper_of

    alias, given = settings.django_database, settings.engine_options
    wrapper = wrapper_of(alias)

    def make(is_worker: Callable[[], bool], options: Mapping[str, Any]) -> Database:
        return DjangoDatabase(alias, is_worker, given, **options)

    url = url_of(wrapper).render_as_string(hide_password=False)
    return Place(url, engine_options(wrapper, given), make)
