"""Django's connection under SQLAlchemy: each reads what the other wrote, and neither changes it for the other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from apps import rows, runtime_of
from celery import Celery, signals
from django.db import connections, transaction
from django.test.utils import override_settings
from djangos import alias_of, django_app
from orders.models import Order

from celery_flows import Batch
from celery_flows.contrib.django.models import FlowBatch


def test_moments(app: Celery, alias: str) -> None:
    """Moments are the same by Django's connection, by our own and by the model: aware, to the microsecond."""
    batch = Batch.create(app=app)
    with transaction.atomic(alias):
        by_django = batch.created_at
    own = runtime_of(app).new_database()
    with own.reading() as connection:
        by_us = connection.scalar(sa.select(own.tables.batches.c.created_at))
    own.close()
    assert by_django == by_us == FlowBatch.objects.get().created_at
    assert abs(datetime.now(UTC) - by_django).total_seconds() < 60


def test_moments_without_time_zones(app: Celery, alias: str) -> None:
    """In a project without USE_TZ, whose connection has another zone, ours are in UTC all the same."""
    connections[alias].close()
    with override_settings(USE_TZ=False, TIME_ZONE="Pacific/Auckland"):
        batch = Batch.create(app=app)
        with transaction.atomic(alias):
            found = batch.created_at
        connections[alias].close()
    assert found.tzinfo is UTC
    assert abs(datetime.now(UTC) - found).total_seconds() < 60


def test_json(app: Celery, alias: str) -> None:
    """What Django reads as JSON's text, SQLAlchemy reads as values; and Django goes on as before."""
    Order.objects.using(alias).create(number=1, paid={"by": ["card"]})
    orders = sa.table("orders_order", sa.column("paid", sa.JSON))
    with runtime_of(app).database.reading() as connection:
        assert connection.scalar(sa.select(orders.c.paid)) == {"by": ["card"]}
    assert Order.objects.using(alias).get(paid__by=["card"]).paid == {"by": ["card"]}


def test_numbers_of_rows(app: Celery, alias: str) -> None:
    """An UPDATE says how many rows it met, changed or not: the fences go by it."""
    batch = Batch.create(app=app)
    with batch.jobs():
        for number in range(4):
            app.tasks["shop.add"].delay(number)
    jobs = runtime_of(app).database.tables.jobs
    same = jobs.update().values(round=1)
    with transaction.atomic(alias), runtime_of(app).database.engine.begin() as connection:
        assert connection.execute(same).rowcount == 4
        assert connection.execute(same.where(jobs.c.id == rows(app)[0].id)).rowcount == 1
        assert connection.execute(same.where(jobs.c.id == "nobody")).rowcount == 0


def test_what_is_djangos_own(app: Celery, alias: str) -> None:
    """What Django has set up on its connection is not set up anew: functions, handlers, types, isolation."""
    wrapper = connections[alias]
    wrapper.ensure_connection()
    said: list[str] = []

    def note(execute: Any, sql: str, *more: Any) -> Any:
        said.append(sql)
        return execute(sql, *more)

    driver = wrapper.connection
    with transaction.atomic(alias):
        Batch.create(app=app)
    assert wrapper.connection is driver
    assert Order.objects.using(alias).filter(number__regex="[0-9]").count() == 0
    if wrapper.vendor == "postgresql":
        assert not driver._notice_handlers
        assert driver.adapters.get_loader(driver.adapters.types["jsonb"].oid, 0).__name__ == "TextLoader"


def test_a_workers_process(app: Celery, alias: str) -> None:
    """In a worker's process, spawned or not, Django's connection is for what stands in its transactions."""
    signals.worker_process_init.send(sender=None)
    runtime, wrapper = runtime_of(app), connections[alias]
    wrapper.close()
    first = Batch.create(app=app)
    assert (runtime.is_worker, first.status, wrapper.connection) == (True, "pending", None)
    with pytest.raises(ValueError, match=r"no"), transaction.atomic(alias):
        second = Batch.create(app=app)
        assert second.status == "pending"
        raise ValueError("no")
    assert [batch.id for batch in Batch.list(app=app)] == [first.id]


def test_a_codec(alias: str) -> None:
    """What a codec has sealed is unsealed by models as by batches, on Django's connection as on ours."""
    with django_app(alias, codec=Backwards()) as app:
        with transaction.atomic(alias):
            batch = Batch.create(app=app, context={"secret": 1})
            with batch.jobs():
                app.tasks["shop.add"].delay(7)
            assert batch.context == {"secret": 1}
        [found] = FlowBatch.objects.all()
        assert (found.context, found.jobs.get().args) == ({"secret": 1}, [7])


class Backwards:
    """A codec that hides nothing from anybody."""

    def encode(self, text: str) -> str:
        return text[::-1]

    decode = encode


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_djangos_pool(alias: str) -> None:
    """With Django's own pool of connections, which connection it is changes; what is promised does not."""
    database = {**connections[alias].settings_dict, "OPTIONS": {"pool": {"min_size": 1, "max_size": 2}}}
    with alias_of("pooled", database) as pooled, django_app(pooled) as app:
        for _ in range(3):
            with transaction.atomic(pooled):
                batch = Batch.create(app=app)
                with batch.jobs():
                    app.tasks["shop.add"].delay(1)
            connections[pooled].close()
        with pytest.raises(ValueError, match=r"no"), transaction.atomic(pooled):
            Batch.create(app=app)
            raise ValueError("no")
        assert len(rows(app)) == 3
        assert len(Batch.list(app=app)) == 3
