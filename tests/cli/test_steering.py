"""The commands cancel, retry and prune: what they do, and what they ask for first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from apps import called, flows_app, notes_of, rows, work
from celery import Celery
from commands import here, records
from scenes import fate_of, make_batch, run_job, running_batch

from celery_flows import Batch
from celery_flows.states import BatchState, JobState
from celery_flows.store.database import Database
from celery_flows.transitions.claim import claim

CANCELLED = (BatchState.CANCELLED, True)


def enrolled(app: Celery, task: str = "shop.add") -> Batch:
    """A batch of two jobs with a callback, published."""
    batch = Batch.create(app=app)
    batch.on("settled", app.tasks["shop.note"])
    with batch.jobs():
        for _ in range(2):
            app.tasks[task].delay(1)
    return batch


# ---------------------------------------------------------------- cancel


def test_cancelled(app: Celery, database: Database) -> None:
    """With the app its callbacks are published; a job that runs may finish."""
    batch = enrolled(app)
    claim(database, rows(app, batch_id=batch.id)[0].id, 1, "token")
    called(app)
    done = here("cancel", batch.id[:18], "--yes", app=app)
    said = f"Cancelled batch {batch.id} (1 job not started, and 1 that run and may finish).\n"
    assert done == (0, said, "")
    assert (batch.status, batch.settled_at, batch.progress.cancelled) == ("cancelled", None, 1)
    run = [row for row in rows(app, batch_id=batch.id) if row.state == "running"]
    assert len(run) == 1
    other = enrolled(app)
    called(app)
    assert here("cancel", other.id, "--yes", app=app).code == 0
    assert called(app) == [("shop.note", other.id)]


def test_cancelled_without_the_app(database: Database, file_url: str, app: Celery) -> None:
    """Nothing is published: what is left to the sweep is said."""
    batch = enrolled(app)
    called(app)
    done = here("cancel", batch.id, "--yes", url=file_url)
    assert (done.code, fate_of(database, batch.id), called(app)) == (0, CANCELLED, [])
    assert done.err == "Without the app nothing is published: 1 callback waits for the sweep, up to 75 s.\n"
    assert here("reconcile", app=app).code == 0
    assert rows(app, announces_id=batch.id)[0].state == "ready"


def test_a_batch_that_is_finished(database: Database, file_url: str) -> None:
    """There is nothing to cancel, and nothing to ask."""
    batch_id, [job] = running_batch(database)
    run_job(database, job, batch_id)
    said = f"Batch {batch_id} is finished (complete): there is nothing to cancel.\n"
    assert here("cancel", batch_id, url=file_url) == (0, said, "")


def test_nobody_there_to_be_asked(database: Database, file_url: str) -> None:
    """Without a terminal --yes is needed to destroy something; a dry run changes nothing and needs none."""
    batch_id, _ = running_batch(database)
    done = here("cancel", batch_id, url=file_url)
    assert (done.code, done.out, done.err.endswith("say --yes.\n")) == (2, "", True)
    [would] = records(here("cancel", batch_id, "--dry-run", "--json", url=file_url))
    assert would == {
        "dry_run": True,
        "id": batch_id,
        "state": "running",
        "is_finished": False,
        "not_started": 1,
        "running": 0,
        "terminate": False,
        "callbacks_left_to_sweep": 0,
    }
    assert fate_of(database, batch_id) == (BatchState.RUNNING, False)


def test_several_at_once(database: Database, file_url: str) -> None:
    """All of them, or, where one is not there, none."""
    first, second = make_batch(database), make_batch(database)
    assert here("cancel", first, "feed", "--yes", url=file_url).code == 3
    assert fate_of(database, first) == (BatchState.PENDING, False)
    done = here("cancel", first, second, first, "--yes", "--json", url=file_url)
    assert [one["id"] for one in records(done)] == [first, second]
    assert [fate_of(database, one) for one in (first, second)] == [CANCELLED] * 2


def test_ended(app: Celery, file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --terminate jobs that run are ended by their workers, which takes the app."""
    told: list[Any] = []
    monkeypatch.setattr(app.control, "revoke", lambda ids, **how: told.append((ids, how)))
    batch = enrolled(app)
    running = rows(app, batch_id=batch.id)[0].id
    claim(Database(file_url), running, 1, "token")
    done = here("cancel", batch.id, "--terminate", "--yes", url=file_url)
    assert (done.code, "celery -A your_project flows" in done.err, told) == (2, True, [])
    assert here("cancel", batch.id, "--terminate", "--yes", app=app).code == 0
    assert told == [([running], {"terminate": True})]


# ---------------------------------------------------------------- retry


def test_run_again(app: Celery) -> None:
    """What failed runs in a new round, with its callbacks."""
    batch = enrolled(app, "shop.fail")
    work(app)
    done = here("retry", batch.id[:18], app=app)
    assert done == (0, f"Opened round 2 of batch {batch.id}: of 2 jobs 2 failed, 0 cancelled or skipped.\n", "")
    assert called(app) == [("shop.fail", 1)] * 2
    assert batch.status == "running"


def test_which_run_again(app: Celery) -> None:
    """As the mode says."""
    batch = enrolled(app)
    work(app)
    [plan] = records(here("retry", batch.id, "--json", app=app))
    assert (plan["round"], plan["failed"], called(app)) == (2, 0, [("shop.note", batch.id)])
    assert here("retry", batch.id, "--mode", "all", app=app).code == 0
    assert called(app) == [("shop.add", 1)] * 2


def test_a_dry_run_of_a_retry(app: Celery) -> None:
    """It says what went wrong, and opens no round."""
    batch = enrolled(app, "shop.fail")
    work(app)
    [would] = records(here("retry", batch.id, "--dry-run", "--json", app=app))
    assert (would["dry_run"], would["round"], would["jobs"], would["failed"]) == (True, 2, 2, 2)
    assert (batch.status, called(app), len(notes_of(app))) == ("failed", [], 1)


def test_a_batch_that_is_not_finished(app: Celery) -> None:
    """It is refused, and with it all that were named."""
    over, batch = enrolled(app, "shop.fail"), Batch.create(app=app)
    work(app)
    done = here("retry", over.id, batch.id, app=app)
    assert (done.code, done.out, "batch.wait()" in done.err) == (1, "", True)
    assert over.status == "failed"


def test_a_retry_takes_the_app(database: Database, file_url: str) -> None:
    """Whose routes and options its messages have."""
    done = here("retry", make_batch(database), url=file_url)
    assert (done.code, "celery -A your_project flows" in done.err) == (2, True)


# ---------------------------------------------------------------- prune


@pytest.fixture
def finished(database: Database) -> str:
    """A finished batch with a finished child."""
    batch_id, [job] = running_batch(database)
    child, [childs] = running_batch(database, parent=batch_id)
    run_job(database, childs, child)
    run_job(database, job, batch_id)
    return batch_id


@pytest.mark.parametrize("with_app", [True, False])
def test_pruned(finished: str, app: Celery, file_url: str, *, with_app: bool) -> None:
    """First it may say what would go, then it needs a yes, then it says what is gone."""
    where: dict[str, Any] = {"app": app} if with_app else {"url": file_url}
    prune = ("prune", "--older-than", "0s")
    would = "Would prune 1 batch, and what is inside of it.\n"
    assert here(*prune, "--dry-run", **where) == (0, would, "")
    asked = here(*prune, **where)
    assert (asked.code, asked.out, asked.err.endswith("say --yes.\n")) == (2, "", True)
    assert here(*prune, "--yes", "--state", "failed", **where) == (0, "Batches pruned: 0\n", "")
    assert records(here(*prune, "--yes", "--json", **where)) == [{"dry_run": False, "batches": 2}]
    assert here("show", finished, **where).code == 3


@pytest.mark.parametrize("age", ["a month", "30", "-1d", ""])
def test_no_age(file_url: str, age: str) -> None:
    """An age is a number and a unit."""
    done = here("prune", "--older-than", age, "--yes", url=file_url)
    assert (done.code, done.out, "such as 30d" in done.err) == (2, "", True)


@pytest.mark.parametrize("command", ["cancel", "retry", "prune"])
def test_help_says_what_is_asked(command: str) -> None:
    """Each has a dry run, and JSON."""
    said = here(command, "--help").out
    assert ("--dry-run" in said, "--json" in said, "--yes" in said) == (True, True, command != "retry")


def test_encrypted(file_url: str) -> None:
    """A cancel without the app needs to read nothing that is encrypted."""

    class Backwards:
        def encode(self, text: str) -> str:
            return text[::-1]

        decode: Callable[[Any, str], str] = encode

    with flows_app(file_url, codec=Backwards()) as app:
        batch = enrolled(app)
        assert here("cancel", batch.id, "--yes", url=file_url).code == 0
        assert batch.status == JobState.CANCELLED


@pytest.mark.parametrize("command", ["cancel", "retry", "reconcile"])
def test_tasks_are_imported_before_anything_is_published(
    app: Celery, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """As a worker does it: their routes and options are theirs to say."""
    batch = enrolled(app)
    if command == "retry":
        work(app)
    imported: list[str] = []
    monkeypatch.setattr(app.loader, "import_default_modules", lambda: imported.append(batch.status))
    words = {"cancel": [batch.id, "--yes"], "retry": [batch.id]}.get(command, [])
    before = batch.status
    assert here(command, *words, app=app).code == 0
    assert imported == [before]
