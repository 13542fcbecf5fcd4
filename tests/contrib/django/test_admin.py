"""Batches in Django's admin."""

from __future__ import annotations

import re
from typing import Any

import pytest
from apps import called, counting, messages, runtime_of, work
from celery import Celery
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from djangos import django_app, emptied, meant, migrated

from celery_flows import Batch
from celery_flows.contrib.django.admin import base, steering
from celery_flows.contrib.django.admin import batches as pages
from celery_flows.transitions.lease import renew

BATCHES = "admin:celery_flows_flowbatch_changelist"

#: What somebody answers who is sure.
SURE = {"sure": "yes", "mode": "failed+downstream"}


@pytest.fixture(scope="module")
def default() -> str:
    """The project's default database, with our tables and the admin's."""
    migrated("default")
    return "default"


@pytest.fixture
def app(default: str) -> Any:
    """A Celery app in the project, whose batches are in the default database."""
    with meant(default), django_app(default) as app:
        yield app
        LogEntry.objects.all().delete()
        User.objects.all().delete()
        emptied(default)


@pytest.fixture
def admin(app: Celery) -> Client:
    """A browser of somebody who may do everything."""
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    return client


def somebody(*permissions: str) -> Client:
    """A browser of somebody who may see batches, and has these permissions."""
    user = User.objects.create_user(f"bob{User.objects.count()}", is_staff=True)
    names = ["view_flowbatch", *permissions]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    return client


def batch_of(app: Celery, *numbers: int, **options: Any) -> Batch:
    """A batch of calls; those below zero fail."""
    batch = Batch.create(app=app, **options).on("settled", app.tasks["shop.note"])
    with batch.jobs():
        for number in numbers:
            (app.tasks["shop.fail" if number < 0 else "shop.add"]).delay(number)
    return batch


def act(client: Client, action: str, *batches: Batch, **answers: str) -> Any:
    """Choose an action in the list of batches; with answers, those of its question as well."""
    chosen = {"action": action, "_selected_action": [batch.id for batch in batches]}
    return client.post(reverse(BATCHES), {**chosen, **answers}, follow=True)


def text(answer: Any) -> str:
    """What a page says, without its markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", answer.content.decode()))


def test_the_list(app: Celery, admin: Client) -> None:
    """The list shows each batch with state, progress, counts, kind, tags and age."""
    batch_of(app, 1, -1, 2, description="Rescore", tags=["night", "eu"])
    work(app)
    batch_of(app, 3)
    said = text(admin.get(reverse(BATCHES)))
    assert "Rescore failed 100 % 3 of 3, 1 failed batch night, eu 0" in said
    assert "running 0 % 0 of 1 batch - 0" in said


def test_search_and_filters(app: Celery, admin: Client) -> None:
    """A batch is found by the beginning of its id, its key and words of its description, and by state."""
    first = batch_of(app, 1, description="Rescore all", key="night")
    second = batch_of(app, 2, description="Mail 100%")
    both = [first, second]
    found = {"Rescore": [first], "night": [first], "100%": [second], second.id: [second], first.id[:8]: both}
    for term, wanted in found.items():
        said = text(admin.get(reverse(BATCHES), {"q": term}))
        assert [f"{batch.description} running" in said for batch in both] == [batch in wanted for batch in both]
    assert "0 batches" in text(admin.get(reverse(BATCHES), {"state__exact": "failed"}))


def test_a_batchs_page(app: Celery, admin: Client) -> None:
    """A batch's page says why it is not finished, and leads to its jobs, children and callbacks."""
    batch = batch_of(app, 1, -1)
    answer = admin.get(reverse("admin:celery_flows_flowbatch_change", args=[batch.id]))
    assert "It waits for" in text(answer)
    assert str(batch.explain()).splitlines()[0] in text(answer)
    work(app)
    answer = admin.get(reverse("admin:celery_flows_flowbatch_change", args=[batch.id]))
    assert "It waits for" not in text(answer)
    targets = dict(
        re.findall(r'<a href="([^"]*)">(jobs|failed|pending|children|callbacks)</a>', answer.content.decode())
    )
    numbers = {name: text(admin.get(url.replace("&amp;", "&"))) for url, name in targets.items()}
    assert [f"{n} job" in numbers[name] for n, name in ((2, "jobs"), (1, "failed"), (0, "pending"))] == [True] * 3
    assert "shop.note" in numbers["callbacks"]
    assert "0 batches" in numbers["children"]


def test_a_large_batch_is_explained_when_somebody_asks(
    app: Celery, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it waits for is not looked for each time that its page is opened."""
    monkeypatch.setattr(pages, "EXPLAINED", 1)
    batch = batch_of(app, 1, 2)
    asked = counting(runtime_of(app).database)
    said = text(admin.get(reverse("admin:celery_flows_flowbatch_change", args=[batch.id])))
    assert asked() == 1
    assert "2 jobs. Explain says more" in said
    assert "and waits for" in text(act(admin, "explain", batch))


def test_a_jobs_page(app: Celery, admin: Client) -> None:
    """A job's page shows its call and its error, hidden as the setting redact says."""
    batch = batch_of(app, 1, -7)
    work(app)
    [job] = batch.failed_jobs
    url = reverse("admin:celery_flows_flowjob_change", args=[job.id])
    assert "(-7)" in text(admin.get(url))
    assert "ValueError: -7" in text(admin.get(url))
    app.conf.flows_redact = Redact()
    del runtime_of(app).settings, runtime_of(app).__dict__["redact"]
    assert "(&quot;hidden&quot;)" in text(admin.get(url))
    assert "ValueError: hidden" in text(admin.get(url))


class Redact:
    """Hides everything."""

    def arguments(self, task: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        return ["hidden"], {}

    def error(self, task: str, message: str) -> str:
        return "hidden"


def test_actions(app: Celery, admin: Client) -> None:
    """Batches are cancelled, run again and explained, and the admin's history tells who did it."""
    failed, running = batch_of(app, -1), batch_of(app, 2)
    called(app)
    assert "Cancelled: 2." in text(act(admin, "cancel", failed, running, **SURE))
    assert (failed.status, running.status) == ("cancelled", "cancelled")
    messages(app)
    act(admin, "retry", running, **SURE)
    assert (running.status, called(app)) == ("running", [("shop.add", 2)])
    said = text(act(admin, "retry", running, **SURE))
    assert "Retried" not in said
    assert running.id in said
    assert str(running.explain()).splitlines()[0] in text(act(admin, "explain", running))
    history = [
        (entry.object_id, entry.change_message, entry.user.username) for entry in LogEntry.objects.order_by("id")
    ]
    assert sorted(history[:2]) == sorted((one.id, "Cancelled.", "ann") for one in (failed, running))
    assert history[2:] == [(running.id, "Retried (failed+downstream).", "ann"), (running.id, "Explained.", "ann")]


def test_nothing_is_done_before_somebody_is_sure(app: Celery, admin: Client) -> None:
    """To cancel and to retry are asked back about, as is an answer that is none of the choices."""
    batch = batch_of(app, 1, -1)
    work(app)
    assert "Run these batches again?" in text(act(admin, "retry", batch))
    assert "not one of the available choices" in text(act(admin, "retry", batch, sure="yes", mode="some"))
    assert (batch.status, called(app), LogEntry.objects.count()) == ("failed", [], 0)
    act(admin, "retry", batch, sure="yes", mode="all")
    assert len(called(app)) == 2
    assert "Cancel these batches?" in text(act(admin, "cancel", batch))
    assert batch.status == "running"


def test_what_has_ended_is_not_cancelled(app: Celery, admin: Client) -> None:
    """Of a batch that ended meanwhile it is said so, and the history tells of no cancelling."""
    batch = batch_of(app, 1)
    work(app)
    said = text(act(admin, "cancel", batch, **SURE))
    assert f"{batch.id}: it had ended." in said
    assert "Cancelled" not in said
    assert (batch.status, LogEntry.objects.count()) == ("complete", 0)


def test_running_jobs_are_ended_if_somebody_says_so(
    app: Celery, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick in the question is cancel(terminate=True), and stands in the history."""
    heard: list[bool] = []
    monkeypatch.setattr(Batch, "cancel", lambda _, *, terminate=False: heard.append(terminate))
    batch = batch_of(app, 1)
    act(admin, "cancel", batch, **SURE)
    act(admin, "cancel", batch, **SURE, terminate="on")
    assert heard == [False, True]
    assert [one.change_message for one in LogEntry.objects.order_by("id")][1:] == [
        "Cancelled, with the jobs that ran."
    ]


def test_so_many_at_once(app: Celery, admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """More batches than one request can steer are refused, and none of them is touched."""
    monkeypatch.setattr(steering, "MOST", 2)
    batches = [batch_of(app, number) for number in range(3)]
    for action in ("cancel", "retry", "explain"):
        assert "Choose 2 batches at most" in text(act(admin, action, *batches, **SURE))
    assert ({one.status for one in batches}, LogEntry.objects.count()) == ({"running"}, 0)
    assert "Cancelled: 2." in text(act(admin, "cancel", *batches[:2], **SURE))


@pytest.mark.parametrize("action", ["cancel", "retry", "explain"])
def test_each_action_has_its_own_permission(app: Celery, action: str) -> None:
    """Who may see batches may do with them only what a permission of its own allows; by POST, with a token."""
    batch = batch_of(app, 1)
    others = {"cancel", "retry", "explain"} - {action}
    for client in (somebody(), somebody(*(f"{other}_flowbatch" for other in others))):
        assert f'value="{action}"' not in client.get(reverse(BATCHES)).content.decode()
        act(client, action, batch, **SURE)
    assert LogEntry.objects.count() == 0
    allowed = somebody(f"{action}_flowbatch")
    assert f'value="{action}"' in allowed.get(reverse(BATCHES)).content.decode()
    allowed.get(reverse(BATCHES), {"action": action, "_selected_action": batch.id, **SURE})
    assert LogEntry.objects.count() == 0
    checking = Client(enforce_csrf_checks=True)
    checking.cookies = allowed.cookies
    assert act(checking, action, batch, **SURE).status_code == 403
    assert LogEntry.objects.count() == 0
    act(allowed, action, batch, **SURE)
    assert LogEntry.objects.count() == (0 if action == "retry" else 1)


def test_nothing_is_changed_here(app: Celery, admin: Client) -> None:
    """There is no page to add, change or delete a batch, for anybody."""
    batch = batch_of(app, 1)
    assert admin.get(reverse("admin:celery_flows_flowbatch_add")).status_code == 403
    assert admin.get(reverse("admin:celery_flows_flowbatch_delete", args=[batch.id])).status_code == 403
    url = reverse("admin:celery_flows_flowbatch_change", args=[batch.id])
    assert admin.post(url, {"description": "other"}).status_code == 403


def test_queries_are_counted(app: Celery, admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list takes as many queries for fifty batches as for one, and counts no more rows than it can show."""
    # The jobs are counted by ourselves, not by Django.
    counted = counting(runtime_of(app).database)

    def queries(name: str) -> list[str]:
        with CaptureQueriesContext(connections["default"]) as captured:
            admin.get(reverse(name))
        return [one["sql"] for one in captured if "flows_" in one["sql"]]

    batch_of(app, 1)
    ours = counted()
    before = len(queries(BATCHES))
    assert counted() - ours == 1
    for number in range(9):
        batch_of(app, number)
    ours = counted()
    assert len(queries(BATCHES)) == before == 2
    assert counted() - ours == 1
    jobs = queries("admin:celery_flows_flowjob_changelist")
    assert len(jobs) == 2
    assert "LIMIT 10001" in jobs[0]
    monkeypatch.setattr(base, "MOST", 5)
    assert "more than 5 jobs" in text(admin.get(reverse("admin:celery_flows_flowjob_changelist")))


def test_no_list_counts_a_table(app: Celery, admin: Client) -> None:
    """Whatever is searched for or filtered by: what is counted has an end."""
    batch = batch_of(app, 1)
    for name in ("flowbatch", "flowjob", "flowworker"):
        url = reverse(f"admin:celery_flows_{name}_changelist")
        for query in ({}, {"q": "shop.add"}, {"q": batch.id}, {"kind__exact": "batch"}, {"p": "1"}):
            with CaptureQueriesContext(connections["default"]) as captured:
                admin.get(url, query, follow=True)
            counts = [one["sql"] for one in captured if "COUNT(" in one["sql"] and "flows_" in one["sql"]]
            assert [sql for sql in counts if "LIMIT 10001" not in sql] == []


def test_jobs_are_found(app: Celery, admin: Client) -> None:
    """By the id of a job or of its batch, over indexes; else by the task's whole name."""
    first, second = batch_of(app, 1), batch_of(app, -2)
    [job] = second.pending_jobs
    url = reverse("admin:celery_flows_flowjob_changelist")
    found = {job.id: [2], second.id: [2], "shop.add": [1], "shop.fail": [2], "shop": [], first.id: [1]}
    for term, wanted in found.items():
        with CaptureQueriesContext(connections["default"]) as captured:
            said = text(admin.get(url, {"q": term}))
        assert [number for number, call in ((1, "shop.add (1)"), (2, "shop.fail (-2)")) if call in said] == wanted
        by_task = [one["sql"] for one in captured if '"task" = ' in one["sql"]]
        assert bool(by_task) == term.startswith("shop")


def test_workers(app: Celery, admin: Client) -> None:
    """The list of workers shows which are heard of."""
    renew(runtime_of(app).database, "one", "host.example", 4711, 60)
    assert "host.example 4711 0" in text(admin.get(reverse("admin:celery_flows_flowworker_changelist")))
