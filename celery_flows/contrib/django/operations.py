"""What Django's migrations of this app do: take a step of Alembic's, on Django's connection."""

from __future__ import annotations

from typing import Any

from django.db import router, transaction
from django.db.migrations.operations.base import Operation

from celery_flows.contrib.django.borrowed import borrowing_engine
from celery_flows.contrib.django.options import alias, names
from celery_flows.contrib.django.place import url_of
from celery_flows.store import schema


class Step(Operation):
    """Takes one of our own steps, where nobody has taken it yet, with `celery flows upgrade` for example."""

    reduces_to_sql = True
    reversible = True

    def __init__(self, before: str, after: str) -> None:
        """Name the step by the revisions around it; the first comes after "base"."""
        self.before = before
        self.after = after

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Change nothing: what Django knows of the tables stands beside this."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Take the step."""
        self._take(app_label, schema_editor, backwards=False)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Undo it."""
        self._take(app_label, schema_editor, backwards=True)

    def describe(self) -> str:
        """What `migrate --plan` says."""
        return f"Take the tables of celery-flows to revision {self.after}"

    def _take(self, app_label: str, schema_editor: Any, *, backwards: bool) -> None:
        wrapper = schema_editor.connection
        # The batches are in one database; the tables would mislead in another.
        if wrapper.alias != alias() or not router.allow_migrate(wrapper.alias, app_label):
            return
        if schema_editor.collect_sql:
            schema_editor.collected_sql += self._sql(wrapper, backwards)
            return
        engine = borrowing_engine(wrapper.alias, url_of(wrapper))
        with transaction.atomic(wrapper.alias), engine.begin() as connection:
            schema.step(connection, names(), self.before, self.after, backwards=backwards)

    def _sql(self, wrapper: Any, backwards: bool) -> list[str]:
        is_mariadb = wrapper.vendor == "mysql" and wrapper.mysql_is_mariadb
        ends = (self.after, self.before) if backwards else (self.before, self.after)
        written = schema.sql(
            "mariadb" if is_mariadb else wrapper.vendor,
            ":".join(ends),
            prefix=names().prefix,
            schema=names().schema,
            backwards=backwards,
        )
        # Django says by itself where the transaction begins and ends.
        return [line for line in written.splitlines() if line and line not in ("BEGIN;", "COMMIT;")]
