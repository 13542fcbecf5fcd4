"""What a command is about: an app's database, or one given by its URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import click

from celery_flows.cli import APP, SETTINGS
from celery_flows.errors import ConfigurationError
from celery_flows.messaging.hosting import Place
from celery_flows.messaging.runtime import Runtime, runtime_of
from celery_flows.queries.redact import Redact
from celery_flows.settings import DATABASE_URL_VARIABLE, Settings
from celery_flows.store import schema
from celery_flows.store.database import Database


class Encrypted:
    """Stands for a codec where there is none: it says that a text is encrypted, and seals none."""

    def encode(self, text: str) -> str:  # noqa: ARG002  # a codec's signature
        """Nothing is written with it."""
        raise AssertionError("only an app knows how its data is encrypted")

    def decode(self, text: str) -> str:  # noqa: ARG002  # a codec's signature
        """What is shown in its place: a text, as JSON."""
        return '"(encrypted)"'


class Target:
    """The settings that a command works with, read when it needs them, and the app, where there is one."""

    def __init__(self, context: click.Context) -> None:
        """Take what the command's group left for it."""
        self._meta = context.meta

    @property
    def has_app(self) -> bool:
        """Whether there is an app, rather than settings on the command line."""
        return APP in self._meta

    @property
    def runtime(self) -> Runtime:
        """The working parts of the app.

        Raises:
            UsageError: there is no app, or it has no Flows.
        """
        if not self.has_app:
            raise click.UsageError("This needs your app, its broker and routes: celery -A your_project flows ...")
        try:
            return runtime_of(self._meta[APP])
        except ConfigurationError as error:
            raise click.UsageError(f"{error} Or is another app meant? celery -A your_project flows ...") from error

    @cached_property
    def settings(self) -> Settings:
        """The settings: the app's, or those given on the command line."""
        return Settings.build(self._meta[SETTINGS]) if SETTINGS in self._meta else self.runtime.settings

    @property
    def place(self) -> Place:
        """Where the database is.

        Raises:
            UsageError: none was given.
        """
        if SETTINGS not in self._meta:
            try:
                return self.runtime.place
            except ConfigurationError as error:
                raise click.UsageError(str(error)) from error
        if self.settings.database_url is None:
            raise click.UsageError(
                f"Which database? Pass celery-flows --database-url URL, set {DATABASE_URL_VARIABLE}, "
                "or the app's setting flows_database_url."
            )
        return Place(self.settings.database_url, self.settings.engine_options)

    @property
    def url(self) -> str:
        """The database's URL; what is raised: as for its place."""
        return self.place.url

    @property
    def redact(self) -> Redact | None:
        """What hides arguments and errors, which only an app knows."""
        return self.runtime.redact if self.has_app else None

    def import_tasks(self) -> None:
        """Import the app's tasks, as a worker does when it starts."""
        app = self.runtime.app
        app.set_current()
        app.loader.import_default_modules()

    @contextmanager
    def reading(self) -> Iterator[Database]:
        """The database, to look at what is in it; what is encrypted there only an app can read."""
        codec = self.runtime.codec if self.has_app else Encrypted()
        with self.database(codec=codec, on_first_use=schema.check) as database:
            yield database

    @contextmanager
    def database(self, **options: Any) -> Iterator[Database]:
        """The database, whatever its tables are like.

        Args:
            options: more for `Database`.
        """
        place = self.place
        database = Database(
            place.url,
            prefix=self.settings.table_prefix,
            schema=self.settings.schema,
            engine_options=place.engine_options,
            **options,
        )
        try:
            yield database
        finally:
            database.close()
