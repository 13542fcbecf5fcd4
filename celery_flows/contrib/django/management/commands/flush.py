"""Django's flush, which also empties our tables.

Django empties the tables of models that it manages; those of ours are Alembic's. Its TransactionTestCase flushes
after each test.
"""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush
from django.db import connections, transaction

from celery_flows.contrib.django.borrowed import borrowing_engine
from celery_flows.contrib.django.options import alias, names
from celery_flows.contrib.django.place import url_of
from celery_flows.store.tables import tables


class Command(flush.Command):
    """Django's own, with our tables."""

    def handle(self, **options: Any) -> None:
        """Empty Django's tables, and ours where they are."""
        super().handle(**options)
        wrapper = connections[options["database"]]
        if wrapper.alias != alias():
            return
        ours = tables(names().prefix, names().schema).metadata.sorted_tables
        there = set(wrapper.introspection.table_names())
        with transaction.atomic(wrapper.alias), borrowing_engine(wrapper.alias, url_of(wrapper)).begin() as sql:
            for one in ours:
                if one.name in there or one.schema is not None:
                    sql.execute(one.delete())
