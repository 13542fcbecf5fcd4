"""In the default database delay_on_commit and requests are of the batch's own transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from apps import called, messages, rows, work
from celery import Celery
from django.db import connections, transaction
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.test.utils import override_settings
from django.urls import path
from djangos import django_app, emptied, meant, migrated
from orders.models import Order

from celery_flows import Batch


@pytest.fixture(scope="module")
def default() -> str:
    """The project's default database, with our tables."""
    migrated("default")
    return "default"


@pytest.fixture
def app(default: str) -> Iterator[Celery]:
    """A Celery app in the project, whose batches are in the default database."""
    with meant(default), django_app(default) as app:
        yield app
        emptied(default)


@pytest.fixture
def add(app: Celery) -> Any:
    """A task."""
    return app.tasks["shop.add"]


def test_the_block_is_of_the_transaction(app: Celery, add: Any) -> None:
    """Calls that wait for the commit are enrolled in the transaction, so that no crash behind it loses them."""
    with transaction.atomic():
        batch = Batch.create(app=app)
        with batch.jobs():
            add.delay_on_commit(1)
            add.delay(2)
        assert (batch.progress.total, messages(app)) == (2, [])
    assert sorted(called(app)) == [("shop.add", 1), ("shop.add", 2)]
    with pytest.raises(ValueError, match=r"no"), transaction.atomic():
        with batch.jobs():
            add.delay_on_commit(3)
        raise ValueError("no")
    assert (batch.progress.total, messages(app)) == (2, [])


def test_savepoints_inside_the_block(app: Celery, add: Any) -> None:
    """A call whose own savepoint is rolled back is forgotten; the others of its block are not."""
    with transaction.atomic():
        parent = Batch.create(app=app)
        with parent.jobs():
            with transaction.atomic():
                add.delay_on_commit("kept")
            with pytest.raises(ValueError, match=r"no"), transaction.atomic():
                add.delay_on_commit("dropped")
                raise ValueError("no")
            with Batch.create(app=app).jobs():
                add.delay_on_commit("inner")
        assert len(rows(app)) == 3
    assert called(app) == [("shop.add", "kept"), ("shop.add", "inner")]


def test_transactions_inside_the_block(app: Celery, add: Any) -> None:
    """A transaction that begins and ends inside the block decides about its own calls only."""
    batch = Batch.create(app=app)
    with batch.jobs():
        with transaction.atomic():
            add.delay_on_commit(1)
        with pytest.raises(ValueError, match=r"no"), transaction.atomic():
            add.delay_on_commit(2)
            raise ValueError("no")
    assert called(app) == [("shop.add", 1)]


def test_other_actions_keep_their_turn(app: Celery, add: Any) -> None:
    """What else waits for the commit is done at it, as it was asked for."""
    seen: list[str] = []
    with transaction.atomic():
        transaction.on_commit(lambda: seen.append("before"))
        with Batch.create(app=app).jobs():
            add.delay_on_commit(1)
        transaction.on_commit(lambda: seen.append("after"))
    assert (seen, called(app)) == (["before", "after"], [("shop.add", 1)])


def place(request: HttpRequest) -> JsonResponse:
    """Save an order and start its batch, then fail if asked to."""
    said = json.loads(request.body)
    batch = Batch.create()
    with batch.jobs():
        Batch.get(batch.id)._runtime.app.tasks["shop.add"].delay(said["number"])
    Order.objects.create(number=said["number"], batch_id=batch.id)
    if said["number"] < 0:
        raise ValueError("no")
    published = len(rows(batch._runtime.app, state="queued"))
    return JsonResponse({"total": batch.progress.total, "published": published})


urlpatterns = [path("orders", place)]


def test_atomic_requests(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ATOMIC_REQUESTS a batch is committed with its request, then published; one that fails leaves none."""
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    with override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"]):
        client = Client()
        with pytest.raises(ValueError, match=r"no"):
            client.post("/orders", {"number": -1}, "application/json")
        assert (rows(app), Order.objects.count(), messages(app)) == ([], 0, [])
        answer = client.post("/orders", {"number": 1}, "application/json")
    assert answer.json() == {"total": 1, "published": 0}
    work(app)
    assert Batch.get(Order.objects.get().batch_id).status == "complete"
